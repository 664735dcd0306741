from __future__ import annotations

import sys
import threading
from collections.abc import Callable

import numpy as np
import pytest
from conftest import Child
from drawn_layers import compare

from lookonce.binary import BinaryConvolution, choose, kernel, matrix_product, max_pool, pack, reference, window_sums
from lookonce.binary.thresholds import Thresholds
from lookonce.errors import EngineError

MODULE, PROBLEM = kernel.compiled()
HERE = tuple(MODULE.paths()) if MODULE is not None else ()
EVERYWHERE = (*HERE, "reference")
needs_kernel = pytest.mark.skipif(not HERE, reason=f"needs the compiled kernel: {PROBLEM} (native/CMakeLists.txt)")

COUNT = 20_000


@needs_kernel
@pytest.mark.parametrize("part", range(4))
def test_every_path_gives_what_the_reference_gives(part: int) -> None:
    """20,000 drawn layers in all, every count of channels from 1 to 130 (drawn_layers)."""
    rng = np.random.default_rng(part)
    for number in range(part * COUNT // 4, (part + 1) * COUNT // 4):
        compare(number, rng, HERE)


@needs_kernel
@pytest.mark.parametrize("path", HERE)
@pytest.mark.parametrize("threads", [1, 2, 5])
def test_larger_pictures_are_shared_among_threads(path: str, threads: int) -> None:
    """Many tiles and blocks, the last ones not full: 37 x 29 pixels, 200 filters."""
    rng = np.random.default_rng(threads)
    x = rng.standard_normal((2, 37, 29, 70), np.float32)
    weights = reference.pack(rng.standard_normal((200, 3, 3, 70), np.float32))
    layer = BinaryConvolution(weights, 70, padding=1, path=path)
    want = reference.convolve(reference.pack(x), weights, 70, padding=1)
    np.testing.assert_array_equal(layer.counts(x, threads=threads), want)
    np.testing.assert_array_equal(layer.bits(x, threads=threads), reference.pack(want.astype(np.float32)))
    np.testing.assert_array_equal(pack(x, threads=threads, path=path), reference.pack(x))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_a_layer_of_bits_answers_as_the_sign_of_its_floats(path: str) -> None:
    """The integer limit of each filter is exact where scale times sum and shift nearly cancel.

    Shifts are scale times a whole number that sums hit, and its neighbours among floats.
    """
    rng = np.random.default_rng(3)
    filters = 300
    scale = (rng.standard_normal(filters) * 10.0 ** rng.integers(-30, 30, filters)).astype(np.float32)
    shift = -scale * rng.integers(-40, 40, filters).astype(np.float32)
    shift[::3] = np.nextafter(shift[::3], np.float32(np.inf))
    shift[1::3] = np.nextafter(shift[1::3], np.float32(-np.inf))
    weights = reference.pack(rng.standard_normal((filters, 1, 1, 40), np.float32))
    layer = BinaryConvolution(weights, 40, scale=scale, shift=shift, path=path)
    x = pack(rng.standard_normal((1, 30, 30, 40), np.float32))
    with np.errstate(all="ignore"):
        value = layer.counts(x).astype(np.float32) * scale + shift
    found = reference.unpack(layer.bits(x), filters)
    np.testing.assert_array_equal(found, np.where(value > 0, 1, -1))
    assert (found == 1).any(axis=(0, 1, 2)).sum() > 200                    # of most filters both occur


@pytest.mark.parametrize("path", EVERYWHERE)
def test_layers_of_bits_need_no_floats_between_them(path: str) -> None:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 12, 10, 20), np.float32)
    first = BinaryConvolution(
        reference.pack(rng.standard_normal((30, 3, 3, 20), np.float32)), 20, padding=1, activation="leaky", path=path,
        shift=rng.standard_normal(30).astype(np.float32),
    )  # fmt: skip
    second = BinaryConvolution(reference.pack(rng.standard_normal((9, 3, 3, 30), np.float32)), 30, path=path)
    between = first.reals(x)                                                        # (1, 12, 10, 30)
    pooled = between.reshape(1, 6, 2, 5, 2, 30).max(axis=(2, 4))
    np.testing.assert_array_equal(second.counts(max_pool(first.bits(x), 2, (2, 2), 0)), second.counts(pooled))


@needs_kernel
def test_pooling_is_that_of_the_reference() -> None:
    rng = np.random.default_rng(0)
    for _ in range(300):
        size, height, width = (int(n) for n in rng.integers(1, (6, 9, 9)))
        padding = int(rng.integers(0, 2 * size - 1))
        stride = tuple(int(n) for n in rng.integers(1, 4, 2))
        height, width = max(height, size - padding), max(width, size - padding)
        x = rng.integers(0, 1 << 63, (2, height, width, 2), dtype=np.uint64)
        found = max_pool(x, size, stride, padding, threads=1 + padding % 2)
        np.testing.assert_array_equal(found, reference.max_pool(x, size, stride, padding))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_products_of_matrices(path: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "choose", lambda given=None: kernel.Choice(path, "test"))
    rng = np.random.default_rng(1)
    for length in (1, 63, 64, 65, 576, 4609):
        a, b = rng.choice([-1, 1], (5, length)), rng.choice([-1, 1], (7, length))
        packed = [reference.pack(each.astype(np.float32)) for each in (a, b)]
        np.testing.assert_array_equal(matrix_product(*packed, length), a @ b.T)


@needs_kernel
def test_what_is_too_large_is_let_go_again() -> None:
    """Python frees an array when nobody refers to it any more; numbers of references are CPython's."""
    x, out = (np.empty((0, 2**31 + 1, 1, 1), kind) for kind in (np.float32, np.uint64))
    before = sys.getrefcount(x), sys.getrefcount(out)
    with pytest.raises(ValueError, match=r"x of shape \(0, 2147483649, 1, 1\) is too large"):
        pack(x, out)
    assert (sys.getrefcount(x), sys.getrefcount(out)) == before


@needs_kernel
def test_a_layer_is_run_by_many_threads_at_once() -> None:
    """Four Python threads, each asking for two cores: the helpers go to one of them at a time."""
    rng = np.random.default_rng(0)
    x = rng.standard_normal((4, 1, 20, 20, 128), np.float32)
    layer = BinaryConvolution(reference.pack(rng.standard_normal((96, 3, 3, 128), np.float32)), 128, padding=1)
    want = [layer.reals(each) for each in x]
    wrong = []

    def run(number: int) -> None:
        out = np.empty_like(want[number])
        for _ in range(200):
            out[...] = np.nan
            if not np.array_equal(layer.reals(x[number], out, threads=2), want[number]):
                wrong.append(number)

    workers = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert wrong == []


FORK = """
import os, numpy as np
from lookonce.binary import BinaryConvolution, pack
x = np.ones((1, 40, 40, 64), np.float32)
layer = BinaryConvolution(pack(np.ones((128, 3, 3, 64), np.float32)), 64)
def right():
    return all((layer.counts(x, threads=2) == 576).all() for _ in range(50))
assert right()
child = os.fork()
if child == 0:
    os._exit(0 if right() else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0 and right()
"""


@needs_kernel
@pytest.mark.skipif(not hasattr(__import__("os"), "fork"), reason="needs fork")
def test_helpers_are_started_anew_in_a_forked_child(child: Child) -> None:
    done = child("-W", "ignore", "-c", FORK)
    assert (done.code, done.err) == (0, "")


# ---------------------------------------------------------------------- which path
def test_a_variable_forces_a_path(monkeypatch: pytest.MonkeyPatch) -> None:
    for path in HERE:
        monkeypatch.setenv("LOOKONCE_BINARY", path)
        assert choose() == (path, f"LOOKONCE_BINARY={path}")
    monkeypatch.setenv("LOOKONCE_BINARY", "avx521")
    with pytest.raises(EngineError) as caught:
        choose()
    known = "wanted avx512, avx2, neon or portable"
    assert str(caught.value) == f"LOOKONCE_BINARY=avx521 is no way to compute, did you mean avx512?; {known}"
    for path in {"avx512", "avx2", "neon"} - set(HERE):
        monkeypatch.setenv("LOOKONCE_BINARY", path)
        with pytest.raises(EngineError, match=f"^LOOKONCE_BINARY={path}: .*(does not run|is missing).*[^\n]*$"):
            choose()


def test_without_the_compiled_module_the_reference_computes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(kernel, "compiled", lambda: kernel.Compiled(None, "it was not built"))
    monkeypatch.delenv("LOOKONCE_BINARY", raising=False)
    assert choose() == ("reference", "the compiled kernel is missing: it was not built")
    x = np.ones((1, 2, 2, 3), np.float32)
    layer = BinaryConvolution(pack(np.ones((1, 2, 2, 3), np.float32)), 3)
    assert layer.counts(x).item() == 12
    monkeypatch.setenv("LOOKONCE_BINARY", "portable")
    with pytest.raises(EngineError, match="LOOKONCE_BINARY=portable: the compiled kernel is missing: it was not built"):
        choose()


# ---------------------------------------------------------------------- what does not fit
X = np.ones((1, 4, 4, 70), np.float32)
BITS = reference.pack(X)
WEIGHTS = reference.pack(np.ones((5, 3, 3, 70), np.float32))
SPARE = BITS | np.uint64(1 << 63)
OUT = np.zeros((1, 2, 2, 5), np.float32)

WRONG_LAYERS: dict[str, Callable[[], object]] = {
    "weights of floats": lambda: {"weights": np.ones((5, 3, 3, 70), np.float32)},
    "three axes": lambda: {"weights": WEIGHTS[0]},
    "not contiguous": lambda: {"weights": WEIGHTS[:, ::2]},
    "no array": lambda: {"weights": [[1]]},
    "no filters": lambda: {"weights": WEIGHTS[:0]},
    "bits beyond the channels": lambda: {"weights": WEIGHTS | np.uint64(1 << 63)},
    "another count of words": lambda: {"channels": 129},
    "no channels": lambda: {"channels": 0},
    "half a channel": lambda: {"channels": 69.5},
    "stride 0": lambda: {"stride": (0, 1)},
    "one stride": lambda: {"stride": 2},
    "padding below 0": lambda: {"padding": -1},
    "huge padding": lambda: {"padding": 1 << 40},
    "dilation 0": lambda: {"dilation": 0},
    "another border": lambda: {"border": "mirror"},
    "another activation": lambda: {"activation": "mish"},
    "a scale too few": lambda: {"scale": np.ones(4, np.float32)},
    "doubles": lambda: {"shift": np.ones(5)},
    "NaN": lambda: {"scale": np.array([1, 1, np.nan, 1, 1], np.float32)},
    "infinite": lambda: {"shift": np.array([1, 1, 1, 1, np.inf], np.float32)},
}


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("what", WRONG_LAYERS)
def test_layers_that_cannot_be_are_refused(what: str, path: str) -> None:
    options = {"weights": WEIGHTS, "channels": 70, "path": path, **WRONG_LAYERS[what]()}  # type: ignore[dict-item]
    with pytest.raises(ValueError) as caught:
        BinaryConvolution(**options)
    assert "\n" not in str(caught.value)


WRONG_RUNS: dict[str, tuple[Callable[[], object], Callable[[], object]]] = {
    "doubles": (lambda: X.astype(np.float64), lambda: None),
    "no array": (lambda: None, lambda: None),
    "a list": (lambda: [1, 2], lambda: OUT),
    "three axes": (lambda: X[0], lambda: None),
    "no axes": (lambda: np.float32(1), lambda: OUT),
    "not contiguous": (lambda: np.ones((1, 4, 8, 70), np.float32)[:, :, ::2], lambda: None),
    "columns first": (lambda: np.asfortranarray(X), lambda: OUT),
    "other channels": (lambda: X[..., :69].copy(), lambda: None),
    "other words": (lambda: BITS[..., :1].copy(), lambda: OUT),
    "bits beyond the channels": (lambda: SPARE, lambda: OUT),
    "too small": (lambda: X[:, :2].copy(), lambda: None),
    "no rows": (lambda: X[:, :0], lambda: None),
    "big-endian": (lambda: X.astype(">f4"), lambda: OUT),
    "not aligned": (lambda: off_by_one(X), lambda: OUT),
    "out too small": (lambda: X, lambda: OUT[:, :1]),
    "out of doubles": (lambda: X, lambda: OUT.astype(np.float64)),
    "out with gaps": (lambda: X, lambda: np.zeros((1, 2, 4, 5), np.float32)[:, :, ::2]),
    "out read-only": (lambda: X, lambda: read_only(OUT)),
    "out is x": (lambda: SHARED[:280].reshape(1, 2, 2, 70), lambda: SHARED[:20].reshape(1, 2, 2, 5)),
}
SHARED = np.ones(1000, np.float32)


def off_by_one(array: np.ndarray) -> np.ndarray:
    return np.frombuffer(b"\0" + array.tobytes(), np.uint8)[1:].view(array.dtype).reshape(array.shape)


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("what", WRONG_RUNS)
def test_runs_that_cannot_be_are_refused(what: str, path: str) -> None:
    x, out = (make() for make in WRONG_RUNS[what])
    shape = {"padding": 1} if what == "out is x" else {}
    layer = BinaryConvolution(WEIGHTS, 70, path=path, **shape)
    with pytest.raises(ValueError) as caught:
        layer.reals(x, out)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


WRONG_EXTRAS: dict[str, Callable[[], dict[str, object]]] = {
    "a factor of doubles": lambda: {"factor": np.ones((1, 2, 2))},
    "a factor a filter": lambda: {"factor": OUT},
    "a residual of words": lambda: {"residual": np.zeros((1, 2, 2, 5), np.uint64)},
    "a residual too small": lambda: {"residual": OUT[:, :1]},
    "a residual with gaps": lambda: {"residual": np.zeros((1, 2, 4, 5), np.float32)[:, :, ::2]},
}


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("what", WRONG_EXTRAS)
def test_factors_and_residuals_that_do_not_fit_are_refused(what: str, path: str) -> None:
    layer = BinaryConvolution(WEIGHTS, 70, path=path)
    for out in (None, OUT.copy()):
        with pytest.raises(ValueError) as caught:
            layer.reals(X, out, **WRONG_EXTRAS[what]())  # type: ignore[arg-type]
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("path", EVERYWHERE)
def test_packing_that_cannot_be_is_refused(path: str) -> None:
    ones = np.ones(70, np.float32)
    for options in (
        {"scale": ones}, {"shift": ones}, {"scale": ones[1:], "shift": ones}, {"scale": ones, "shift": ones * 1.0j},
        {"magnitude": np.zeros((1, 4, 4, 1), np.float32)}, {"magnitude": np.zeros((1, 4, 4))},
    ):  # fmt: skip
        with pytest.raises(ValueError):
            pack(X, path=path, **options)  # type: ignore[arg-type]
    plane = np.ones((1, 4, 4), np.float32)
    for x, window, out in (
        (plane.astype(np.float64), (3, 3), plane[:, :2, :2].copy()), (plane, (5, 5), plane[:, :1, :1].copy()),
        (plane, (3, 3), plane),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            window_sums(x, window, (1, 1), 0, 1, 1.0, out, path=path)
    with pytest.raises(ValueError, match="limit is int64"):
        BinaryConvolution(WEIGHTS, 70, thresholds=Thresholds(np.zeros(5, np.int32), np.zeros(5, np.int64)), path=path)


@pytest.mark.parametrize("path", EVERYWHERE)
@pytest.mark.parametrize("threads", [0, -1, 1.5, "2", None, 1 << 20])
def test_threads_are_a_whole_number(path: str, threads: object) -> None:
    layer = BinaryConvolution(WEIGHTS, 70, path=path)
    for out in (None, OUT.copy()):
        with pytest.raises(ValueError, match="threads="):
            layer.reals(X, out, threads=threads)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="threads="):
        pack(X, threads=threads, path=path)  # type: ignore[arg-type]


def test_pooling_that_cannot_be_is_refused() -> None:
    wrong = [(X, 2, (2, 2), 0), (BITS, 0, (1, 1), 0), (BITS, 2, (0, 1), 0), (BITS, 2, (1, 1), 3), (BITS, 9, (1, 1), 0)]
    for x, size, stride, padding in wrong:
        with pytest.raises(ValueError):
            max_pool(x, size, stride, padding)
    with pytest.raises(ValueError, match="no channels"):
        pack(X[..., :0])


@needs_kernel
def test_the_compiled_module_checks_for_itself() -> None:
    """Whoever goes past the door gets a ValueError too."""
    assert MODULE is not None
    ones = np.ones(5, np.float32)
    good = (WEIGHTS, 70, 1, 1, 0, 1, True, ones, ones, "linear", HERE[0])
    layer = MODULE.Convolution(*good)
    for place, wrong in (
        (0, X), (0, 3), (0, WEIGHTS[:, ::2]), (0, WEIGHTS[:0]), (0, ~WEIGHTS), (1, 0), (1, 129), (1, 1 << 30), (2, 0),
        (4, -1), (5, 0), (7, ones[:4]), (7, ones * np.nan), (8, ones.astype(np.float64)), (9, "mish"), (10, "avx9"),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            MODULE.Convolution(*good[:place], wrong, *good[place + 1 :])
    big = np.zeros((1, 1 << 12, 1 << 12, 2), np.uint64)
    with pytest.raises(ValueError, match=r"2\*\*24"):
        MODULE.Convolution(big, 70, 1, 1, 0, 1, True, ones[:1], ones[:1], "linear", HERE[0])
    for x, out in (
        (X, OUT[:, :1]), (X, read_only(OUT)), (X, OUT.astype(np.int64)), (X[0], OUT), (SPARE, OUT), (None, OUT),
        (X, None), (X, X), (X[:, :2], OUT), (off_by_one(X), OUT), (X.astype(np.int32), OUT), (b"abc", OUT),
        (X, OUT.astype(bool)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            layer.run(x, out, 1)
    for factor, residual in ((OUT, None), (None, OUT[:, :1]), (None, OUT), ("", None)):
        with pytest.raises(ValueError):
            layer.run(X, OUT, 1, factor, residual)
    with pytest.raises(ValueError, match="go with an out of float32"):
        layer.run(X, OUT.astype(np.int32), 1, None, OUT)
    bits = np.zeros((1, 4, 4, 2), np.uint64)
    for extra in ((ones, None, None), (ones, ones, None), (None, None, X), (None, None, read_only(X[..., 0].copy()))):
        with pytest.raises(ValueError):
            MODULE.pack(X, bits, HERE[0], 1, *extra)
    whole = np.array([0], np.int32)
    for flip, limit in ((whole, whole), (ones, ones), (whole.repeat(5), None)):
        with pytest.raises(ValueError):
            MODULE.Convolution(*good, flip, limit)
    plane = np.ones((1, 4, 4), np.float32)
    for x, out, rest in (
        (plane, plane, (3, 3, 1, 1, 1, 1)), (plane, plane.copy(), (3, 3, 1, 1, 0, 1)), (plane, X, (1, 1, 1, 1, 0, 1)),
        (plane, plane.copy(), (0, 1, 1, 1, 0, 1)), (plane, plane.copy(), (1, 1, 1, 0, 0, 1)),
        (plane, plane.copy(), (1, 1, 1, 1, -1, 1)), (plane, plane.copy(), (9, 9, 1, 1, 0, 1 << 30)),
    ):  # fmt: skip
        with pytest.raises(ValueError):
            MODULE.window_sums(x, out, *rest, 1.0)
    with pytest.raises(ValueError):
        MODULE.pack(X, np.zeros((1, 4, 4, 1), np.uint64), HERE[0], 1)
    with pytest.raises(ValueError):
        MODULE.pack(X, np.zeros((1, 4, 4, 2), np.uint64), "no", 1)
    with pytest.raises(ValueError):
        MODULE.max_pool(BITS, np.zeros((1, 4, 4, 2), np.uint64), 2, 1, 1, 0, 1)


@needs_kernel
def test_a_window_that_would_take_much_memory_is_refused() -> None:
    """4,096 places along the edges, each with 4,096 runs of words of its own."""
    layer = BinaryConvolution(np.zeros((1, 64, 64, 1), np.uint64), 1, padding=63, dilation=2)
    with pytest.raises(ValueError, match="a window of 64 x 64 with padding 63 takes too much memory"):
        layer.counts(np.zeros((1, 300, 300, 1), np.uint64))


@pytest.mark.parametrize("path", EVERYWHERE)
def test_no_pictures_give_no_results(path: str) -> None:
    layer = BinaryConvolution(WEIGHTS, 70, path=path)
    assert layer.reals(X[:0]).shape == (0, 2, 2, 5)
    assert layer.bits(BITS[:0], threads=2).shape == (0, 2, 2, 1)
    assert pack(X[:0], path=path).shape == (0, 4, 4, 2)
