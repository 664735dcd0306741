"""Network: the layers of a cfg, each bound to its place, sources and shapes."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from typing import Literal

from lookonce import files
from lookonce.darknet.cfg import Cfg, Section, warn_of_unasked
from lookonce.darknet.weights import Entry
from lookonce.errors import CfgError, nearest, shown, warn
from lookonce.heads.classify import Softmax
from lookonce.heads.detection import Detection
from lookonce.heads.head import Head
from lookonce.heads.region import Region
from lookonce.heads.yolo import Yolo
from lookonce.layers.activation import Activation, Logistic
from lookonce.layers.convolution import Connected, Convolution, Local
from lookonce.layers.junctions import Route, Sam, ScaleChannels, Shortcut
from lookonce.layers.layer import Junction, Layer
from lookonce.layers.normalization import BatchNorm, L2Norm, LocalResponse
from lookonce.layers.ops import Ops, T
from lookonce.layers.plain import Cost, Crop, Dropout
from lookonce.layers.pooling import AveragePool, MaxPool
from lookonce.layers.shape import Parameter, Shape
from lookonce.layers.wiring import Reorg, Reorg3d, Upsample
from lookonce.network.options import LARGEST_SIDE, NetOptions
from lookonce.wordtree import WordTree

Resize = Literal["letterbox", "stretch", "crop"]

PICTURES = -1                   # the number, among those of layers, of what the network is given
MEMORY_LIMIT = 4 << 30          # bytes of weights and activations that a cfg may ask for

LAYERS: tuple[type[Layer | Junction], ...] = (
    Convolution, Connected, Local, MaxPool, AveragePool, Dropout, Crop, Cost, BatchNorm, LocalResponse, L2Norm,
    Activation, Logistic, Route, Shortcut, ScaleChannels, Sam, Upsample, Reorg, Reorg3d, Softmax, Detection, Region,
    Yolo,
)  # fmt: skip
SHORT = {"conv": "convolutional", "conn": "connected", "max": "maxpool", "avg": "avgpool", "lrn": "normalization",
         "soft": "softmax"}  # fmt: skip
SECTIONS: dict[str, type[Layer | Junction]] = {layer.section: layer for layer in LAYERS}
SECTIONS |= {short: SECTIONS[name] for short, name in SHORT.items()}
RECURRENT = ("rnn", "gru", "lstm", "crnn", "conv_lstm", "history")
ELSEWHERE = ("deconvolutional", "deconv", "iseg", "Gaussian_yolo", "local_avgpool", "contrastive", "implicit", "empty",
             "silence")  # fmt: skip

# Options that every layer of Darknet has. Those of the first kind only matter to learning; the others are for surgery
# on weights, and change what a weights file means.
LEARNING_OPTIONS = ("truth", "onlyforward", "stopbackward", "learning_rate", "smooth", "clip", "dont_update",
                    "burnin_update", "train_only_bn")  # fmt: skip
SURGERY_OPTIONS = ("dontload", "dontsave", "dontloadscales", "numload")


@dataclass(frozen=True)
class Node:
    """A layer in its place. `sources` are the layers it reads, or PICTURES; `given` and `shape` go in and out."""

    index: int
    line: int
    layer: Layer | Junction
    sources: tuple[int, ...]
    given: tuple[Shape, ...]
    shape: Shape

    def __str__(self) -> str:
        return f"layer {self.index} [{self.layer.section}]"

    @property
    def parameters(self) -> list[Parameter]:
        if isinstance(self.layer, Junction):
            return self.layer.parameters(self.given)
        return self.layer.parameters(self.given[0])

    @property
    def operations(self) -> int:
        if isinstance(self.layer, Junction):
            return self.layer.operations(self.given)
        return self.layer.operations(self.given[0])

    @property
    def bytes(self) -> int:
        """What its weights and its output for one picture take."""
        return 4 * (self.shape.size + sum(parameter.size for parameter in self.parameters))

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        """The layer's output for its sources' outputs `xs`."""
        if isinstance(self.layer, Junction):
            return self.layer.forward(ops, xs, weights)
        return self.layer.forward(ops, xs[0], weights)


@dataclass(frozen=True)
class Network:
    """A network as its cfg declares it."""

    cfg: Cfg
    options: NetOptions
    nodes: tuple[Node, ...]

    @classmethod
    def build(cls, cfg: Cfg, memory_limit: int = MEMORY_LIMIT) -> Network:
        """Check every option and shape of `cfg`, and bind each layer to its place.

        Raises CfgError with the line of the first fault; also if weights and the activations of one picture would
        take more than `memory_limit` bytes, before anything is allocated.
        """
        try:
            return cls._built(cfg, memory_limit)
        finally:
            warn_of_unasked(cfg.sections)

    @classmethod
    def _built(cls, cfg: Cfg, memory_limit: int) -> Network:
        options = NetOptions.from_cfg(cfg.sections[0])
        cfg.sections[0].close()
        nodes: list[Node] = []
        size = 4 * options.input.size
        for index, section in enumerate(cfg.sections[1:]):
            layer = _layer(section, index)
            try:
                node = _place(layer, index, section.line, nodes, options.input)
            except ValueError as problem:
                feeder = f" (layer before: [{cfg.sections[index].name}], line {nodes[-1].line})" if nodes else ""
                raise section.error(f"{problem}{feeder}") from None
            nodes.append(node)
            size += node.bytes
            if size > memory_limit:
                raise section.error(
                    f"brings weights and activations to {files.amount(size)}, more than the limit of "
                    f"{files.amount(memory_limit)}; is an option mistyped? (LOOKONCE_MEMORY_LIMIT=BYTES raises it)"
                )
        if all(isinstance(node.layer, Cost) for node in nodes):
            raise CfgError(f"{cfg.path}: holds no layer after [net]")
        network = cls(cfg, options, tuple(nodes))
        network._check_heads()
        network._check_input()
        return network

    def resized(self, width: int, height: int, memory_limit: int = MEMORY_LIMIT) -> Network:
        """The same network for another input size, its cfg text changed to say so.

        Raises CfgError, which begins with that size, if a layer cannot take it, or if the whole would take more than
        `memory_limit` bytes.
        """
        if (height, width) == self.input[1:]:
            return self
        asked = f"size {width} x {height}: "
        if not (1 <= width <= LARGEST_SIDE and 1 <= height <= LARGEST_SIDE):
            raise CfgError(f"{asked}wanted 1 to {LARGEST_SIDE:,} pixels a side")
        input = self.input._replace(width=width, height=height)
        try:
            nodes = self._placed(input)
        except ValueError as problem:
            raise CfgError(f"{asked}{self._fitting(width, height) or f'{self.cfg.path}: {problem}'}") from None
        size = 4 * input.size + sum(node.bytes for node in nodes)
        if size > memory_limit:
            raise CfgError(
                f"{asked}weights and activations of {self.cfg.path} would take {files.amount(size)}, more than the "
                f"limit of {files.amount(memory_limit)}; wanted a smaller size (LOOKONCE_MEMORY_LIMIT=BYTES raises it)"
            )
        cfg = self.cfg.with_options(self.cfg.sections[0], width=width, height=height)
        network = Network(cfg, NetOptions.from_cfg(cfg.sections[0]), nodes)
        network._check_input()
        return network

    # ------------------------------------------------------------------ what it is
    @property
    def input(self) -> Shape:
        return self.options.input

    @cached_property
    def heads(self) -> tuple[tuple[Node, Head], ...]:
        """The layers that say where things are."""
        return tuple((node, node.layer) for node in self.nodes if isinstance(node.layer, Head))

    @cached_property
    def strides(self) -> tuple[Fraction, ...]:
        """How many pixels of the input, a side, one pixel of each layer stands for."""
        strides: list[Fraction] = []
        for node in self.nodes:
            before = [strides[source] for source in node.sources if source >= 0]
            strides.append(max(before, default=Fraction(1)) * _stride(node.layer))
        return tuple(strides)

    @property
    def stride(self) -> int:
        """The largest: of sizes in multiples of it nothing is left over."""
        return math.ceil(max(self.strides))

    @cached_property
    def output(self) -> Node:
        """The last layer that is not a [cost]."""
        return next(node for node in reversed(self.nodes) if not isinstance(node.layer, Cost))

    @property
    def kind(self) -> Literal["detector", "classifier", "other"]:
        if self.heads:
            return "detector"
        return "classifier" if isinstance(self.output.layer, Softmax) else "other"

    @property
    def classes(self) -> int:
        """How many classes it tells apart; 0 if it is neither a detector nor a classifier."""
        if self.heads:
            return self.heads[0][1].classes
        return self.output.shape.size if self.kind == "classifier" else 0

    @property
    def tree(self) -> WordTree | None:
        """The WordTree of its classes, if it has one."""
        layers = [*(head for _, head in self.heads), self.output.layer]
        return next((layer.tree for layer in layers if isinstance(layer, Region | Softmax | Yolo) and layer.tree), None)

    @property
    def resize(self) -> Resize:
        """How its makers fit a picture into the input, as far as the cfg tells."""
        return self.resize_by(fork=self.cfg.fork)

    def resize_by(self, *, fork: bool) -> Resize:
        """How the original or the fork fits a picture into the input of this network.

        YOLO version 1 was trained on stretched pictures and its boxes know no margin. Redmon's later networks
        letterbox. The fork stretches for detectors, unless the cfg says letter_box=1, and cuts the middle out for
        classifiers.
        """
        if any(isinstance(head, Detection) for _, head in self.heads):
            return "stretch"
        if self.options.letter_box is not None:
            return "letterbox" if self.options.letter_box else "stretch"
        if not fork:
            return "letterbox"
        return "crop" if self.kind == "classifier" else "stretch"

    @cached_property
    def operations(self) -> int:
        """Multiplications and additions a picture, as Darknet's `ops` counts them."""
        return sum(node.operations for node in self.nodes)

    def entries(self, layers: int | None = None) -> list[Entry]:
        """The arrays of its weights file, in order; of the first `layers` layers only, if given."""
        return [
            Entry(node.index, f"{node} {parameter.name}", parameter.name, parameter.shape, parameter.matrix)
            for node in self.nodes[:layers]
            for parameter in node.parameters
        ]

    def _check_heads(self) -> None:
        for node, head in self.heads[1:]:
            first = self.heads[0][0]
            if head.classes != self.classes:
                self.cfg.sections[node.index + 1].refuse(
                    "classes",
                    f"means {head.classes:,} classes, but {first} on line {first.line} has {self.classes:,}; give all "
                    "heads the same classes=, and the layers before them the filters= for it",
                )

    def _check_input(self) -> None:
        _, height, width = self.input
        for node, head in self.heads:
            (_, rows, columns), stride = node.shape, self.strides[node.index]
            covered = int(columns * stride), int(rows * stride)
            if not isinstance(head, Detection) and covered != (width, height):
                fits = self._fitting(width, height)
                warn(
                    f"{self.cfg.path}: the input of {width} x {height} is not a multiple of {self.stride}: the grid of "
                    f"{node}, {columns} x {rows}, covers {covered[0]} x {covered[1]}, and boxes will be off"
                    + (f": {fits}" if fits else "")
                )

    def _placed(self, input: Shape) -> tuple[Node, ...]:
        """Its layers for another input. Raises ValueError, in words, for the first that cannot take what flows in."""
        nodes: list[Node] = []
        for node in self.nodes:
            try:
                nodes.append(_place(node.layer, node.index, node.line, nodes, input))
            except ValueError as problem:
                raise ValueError(f"{node} {problem}") from None
        return tuple(nodes)

    def _fitting(self, width: int, height: int) -> str:
        """The nearest sizes that it takes, in words; nothing if the stride is not what it fails for."""
        near = []
        for whole in (math.floor, math.ceil):
            sides = [max(1, whole(side / self.stride)) * self.stride for side in (width, height)]
            try:
                self._placed(self.input._replace(width=sides[0], height=sides[1]))
            except ValueError:
                return ""
            near.append(f"{sides[0]} x {sides[1]}")
        return f"{self.cfg.path} wants multiples of {self.stride}, such as {' or '.join(dict.fromkeys(near))}"


def _layer(section: Section, index: int) -> Layer | Junction:
    """The layer that a section declares, all its options asked for. Raises CfgError."""
    if section.name in RECURRENT:
        raise section.error("is recurrent: not a vision network; lookonce runs networks on single pictures")
    if section.name in ELSEWHERE:
        raise section.error("is known to Darknet or a fork of it, but not supported here")
    if section.name in ("net", "network"):
        raise section.error("stands a second time; a cfg declares one network")
    if section.name not in SECTIONS:
        known = nearest(section.name, SECTIONS.keys())
        raise CfgError(f"{section.path}:{section.line}: [{shown(section.name)}] is no section of Darknet's{known}")
    section.know(*LEARNING_OPTIONS)
    section.unsupported(*SURGERY_OPTIONS)
    layer = SECTIONS[section.name].from_cfg(section, index)
    section.close()
    return layer


def _place(layer: Layer | Junction, index: int, line: int, nodes: Sequence[Node], input: Shape) -> Node:
    """`layer` bound to its sources. Raises ValueError, in words, if their shapes do not suit it."""
    sources = layer.sources(index)
    given = tuple(nodes[source].shape if source >= 0 else input for source in sources)
    shape = layer.shape(given) if isinstance(layer, Junction) else layer.shape(given[0])
    return Node(index, line, layer, sources, given, shape)


def _stride(layer: Layer | Junction) -> Fraction:
    """How many pixels of its input, a side, one of its output stands for."""
    match layer:
        case Convolution() | MaxPool():
            return Fraction(max(layer.stride))
        case Local() | Reorg3d():
            return Fraction(layer.stride)
        case Reorg() if not (layer.extra or layer.flatten):
            return Fraction(1, layer.stride) if layer.reverse else Fraction(layer.stride)
        case Upsample():
            return Fraction(1, layer.stride) if layer.stride > 0 else Fraction(-layer.stride)
    return Fraction(1)
