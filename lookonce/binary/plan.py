"""A network on single bits as a list of steps, made once.

What is real runs in an engine of floats, as many layers at a time as go together. What is not is one step a layer, or
less: a batch norm before a sign is part of the packing, or of the thresholds of the layer before it, and a shortcut is
added while a layer of single bits writes its results.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from lookonce.binary import reference
from lookonce.binary.kernel import BinaryConvolution, choose
from lookonce.binary.prepare import Affine, Sign, batch_norm, prepare
from lookonce.binary.reference import words_for
from lookonce.binary.steps import Add, Convolve, InputScale, Invert, Join, Pack, Pool, Real, Repeat, Step
from lookonce.binary.wishes import Signs, Wanted, handed_on, has_input_scale, wanted_of
from lookonce.errors import EngineError
from lookonce.layers.junctions import Shortcut
from lookonce.layers.pooling import MaxPool
from lookonce.layers.shape import Shape
from lookonce.layers.wiring import Upsample
from lookonce.model import Model
from lookonce.network import PICTURES, Node


class Buffer(NamedTuple):
    """What a step fills, of one picture: a shape (H, W, C or words), or (H, W), of float32 or uint64."""

    shape: tuple[int, ...]
    kind: type


@dataclass(frozen=True)
class Plan:
    """Steps in their order, over numbered buffers; `outputs` are the layers that the network puts out.

    `path` is the way to compute (kernel.choose), and `reason` why it is that one.
    """

    steps: tuple[Step | Real, ...]
    buffers: tuple[Buffer, ...]
    outputs: tuple[int, ...]
    wanted: Wanted
    path: str
    reason: str


class Found(NamedTuple):
    """Signs that are there: their buffer, the channels whose bits are inverted, and the buffer of magnitudes."""

    buffer: int
    inverted: np.ndarray                                    # (C,) bool
    magnitude: int | None = None


def plan(model: Model, *, compat: bool = False, path: str | None = None) -> Plan:
    """How a model runs on single bits, computed as `path` says (kernel.choose).

    Raises EngineError if none of its layers does, or for weights that are not finite.
    """
    wanted, (path, reason) = wanted_of(model.network), choose(path)
    if not wanted.binary:
        raise EngineError(
            f"{model.network.cfg.path}: has no layer that engine binary could run on single bits (xnor=1); wanted "
            "engine openvino, onnxruntime or auto"
        )
    writer = _Writer(model, wanted, compat and not model.network.cfg.fork, path)
    last = max(wanted.stages.values())
    for stage in range(last + 1 + last % 2):                # the last is real: outputs leave from there
        layers = [index for index in sorted(wanted.stages) if wanted.stages[index] == stage and index != PICTURES]
        if stage % 2 == 0:
            writer.write_real(layers, stage, is_last=stage >= last)
        else:
            for index in layers:
                writer.write(wanted.nodes[index])
    return Plan(tuple(writer.steps), tuple(writer.buffers), wanted.outputs, wanted, path, reason)


class _Writer:
    """Writes steps down, and remembers in which buffers values and signs are."""

    def __init__(self, model: Model, wanted: Wanted, compat: bool, path: str) -> None:
        self.model, self.wanted, self.compat, self.path = model, wanted, compat, path
        self.steps: list[Step | Real] = []
        self.buffers: list[Buffer] = []
        self.values: dict[int, int] = {}                    # of a layer's floats
        self.signs: dict[tuple[int, Signs], Found] = {}

    # ------------------------------------------------------------------ layers
    def write_real(self, layers: list[int], stage: int, *, is_last: bool) -> None:
        """The real layers of a stage as one step; in the last also what is put out of others."""
        wanted = self.wanted
        outputs = tuple(i for i in wanted.outputs if wanted.stages[i] == stage or (is_last and wanted.stages[i] % 2))
        sources = {source for index in layers for source in wanted.nodes[index].sources} | set(outputs)
        entering = tuple(sorted(sources - {*layers, PICTURES}))
        made = [*layers, PICTURES] if stage == 0 else layers
        leaving = tuple(i for i in made if any(wanted.stages[reader.index] > stage for reader in wanted.readers(i)))
        if not (layers or outputs or leaving):
            return
        for index in leaving:
            self.values[index] = self._floats(index)
        step = Real(
            layers=tuple(layers), pictures=PICTURES in {*sources, *leaving}, entering=entering,
            sources=tuple(self.values[index] for index in entering), leaving=leaving,
            targets=tuple(self.values[index] for index in leaving), outputs=outputs,
        )  # fmt: skip
        self.steps.append(step)
        for index in leaving:
            self._pack(index)

    def write(self, node: Node) -> None:
        """One layer of those that are not real."""
        if node.index in self.wanted.binary:
            self._convolve(node)
        elif isinstance(node.layer, Shortcut):
            if node.index not in self.values:
                self.values[node.index] = self._floats(node.index)
                sources = tuple(self.values[source] for source in node.sources)
                self.steps.append(Add(node.index, sources, (self.values[node.index],)))
            self._pack(node.index)
        else:
            for wish in self.wanted.signs[node.index]:
                self._pass_on(node, wish)

    def _convolve(self, node: Node) -> None:
        index, arrays, wishes = node.index, self.model.weights[node.index], self.wanted.signs[node.index]
        found = self.signs[node.sources[0], Signs()]
        scaled = has_input_scale(node)
        if index not in self.wanted.floats and len(wishes) == 1 and not scaled and not any(wishes.values()):
            (wish,) = wishes
            sign = Sign(self._affine(index, wish), self._inverted(index, wish))
            layer = prepare(node, arrays, compat=self.compat, flipped=found.inverted, sign=sign, path=self.path)
            target = self._words(index)
            self.steps.append(Convolve(index, (found.buffer,), (target,), layer))
            self.signs[index, wish] = Found(target, sign.inverted)
            return
        layer = prepare(node, arrays, compat=self.compat, flipped=found.inverted, path=self.path)
        sources = [found.buffer]
        if scaled:
            assert found.magnitude is not None
            sources.append(self._input_scale(node, layer, found.magnitude))
        shortcut = self._shortcut_after(node)
        if shortcut is not None:
            sources.append(self.values[shortcut.sources[1]])
        made = index if shortcut is None else shortcut.index
        self.values[made] = self._floats(made)
        targets = (self.values[made],)
        self.steps.append(Convolve(index, tuple(sources), targets, layer, scaled=scaled, added=shortcut is not None))
        if shortcut is None:
            self._pack(index)

    def _input_scale(self, node: Node, layer: BinaryConvolution, magnitude: int) -> int:
        """The buffer of K for a layer."""
        _, height, width = node.shape
        buffer = self._buffer((height, width), np.float32)
        factor = 1 / (layer.window[0] * layer.window[1] * layer.channels)
        step = InputScale(
            node.index, (magnitude,), (buffer,), layer.window, layer.stride, layer.padding, layer.dilation, factor,
            self.path,
        )  # fmt: skip
        self.steps.append(step)
        return buffer

    def _shortcut_after(self, node: Node) -> Node | None:
        """The shortcut that alone reads a layer, if the other value that it adds is there already."""
        readers = self.wanted.readers(node.index)
        if len(readers) != 1 or node.index in self.wanted.outputs or self.wanted.stages[readers[0].index] % 2 == 0:
            return None
        (reader,) = readers
        is_first = isinstance(reader.layer, Shortcut) and reader.sources[0] == node.index
        return reader if is_first and reader.sources[1] in self.values else None

    def _pass_on(self, node: Node, wish: Signs) -> None:
        """The signs of a layer that makes them of its sources' signs."""
        found = [self.signs[source, handed] for source, handed in zip(node.sources, handed_on(node, wish), strict=True)]
        sources = tuple(each.buffer for each in found)
        inverted = np.concatenate([each.inverted for each in found])
        match node.layer:
            case MaxPool(size, stride, padding):
                if wish.norm is None and inverted.any():            # those of a batch norm after another pool
                    sources = (self._invert(node.sources[0], sources[0], inverted),)
                    inverted = np.zeros_like(inverted)
                target = self._words(node.index)
                self.steps.append(Pool(node.index, sources, (target,), size, stride, padding, self.path))
            case Upsample(times):
                target = self._words(node.index)
                self.steps.append(Repeat(node.index, sources, (target,), times))
            case _ if len(sources) > 1:
                target = self._words(node.index)
                self.steps.append(Join(node.index, sources, (target,)))
            case _:                                         # batch norm: the wish has carried it on
                self.signs[node.index, wish] = found[0]
                return
        self.signs[node.index, wish] = Found(target, inverted)

    # ------------------------------------------------------------------ signs
    def _pack(self, index: int) -> None:
        """All signs that are wanted of a layer's floats."""
        for wish, scaled in self.wanted.signs[index].items():
            _, height, width = self._shape(index)
            inverted = self._inverted(index, wish)
            targets = [self._words(index)]
            if scaled:
                targets.append(self._buffer((height, width), np.float32))
            affine = self._affine(index, wish)
            self.steps.append(Pack(index, (self.values[index],), tuple(targets), affine, self.path))
            signs = self._invert(index, targets[0], inverted) if inverted.any() else targets[0]
            self.signs[index, wish] = Found(signs, inverted, targets[1] if scaled else None)

    def _invert(self, index: int, source: int, channels: np.ndarray) -> int:
        """The buffer of a layer's signs, those of some channels turned round."""
        target = self._words(index)
        self.steps.append(Invert(index, (source,), (target,), reference.pack(channels.astype(np.float32))))
        return target

    def _affine(self, index: int, wish: Signs) -> Affine | None:
        if wish.norm is None:
            return None
        whole = batch_norm(self.model.weights[wish.norm], compat=self.compat)
        return whole.part(wish.first, wish.first + self._shape(index).channels)

    def _inverted(self, index: int, wish: Signs) -> np.ndarray:
        affine = self._affine(index, wish) if wish.pooled else None
        return np.zeros(self._shape(index).channels, bool) if affine is None else affine.scale < 0

    # ------------------------------------------------------------------ buffers
    def _shape(self, index: int) -> Shape:
        return self.model.network.input if index == PICTURES else self.wanted.nodes[index].shape

    def _buffer(self, shape: tuple[int, ...], kind: type) -> int:
        self.buffers.append(Buffer(shape, kind))
        return len(self.buffers) - 1

    def _floats(self, index: int) -> int:
        channels, height, width = self._shape(index)
        return self._buffer((height, width, channels), np.float32)

    def _words(self, index: int) -> int:
        channels, height, width = self._shape(index)
        return self._buffer((height, width, words_for(channels)), np.uint64)
