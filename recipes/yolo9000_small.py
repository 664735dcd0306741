"""Learns classes without boxes, small: python recipes/yolo9000_small.py VOC2007 TINY_IMAGENET [OUT]

Three experiments after chapter 2.4 of the thesis, each with its tables in OUT/results.json and on the screen:

    hierarchy    Tiny-ImageNet's 200 classes over their tree against a flat softmax, by the same network and recipe
    joint        the detector in the box learns those classes from labels of whole pictures, beside VOC's boxes; against
                 boxes alone, and against labels pasted on whole pictures as if they were boxes
    forgetting   the same detector learns 20 new classes from labels alone: what it knows of VOC's 20 before and after

Boxes of Tiny-ImageNet are read to judge, never to learn. All runs are seeded and keep checkpoints: started again, this
goes on where it was stopped. The last digits depend on the processor and the number of threads.
"""

from __future__ import annotations

import contextlib
import csv
import io
import json
import sys
import zipfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image

from lookonce import zoo
from lookonce.cli.main import main
from lookonce.trees import read_tree
from lookonce.wordtree import WordTree

BACKBONE = Path(__file__).with_name("lookonce-voc-backbone.cfg")
# The nodes of VOC's names that WordNet calls otherwise, or that it has several of.
CHOICES = {
    "aeroplane": "n02691156", "boat": "n02858304", "bottle": "n02876657", "car": "n02958343", "chair": "n03001627",
    "cow": "n02402425", "diningtable": "n03201208", "horse": "n02374451", "motorbike": "n03790512",
    "pottedplant": "n13083023", "sheep": "n02411705", "tvmonitor": "n03211117",
}  # fmt: skip
OTHERS = {"bicycle": "n02834778", "bird": "n01503061", "bus": "n02924116", "cat": "n02121620", "dog": "n02084071",
          "person": "n00007846", "sofa": "n04256520", "train": "n04468005"}  # fmt: skip
NEW = 20                            # classes of the experiment on forgetting
FAMILIAR = 5                        # of the best and the worst classes that are printed
EPOCHS = {"joint": "1", "boxes": "1.683", "forgetting": "1.5"}     # 19,952, 6,651 and 8,328 pictures
TUNED = ("-m", "lookonce-voc", "--pretrained", "lookonce-voc", "--anchors", "keep", "--batch", "16", "--protocol",
         "voc12")  # fmt: skip


def learn(folder: Path, *arguments: str) -> Path:
    """Learn in `folder`, or go on there; the last model. Ends the program if that fails."""
    told = ["--resume", str(folder)] if (folder / "run.json").exists() else [*arguments, "-o", str(folder)]
    fixed = [] if told[0] == "--resume" else ["--precision", "bf16", "--seed", "0", "--threads", "1"]
    if code := main(["train", *told, *fixed]):
        sys.exit(code)
    return folder / "last.safetensors"


def judged(model: str | Path, data: Path, *more: str) -> dict[str, Any]:
    """What `val` says of a model."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        if code := main(["val", "-m", str(model), "--data", str(data), "--json", "-q", "--threads", "1", *more]):
            sys.exit(code)
    found: dict[str, Any] = json.loads(said.getvalue())
    return found


def planted(out: Path, name: str, words: Sequence[str]) -> Path:
    """The tree of some synsets, cut out of YOLO9000's, with its display names."""
    whole = read_tree(zoo.bundled_files()["9k.tree"])
    path = out / f"{name}.tree"
    if not path.exists():
        table = out / "pairs.csv"
        with table.open("w", newline="") as file:
            rows = zip(whole.ids, whole.parent.tolist(), whole.names, strict=True)
            csv.writer(file).writerows((id, whole.ids[over], name) for id, over, name in rows if over >= 0)
        (out / f"{name}.txt").write_text("".join(f"{word}\n" for word in words))
        arguments = ["--csv", str(table), "--words", str(out / f"{name}.txt"), "-o", str(path)]
        if code := main(["tree", "build", *arguments]):
            sys.exit(code)
    return path


def with_boxes(out: Path, tiny: Path, part: str, *, pasted: bool = False) -> Path:
    """Tiny-ImageNet's pictures as COCO's JSON: with their boxes, or with labels pasted on whole pictures."""
    path = out / f"tiny-{part}{'-pasted' if pasted else ''}" / "instances.json"
    if path.exists():
        return path
    images, rows = [], []
    boxes = {line.split()[0]: line.split()[1:] for line in (tiny / f"{part}_boxes.txt").read_text().splitlines()}
    with zipfile.ZipFile(tiny / f"{part}.zip") as archive:
        wnids = sorted({name.split("/")[0] for name in archive.namelist()})
        for number, name in enumerate(sorted(archive.namelist()), start=1):
            target = path.parent / name.replace("/", "-")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_bytes(archive.read(name))
            with Image.open(target) as picture:
                width, height = picture.size
            left, top, right, bottom = (0, 0, width, height) if pasted else map(int, boxes[name])
            box = [left, top, max(right - left, 2), max(bottom - top, 2)]
            images.append({"id": number, "file_name": target.name, "width": width, "height": height})
            rows.append({"id": number, "image_id": number, "category_id": wnids.index(name.split("/")[0]) + 1,
                         "bbox": box, "area": box[2] * box[3], "iscrowd": 0})  # fmt: skip
    categories = [{"id": number, "name": wnid} for number, wnid in enumerate(wnids, start=1)]
    path.write_text(json.dumps({"images": images, "annotations": rows, "categories": categories}))
    return path


def some_classes(out: Path, tiny: Path, wnids: Sequence[str]) -> Path:
    """The pictures of some classes of Tiny-ImageNet's train, as folders."""
    folder = out / "new" / "train"
    if not folder.exists():
        with zipfile.ZipFile(tiny / "train.zip") as archive:
            archive.extractall(folder, [name for name in archive.namelist() if name.split("/")[0] in wnids])
    return folder.parent


# ---------------------------------------------------------------------- the experiments
def hierarchy(tiny: Path, out: Path, tree: Path) -> dict[str, Any]:
    """Flat and down the tree: top-1, top-5, and how deep answers are right."""
    same = ("--data", str(tiny), "-m", str(BACKBONE), "--size", "64", "--epochs", "12", "--batch", "128",
            "--judge-every", "6")  # fmt: skip
    flat = learn(out / "hierarchy-flat", *same)
    down = learn(out / "hierarchy-tree", *same, "--tree", str(tree))
    return {"flat": judged(flat, tiny, "--split", "val"), "tree": judged(down, tiny, "--split", "val")}


def joint(voc: Path, tiny: Path, out: Path, tree: Path, choices: Path) -> dict[str, Any]:
    """Boxes of VOC and labels of Tiny-ImageNet; boxes alone; labels pasted on whole pictures."""
    same = ("--data", str(voc), "--split", "train", "--val-split", "val", "--judge-every", "9", *TUNED,
            "--tree", str(tree), "--choices", str(choices))  # fmt: skip
    beside = ("--ratio", "1:2", "--lr", ".0005", "--epochs", EPOCHS["joint"])
    pasted = with_boxes(out, tiny, "train", pasted=True)
    models = {
        "joint": learn(out / "joint", *same, "--also", str(tiny), *beside),
        "pasted": learn(out / "pasted", *same, "--also", str(pasted), *beside),
        "boxes alone": learn(out / "boxes", *same, "--lr", ".0005", "--epochs", EPOCHS["boxes"]),
    }
    found = {}
    for name, model in models.items():
        found[name] = {
            "VOC": judged(model, voc, "--split", "val", "--protocol", "voc12"),
            "Tiny-ImageNet": judged(model, with_boxes(out, tiny, "val"), "--protocol", "voc12"),
        }
    return found


def forgetting(voc: Path, tiny: Path, out: Path, tree: WordTree) -> dict[str, Any]:
    """VOC's 20 classes before and after 20 new ones, and these."""
    old = {node for id in (*CHOICES.values(), *OTHERS.values()) for node in tree.find(id)}
    with zipfile.ZipFile(tiny / "train.zip") as archive:
        wnids = sorted({name.split("/")[0] for name in archive.namelist()})
    unlike = [wnid for wnid in wnids if not old.intersection(tree.path(tree.find(wnid)[0]))]
    new = unlike[:: len(unlike) // NEW][:NEW]
    model = learn(
        out / "forgetting", "--data", str(voc), "--split", "train", "--val-split", "val", "--judge-every", "9", *TUNED,
        "--also", str(some_classes(out, tiny, new)), "--ratio", "4:1", "--lr", ".0001",
        "--epochs", EPOCHS["forgetting"],
    )  # fmt: skip
    of_voc = ("--split", "val", "--protocol", "voc12")
    return {
        "before": judged("lookonce-voc", voc, *of_voc),
        "after": judged(model, voc, *of_voc),
        "new": judged(model, with_boxes(out, tiny, "val"), "--protocol", "voc12"),
    }


# ---------------------------------------------------------------------- what came out
def tables(found: Mapping[str, Any], tree: WordTree) -> str:
    """The figures as text."""
    lines = ["hierarchy"]
    for name, row in found["hierarchy"].items():
        lines.append(f"  {name:<12} top-1 {row['top1']:.3f}  top-5 {row['top5']:.3f}")
        if "depth" in row:
            depths = [f"{depth:.3f}" for depth in row["depth"] if depth is not None]
            lines.append(f"  {'':<12} by depth {' '.join(depths)}")
    lines.append("joint")
    for name, row in found["joint"].items():
        for data, each in row.items():
            figures = [f"{key} {value:.4f}" for key, value in each["figures"].items() if key.startswith("mAP")]
            lines.append(f"  {name:<12} {data:<14} " + "  ".join(figures))
        classes = row["Tiny-ImageNet"]["by class"].items()
        ranked = sorted(classes, key=lambda each: -(each[1]["AP"] or 0))
        for title, some in (("best", ranked[:FAMILIAR]), ("worst", ranked[-FAMILIAR:])):
            lines.append(f"  {'':<12} {title:<6}" + _listed(some, tree))
    lines.append("forgetting")
    lines += [f"  {name:<12} mAP {row['figures']['mAP']:.4f}" for name, row in found["forgetting"].items()]
    lines.append("  " + _listed(found["forgetting"]["new"]["by class"].items(), tree))
    return "\n".join(lines)


def _listed(classes: Iterable[tuple[str, Mapping[str, Any]]], tree: WordTree) -> str:
    """Each class's name and AP, - where it has no object."""
    named = [(tree.names[tree.find(id)[0]], row["AP"]) for id, row in classes]
    return ", ".join(f"{name} -" if ap is None else f"{name} {ap:.3f}" for name, ap in named)


def run(arguments: Sequence[str]) -> None:
    voc, tiny, *rest = (Path(argument) for argument in arguments)
    out = rest[0] if rest else Path("runs/yolo9000-small")
    out.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(tiny / "train.zip") as archive:
        wnids = sorted({name.split("/")[0] for name in archive.namelist()})
    tree = planted(out, "tiny", wnids)
    both = planted(out, "both", sorted({*wnids, *CHOICES.values(), *OTHERS.values()}))
    choices = out / "voc.choices"
    choices.write_text("".join(f"{name} = {id}\n" for name, id in {**CHOICES, **OTHERS}.items()))
    whole = read_tree(zoo.bundled_files()["9k.tree"])
    found = {"forgetting": forgetting(voc, tiny, out, whole), "joint": joint(voc, tiny, out, both, choices),
             "hierarchy": hierarchy(tiny, out, tree)}  # fmt: skip
    (out / "results.json").write_text(json.dumps(found, indent=1))
    print(tables(found, whole))


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    run(sys.argv[1:])
