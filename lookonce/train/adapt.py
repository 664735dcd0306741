"""A cfg fitted to data: the classes, the anchors, the input's size and the schedule, written into its text."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import numpy as np

from lookonce.darknet.cfg import Cfg, Place
from lookonce.data import Dataset
from lookonce.data.anchors import cluster, overlaps, shapes_of
from lookonce.data.views import Progress
from lookonce.errors import CfgError, DataError, shown, warn
from lookonce.heads.classify import Softmax
from lookonce.heads.detection import Detection
from lookonce.heads.head import Head
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.layers.activation import Activation, Logistic
from lookonce.layers.convolution import Connected, Convolution, Local
from lookonce.layers.plain import Cost, Crop, Dropout
from lookonce.layers.pooling import AveragePool, MaxPool
from lookonce.model.opening import memory_limit
from lookonce.network import Network, Node
from lookonce.train.datasets import TrainingData, check_kind
from lookonce.wordtree import WordTree

Recipe = Literal["thesis", "modern"]
AnchorChoice = Literal["kmeans", "keep"]
Changes = dict[int, dict[str, object]]           # by the section's place in the cfg, 0 is [net]

BURN_IN = 1000                   # batches at most
STEPS, SCALES = (0.8, 0.9), (0.1, 0.1)
LEAST_RATE = 0.01                # of the first, where the cosine of the modern recipe ends
EMA_ALPHA, EMA_SHARE = 0.9998, 0.05              # it averages over 5,000 batches, or that share of a short run
IOU_NORMALIZER = 5.0             # of .07 and 5, tried on 292 pictures, the better: as large as objectness' terms
SMALLEST = 0.5                   # of its grid's stride: an anchor below that is better placed on a finer grid
ADAPTED = "# Adapted to "
TREE = "classes.tree"            # of a run's folder


def adapt(
    network: Network,
    data: TrainingData,
    *,
    epochs: float | None = None,
    size: int | tuple[int, int] | None = None,
    batch: int | None = None,
    subdivisions: int | None = None,
    anchors: AnchorChoice = "kmeans",
    recipe: Recipe = "thesis",
    learning_rate: float | None = None,
    seed: int = 0,
    progress: Progress | None = None,
) -> Cfg:
    """The cfg of `network` changed so that it learns `data`; everything else of its text stays.

    `size` is the input's side in pixels, or (width, height). With `epochs` the schedule is as long as so many times the
    pictures. Anchors are found by k-means of the boxes that are learnt from, at that size, and are in order of area;
    masks stay, unless they leave an anchor to no head: then the largest go to the coarsest grid. What is None stays as
    it is in the cfg. Recipes:

        thesis    the cfg's own: with policy=steps a tenth of the rate from 80 % and again from 90 % of the batches,
                  steps that raise it in proportion; burn_in, where there is one, at most one in 25 batches
        modern    policy=sgdr, one cosine over all batches from the highest rate; the average of weights (ema_alpha);
                  mosaic for detectors; iou_loss=ciou and rescore=1 for [yolo]. letter_box says how the network fitted
                  pictures before it had these words of the fork

    Raises DataError if the data are not of the kind that the network learns, CfgError if it is neither a detector nor
    a classifier, or cannot take the size or the batch.
    """
    check_kind(data, network)
    if recipe not in ("thesis", "modern") or anchors not in ("kmeans", "keep"):
        raise CfgError(f"recipe={shown(recipe)}, anchors={shown(anchors)}: wanted thesis or modern, kmeans or keep")
    sized = with_size(network, size)
    fitted = Network.build(with_classes(sized, len(data.names), data.tree), memory_limit())
    changes: Changes = {0: {}}
    if anchors == "kmeans":
        changes |= _with_anchors(fitted, data.train, seed, progress)
    net = changes.setdefault(0, {})
    net |= _batches(network, batch, subdivisions)
    if learning_rate is not None:
        net["learning_rate"] = f"{learning_rate:g}"
    if epochs is not None:
        if not (math.isfinite(epochs) and epochs > 0):
            raise CfgError(f"epochs={epochs:g}: wanted a number above 0")
        per_batch = int(str(net.get("batch", network.options.batch)))
        net |= schedule(network, math.ceil(epochs * len(data.train) / per_batch))
    if recipe == "modern":
        rate = learning_rate if learning_rate is not None else peak_rate(network)
        batches = int(str(net.get("max_batches", network.options.max_batches)))
        for index, options in modern(network, batches, rate).items():
            changes.setdefault(index, {}).update(options)
    cfg = _said(fitted.cfg.with_changes(changes), data)
    warn_of_anchors(Network.build(cfg, memory_limit()), data.train)
    return cfg


# ---------------------------------------------------------------------- classes
def with_classes(network: Network, classes: int, tree: WordTree | None = None) -> Cfg:
    """The cfg for so many classes: classes= of every head, filters= or output= of the layer that feeds it.

    With a `tree` they are its nodes. Otherwise a tree that is not of so many classes is taken out, and so is a map.
    Raises CfgError if no layer can be found to change, or for a tree in a head that cannot have one.
    """
    changes: Changes = {}
    for node, head in network.heads:
        if tree is not None and isinstance(head, Detection):
            raise CfgError(f"{network.cfg.path}:{node.line}: [detection] has no tree; wanted [region] or [yolo]")
        changes[node.index + 1] = {"classes": classes, **_tree_of(network, node, classes, tree)}
        feeder = _feeder(network, node)
        width = _values(head, classes)
        if isinstance(head, Detection) and not isinstance(feeder.layer, Connected):
            width //= feeder.shape.height * feeder.shape.width
        changes[feeder.index + 1] = {_width_of(feeder): width}
    if not network.heads:
        if not isinstance(network.output.layer, Softmax):
            raise CfgError(
                f"{network.cfg.path}: is neither a detector nor a classifier: it ends in {network.output}; wanted "
                "[yolo], [region], [detection] or [softmax]"
            )
        changes[network.output.index + 1] = _tree_of(network, network.output, classes, tree)
        feeder = _feeder(network, network.output)
        changes[feeder.index + 1] = {_width_of(feeder): classes}
    cfg = network.cfg.with_changes(changes)
    if tree is None:
        return cfg
    place = Place(attached={"tree": "\n".join(tree.to_lines())})
    return Cfg.parse(cfg.text, cfg.path, place, quiet=True)


def _values(head: Head, classes: int) -> int:
    """How many values a head reads: at each place of its grid, of [detection] altogether."""
    match head:
        case Yolo():
            return len(head.mask) * (classes + 5)
        case Region():
            return len(head.anchors) * (classes + head.coords + 1)
        case Detection():
            return head.side**2 * (5 * head.num + classes)
    raise CfgError(f"[{head.section}] cannot be given another number of classes here")


def _tree_of(network: Network, node: Node, classes: int, wanted: WordTree | None) -> dict[str, object]:
    """tree= put into a section, or taken out where it is not of so many classes; map= taken out."""
    options = network.cfg.sections[node.index + 1].options
    tree = node.layer.tree if isinstance(node.layer, Softmax | Region | Yolo) else None
    taken: dict[str, object] = {"tree": None} if tree is not None and len(tree) != classes else {}
    if wanted is not None:
        taken = {"tree": TREE}
    return {**taken, "map": None} if "map" in options else taken


def _feeder(network: Network, node: Node) -> Node:
    """The layer whose filters a head or [softmax] reads. Raises CfgError."""
    passing = AveragePool | MaxPool | Dropout | Activation | Logistic | Cost
    found = node
    while found is node or isinstance(found.layer, passing):
        if found.sources[0] < 0:
            break
        found = network.nodes[found.sources[0]]
    if not isinstance(found.layer, Convolution | Connected | Local):
        raise CfgError(
            f"{network.cfg.path}:{found.line}: {found} feeds {node} on line {node.line}; wanted [convolutional] or "
            "[connected] there, whose width can be that of other classes"
        )
    return found


def _width_of(node: Node) -> str:
    return "output" if isinstance(node.layer, Connected) else "filters"


# ---------------------------------------------------------------------- the input
def with_size(network: Network, size: int | tuple[int, int] | None) -> Network:
    """The network for another input; what else is in pixels of it, crops, in proportion. Raises CfgError."""
    width, height = (size, size) if isinstance(size, int) else size or (network.input.width, network.input.height)
    if (width, height) == (network.input.width, network.input.height):
        return network
    if min(width, height) < 1:
        raise CfgError(f"size {width} x {height}: wanted at least 1 pixel a side")
    scale_x, scale_y = width / network.input.width, height / network.input.height
    changes: Changes = {0: {"width": width, "height": height}}
    for key in ("min_crop", "max_crop"):
        if key in network.cfg.sections[0].options:
            changes[0][key] = round(getattr(network.options, key) * max(scale_x, scale_y))
    for node in network.nodes:
        if isinstance(node.layer, Crop):
            crop = {"crop_width": node.layer.width * scale_x, "crop_height": node.layer.height * scale_y}
            changes[node.index + 1] = {key: max(1, round(side)) for key, side in crop.items()}
    stride = network.stride
    if network.heads and not isinstance(network.heads[0][1], Detection) and (width % stride or height % stride):
        near = sorted({max(1, side // stride + more) * stride for side in (width, height) for more in (0, 1)})
        raise CfgError(
            f"size {width} x {height}: {network.cfg.path} wants multiples of {stride}, such as "
            f"{' or '.join(str(side) for side in near)}"
        )
    return Network.build(network.cfg.with_changes(changes), memory_limit())


# ---------------------------------------------------------------------- anchors
def _with_anchors(network: Network, train: Dataset, seed: int, progress: Progress | None) -> Changes:
    """anchors= of every head by k-means, and mask= where an anchor would belong to no head."""
    heads = [(node, head) for node, head in network.heads if isinstance(head, Yolo | Region)]
    if not heads:
        return {}
    counts = {len(head.anchors) for _, head in heads}
    if len(counts) > 1:
        raise CfgError(f"{network.cfg.path}: heads of {sorted(counts)} anchors: wanted one num=; or keep the anchors")
    (count,) = counts
    width, height = network.input.width, network.input.height
    fit: Literal["letterbox", "stretch"] = "letterbox" if network.resize == "letterbox" else "stretch"
    shapes = shapes_of(train, (width, height), fit, progress)
    try:
        found = cluster(shapes, count, seed=seed).shapes                                       # (K, 2), 0 to 1
    except DataError as problem:
        warn(f"{train.path}: {problem}; the anchors of {network.cfg.path} are kept")
        return {}
    masks = _masks(network)
    changes: Changes = {}
    for node, head in heads:
        if isinstance(head, Yolo):
            line = _pairs(found * (width, height), 1)
        else:
            line = _pairs(found * (node.shape.width, node.shape.height), 4)
        changes[node.index + 1] = {"anchors": line}
        if node.index in masks:
            changes[node.index + 1]["mask"] = ",".join(str(anchor) for anchor in masks[node.index])
    return changes


def _pairs(values: np.ndarray, digits: int) -> str:
    """Widths and heights as a cfg has them; none is 0, which it must not have."""
    values = values.clip(10**-digits)
    return ", ".join(f"{w:.{digits}f},{h:.{digits}f}" for w, h in values)


def _masks(network: Network) -> Mapping[int, Sequence[int]]:
    """The mask of each [yolo], by its layer, if those of the cfg leave an anchor out and have room for all.

    The published weights of yolov3-tiny were trained without anchor 0 and with 3 on both grids. Of anchors that are
    made for the data none may be left out: the boxes that fit it best would be learnt nowhere.
    """
    heads = [(node, head) for node, head in network.heads if isinstance(head, Yolo)]
    used = [anchor for _, head in heads for anchor in head.mask]
    if not heads or len(used) != len(heads[0][1].anchors) or len(set(used)) == len(used):
        return {}
    found, end = {}, len(used)
    for node, head in sorted(heads, key=lambda each: -network.strides[each[0].index]):
        found[node.index] = range(end - len(head.mask), end)
        end -= len(head.mask)
    return found


def warn_of_anchors(network: Network, train: Dataset) -> None:
    """Warn of anchors that no head has, and of those that are small for the grid they are on, a line each."""
    heads = [(node, head) for node, head in network.heads if isinstance(head, Yolo)]
    if not heads:
        return
    path, anchors = network.cfg.path, heads[0][1].anchors
    idle = sorted(set(range(len(anchors))) - {anchor for _, head in heads for anchor in head.mask})
    if idle:
        sides = " and ".join("{:g} x {:g}".format(*anchors[anchor]) for anchor in idle)
        share = _share(network, train, idle)
        warn(f"{path}: no mask= has the anchor of {sides}: {share:.0%} of the boxes fit it best and are not learnt")
    for node, head in heads:
        stride = float(network.strides[node.index])
        small = [i for i in head.mask if math.sqrt(head.anchors[i][0] * head.anchors[i][1]) < SMALLEST * stride]
        if small:
            sides = ", ".join("{:g} x {:g}".format(*head.anchors[anchor]) for anchor in small)
            share = _share(network, train, small)
            warn(
                f"{path}:{node.line}: anchors of {sides} pixels are small for a grid of one cell in {stride:g}; "
                f"{share:.0%} of the boxes fit them best: a larger size, or a network with a finer grid, sees more"
            )


def _share(network: Network, train: Dataset, anchors: Sequence[int]) -> float:
    """How much of the boxes fit best to some of the first head's anchors."""
    input = network.input.width, network.input.height
    shapes = shapes_of(train, input, "letterbox" if network.resize == "letterbox" else "stretch")
    (_, head), *_ = network.heads
    assert isinstance(head, Yolo)
    best = overlaps(shapes, np.array(head.anchors) / input).argmax(axis=1)
    return float(np.isin(best, list(anchors)).mean())


# ---------------------------------------------------------------------- the schedule
def _batches(network: Network, batch: int | None, subdivisions: int | None) -> dict[str, object]:
    """batch= and subdivisions=; where only the first is given, mini-batches stay as near as they divide it."""
    if batch is None and subdivisions is None:
        return {}
    batch = network.options.batch if batch is None else batch
    parts = math.gcd(batch, network.options.subdivisions) if subdivisions is None else subdivisions
    if batch < 1 or parts < 1 or batch % parts:
        raise CfgError(f"batch={batch}, subdivisions={parts}: wanted a batch that its subdivisions divide")
    return {"batch": batch, "subdivisions": parts}


def schedule(network: Network, batches: int) -> dict[str, object]:
    """The options of [net] for a run of so many batches, by the cfg's own recipe (see `adapt`)."""
    options = network.options
    found: dict[str, object] = {"max_batches": batches}
    if options.burn_in:
        found["burn_in"] = burn_in(batches)
    if options.policy == "steps":
        scale = batches / options.max_batches if options.max_batches else 1.0
        pairs = zip(options.steps, options.scales, strict=True)
        rising = [(max(0, round(step * scale)), factor) for step, factor in pairs if factor > 1]
        falling = [(round(share * batches), factor) for share, factor in zip(STEPS, SCALES, strict=True)]
        rising = [(step, factor) for step, factor in rising if step < falling[0][0]]
        found["steps"] = ",".join(str(step) for step, _ in rising + falling)
        found["scales"] = ",".join(f"{factor:g}" for _, factor in rising + falling)
    return found


def peak_rate(network: Network) -> float:
    """The highest rate of a cfg: with policy=steps that after the steps that raise it, as in YOLO's first version."""
    options = network.options
    rising = [scale for scale in options.scales if scale > 1] if options.policy == "steps" else []
    return options.learning_rate * math.prod(rising)


def burn_in(batches: int) -> int:
    """How many batches the rate rises."""
    return min(BURN_IN, math.ceil(batches / 25))


def modern(network: Network, batches: int, rate: float) -> Changes:
    """The options of the modern recipe by section, for a run of so many batches (see `adapt`)."""
    net: dict[str, object] = {
        "policy": "sgdr",
        "learning_rate_min": f"{LEAST_RATE * rate:g}",
        "sgdr_cycle": None,
        "sgdr_mult": None,
        "steps": None,
        "scales": None,
        "ema_alpha": f"{max(0.0, 1 - max(1 - EMA_ALPHA, 1 / (EMA_SHARE * max(1, batches)))):.6g}",
    }
    if batches:
        net["burn_in"] = burn_in(batches)
    if rate != network.options.learning_rate:
        net["learning_rate"] = f"{rate:g}"
    changes: Changes = {0: net}
    is_v1 = any(isinstance(head, Detection) for _, head in network.heads)
    if not is_v1 and network.resize != "crop":                  # which letter_box cannot say
        net["letter_box"] = int(network.resize == "letterbox")
    if network.heads:
        net["mosaic"] = 1
    for node in network.nodes:
        section = network.cfg.sections[node.index + 1]
        if isinstance(node.layer, Yolo) and "iou_loss" not in section.options:
            changes[node.index + 1] = {"iou_loss": "ciou", "iou_normalizer": f"{IOU_NORMALIZER:g}", "rescore": 1}
        elif isinstance(node.layer, Dropout) and "probability" not in section.options:
            changes[node.index + 1] = {"probability": f"{node.layer.probability:g}"}      # the fork has another default
    return changes


def _said(cfg: Cfg, data: TrainingData) -> Cfg:
    """A first line that says what was changed, since the comments below it are of the original."""
    end = "\r\n" if "\r\n" in cfg.text else "\n"
    text = cfg.text.removeprefix("\ufeff")
    if text.startswith(ADAPTED):
        text = text.partition(end)[2]
    place = shown(data.train.path.name or str(data.train.path))
    counts = f"{len(data.names)} classes and {len(data.train):,} pictures"
    line = f"{ADAPTED}{counts} of {place}; the comments below are of the original"
    return Cfg.parse(f"{line}{end}{text}", cfg.path, cfg.sections[0].place, quiet=True)
