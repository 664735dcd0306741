"""What boxes are down a WordTree (thesis 2.4): where their way ends, or how likely each of some chosen classes is."""

from __future__ import annotations

from typing import Any

import numpy as np

from lookonce.arrays import namespace
from lookonce.heads.head import Candidates, DecodeOptions, every_class, sigmoid
from lookonce.wordtree import WordTree

Array = Any


def down_the_tree(
    tree: WordTree,
    picture: Array,
    xyxy: Array,
    objectness: Array,
    logits: Array,
    options: DecodeOptions,
    *,
    independent: bool = False,
) -> Candidates:
    """The answers of N boxes whose nodes have the `logits` (N, K): a softmax over each set of siblings, or independent.

    One row a box: the node where its way down ends, by `options.hierarchy` and not deeper than `options.deepest`. Its
    score is its objectness alone, as in Darknet. With `options.below` boxes whose way does not end at or below one of
    these classes are no answer. With `options.only` there is no way down: one row for each of these classes whose
    probability times objectness passes the threshold, numbered as they are (Darknet's map=, for the classes of a
    challenge). Boxes of too little objectness are left before any of this.
    """
    passes = objectness > options.threshold
    picture, xyxy, objectness, logits = picture[passes], xyxy[passes], objectness[passes], logits[passes]
    xp = namespace(logits)
    rows = logits if isinstance(logits, np.ndarray) else np.asarray(logits.cpu())
    if options.only is not None:
        own = tree.least(sigmoid(rows)) if independent else tree.absolute(tree.softmax(rows))
        chosen = np.minimum(options.only.probability(own), 1)              # (N, C)
        score = objectness[:, None] * xp.asarray(chosen, dtype=objectness.dtype, device=objectness.device)
        return every_class(picture, xyxy, objectness, score, options.threshold)
    if independent:
        label = tree.walk(tree.least(sigmoid(rows)), options.hierarchy, deepest=options.deepest)
    else:
        label, _ = tree.descend(rows, options.hierarchy, compat=options.compat, deepest=options.deepest)
    if options.below is not None:
        stays = options.below.of(label) >= 0
        kept = xp.asarray(np.flatnonzero(stays), device=logits.device)
        picture, xyxy, objectness, label = picture[kept], xyxy[kept], objectness[kept], label[stays]
    label = xp.asarray(label, device=logits.device)
    return Candidates(picture, xp.arange(len(label)), xyxy, objectness, label, objectness)
