"""Darknet's own command lines, said in this program's words.

Darknet takes its arguments by place, after removing every flag it knows wherever it stands (utils.c, find_arg).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from lookonce.darknet.lists import read_data
from lookonce.errors import DataError, TranslationError, nearest, shown, warn

# Flags and whether a value follows. The fork's are those that change nothing but what is shown.
FLAGS = {
    "-thresh": True, "-hier": True, "-nms": True, "-out": True, "-prefix": True, "-c": True, "-t": True, "-top": True,
    "-topk": True, "-i": True, "-gpus": True, "-avg": True, "-s": True, "-out_filename": True, "-w": True, "-h": True,
    "-fps": True, "-nogpu": False, "-fullscreen": False, "-ext_output": False, "-dont_show": False,
    "-save_labels": False, "-letter_box": False, "-benchmark": False, "-clear": False, "-map": False,
    "-mAP_epochs": True, "-mjpeg_port": True, "-json_port": True, "-show_imgs": False, "-chart": True,
}  # fmt: skip
FORK_FLAGS = ("-ext_output", "-dont_show", "-save_labels", "-letter_box", "-out_filename", "-benchmark")

ALLOW_PATHS = "--allow-paths"           # the one native option that matters to reading a .data file

VERBS = ("detect", "detector", "yolo", "coco", "classify", "classifier", "partial", "ops", "speed")

# Lists of names that come with Darknet, by the file that its .data files name, and what the zoo calls them.
KNOWN_NAMES = {
    "coco.names": "coco", "voc.names": "voc", "openimages.names": "openimages",
    "imagenet.shortnames.list": "imagenet",
}  # fmt: skip


def translate(argv: Sequence[str]) -> list[str]:
    """The native arguments for Darknet's `argv` (without the program's name). Raises TranslationError or DataError.

    Thresholds are those of the command in the original: .5 for detectors, .2 for version 1; .25 where a flag of the
    fork shows that its program is meant.
    """
    allowed = [word for word in argv if word == ALLOW_PATHS]
    words, flags = _split([word for word in argv if word != ALLOW_PATHS])
    return _translated(words, flags, anywhere=bool(allowed)) + allowed[:1]


def _translated(words: list[str], flags: dict[str, str], anywhere: bool) -> list[str]:
    if not words:
        raise TranslationError(f"darknet: wanted a command; known are {', '.join(VERBS)}")
    verb, rest = words[0], words[1:]
    if verb in ("detect", "classify"):
        detects = verb == "detect"
        return _run(detects, "coco" if detects else "imagenet", rest, flags, (0.5, 0.24))     # cfg/coco.data and so on
    if verb in ("detector", "yolo", "coco", "classifier"):
        return _by_function(verb, rest, flags, anywhere)
    if verb == "partial":
        cfg, weights, out, layers = _take(rest, "partial CFG WEIGHTS OUT LAYERS", 4)
        return ["model", "cut", cfg, layers, "-w", weights, "-o", out]
    if verb == "ops":
        return ["model", "show", *_take(rest, "ops CFG", 1)]
    if verb == "speed":
        return ["bench", "-m", *_take(rest[:1], "speed CFG", 1)]
    raise TranslationError(f"darknet {shown(verb)}: has no equivalent here{nearest(verb, VERBS)}")


def _by_function(verb: str, rest: list[str], flags: dict[str, str], anywhere: bool) -> list[str]:
    function = rest[0] if rest else ""
    detects = verb != "classifier"
    wanted = ("test", "demo") if detects else ("predict",)
    if verb in ("detector", "classifier"):
        wanted = (*wanted, "train")
    if function not in wanted:
        can = ", ".join(f"`darknet {verb} {each}`" for each in wanted)
        found = f"{verb} {shown(function)}".strip()
        raise TranslationError(f"darknet {found}: has no equivalent here; {can} have")
    if function == "train":
        return _train(verb, rest[1:], flags)
    if verb in ("yolo", "coco"):
        names: str | None = "voc" if verb == "yolo" else "coco"
        rest, thresh = rest[1:], (0.2, 0.2)
    else:
        if len(rest) < 2:
            raise TranslationError(f"darknet {verb} {function}: wanted DATA CFG WEIGHTS [FILE]")
        names, rest, thresh = _names_of_data(rest[1], anywhere), rest[2:], (0.5, 0.25)
    if function == "demo" and len(rest) == 2:
        rest = [*rest, flags.get("-c", "0")]
    return _run(detects, names, rest, flags, thresh)


def _run(
    detects: bool, names: str | None, rest: list[str], flags: dict[str, str], thresh: tuple[float, float]
) -> list[str]:
    """detect or classify, for CFG WEIGHTS [FILE]. `thresh` is the command's in the original and in the fork."""
    if len(rest) not in (2, 3):
        found = f"{len(rest)} argument{'s' if len(rest) != 1 else ''} in their place"
        raise TranslationError(f"darknet: wanted CFG WEIGHTS [FILE] after the command and its DATA, found {found}")
    cfg, weights, source = (*rest, "-")[:3]
    native = ["detect" if detects else "classify", source, "-m", cfg, "-w", weights]
    if names is not None:
        native += ["--names", names]
    if not detects:
        top = flags.get("-t", flags.get("-top", flags.get("-topk")))
        return native + (["--top", top] if top else [])
    fork = any(flag in flags for flag in FORK_FLAGS)
    native += ["--thresh", flags.get("-thresh", f"{thresh[1] if fork else thresh[0]:g}")]
    for flag, option in (("-hier", "--hier"), ("-nms", "--nms")):
        if flag in flags:
            native += [option, flags[flag]]
    if "-letter_box" in flags:
        native += ["--resize", "letterbox"]
    if "-save_labels" in flags:
        native += ["--format", "darknet", "-o", str(Path(source).parent) if source != "-" else "."]
    if flags.get("-out", "").endswith(".json"):                # the fork writes what it says, the original a picture
        native += ["--format", "json", "-o", flags.pop("-out")]
    out = flags.get("-out", flags.get("-out_filename", flags.get("-prefix")))
    folder = str(Path(out).parent) if out else "predictions"
    if out and Path(out).stem != Path(source).stem:
        warn(f"darknet: {out}: copies are called as what they are of: look in the folder {folder}")
    return [*native, "--save", folder]


def _train(verb: str, rest: list[str], flags: dict[str, str]) -> list[str]:
    """train, for DATA CFG [WEIGHTS]."""
    if len(rest) not in (2, 3):
        raise TranslationError(f"darknet: wanted `{verb} train DATA CFG [WEIGHTS]`, found {len(rest)} arguments")
    data, cfg = rest[:2]
    native = ["train", cfg, "--data", data, *(["--pretrained", rest[2]] if len(rest) == 3 else [])]
    native += ["--clear"] if "-clear" in flags else []
    gpus = flags.get("-gpus", flags.get("-i"))
    if "-nogpu" in flags:
        return [*native, "--device", "cpu"]
    if gpus is None:
        return native
    if "," in gpus:
        count = len(gpus.split(","))
        warn(
            f"darknet: -gpus {shown(gpus)}: this learns on one; on all of them so: CUDA_VISIBLE_DEVICES={shown(gpus)} "
            f"torchrun --nproc-per-node {count} -m lookonce train ..."
        )
    return [*native, "--device", f"cuda:{gpus.split(',')[0]}"]


def _split(argv: Sequence[str]) -> tuple[list[str], dict[str, str]]:
    """What stands by place, and the flags with their values. Raises TranslationError for an unknown flag."""
    words: list[str] = []
    flags: dict[str, str] = {}
    rest = list(argv)
    while rest:
        word = rest.pop(0)
        if not word.startswith("-") or word == "-":
            words.append(word)
        elif word not in FLAGS:
            raise TranslationError(f"darknet: the flag {shown(word)} is not known here{nearest(word, FLAGS)}")
        elif not FLAGS[word]:
            flags[word] = ""
        elif rest:
            flags[word] = rest.pop(0)
        else:
            raise TranslationError(f"darknet: the flag {word} wants a value after it")
    return words, flags


def _take(rest: list[str], usage: str, count: int) -> list[str]:
    if len(rest) != count:
        raise TranslationError(f"darknet: wanted `{usage}`, found {len(rest)} arguments")
    return rest


def _names_of_data(path: str, anywhere: bool) -> str | None:
    """The names that a .data file names; the zoo's own if that file is not there and is one of Darknet's lists.

    Raises DataError.
    """
    data = read_data(Path(path))
    key = next((key for key in ("names", "labels") if key in data.values), None)
    if key is None:
        return None
    try:
        return str(data.file(key, anywhere=anywhere))
    except DataError:
        known = KNOWN_NAMES.get(data.values[key].rsplit("/", 1)[-1])
        if known is None:
            raise
        return known
