"""Fuzzing of what reads a cfg: `python bench/fuzz_cfg.py [count] [seed]`.

Each input is a small cfg with a few wounds. It must either be refused by CfgError or DataError, or give a network whose
shapes have no side below 1, and its text must come back as it was. With atheris installed the search is guided by
coverage and `count` is libFuzzer's -runs; otherwise a seeded mutator makes all inputs by itself.
"""

from __future__ import annotations

import random
import re
import sys
import time
import warnings
from collections.abc import Mapping
from typing import Any, NamedTuple

# Nothing of lookonce is imported here: under atheris its modules have to be imported under instrumentation.

NUMBER = re.compile(r"[-+]?\d*\.?\d+(?:[eE][-+]?\d+)?")

TREE = "root -1 everything\nrock -1\nanimal 0\nplant 0\ndog 2 a dog\ncat 2\n"


def _cfg(text: str) -> str:
    """A cfg from one that is written with a blank for each line's end."""
    return text.replace("\n", " ").replace(" ", "\n").replace("_=_", " = ").replace(",_", ", ") + "\n"


SEEDS: Mapping[str, str] = {
    "yolo": _cfg("""\
#a-detector  [net] batch=64 subdivisions=16 width_=_64 height_=_64 channels=3 momentum=0.9 decay=0.0005 angle=0
saturation_=_1.5 exposure=1.5 hue=.1 learning_rate=0.001 burn_in=1000 max_batches_=_500200 policy=steps
steps=400000,450000 scales=.1,.1
[convolutional] batch_normalize=1 filters=8 size=3 stride=1 pad=1 activation=leaky
[maxpool] size=2 stride=2
[convolutional] filters=8 size=1 stride=1 padding=0 activation=linear
[shortcut] from=-2 activation=linear
[route] layers=-2
[upsample] stride=2 ;only-whole-lines-are-comments
[route] layers_=_-1,_0
[convolutional] size=1 filters=14 activation=linear
[yolo] mask_=_0,1 anchors_=_10,14,_23,27,_37,58 classes=2 num=3 jitter=.3 ignore_thresh_=_.7 truth_thresh=1
random=1"""),
    "region": _cfg("""\
[net] width=16 height=16 channels=3
[convolutional] filters=8 size=3 pad=1 activation=relu
[reorg] stride=2
[convolutional] filters=22 activation=linear
[region] anchors=1.08,1.19,3.42,4.41 classes=6 coords=4 num=2 softmax=1 tree=toy.tree max=30 jitter=.2 rescore=1
object_scale=5 noobject_scale=1 class_scale=1 coord_scale=1 absolute=1 thresh=.6 bias_match=1"""),
    "detection": _cfg("""\
[net] width=32 height=24 channels=3 policy=poly power=4
[crop] crop_width=16 crop_height=16 noadjust=1 flip=0
[convolutional] filters=4 size=3 stride=2 pad=1 groups=1 activation=ramp
[local] filters=4 size=3 stride=1 pad=1 activation=leaky
[dropout] probability=.5
[connected] output=64 activation=linear
[detection] classes=6 coords=4 rescore=1 side=2 num=2 softmax=0 sqrt=1 jitter=.2 object_scale=1 noobject_scale=.5
class_scale=1 coord_scale=5
[cost] type=sse scale=1"""),
    "classifier": _cfg("""\
[net] width=12 height=12 channels=3 max_crop=16
[conv] filters=6 size=3 stride=2 pad=1 activation=elu
[batchnorm] [lrn] size=5 alpha=.0001 beta=.75 kappa=1
[activation] activation=tanh
[l2norm] [max] size=3 stride=2 padding=2
[logistic] [avg] [connected] output=6 batch_normalize=1 activation=linear
[softmax] groups=2 temperature=1"""),
    "fork": _cfg("""\
[net] width=32 height=32 channels=3 letter_box=1 mosaic=1
[convolutional] filters=8 size=3 pad=1 stride_x=2 stride_y=2 dilation=1 groups=1 activation=mish
[route] layers=-1 groups=2 group_id=1
[convolutional] filters=4 activation=swish
[shortcut] from=-2,1 weights_type=per_channel weights_normalization=softmax activation=linear
[avgpool] [scale_channels] from=3 scale_wh=0
[sam] from=3
[reorg3d] stride=2
[convolutional] filters=21 activation=logistic
[yolo] mask=0,1,2 anchors=4,4,8,8,12,16 classes=2 num=3 scale_x_y=1.05 new_coords=1 nms_kind=diounms beta_nms=0.6
max=200"""),
}

SECTIONS = (
    "net", "network", "convolutional", "conv", "connected", "conn", "local", "maxpool", "max", "avgpool", "avg",
    "dropout", "crop", "cost", "batchnorm", "normalization", "lrn", "l2norm", "activation", "logistic", "route",
    "shortcut", "scale_channels", "sam", "upsample", "reorg", "reorg3d", "softmax", "soft", "detection", "region",
    "yolo", "rnn", "iseg", "Gaussian_yolo", "deconvolutional", "YOLO", "",
)  # fmt: skip
OPTIONS = (
    "width", "height", "channels", "batch", "subdivisions", "inputs", "policy", "steps", "scales", "learning_rate",
    "max_crop", "filters", "size", "stride", "stride_x", "stride_y", "pad", "padding", "groups", "group_id", "dilation",
    "activation", "batch_normalize", "binary", "xnor", "flipped", "dontload", "numload", "output", "layers", "from",
    "alpha", "beta", "weights_type", "weights_normalization", "scale_wh", "reverse", "flatten", "extra", "scale",
    "crop_width", "crop_height", "noadjust", "probability", "type", "kappa", "spatial", "tree", "temperature",
    "classes", "coords", "num", "side", "mask", "anchors", "softmax", "background", "map", "max", "random",
    "scale_x_y", "new_coords", "nms_kind", "letter_box", "antialiasing", "maxpool_depth", "truth",
)  # fmt: skip
VALUES = (
    "0", "1", "-1", "2", "3", "5", "7", "-2", "64", "65", "100000", "46341", "65536", "2147483647", "2147483648",
    "-2147483648", "4294967296", "9223372036854775808", "1" + "0" * 400, "1e3", "18.0", "1.5", "0x12", "1_8", "１８",
    "nan", "inf", "-inf", "1e999", "1e-999", ".", "-", "+", "abc", "18abc", "1,2", "1,,2", ",", "0,0", "-1,-1,-1",
    "0,1,2,3,4", "linear", "leaky", "relu7", "none", "softmax", "per_channel", "toy.tree", "/etc/passwd", "../x",
    "a\0b", "%s%n", "#",
)  # fmt: skip
CHARACTERS = "[]=#;, \t\r\n\0.-+eExn019\ufeff\u2028\x85\x0b\udcff\u0661é"


class Tally(NamedTuple):
    """How many inputs became networks, how many were refused, and the seconds that the slowest one took."""

    accepted: int
    refused: int
    slowest: float


def check(text: str) -> bool:
    """Read and build `text`: True if it is a network, False if it was refused. Anything else is an exception."""
    from lookonce.darknet.cfg import Cfg, Place
    from lookonce.errors import CfgError, DataError
    from lookonce.network import Network

    try:
        network = Network.build(Cfg.parse(text, "fuzz.cfg", Place(attached={"tree": TREE})))
    except (CfgError, DataError) as problem:
        if not str(problem).startswith("fuzz.cfg"):
            raise AssertionError("a message that does not begin with the file's name") from problem
        return False
    for node in network.nodes:
        assert all(side >= 1 for shape in (*node.given, node.shape) for side in shape), f"{node} has {node.shape}"
        assert all(side >= 1 for parameter in node.parameters for side in parameter.shape), f"{node.parameters}"
    assert network.operations >= 0
    assert network.cfg.to_bytes() == text.encode("utf-8", "surrogateescape"), "the text did not come back"
    return True


def mutate(text: str, rng: random.Random) -> str:
    """`text` with one to four wounds."""
    for _ in range(rng.choice((1, 1, 1, 2, 2, 3, 4))):
        text = rng.choice(WOUNDS)(text, rng)
    return text[: 1 << 14]


def run(count: int, seed: int) -> Tally:
    """Check `count` inputs that follow from `seed`. Whatever `check` raises escapes, with its input in a note."""
    rng = random.Random(seed)
    seeds = list(SEEDS.values())
    tally = [0, 0]
    slowest = 0.0
    for _ in range(count):
        text = mutate(rng.choice(seeds), rng)
        begun = time.process_time()
        try:
            tally[check(text)] += 1
        except BaseException as problem:
            problem.add_note(f"input: {text!r}")
            raise
        slowest = max(slowest, time.process_time() - begun)
    return Tally(accepted=tally[1], refused=tally[0], slowest=slowest)


# ---------------------------------------------------------------------- wounds
def _lines(text: str, rng: random.Random) -> str:
    """A line dropped, doubled, or set elsewhere."""
    lines = text.split("\n")
    line = lines.pop(rng.randrange(len(lines)))
    for _ in range(rng.randrange(3)):
        lines.insert(rng.randrange(len(lines) + 1), line)
    return "\n".join(lines)


def _number(text: str, rng: random.Random) -> str:
    """A number replaced by another value, or moved by one."""
    found = list(NUMBER.finditer(text))
    if not found:
        return text
    place = rng.choice(found)
    value = rng.choice(VALUES)
    if rng.random() < 0.4 and place[0].isdigit():
        value = str(int(place[0][:30]) + rng.choice((-1, 1, 2, 8)))
    return text[: place.start()] + value + text[place.end() :]


def _option(text: str, rng: random.Random) -> str:
    """An option or a section put in somewhere."""
    lines = text.split("\n")
    new = f"[{rng.choice(SECTIONS)}]" if rng.random() < 0.3 else f"{rng.choice(OPTIONS)}={rng.choice(VALUES)}"
    lines.insert(rng.randrange(len(lines) + 1), new)
    return "\n".join(lines)


def _word(text: str, rng: random.Random) -> str:
    """A key or a section's name replaced by another."""
    lines = text.split("\n")
    place = rng.randrange(len(lines))
    if lines[place].startswith("["):
        lines[place] = f"[{rng.choice(SECTIONS)}]"
    elif "=" in lines[place]:
        lines[place] = f"{rng.choice(OPTIONS)}={lines[place].split('=', 1)[1]}"
    return "\n".join(lines)


def _characters(text: str, rng: random.Random) -> str:
    """Up to eight characters replaced by up to three others."""
    start = rng.randrange(len(text) + 1)
    new = "".join(rng.choices(CHARACTERS, k=rng.randrange(4)))
    return text[:start] + new + text[start + rng.choice((0, 0, 1, 1, 2, 8)) :]


def _splice(text: str, rng: random.Random) -> str:
    """The beginning of one cfg and the end of another."""
    other = rng.choice(list(SEEDS.values())).split("\n")
    lines = text.split("\n")
    return "\n".join(lines[: rng.randrange(len(lines) + 1)] + other[rng.randrange(len(other)) :])


def _ends(text: str, rng: random.Random) -> str:
    """Other line ends."""
    return text.replace("\n", rng.choice(("\r\n", "\r", "\n\n", "\n\t ")))


WOUNDS = (_lines, _number, _number, _number, _option, _option, _word, _characters, _splice, _ends)


# ---------------------------------------------------------------------- as a program
def _with_coverage(atheris: Any, count: int, seed: int) -> None:
    """Hand the search to libFuzzer; it writes what it finds to crash-* files and ends the program."""
    with atheris.instrument_imports(include=["lookonce"]):
        check(SEEDS["yolo"])

    def one(data: bytes) -> None:
        check(data.decode("utf-8", "surrogateescape"))

    def wound(data: bytes, limit: int, seed: int) -> bytes:
        rng = random.Random(seed)
        if len(data) > 1 and rng.random() < 0.25:
            return bytes(atheris.Mutate(data, limit))
        # libFuzzer begins with a single byte: then one of our own cfgs is what is wounded.
        text = data.decode("utf-8", "surrogateescape") if len(data) > 1 else rng.choice(list(SEEDS.values()))
        return mutate(text, rng).encode("utf-8", "surrogateescape")[:limit]

    arguments = [sys.argv[0], f"-runs={count}", f"-seed={seed}", "-max_len=8192", "-timeout=10"]
    atheris.Setup(arguments, one, custom_mutator=wound)
    atheris.Fuzz()


def main(argv: list[str]) -> int:
    count = int(argv[0]) if argv else 100_000
    seed = int(argv[1]) if len(argv) > 1 else 1
    warnings.simplefilter("ignore")
    try:
        import atheris
    except ImportError:
        begun = time.perf_counter()
        tally = run(count, seed)
        rate = count / max(1e-9, time.perf_counter() - begun)
        print(f"{count:,} inputs, {tally.accepted:,} networks, {tally.refused:,} refused, {rate:,.0f} a second, "
              f"the slowest {1000 * tally.slowest:.1f} ms")  # fmt: skip
        return 0
    _with_coverage(atheris, count, seed)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
