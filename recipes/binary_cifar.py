"""Learns CIFAR-10 with networks of few bits, all by one recipe: python recipes/binary_cifar.py CIFAR10 [NAME ...]

The network is that of BinaryConnect and BinaryNet, on which the thesis compares (4.4.2): 2 x w filters, pool, 2 x 2w,
pool, 2 x 4w, pool, 2 x 8w connected, 10. There w is 128, pictures have 32 pixels and runs are long: --width 128
--size 32 --epochs 100, on a GPU; what is usual here fits some minutes of a core. The first and the last layer are
real. NAMEs choose some of VARIANTS. OUT (-o) takes a cfg and a folder of each, and results.json with all that are done.
The runs are seeded and keep checkpoints: started again, this goes on where it was stopped.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from runs import learn, write_results

NET = """\
[net]
width={size}
height={size}
channels=3
batch=64
adam=1
decay=0
label_smooth_eps=0
min_crop={size}
max_crop={most}
learning_rate=.002
burn_in=100
policy=poly
power=1
max_batches=40000
"""
LAST = "[connected]\noutput=10\nactivation=linear\n\n[softmax]\n"
POOL = "[maxpool]\nsize=2\nstride=2\n\n"
REAL = ""
BINARY = "binary=1\ngradient=thesis\n"
XNOR = "xnor=1\ngradient=thesis\n"
K = "input_scale=1\n"
UNSCALED = "alpha=none\nclip=1\n"            # as in BinaryConnect and BinaryNet: signs alone, real weights within 1


@dataclass(frozen=True)
class Variant:
    """A network: what its middle layers say beside their shape, and in which order a block is.

    In the order B-A-C-P the pool stands between a convolution and the batch norm after it, else (C-B-A-P) after the
    activation. Where `activation` is linear the sign of the next layer is the activation: the largest of signs is the
    sign of the largest. With `shortcuts` (Bi-Real Net) what enters a convolution of single bits is added to what comes
    out, and real 1 x 1 convolutions widen between the stages; the batch norm before a sign learns its threshold, as
    ReActNet's shifts do.
    """

    bits: str
    activation: str = "relu"
    pool_first: bool = True
    shortcuts: bool = False


VARIANTS = {
    "real": Variant(REAL),
    "bwn": Variant(BINARY),
    "bwn-learned": Variant(BINARY + "alpha=learned\n"),
    "bc": Variant(BINARY + UNSCALED),
    "xnor": Variant(XNOR, "linear"),
    "xnor-k": Variant(XNOR + K, "linear"),
    "xnor-k-cbap": Variant(XNOR + K, "linear", pool_first=False),
    "bnn": Variant(XNOR + UNSCALED, "hardtan", pool_first=False),
    "bireal": Variant(XNOR, "linear", shortcuts=True),
    "bits-2": Variant(XNOR + "weight_bits=2\ninput_bits=2\n", "linear"),
    "bits-4": Variant(XNOR + "weight_bits=4\ninput_bits=4\n", "linear"),
    "bits-8": Variant(XNOR + "weight_bits=8\ninput_bits=8\n", "linear"),
    "xnor-darknet": Variant("xnor=1\n", "linear"),
    "xnor-allenai": Variant("xnor=1\ngradient=allenai\nzero_mean=1\n", "linear"),
}


def cfg(variant: Variant, width: int, size: int) -> str:
    """The text of a variant whose first layer has `width` filters, for pictures of `size` pixels.

    label_smooth_eps=0 changes nothing in itself; it makes this a cfg of AlexeyAB's dialect, in whose files a
    [batchnorm] keeps its shift, from which the sign learns its threshold.
    """
    layers = with_shortcuts(variant, width) if variant.shortcuts else plain(variant, width)
    return NET.format(size=size, most=round(size * 4 / 3)) + layers + LAST


def plain(variant: Variant, width: int) -> str:
    """All but the last layer, of the network in BinaryNet's shape."""
    after = "[batchnorm]\n\n" + activation(variant.activation)
    end = POOL + after if variant.pool_first else after + POOL
    text = convolution(width) + after + convolution(width, variant.bits) + end
    for wide in (2 * width, 4 * width):
        text += convolution(wide, variant.bits) + after + convolution(wide, variant.bits) + end
    connected = f"[connected]\n{variant.bits}output={8 * width}\nactivation=linear\n\n"
    last = "relu" if variant.activation == "linear" else variant.activation
    return text + connected + after + connected + "[batchnorm]\n\n" + activation(last)


def with_shortcuts(variant: Variant, width: int) -> str:
    """The same convolutions, each of single bits beside a shortcut; the connected layers give way to the mean."""
    block = "[batchnorm]\n\n{}[shortcut]\nfrom=-3\nactivation=linear\n\n"
    text = convolution(width)
    for wide in (width, 2 * width, 4 * width):
        if wide > width:
            text += POOL + convolution(wide, size=1)
        text += 2 * block.format(convolution(wide, variant.bits))
    return text + "[batchnorm]\n\n" + activation("relu") + "[avgpool]\n\n"


def activation(name: str) -> str:
    return "" if name == "linear" else f"[activation]\nactivation={name}\n\n"


def convolution(filters: int, bits: str = REAL, size: int = 3) -> str:
    return f"[convolutional]\n{bits}filters={filters}\nsize={size}\nstride=1\npad=1\nactivation=linear\n\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="CIFAR10")
    parser.add_argument("names", metavar="NAME", nargs="*", help=", ".join(VARIANTS))
    parser.add_argument("-o", "--out", type=Path, default=Path("runs/binary-cifar"))
    for option, usual in (("width", 32), ("size", 24), ("epochs", 2)):
        parser.add_argument(f"--{option}", type=int, default=usual, help=f"{usual} if not given")
    asked = parser.parse_args()
    if odd := [name for name in asked.names if name not in VARIANTS]:
        parser.error(f"{odd[0]} is no variant: wanted some of {', '.join(VARIANTS)}")
    asked.out.mkdir(parents=True, exist_ok=True)
    for name in asked.names or VARIANTS:
        text = asked.out / f"{name}.cfg"
        text.write_text(cfg(VARIANTS[name], asked.width, asked.size))
        learn(
            asked.out / name, "--data", asked.data, "-m", str(text), "--epochs", str(asked.epochs), "--batch", "64",
            "--recipe", "thesis", "--precision", "f32", "--judge-every", "1", "--threads", "1",
        )  # fmt: skip
        write_results(asked.out, VARIANTS)


if __name__ == "__main__":
    main()
