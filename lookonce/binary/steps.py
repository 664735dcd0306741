"""What the run of a network on single bits is made of: one call of the kernel each, from buffers into buffers.

Buffers have numbers. They hold floats (B, H, W, C), signs as words (B, H, W, words), or a float a pixel (B, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from lookonce.binary import kernel
from lookonce.binary.kernel import BinaryConvolution
from lookonce.binary.prepare import Affine
from lookonce.binary.reference import Pair

Buffers = Sequence[np.ndarray]


@dataclass(frozen=True)
class Step:
    """`layer` is the one that it belongs to; `sources` are the buffers that it reads, `targets` those it fills."""

    layer: int
    sources: tuple[int, ...]
    targets: tuple[int, ...]

    def run(self, buffers: Buffers, threads: int) -> None:
        """Fill the targets. `threads` is how many cores it may use."""
        raise NotImplementedError


@dataclass(frozen=True)
class Pack(Step):
    """Floats to the signs of what `affine` makes of them, and to the sum of its magnitudes if there are two targets."""

    affine: Affine | None
    path: str

    def run(self, buffers: Buffers, threads: int) -> None:
        scale, shift = self.affine or (None, None)
        magnitude = buffers[self.targets[1]] if len(self.targets) > 1 else None
        kernel.pack(
            buffers[self.sources[0]], buffers[self.targets[0]], scale=scale, shift=shift, magnitude=magnitude,
            threads=threads, path=self.path,
        )  # fmt: skip


@dataclass(frozen=True)
class Invert(Step):
    """The bits of some channels turned round: those that are 1 in `mask`, the words of a pixel."""

    mask: np.ndarray

    def run(self, buffers: Buffers, threads: int) -> None:
        np.bitwise_xor(buffers[self.sources[0]], self.mask, out=buffers[self.targets[0]])


@dataclass(frozen=True)
class InputScale(Step):
    """Sums of magnitudes a pixel to K, their mean over all that a window sees (thesis eq. 4.11)."""

    window: Pair
    stride: Pair
    padding: int
    dilation: int
    factor: float
    path: str

    def run(self, buffers: Buffers, threads: int) -> None:
        kernel.window_sums(
            buffers[self.sources[0]], self.window, self.stride, self.padding, self.dilation, self.factor,
            buffers[self.targets[0]], path=self.path,
        )  # fmt: skip


@dataclass(frozen=True)
class Convolve(Step):
    """Signs to floats or to signs, whichever the target holds; `scaled` by a second source, `added` to the last."""

    convolution: BinaryConvolution
    scaled: bool = False
    added: bool = False

    def run(self, buffers: Buffers, threads: int) -> None:
        out = buffers[self.targets[0]]
        if out.dtype == np.uint64:
            self.convolution.bits(buffers[self.sources[0]], out, threads=threads)
            return
        self.convolution.reals(
            buffers[self.sources[0]], out, factor=buffers[self.sources[1]] if self.scaled else None,
            residual=buffers[self.sources[-1]] if self.added else None, threads=threads,
        )  # fmt: skip


@dataclass(frozen=True)
class Pool(Step):
    """The largest sign of each window."""

    size: int
    stride: Pair
    padding: int
    path: str

    def run(self, buffers: Buffers, threads: int) -> None:
        source, target = buffers[self.sources[0]], buffers[self.targets[0]]
        kernel.max_pool(source, self.size, self.stride, self.padding, target, threads=threads, path=self.path)


@dataclass(frozen=True)
class Repeat(Step):
    """Each pixel's signs `times` times a side."""

    times: int

    def run(self, buffers: Buffers, threads: int) -> None:
        source, target = buffers[self.sources[0]], buffers[self.targets[0]]
        for row in range(self.times):
            for column in range(self.times):
                target[:, row :: self.times, column :: self.times] = source


@dataclass(frozen=True)
class Join(Step):
    """Signs of several layers one after the other along the channels; all but the last fill their words."""

    def run(self, buffers: Buffers, threads: int) -> None:
        np.concatenate([buffers[source] for source in self.sources], axis=3, out=buffers[self.targets[0]])


@dataclass(frozen=True)
class Add(Step):
    """The sum of two layers' floats."""

    def run(self, buffers: Buffers, threads: int) -> None:
        first, second = self.sources
        np.add(buffers[first], buffers[second], out=buffers[self.targets[0]])


@dataclass(frozen=True)
class Real:
    """Layers that stay real, run together by an engine of floats.

    `layers` are numbers of the network's. `entering` are those whose floats, (B, H, W, C), flow in from the buffers
    `sources`, and with `pictures` what the network is given, (B, C, H, W). `leaving` are those whose floats are wanted
    in the buffers `targets`, `outputs` those that the network puts out, (B, C, H, W).
    """

    layers: tuple[int, ...]
    pictures: bool
    entering: tuple[int, ...]
    sources: tuple[int, ...]
    leaving: tuple[int, ...]
    targets: tuple[int, ...]
    outputs: tuple[int, ...]
