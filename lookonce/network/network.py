"""Network: the layers of a cfg, each bound to its place, sources and shapes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from lookonce.darknet.cfg import Cfg, Section
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
from lookonce.network.options import NetOptions

Resize = Literal["letterbox", "stretch", "crop"]

MEMORY_LIMIT = 4 << 30          # bytes of weights and activations that a cfg may ask for

LAYERS: tuple[type[Layer | Junction], ...] = (
    Convolution, Connected, Local, MaxPool, AveragePool, Dropout, Crop, Cost, BatchNorm, LocalResponse, L2Norm,
    Activation, Logistic, Route, Shortcut, ScaleChannels, Sam, Upsample, Reorg, Reorg3d, Softmax, Detection, Region,
    Yolo,
)  # fmt: skip
SHORT = {"conv": "convolutional", "conn": "connected", "max": "maxpool", "avg": "avgpool", "lrn": "normalization",
         "soft": "softmax"}  # fmt: skip
SECTIONS: Mapping[str, type[Layer | Junction]] = {
    **(by_name := {layer.section: layer for layer in LAYERS}),
    **{short: by_name[name] for short, name in SHORT.items()},
}
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
    """A layer in its place. `sources` are the layers it reads, -1 the input; `given` and `shape` go in and out."""

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
        options = NetOptions.from_cfg(cfg.sections[0])
        cfg.sections[0].close()
        nodes: list[Node] = []
        size = options.input.size
        for index, section in enumerate(cfg.sections[1:]):
            layer = _layer(section, index)
            node = _place(layer, section, index, nodes, options.input, cfg)
            nodes.append(node)
            size += node.shape.size + sum(parameter.size for parameter in node.parameters)
            if 4 * size > memory_limit:
                raise section.error(
                    f"brings weights and activations to {4 * size / 1e9:,.1f} GB, more than the limit of "
                    f"{memory_limit / 1e9:,.1f} GB; is an option mistyped? (LOOKONCE_MEMORY_LIMIT=BYTES raises it)"
                )
        if all(isinstance(node.layer, Cost) for node in nodes):
            raise CfgError(f"{cfg.path}: holds no layer after [net]")
        network = cls(cfg, options, tuple(nodes))
        network._check_input()
        return network

    def resized(self, width: int, height: int) -> Network:
        """The same network for another input size, its cfg text changed to say so. Raises CfgError if it cannot be."""
        if (height, width) == self.input[1:]:
            return self
        return self.build(self.cfg.with_options(self.cfg.sections[0], width=width, height=height))

    # ------------------------------------------------------------------ what it is
    @property
    def input(self) -> Shape:
        return self.options.input

    @cached_property
    def heads(self) -> tuple[tuple[Node, Head], ...]:
        """The layers that say where things are."""
        return tuple((node, node.layer) for node in self.nodes if isinstance(node.layer, Head))

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

    def _check_input(self) -> None:
        _, height, width = self.input
        for node, head in self.heads:
            grid = (width, node.shape.width), (height, node.shape.height)
            # The strides are powers of two: 403 is 13 x 31 and fits a grid of 13 only by chance.
            if not isinstance(head, Detection) and any(side % n or (side // n) & (side // n - 1) for side, n in grid):
                warn(
                    f"{self.cfg.path}: the input of {width} x {height} is not a multiple of {node}'s grid of "
                    f"{node.shape.width} x {node.shape.height}; wanted multiples of 32, boxes will be off otherwise"
                )


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


def _place(
    layer: Layer | Junction, section: Section, index: int, nodes: Sequence[Node], input: Shape, cfg: Cfg
) -> Node:
    """`layer` bound to its sources. Raises CfgError if their shapes do not suit it."""
    sources = layer.sources(index)
    given = tuple(nodes[source].shape if source >= 0 else input for source in sources)
    try:
        shape = layer.shape(given) if isinstance(layer, Junction) else layer.shape(given[0])
    except ValueError as problem:
        before = nodes[index - 1] if index else None
        feeder = f" (layer before: [{cfg.sections[index].name}], line {before.line})" if before else ""
        raise section.error(f"{problem}{feeder}") from None
    return Node(index, section.line, layer, sources, given, shape)
