"""Datasets as small as can be, written by hand: their files say what the tests then expect."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from lookonce.data import Dataset, Item
from lookonce.truth import Truth

Row = tuple[str, tuple[object, object, object, object]]


def picture(path: Path, width: int = 40, height: int = 30) -> Path:
    """A grey picture with a diagonal that tells it from others of its size."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full((height, width, 3), 128, np.uint8)
    pixels[:: 1 + len(path.stem) % 5] = sum(path.stem.encode()) % 256
    Image.fromarray(pixels).save(path)
    return path


def text(path: Path, content: str) -> Path:
    """A text file, with the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(content)
    return path


def voc_xml(rows: Iterable[Row], extra: str = "") -> str:
    """An annotation of VOC's; `extra` stands inside each object."""
    objects = "".join(
        f"<object><name>{name}</name>{extra}<bndbox><xmin>{a}</xmin><ymin>{b}</ymin><xmax>{c}</xmax><ymax>{d}</ymax>"
        "</bndbox></object>"
        for name, (a, b, c, d) in rows
    )
    size = "<size><width>40</width><height>30</height></size>"
    return f"<annotation><filename>x.jpg</filename>{size}{objects}</annotation>"


def voc_root(root: Path, labels: Mapping[str, str], splits: Mapping[str, Iterable[str]] | None = None) -> Path:
    """A VOC root: `labels` are the texts of its XML files by id."""
    for id, xml in labels.items():
        text(root / "Annotations" / f"{id}.xml", xml)
        picture(root / "JPEGImages" / f"{id}.jpg")
    for name, ids in (splits or {}).items():
        text(root / "ImageSets" / "Main" / f"{name}.txt", "".join(f"{id}\n" for id in ids))
    return root


def coco_file(root: Path, annotations: list[object], images: list[object] | None = None, **more: object) -> Path:
    """instances.json of two pictures and two categories, whose ids are 3 and 7 and stand in falling order."""
    for id in (1, 2):
        picture(root / "images" / f"{id:06}.jpg")
    rows = [{"id": id, "file_name": f"{id:06}.jpg", "width": 40, "height": 30} for id in (1, 2)]
    content = {
        "images": rows if images is None else images,
        "annotations": annotations,
        "categories": [{"id": 7, "name": "dog"}, {"id": 3, "name": "cat"}],
        **more,
    }
    return text(root / "instances.json", json.dumps(content))


def annotation(id: int = 1, **more: object) -> dict[str, object]:
    """One sound annotation, with changes."""
    return {"id": id, "image_id": 1, "category_id": 7, "bbox": [1.5, 2.25, 10, 20], "area": 77.5, "iscrowd": 0, **more}


def everything(folder: Path) -> Dataset:
    """Three pictures: boxes of two classes with all that a Truth can say, a picture without, one with a class."""
    truths = (
        Truth.of(
            np.array([1, 0, 1]),
            xyxy=np.array([[0.0, 0, 40, 30], [4.5, 3.25, 20.125, 17], [1, 2, 3, 4]]),
            difficult=np.array([False, True, False]),
            crowd=np.array([False, False, True]),
        ),
        Truth.of(np.zeros(0, np.int64)),
        Truth.of(np.array([0]), xyxy=np.array([[10.0, 11, 12, 13]]), classes=(1, 0)),
    )
    items = tuple(
        Item(name, picture(folder / f"{name}.jpg"), (40, 30), truth)
        for name, truth in zip(("one", "ten 2", "two"), truths, strict=True)
    )
    return Dataset("voc", folder, ("cat", "dog"), items)
