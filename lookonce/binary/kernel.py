"""The door to products of single bits: the compiled kernel where it is there, else the reference.

`LOOKONCE_BINARY` forces one way to compute: avx512, avx2, neon or portable. All give the same integers, floats and
bits. Every argument is checked: what does not fit is a ValueError.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from types import ModuleType
from typing import Any, NamedTuple, get_args

import numpy as np

from lookonce.binary import reference
from lookonce.binary.reference import Activation, Border, Pair, words_for
from lookonce.binary.thresholds import Thresholds
from lookonce.errors import EngineError, nearest, shown
from lookonce.shapes import Float32, Real

VARIABLE = "LOOKONCE_BINARY"
PATHS = ("avx512", "avx2", "neon", "portable")
REFERENCE = "reference"
ALIGNMENT = 64                                # bytes: a cache line, and the widest vector
LARGEST_SUM = 1 << 24                         # whole numbers up to it are exact as floats
LARGEST_LENGTH = 1 << 31


class Choice(NamedTuple):
    """The way to compute, and why it is that one."""

    path: str
    reason: str


class Compiled(NamedTuple):
    """The compiled module, or why it is not there."""

    module: ModuleType | None
    problem: str = ""


@cache
def compiled() -> Compiled:
    """The compiled module lookonce._binary."""
    try:
        return Compiled(importlib.import_module("lookonce._binary"))
    except ImportError as problem:
        missing = isinstance(problem, ModuleNotFoundError) and problem.name == "lookonce._binary"
        return Compiled(None, "it was not built" if missing else f"it does not load: {shown(str(problem), 200)}")


def choose(path: str | None = None) -> Choice:
    """The way to compute: `path`, else what LOOKONCE_BINARY says, else the fastest that runs on this processor.

    `path` may also be `reference`. Raises EngineError for what is not known, or does not run here.
    """
    if path == REFERENCE:
        return Choice(REFERENCE, "asked for")
    wanted, source = (path, "path") if path is not None else (os.environ.get(VARIABLE), VARIABLE)
    if wanted is not None and wanted not in PATHS:
        known = f"wanted {', '.join(PATHS[:-1])} or {PATHS[-1]}"
        raise EngineError(f"{source}={shown(wanted)} is no way to compute{nearest(wanted, PATHS)}; {known}")
    module, problem = compiled()
    if module is None:
        if wanted is not None:
            raise EngineError(f"{source}={wanted}: the compiled kernel is missing: {problem}; leave {source} out")
        return Choice(REFERENCE, f"the compiled kernel is missing: {problem}")
    here = _paths_here()
    if wanted is None:
        return Choice(here[0], f"the fastest that runs on this processor, of {', '.join(here)}")
    if wanted not in here:
        raise EngineError(f"{source}={wanted}: does not run on this processor; wanted {' or '.join(here)}")
    return Choice(wanted, f"{source}={wanted}")


def pack(
    x: Float32[np.ndarray, "B H W C"],
    out: Real[np.ndarray, "B H W words"] | None = None,
    *,
    scale: Float32[np.ndarray, " C"] | None = None,
    shift: Float32[np.ndarray, " C"] | None = None,
    magnitude: Float32[np.ndarray, "B H W"] | None = None,
    threads: int = 1,
    path: str | None = None,
) -> Real[np.ndarray, "B H W words"]:
    """The signs of a picture's channels as words (reference.py), into `out` if given. Raises ValueError.

    With `scale` and `shift` the signs of x * scale + shift, a batch norm before the sign. `magnitude` is filled with
    the sum of that value's magnitudes at each pixel.
    """
    _check_array("x", x, np.float32)
    if x.shape[3] == 0:
        raise ValueError(f"x of shape {x.shape} has no channels")
    out = _target(out, (*x.shape[:3], words_for(x.shape[3])), np.uint64, x)
    _check_threads(threads)
    chosen = choose(path).path
    if (scale is None) != (shift is None):
        raise ValueError("one of scale and shift is missing; they go together")
    if scale is not None:
        _check_array("scale", scale, np.float32, (x.shape[3],))
        _check_array("shift", shift, np.float32, (x.shape[3],))
    if magnitude is not None:
        _check_array("magnitude", magnitude, np.float32, x.shape[:3])
    if chosen != REFERENCE:
        _module().pack(x, out, chosen, int(threads), scale, shift, magnitude)
        return out
    value = x if scale is None else x * scale + shift
    out[...] = reference.pack(value)
    if magnitude is not None:
        magnitude[...] = reference.magnitude(value)
    return out


def window_sums(
    x: Float32[np.ndarray, "B H W"],
    window: Pair,
    stride: Pair,
    padding: int,
    dilation: int,
    factor: float,
    out: Float32[np.ndarray, "B H2 W2"],
    *,
    path: str | None = None,
) -> Float32[np.ndarray, "B H2 W2"]:
    """The sum of each window of a plane times `factor`, into `out`; beyond the edge stands 0. Raises ValueError."""
    _check_array("x", x, np.float32, x.shape[:3])
    if choose(path).path == REFERENCE:
        sums = reference.window_sums(x, window, stride, padding, dilation, factor)
        _check_array("out", out, np.float32, sums.shape)
        out[...] = sums
    else:
        _module().window_sums(x, out, *window, *stride, padding, dilation, factor)
    return out


def max_pool(
    x: Real[np.ndarray, "B H W words"],
    size: int,
    stride: Pair,
    padding: int,
    out: Real[np.ndarray, "B H2 W2 words"] | None = None,
    *,
    threads: int = 1,
    path: str | None = None,
) -> Real[np.ndarray, "B H2 W2 words"]:
    """The largest of each window of bits; the options are those of layers.pooling.MaxPool. Raises ValueError."""
    _check_array("x", x, np.uint64)
    _check_number("size", size, 1, LARGEST_LENGTH // 2)
    stride = _checked_stride(stride)
    _check_number("padding", padding, 0, 2 * (size - 1))
    _, height, width, _ = x.shape
    if min(height, width) == 0 or min(height, width) + padding < size:
        raise ValueError(f"x of shape {x.shape} is smaller than the window of {size}")
    rows, columns = (height + padding - size) // stride[0] + 1, (width + padding - size) // stride[1] + 1
    out = _target(out, (len(x), rows, columns, x.shape[3]), np.uint64, x)
    _check_threads(threads)
    if choose(path).path == REFERENCE:
        out[...] = reference.max_pool(x, size, stride, padding)
    else:
        _module().max_pool(x, out, int(size), *stride, int(padding), int(threads))
    return out


def matrix_product(
    a: Real[np.ndarray, "M words"], b: Real[np.ndarray, "N words"], length: int, *, threads: int = 1
) -> Real[np.ndarray, "M N"]:
    """a times b transposed, of signs: rows of `length` bits each. Raises ValueError.

    Whoever multiplies by the same `b` again keeps a BinaryConvolution of it, (N, 1, 1, words).
    """
    if a.ndim != 2 or b.ndim != 2:
        raise ValueError(f"found shapes {a.shape} and {b.shape}, wanted two matrices of words")
    product: np.ndarray = BinaryConvolution(b[:, None, None], length).counts(a[None, None], threads=threads)[0, 0]
    return product


class BinaryConvolution:
    """activation(scale * (sign(x) convolved with weights of -1 and 1) + shift), prepared once and run by any thread.

    `weights` are bits (O, kh, kw, words) of `channels` channels. Beyond the edge stands 0, as in Darknet, or -1 with
    `border` minus. `scale` and `shift`, one a filter, hold alpha, bias and batch norm; `thresholds` say which sums give
    a bit, where that is not the sign of the result. A run takes floats (B, H, W, C), whose signs are packed on the way,
    or bits (B, H, W, words); `out` is filled if it is given, and fresh memory costs more than small layers do.
    `threads` is how many cores a call may use.

    Raises ValueError for what does not fit, EngineError for a `path` that does not run here (choose).
    """

    def __init__(
        self,
        weights: Real[np.ndarray, "O kh kw words"],
        channels: int,
        *,
        stride: Pair = (1, 1),
        padding: int = 0,
        dilation: int = 1,
        border: Border = "zero",
        scale: Float32[np.ndarray, " O"] | None = None,
        shift: Float32[np.ndarray, " O"] | None = None,
        activation: Activation = "linear",
        thresholds: Thresholds | None = None,
        path: str | None = None,
    ) -> None:
        self.path = choose(path).path
        _check_array("weights", weights, np.uint64)
        _check_number("channels", channels, 1, LARGEST_SUM)
        stride = _checked_stride(stride)
        _check_number("padding", padding, 0, LARGEST_LENGTH)
        _check_number("dilation", dilation, 1, LARGEST_LENGTH)
        filters, rows, columns, words = weights.shape
        if weights.size == 0 or words != words_for(channels):
            wanted = words_for(channels)
            raise ValueError(f"weights of shape {weights.shape} do not fit {channels} channels; wanted {wanted} words")
        if rows * columns * channels > LARGEST_SUM:
            raise ValueError(f"weights of shape {weights.shape} sum over more than 2**24 products")
        if border not in get_args(Border):
            raise ValueError(f"border={shown(str(border))}, wanted zero or minus")
        if activation not in get_args(Activation):
            raise ValueError(f"activation {shown(str(activation))} cannot follow; wanted linear, leaky or relu")
        _check_spare("weights", weights, channels)
        self.weights = np.ascontiguousarray(weights)
        self.scale = _per_filter("scale", scale, filters, 1)
        self.shift = _per_filter("shift", shift, filters, 0)
        self.channels, self.filters, self.window = channels, filters, (rows, columns)
        self.stride, self.padding, self.dilation = stride, padding, dilation
        self.border, self.activation, self.thresholds = border, activation, thresholds
        for name, values in () if thresholds is None else thresholds._asdict().items():
            _check_array(name, values, np.int32, (filters,))
        self._compiled: Any = None
        if self.path != REFERENCE:
            self._compiled = _module().Convolution(
                self.weights, int(channels), *stride, int(padding), int(dilation), border == "zero", self.scale,
                self.shift, activation, self.path, *(thresholds or ()),
            )  # fmt: skip

    def counts(
        self, x: np.ndarray, out: Real[np.ndarray, "B H2 W2 O"] | None = None, *, threads: int = 1
    ) -> Real[np.ndarray, "B H2 W2 O"]:
        """The sums of products of signs as they are, without scale, shift and activation."""
        return self._run(x, out, self.filters, np.int32, threads)

    def reals(
        self,
        x: np.ndarray,
        out: Float32[np.ndarray, "B H2 W2 O"] | None = None,
        *,
        factor: Float32[np.ndarray, "B H2 W2"] | None = None,
        residual: Float32[np.ndarray, "B H2 W2 O"] | None = None,
        threads: int = 1,
    ) -> Float32[np.ndarray, "B H2 W2 O"]:
        """The results as floats; the scaled sum times `factor`, K of the thesis, and `residual` added at the end."""
        return self._run(x, out, self.filters, np.float32, threads, factor, residual)

    def bits(
        self, x: np.ndarray, out: Real[np.ndarray, "B H2 W2 words"] | None = None, *, threads: int = 1
    ) -> Real[np.ndarray, "B H2 W2 words"]:
        """The signs of the results as words, for the next layer of single bits."""
        return self._run(x, out, words_for(self.filters), np.uint64, threads)

    def out_shape(self, height: int, width: int) -> Pair:
        """Rows and columns that come out for a picture of this size. Raises ValueError if the window does not fit."""
        found = []
        for length, taps, step in zip((height, width), self.window, self.stride, strict=True):
            space = length + 2 * self.padding - self.dilation * (taps - 1) - 1
            if length < 1 or space < 0:
                raise ValueError(f"a picture of {height} rows and {width} columns is smaller than the window")
            found.append(space // step + 1)
        return found[0], found[1]

    def _run(
        self,
        x: Any,
        out: np.ndarray | None,
        last: int,
        kind: type,
        threads: int,
        factor: np.ndarray | None = None,
        residual: np.ndarray | None = None,
    ) -> np.ndarray:
        _check_threads(threads)
        if self._compiled is not None and isinstance(out, np.ndarray) and out.dtype == kind:
            # It checks for itself, in a fraction of the time.
            self._compiled.run(x, out, int(threads), factor, residual)
            return out
        packed = isinstance(x, np.ndarray) and x.dtype == np.uint64
        _check_array("x", x, np.uint64 if packed else np.float32)
        batch, height, width, depth = x.shape
        if depth != (words_for(self.channels) if packed else self.channels):
            what = f"words, wanted {words_for(self.channels)}" if packed else f"channels, wanted {self.channels}"
            raise ValueError(f"x of shape {x.shape} has {depth} {what}")
        out = _target(out, (batch, *self.out_shape(height, width), last), kind, x)
        if factor is not None:
            _check_array("factor", factor, np.float32, out.shape[:3])
        if residual is not None:
            _check_array("residual", residual, np.float32, out.shape)
        if self._compiled is not None:
            self._compiled.run(x, out, int(threads), factor, residual)
            return out
        if packed:
            _check_spare("x", x, self.channels)
        else:
            x = reference.pack(x)
        sums = reference.convolve(
            x, self.weights, self.channels, self.stride, self.padding, self.dilation, self.border
        )
        if kind is np.int32:
            out[...] = sums
            return out
        if kind is np.uint64 and self.thresholds is not None:
            above = (sums ^ self.thresholds.flip) >= self.thresholds.limit
            out[...] = reference.pack(above.astype(np.float32))
            return out
        value = reference.finish(sums, self.scale, self.shift, self.activation, factor, residual)
        out[...] = reference.pack(value) if kind is np.uint64 else value
        return out


@cache
def _paths_here() -> tuple[str, ...]:
    return tuple(_module().paths())


def _module() -> ModuleType:
    module, problem = compiled()
    assert module is not None, problem
    return module


def _target(out: np.ndarray | None, shape: tuple[int, ...], kind: type, x: np.ndarray) -> np.ndarray:
    """`out` if it can take the result, else a new array that begins at a cache line."""
    if out is None:
        size = int(np.prod(shape)) * np.dtype(kind).itemsize
        memory = np.empty(size + ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % ALIGNMENT
        return memory[start : start + size].view(kind).reshape(shape)
    _check_array("out", out, kind)
    if out.shape != shape:
        raise ValueError(f"out has shape {out.shape}, wanted {shape}")
    if not out.flags.writeable:
        raise ValueError("out may not be written to")
    if np.may_share_memory(out, x):
        raise ValueError("out and x share memory; wanted two arrays")
    return out


def _check_array(name: str, array: object, kind: type, shape: tuple[int, ...] | None = None) -> None:
    fits = isinstance(array, np.ndarray) and array.dtype == kind
    if not isinstance(array, np.ndarray) or not fits or (array.ndim != 4 if shape is None else array.shape != shape):
        found = f"{array.dtype} {array.shape}" if isinstance(array, np.ndarray) else type(array).__name__
        wanted = "with 4 axes" if shape is None else f"of shape {shape}"
        raise ValueError(f"{name} is {found}, wanted an array of {np.dtype(kind)} {wanted}")
    if not (array.flags.c_contiguous and array.flags.aligned and array.dtype.isnative):
        raise ValueError(f"{name} has gaps between its rows; wanted np.ascontiguousarray of it")


def _check_number(name: str, found: object, least: int, most: int) -> None:
    if isinstance(found, bool) or not isinstance(found, int | np.integer) or not least <= found <= most:
        raise ValueError(f"{name}={shown(repr(found))}, wanted a whole number from {least} to {most}")


def _checked_stride(stride: Any) -> Pair:
    if not isinstance(stride, tuple) or len(stride) != 2:
        raise ValueError(f"stride={shown(repr(stride))}, wanted two numbers, (vertical, horizontal)")
    for step in stride:
        _check_number("stride", step, 1, LARGEST_LENGTH)
    return int(stride[0]), int(stride[1])


def _check_threads(threads: int) -> None:
    _check_number("threads", threads, 1, 1 << 16)


def _check_spare(name: str, bits: np.ndarray, channels: int) -> None:
    """Bits beyond the last channel would be counted."""
    used = channels % reference.WORD
    if used and (bits[..., -1] >> np.uint64(used)).any():
        raise ValueError(f"{name} has bits beyond its {channels} channels; wanted zeros there")


def _per_filter(name: str, values: Any, filters: int, usual: float) -> np.ndarray:
    if values is None:
        return np.full(filters, usual, np.float32)
    if not isinstance(values, np.ndarray) or values.dtype != np.float32 or values.shape != (filters,):
        raise ValueError(f"{name} is not float32 ({filters},), one value a filter")
    if not np.isfinite(values).all():
        raise ValueError(f"{name} is not finite for filter {int(np.argmin(np.isfinite(values)))}")
    return np.ascontiguousarray(values)
