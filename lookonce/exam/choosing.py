"""Which classes of a WordTree a dataset judges, and what whoever learnt them had boxes of."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from lookonce.detections import plain_name
from lookonce.errors import DataError, shown
from lookonce.evaluate.mapping import by_file
from lookonce.wordtree import Subset, WordTree

HAD, ABOVE, NEVER = "had boxes", "boxes only above", "never had boxes"


def chosen_classes(tree: WordTree, names: Sequence[str], file: Path | None = None) -> Subset:
    """Those of a dataset's classes that are nodes of a tree: by id, by name, or by a known synonym.

    The lines `id = name` of a `file` go before that. Raises DataError if there is none, or two are one node.
    """
    found: dict[str, tuple[int, ...]] = {}
    given = by_file(file, tree.ids, names) if file is not None else {}
    for number, name in enumerate(names):
        said = tuple(node for node, other in given.items() if other == number)
        if nodes := said or tree.find(name) or tree.find(plain_name(name)):
            found[name] = nodes
    if not found:
        some = ", ".join(shown(name) for name in names[:3])
        raise DataError(
            f"no class of the dataset ({some}, ...) is a node of the model's tree: give a file of lines id = name "
            "(--map)"
        )
    return tree.subset_of(tuple(found), tuple(found.values()))


def boxed_in(card: Mapping[str, Any]) -> tuple[str, ...]:
    """The ids of the classes that a model learnt from boxes, if its card says that others were learnt without."""
    trained = card.get("trained")
    boxes = trained.get("boxes") if isinstance(trained, Mapping) else None
    return tuple(str(name) for name in boxes) if isinstance(boxes, list) else ()


def by_boxes(tree: WordTree, chosen: Subset, boxed: Collection[str]) -> Mapping[str, tuple[str, ...]]:
    """The chosen classes in groups, by the ids of the nodes that were learnt from boxes.

    A class had boxes if it, or anything below it, was among these; others had them only above (dogs for a terrier), or
    never. No group at all if nothing is known of boxes.
    """
    if not boxed:
        return {}
    number = {id: node for node, id in enumerate(tree.ids)}
    own = {number[id] for id in boxed if id in number}
    carried = {above for node in own for above in tree.path(node)}
    groups: dict[str, list[str]] = {HAD: [], ABOVE: [], NEVER: []}
    for name, nodes in zip(chosen.names, chosen.nodes, strict=True):
        if carried.intersection(nodes.tolist()):
            groups[HAD].append(name)
        elif own.intersection(above for node in nodes.tolist() for above in tree.path(node)):
            groups[ABOVE].append(name)
        else:
            groups[NEVER].append(name)
    return {group: tuple(members) for group, members in groups.items() if members}
