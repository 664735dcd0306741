"""Weights files. The oracle is arithmetic: order and sizes as parser.c reads them, written out by hand below."""

from __future__ import annotations

import io
import os
import struct
import time
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from conftest import network_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lookonce.darknet import weights
from lookonce.darknet.weights import Entry, Header
from lookonce.errors import LookonceWarning, WeightsError
from lookonce.model import Model

CFG = """[net]
width=8
height=8
channels=3
[convolutional]
batch_normalize=1
filters=4
size=3
pad=1
activation=leaky
[maxpool]
size=2
stride=2
[convolutional]
filters=6
activation=leaky
[connected]
batch_normalize=1
output=5
activation=linear
[connected]
output=7
activation=linear
[softmax]
"""
# The array, and how many floats it has. After the second convolution 6 channels of 4 x 4 are left: 96 values.
PARTS = [
    ("layer 0 [convolutional] biases", 4), ("layer 0 [convolutional] scales", 4), ("layer 0 [convolutional] mean", 4),
    ("layer 0 [convolutional] variance", 4), ("layer 0 [convolutional] weights", 4 * 3 * 3 * 3),
    ("layer 2 [convolutional] biases", 6), ("layer 2 [convolutional] weights", 6 * 4),
    ("layer 3 [connected] biases", 5), ("layer 3 [connected] weights", 5 * 96), ("layer 3 [connected] scales", 5),
    ("layer 3 [connected] mean", 5), ("layer 3 [connected] variance", 5),
    ("layer 4 [connected] biases", 7), ("layer 4 [connected] weights", 7 * 5),
]  # fmt: skip
FLOATS = sum(count for _, count in PARTS)
ENTRIES = network_of(CFG).entries()

OLD = struct.pack("<iiiI", 0, 1, 0, 32013312)                        # as the files of 2016 begin
NEW = struct.pack("<iiiQ", 0, 2, 5, 32013312)
TURNED = struct.pack("<iiiI", 1001, 2, 0, 77)                        # matrices inputs-first
TURNED_WIDE = struct.pack("<iiiQ", 1001, 2, 0, 77)                   # the same, as the forks write it
HEADERS = {"old": OLD, "new": NEW, "transposed": TURNED, "transposed, 64 bits": TURNED_WIDE}


def values(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).uniform(0.1, 1, FLOATS).astype("<f4")


def start_of(owner: str) -> int:
    """The first float of an array."""
    return sum(count for _, count in PARTS[: [name for name, _ in PARTS].index(owner)])


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.weights"


def refusal(path: Path, data: bytes | None = None, *, partial: bool = False) -> str:
    """The message with which a file is refused."""
    if data is not None:
        path.write_bytes(data)
    with pytest.raises(WeightsError) as refused:
        weights.read(path, ENTRIES, partial=partial)
    message = str(refused.value)
    assert message.startswith(str(path))
    assert message.isprintable()
    return message


# ---------------------------------------------------------------------- order
def test_arrays_stand_in_darknets_order_with_batch_norm_after_a_matrix_but_before_a_kernel() -> None:
    assert [(entry.owner, entry.size) for entry in ENTRIES] == PARTS
    assert [entry.matrix for entry in ENTRIES] == [owner.endswith("[connected] weights") for owner, _ in PARTS]


@pytest.mark.parametrize("header", [OLD, NEW], ids=["old", "new"])
def test_each_array_gets_its_floats(path: Path, header: bytes) -> None:
    path.write_bytes(header + np.arange(FLOATS, dtype="<f4").tobytes())
    found, arrays = weights.read(path, ENTRIES)
    assert found.seen == 32013312
    for (owner, count), array in zip(PARTS, arrays, strict=True):
        assert array.dtype == np.float32
        assert np.array_equal(array.reshape(-1), np.arange(start_of(owner), start_of(owner) + count))


@pytest.mark.parametrize(
    ("section", "sizes"),
    [
        ("[batchnorm]", {"scales": 3, "mean": 3, "variance": 3}),                       # the original keeps no bias
        ("[local]\nfilters=2\nsize=3\npad=1", {"biases": 2 * 64, "weights": 64 * 2 * 3 * 9}),
        ("[conv]\nfilters=6\ngroups=3\nsize=3", {"biases": 6, "weights": 6 * 1 * 9}),
        ("[maxpool]\nstride=2\n[shortcut]\nfrom=-1", {}),
        ("[batchnorm]\n[conv]\nfilters=3\ndilation=1\n[shortcut]\nfrom=-2\nweights_type=per_channel",
         {"biases": 3, "scales": 3, "mean": 3, "variance": 3, "biases 1": 3, "weights": 9, "weights 2": 2 * 3}),
    ],
)  # fmt: skip
def test_other_layers_own_what_parser_c_reads(section: str, sizes: dict[str, int]) -> None:
    entries = network_of(f"[net]\nwidth=8\nheight=8\nchannels=3\n{section}\n").entries()
    assert [(entry.name, entry.size) for entry in entries] == [(name.split()[0], size) for name, size in sizes.items()]


# ---------------------------------------------------------------------- headers
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_header_is_read_by_the_rule_and_that_of_a_transposed_file_by_its_length(path: Path, header: bytes) -> None:
    """For major > 1000 the original reads 32 bits of pictures seen and the forks 64: the length says which is meant."""
    path.write_bytes(header + values().tobytes())
    found, arrays = weights.read(path, ENTRIES)
    assert (found.major, found.minor, found.revision) == struct.unpack_from("<iii", header)
    assert found.seen == int.from_bytes(header[12:], "little")
    assert found.to_bytes() == header
    assert np.array_equal(arrays[0], values()[:4])


@pytest.mark.parametrize(
    ("version", "wide"),
    [((0, 1, 0), False), ((0, 2, 0), True), ((0, 2, 5), True), ((1, 0, 0), True), ((0, 0, 0), False),
     ((999, 999, 0), True), ((1000, 0, 0), False), ((0, 1000, 0), False)],
)  # fmt: skip
def test_the_pictures_seen_have_64_bits_from_version_0_2_on_and_below_1000(
    path: Path, version: tuple[int, int, int], wide: bool
) -> None:
    """parser.c: major * 10 + minor >= 2 and both below 1000."""
    path.write_bytes(struct.pack("<iii", *version) + struct.pack("<Q" if wide else "<I", 9) + values().tobytes())
    assert weights.read(path, ENTRIES)[0] == Header(*version, seen=9, wide=wide)


def test_matrices_of_a_transposed_file_are_turned_and_nothing_else(path: Path) -> None:
    path.write_bytes(TURNED + values().tobytes())
    _, arrays = weights.read(path, ENTRIES)
    for (owner, count), entry, array in zip(PARTS, ENTRIES, arrays, strict=True):
        stored = values()[start_of(owner) : start_of(owner) + count]
        if owner.endswith("[connected] weights"):
            outputs, inputs = entry.shape
            assert all(array[o, i] == stored[i * outputs + o] for o in range(outputs) for i in range(inputs))
        else:
            assert np.array_equal(array.reshape(-1), stored)


def test_a_big_endian_file_is_named_as_such(path: Path) -> None:
    message = refusal(path, struct.pack(">iiiQ", 0, 2, 0, 5) + values().astype(">f4").tobytes())
    assert "big-endian" in message
    assert "little-endian" in message


@pytest.mark.parametrize("seen", [2**63 - 1, 2**64 - 1, 2**48])
def test_a_count_of_pictures_that_nobody_can_have_seen_is_a_warning(path: Path, seen: int) -> None:
    path.write_bytes(struct.pack("<iiiQ", 0, 2, 0, seen) + values().tobytes())
    with pytest.warns(LookonceWarning, match=f"{seen:,} pictures"):
        header, _ = weights.read(path, ENTRIES)
    assert header.to_bytes() == struct.pack("<iiiQ", 0, 2, 0, seen)


# ---------------------------------------------------------------------- length
@pytest.mark.parametrize("length", range(41))
def test_a_file_of_a_few_bytes_is_refused_with_the_bytes_found_and_wanted(path: Path, length: int) -> None:
    message = refusal(path, (NEW + values().tobytes())[:length])
    assert f"{length} bytes" in message
    assert f"wanted {20 + 4 * FLOATS:,}" in message


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_file_cut_anywhere_is_refused_with_its_bytes_and_the_array_where_it_ends(path: Path, header: bytes) -> None:
    """1,000 places over the four headers. A transposed file of any other than its own length counts as Redmon's."""
    whole = header + values().tobytes()
    total = 20 if header == NEW else 16
    spans = []
    for owner, count in PARTS:
        spans.append((total, total + 4 * count, owner))
        total += 4 * count
    for length in np.random.default_rng(1).integers(41, total, 250).tolist():
        message = refusal(path, whole[:length])
        assert f"{length:,} bytes, wanted {total:,}" in message
        assert next(owner for start, end, owner in spans if start <= length < end) in message


@pytest.mark.parametrize("more", [*range(1, 9), 20 + 4 * FLOATS])
@pytest.mark.parametrize("header", [OLD, NEW], ids=["old", "new"])
def test_a_file_that_goes_on_is_refused_with_its_bytes(path: Path, header: bytes, more: int) -> None:
    message = refusal(path, header + values().tobytes() + bytes(more))
    assert f"{len(header) + 4 * FLOATS + more:,} bytes" in message
    assert f"{more:,} more than the {len(header) + 4 * FLOATS:,}" in message


@pytest.mark.parametrize("more", [1, 2, 3, 5, 6, 7, 8])
def test_a_transposed_file_that_goes_on_is_refused(path: Path, more: int) -> None:
    """4 bytes more than the shorter header's length is the longer header's length."""
    assert f"{more} more than" in refusal(path, TURNED + values().tobytes() + bytes(more))


@pytest.mark.parametrize(("after", "layers"), [(0, 2), (2, 3), (3, 4)])
def test_a_file_that_ends_between_two_layers_names_the_cut_that_takes_it(path: Path, after: int, layers: int) -> None:
    """Layer 1 owns nothing: a file that ends after layer 0 holds the first two."""
    floats = sum(count for owner, count in PARTS if int(owner.split()[1]) <= after)
    message = refusal(path, NEW + values()[:floats].tobytes())
    assert f"just before {next(owner for owner, _ in PARTS if int(owner.split()[1]) > after)}" in message
    assert f"{path}:{layers} " in message
    with pytest.raises(WeightsError):
        Model.read(network_of(CFG), path, layers + 1)
    model = Model.read(network_of(CFG), path, layers)
    assert model.trained == layers
    assert np.array_equal(model.weights[0]["biases"], values()[:4])


@pytest.mark.parametrize("layers", [1, 2, 3, 4, 5, 6])
def test_the_first_layers_are_taken_of_a_longer_file(path: Path, layers: int) -> None:
    path.write_bytes(OLD + values().tobytes())
    model = Model.read(network_of(CFG), path, layers)
    for owner, count in PARTS:
        layer, name = int(owner.split()[1]), owner.split()[-1]
        stored = values()[start_of(owner) : start_of(owner) + count]
        taken = np.array_equal(model.weights[layer][name].reshape(-1), stored)
        assert taken == (layer < layers), owner


def test_a_partial_file_must_still_be_of_whole_floats(path: Path) -> None:
    first = [entry for entry in ENTRIES if entry.layer == 0]
    path.write_bytes(NEW + values().tobytes() + b"\0")
    with pytest.raises(WeightsError, match=f"{21 + 4 * FLOATS:,} bytes"):
        weights.read(path, first, partial=True)


def test_a_partial_file_that_is_too_short_is_refused_too(path: Path) -> None:
    assert "layer 4 [connected] weights" in refusal(path, NEW + values()[:-1].tobytes(), partial=True)


@pytest.mark.parametrize("change", [-4, -1, 1, 4096])
def test_a_file_that_changes_while_it_is_read_is_refused(
    path: Path, change: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Changing(io.FileIO):
        def seek(self, offset: int, whence: int = 0) -> int:
            os.truncate(path, path.stat().st_size + change)
            return super().seek(offset, whence)

    path.write_bytes(NEW + values().tobytes())
    monkeypatch.setattr(weights.files, "open_regular", lambda path, error: Changing(path))
    assert "changed its length" in refusal(path)


def test_a_terabyte_of_nothing_is_refused_at_once(path: Path) -> None:
    with path.open("wb") as file:
        file.write(NEW)
        file.truncate(1 << 40)
    tracemalloc.start()
    begun = time.process_time()
    try:
        assert f"{1 << 40:,} bytes" in refusal(path)
        assert time.process_time() - begun < 0.1
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


def test_a_terabyte_gives_its_first_layers_without_being_read(path: Path) -> None:
    with path.open("wb") as file:
        file.write(NEW + values().tobytes())
        file.truncate(20 + (1 << 40))
    _, arrays = weights.read(path, ENTRIES, partial=True)
    assert np.array_equal(np.concatenate([array.reshape(-1) for array in arrays]), values())


def test_reading_takes_the_files_length_in_memory_and_little_more(path: Path) -> None:
    entry = Entry(0, "layer 0 [connected] weights", "weights", (2048, 2048), matrix=True)
    path.write_bytes(NEW + np.full(entry.size, 0.5, "<f4").tobytes())
    tracemalloc.start()
    try:
        _, (array,) = weights.read(path, [entry])
        assert tracemalloc.get_traced_memory()[1] < path.stat().st_size + (1 << 20)
    finally:
        tracemalloc.stop()
    assert (array == 0.5).all()


# ---------------------------------------------------------------------- values
@pytest.mark.parametrize(
    ("owner", "value", "words"),
    [
        ("layer 0 [convolutional] biases", np.nan, "nan"),
        ("layer 0 [convolutional] variance", np.inf, "inf"),
        ("layer 0 [convolutional] mean", -np.inf, "-inf"),
        ("layer 0 [convolutional] variance", -1, "negative variance (-1)"),
        ("layer 3 [connected] variance", -1e-3, "negative variance (-0.001)"),
        ("layer 2 [convolutional] weights", 1.5e6, "1.5e+06"),
        ("layer 4 [connected] weights", -1e30, "-1e+30"),
    ],
)
def test_values_that_no_training_gives_are_refused_by_array_and_place_unless_allowed(
    path: Path, owner: str, value: float, words: str
) -> None:
    floats = values()
    floats[start_of(owner) + 2] = value
    message = refusal(path, NEW + floats.tobytes())
    assert owner in message
    assert words in message
    assert "its float 2" in message
    _, arrays = weights.read(path, ENTRIES, allow_nonfinite=True)
    assert np.array_equal(np.concatenate([array.reshape(-1) for array in arrays]), floats, equal_nan=True)


@pytest.mark.parametrize(
    ("owner", "value"),
    [("layer 0 [convolutional] variance", 0), ("layer 0 [convolutional] variance", 1e9),
     ("layer 0 [convolutional] mean", -1e7), ("layer 0 [convolutional] weights", 9e5),
     ("layer 3 [connected] variance", -0.0)],
)  # fmt: skip
def test_values_that_happen_in_trained_networks_are_taken(path: Path, owner: str, value: float) -> None:
    """A channel that never fires has variance 0; statistics are as large as the activations they are of."""
    floats = values()
    floats[start_of(owner)] = value
    path.write_bytes(NEW + floats.tobytes())
    weights.read(path, ENTRIES)


# ---------------------------------------------------------------------- writing
@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_what_was_read_is_written_byte_for_byte(path: Path, header: bytes) -> None:
    path.write_bytes(header + values(3).tobytes())
    copy = path.with_name("copy.weights")
    Model.read(network_of(CFG), path).write_weights(copy)
    assert copy.read_bytes() == path.read_bytes()
    Model.read(network_of(CFG), copy).write_weights(path)
    assert copy.read_bytes() == path.read_bytes()


@settings(deadline=None, derandomize=True, database=None, max_examples=60)
@given(
    header=st.sampled_from([OLD, NEW, TURNED, TURNED_WIDE]),
    seen=st.integers(0, 2**32 - 1),
    data=st.binary(min_size=4 * 27, max_size=4 * 27),
)
def test_any_bits_come_back_also_those_of_no_number(
    tmp_path_factory: pytest.TempPathFactory, header: bytes, seen: int, data: bytes
) -> None:
    """Among them signalling NaNs, whose bits a computation would change. 27 = 3 biases and a 3 x 8 matrix."""
    path = tmp_path_factory.mktemp("any") / "any.weights"
    path.write_bytes(whole := header[:12] + struct.pack("<I", seen) + header[16:] + data)
    entries = [Entry(0, "biases", "biases", (3,)), Entry(0, "weights", "weights", (3, 8), matrix=True)]
    found, arrays = weights.read(path, entries, allow_nonfinite=True)
    weights.write(path, found, entries, arrays)
    assert path.read_bytes() == whole


def test_a_write_that_fails_leaves_the_old_file_and_no_rubbish(path: Path) -> None:
    def arrays() -> object:
        yield np.zeros(4, np.float32)
        raise RuntimeError("the machine burns")

    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="burns"):
        weights.write(path, Header(), ENTRIES, arrays())
    assert path.read_bytes() == b"old"
    assert list(path.parent.iterdir()) == [path]


def test_a_model_of_the_first_layers_is_as_long_as_the_arithmetic_says(path: Path) -> None:
    model = Model.random(network_of(CFG))
    for layers, floats in ((1, 124), (2, 124), (3, 154), (4, 654), (6, 696)):
        model.write_weights(path, layers)
        assert path.stat().st_size == 20 + 4 * floats == weights.expected_bytes(network_of(CFG).entries(layers))
