"""What of a dataset is lost in a form that cannot say it, counted."""

from __future__ import annotations

import numpy as np

from lookonce.data import voc
from lookonce.data.dataset import Dataset
from lookonce.errors import shown

# What each form cannot say.
LOST = {
    "voc": {"crowd", "area", "classes", "absent", "hierarchy", "unused"},
    "coco": {"classes", "absent", "hierarchy"},
    "darknet": {"difficult", "crowd", "area", "classes", "absent", "hierarchy"},
    "folder": {"boxes", "absent", "hierarchy", "unused"},
    "openimages": {"difficult", "area", "hierarchy"},
    "cvat": {"area", "absent", "hierarchy"},
    "labelstudio": {"area", "absent", "hierarchy"},
}
SHOWN = 5                        # names of classes in a message


def losses(dataset: Dataset, format: str) -> list[str]:
    """What is lost of this dataset in a form of LOST, each kind in words with its count; nothing of what is not there.

    An area is lost if it is not width x height to a hundredth: files round, but what was measured on a mask is smaller.
    """
    truths = [item.truth for item in dataset.items]
    crowd, difficult = (sum(int(getattr(truth, name).sum()) for truth in truths) for name in ("crowd", "difficult"))
    area = np.concatenate([np.zeros(0), *(truth.area for truth in truths)])                  # (M,)
    sides = np.concatenate([np.zeros((0, 2)), *(truth.xywh[:, 2:] for truth in truths)])     # (M, 2)
    areas = int((~np.isclose(area, sides.prod(axis=1), rtol=0.01, atol=0)).sum())
    crowds_become = "difficult" if format == "voc" else "objects like others, and figures change"
    unused = _unused(dataset, format)
    names = ", ".join(map(shown, unused[:SHOWN])) + ", ..." * (len(unused) > SHOWN)
    said = {
        "boxes": (sum(map(len, truths)), "boxes are left out"),
        "difficult": (difficult, "difficult objects become objects like others, and figures change"),
        "crowd": (crowd, f"crowds become {crowds_become}"),
        "area": (areas, "areas of masks become width x height, and figures by size change"),
        "classes": (sum(len(truth.classes) for truth in truths), "classes of whole pictures are left out"),
        "absent": (sum(len(item.absent) for item in dataset.items), "classes looked for and not found are left out"),
        "hierarchy": (sum(map(bool, dataset.above)), "classes lose those above them: the hierarchy is left out"),
        "unused": (len(unused), f"classes without objects are left out: {names}"),
    }
    return [f"{count:,} {text}" for kind, (count, text) in said.items() if count and kind in LOST[format]]


def _unused(dataset: Dataset, format: str) -> list[str]:
    """The classes that reading the form again would not know, since nothing bears them."""
    if format == "folder":
        used = {label for item in dataset.items for label in item.truth.classes}
    else:
        used = {label for item in dataset.items for label in item.truth.label.tolist()}
    kept = {dataset.names[label] for label in used}
    if format == "voc" and kept <= set(voc.NAMES):
        kept |= set(voc.NAMES)                               # which a reader takes if there is no other
    return [name for name in dataset.names if name not in kept]
