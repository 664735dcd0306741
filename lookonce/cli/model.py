"""lookonce model: what networks there are, what is in one, and its files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from lookonce.cli import options
from lookonce.cli.reporter import Reporter

app = typer.Typer(name="model", help="List, show, fetch, convert, pack and cut models.", no_args_is_help=True)

ModelArgument = Annotated[str, typer.Argument(help="A network of the zoo, a cfg, or a .safetensors file.")]


@app.command("list")
def list_() -> int:
    """The networks of the zoo, and whether their published weights were fetched.

    lookonce model list

    lookonce model list | grep tiny
    """
    from lookonce import zoo
    from lookonce.model import weights_lengths

    files = zoo.published_files().values()
    width = max(map(len, zoo.networks()))
    for name, about in zoo.networks().items():
        mine = [file for file in files if file.network == name and file.layers is None]
        if zoo.shipped_model(name):
            state = "in the box"
        elif not mine:
            state = "none published"
        elif zoo.pulled_weights(name):
            state = "here"
        else:
            state = f"{weights_lengths(mine[0])[1] / 1e6:,.0f} MB to pull"
        print(f"{name:<{width}}  {state:>15}  {about}")
    print(f"\nfiles that begin a training: {', '.join(file.name for file in files if file.layers is not None)}")
    print(f"fetched files lie in {zoo.cache_folder()}")
    return 0


@app.command("show")
def show(
    model: ModelArgument,
    size: options.Size = None,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
) -> int:
    """Each layer's shape, parameters and operations, as `darknet` prints them and `darknet ops` counts.

    lookonce model show yolov3-tiny

    lookonce model show my.cfg --size 608
    """
    from lookonce.model import open_network
    from lookonce.summary import lines

    network = open_network(model, size=options.parse_size(size), allow_paths=allow_paths)
    for line in lines(network):
        print(line)
    return 0


@app.command("pull")
def pull(
    names: Annotated[list[str], typer.Argument(help="Networks of the zoo, or published files.", metavar="NAME...")],
    quiet: options.Quiet = False,
) -> int:
    """Fetch published weights: resumed where it broke off, checked by length and SHA-256.

    lookonce model pull yolov3-tiny

    lookonce model pull darknet53.conv.74
    """
    from lookonce import zoo
    from lookonce.model import weights_lengths
    from lookonce.zoo.download import pull as fetch

    for name in names:
        file = zoo.published(name)
        with Reporter(quiet, live=True) as reporter:

            def progress(done: int, total: int | None, file: zoo.Published = file) -> None:
                share = f" of {total / 1e6:,.1f} MB ({done / total:.0%})" if total else " MB"
                reporter.progress(f"{file.name}: {done / 1e6:,.1f}{share}")

            path = fetch(file, progress, lengths=weights_lengths(file))
        print(f"{path}  ({path.stat().st_size:,} bytes, {file.licence})")
    return 0


@app.command("convert")
def convert(
    model: ModelArgument,
    out: Annotated[
        Path, typer.Option("-o", "--out", help="OUT.safetensors, OUT.onnx, or OUT.weights with its cfg and names.")
    ],
    weights: options.Weights = None,
    names: options.Names = None,
    size: options.Size = None,
    decoded: Annotated[bool, typer.Option("--decoded", help="ONNX with boxes, scores and NMS inside.")] = False,
    half: Annotated[bool, typer.Option("--half", help="16-bit weights, half the bytes; for .safetensors.")] = False,
    allow_nonfinite: options.AllowNonfinite = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
) -> int:
    """A model as one file, as ONNX, or as Darknet's files again. What is written is what its suffix says.

    lookonce model convert my.cfg -w my.weights --names my.names -o my.safetensors

    lookonce model convert my.safetensors -o my.onnx --decoded
    """
    from lookonce.exporting import convert as write

    opened = options.opened(model, weights, names, size, allow_paths, allow_nonfinite)
    for line in write(opened, out, decoded=decoded, half=half):
        print(line, file=sys.stderr)
    return 0


@app.command("pack")
def pack(
    model: ModelArgument,
    out: Annotated[Path, typer.Option("-o", "--out", help="The packed file, OUT.safetensors.")],
    weights: options.Weights = None,
    names: options.Names = None,
    half: Annotated[bool, typer.Option("--half", help="16 bits for weights that are not of single bits.")] = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
) -> int:
    """A model with one bit a weight where its layers have single bits, and what that saves.

    The packed file is taken wherever a model is. Its real weights are gone: keep the original to learn on.

    lookonce model pack my.cfg -w my.weights -o packed.safetensors

    lookonce model pack best.safetensors --half -o packed.safetensors
    """
    from lookonce.exporting import pack as write

    for line in write(options.opened(model, weights, names, None, allow_paths, False), out, half=half):
        print(line)
    return 0


@app.command("cut")
def cut(
    model: ModelArgument,
    layers: Annotated[int, typer.Argument(min=1, help="How many layers to keep, from the first on.")],
    out: Annotated[Path, typer.Option("-o", "--out", help="The partial weights file.")],
    weights: options.Weights = None,
    allow_nonfinite: options.AllowNonfinite = False,
    allow_paths: options.AllowPaths = False,
    strict: options.Strict = False,
) -> int:
    """The weights of the first layers, to begin another training with.

    lookonce model cut yolov3-tiny 15 -o yolov3-tiny.conv.15

    lookonce model cut my.cfg 23 -w my.weights -o my.conv.23
    """
    from lookonce.errors import WeightsError

    opened = options.opened(model, weights, None, None, allow_paths, allow_nonfinite)
    if layers > len(opened.network.nodes):
        raise WeightsError(f"{model}: has {len(opened.network.nodes)} layers; wanted a cut of at most that")
    opened.write_weights(out, layers)
    count = len(opened.network.nodes)
    print(f"{out}: the first {layers} of {count} layers, {out.stat().st_size:,} bytes", file=sys.stderr)
    return 0
