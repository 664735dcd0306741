from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce import pictures
from lookonce.data import Item, cache
from lookonce.data.cache import Decoder, Folder, Kept, Memory, Region, Stamp, Store
from lookonce.data.views import bytes_of
from lookonce.errors import DataError, InputError
from lookonce.truth import Truth

NOTHING = Truth.of(np.zeros(0, np.int64))
STAMP = Stamp(1, 2)


def noise(height: int = 30, width: int = 40, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def saved(path: Path, picture: np.ndarray, **more: object) -> Item:
    Image.fromarray(picture).save(path, **more)
    return Item(path.stem, path, None, NOTHING)


def stores(folder: Path) -> dict[str, Store]:
    """One of each kind, with room for ten pictures of 30 x 40 or more."""
    memory = np.zeros(40_000, np.uint8)
    return {"memory": Memory(40_000), "region": Region(memory, 100, 40_000), "folder": Folder(folder / "kept")}


class Counting:
    """Reads bytes, and counts how often."""

    def __init__(self) -> None:
        self.count = 0

    def __call__(self, item: Item) -> bytes:
        self.count += 1
        return bytes_of(item)


@pytest.mark.parametrize("kind", ["memory", "region", "folder"])
@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_a_picture_is_decoded_once(tmp_path: Path, kind: str, suffix: str) -> None:
    item, read = saved(tmp_path / f"a.{suffix}", noise()), Counting()
    look = Decoder(read, stores(tmp_path)[kind])
    seen = [np.array(look(item)) for _ in range(3)]
    assert all(np.array_equal(each, pictures.read(item.path)) for each in seen)
    assert (read.count, look.hits, look.misses) == (1, 2, 1)


def test_without_a_store_every_look_decodes(tmp_path: Path) -> None:
    item, read = saved(tmp_path / "a.png", noise()), Counting()
    look = Decoder(read)
    assert np.array_equal(look(item), look(item))
    assert read.count == 2


@pytest.mark.parametrize("kind", ["memory", "region", "folder"])
def test_a_picture_that_changed_on_disk_is_decoded_again(tmp_path: Path, kind: str) -> None:
    """By its length, and by its time alone: the second file is as long as the first."""
    look = Decoder(bytes_of, stores(tmp_path)[kind])
    item = saved(tmp_path / "a.bmp", noise(seed=1))
    look(item)
    length = item.path.stat().st_size
    saved(item.path, noise(seed=2))
    os.utime(item.path, ns=(1, 1))
    assert item.path.stat().st_size == length
    assert np.array_equal(look(item), noise(seed=2))
    saved(item.path, noise(20, 20, 3))
    os.utime(item.path, ns=(1, 1))
    assert np.array_equal(look(item), noise(20, 20, 3))
    assert np.array_equal(look(item), noise(20, 20, 3))
    assert (look.hits, look.misses) == (1, 3)


@pytest.mark.parametrize("kind", ["memory", "region", "folder"])
def test_a_picture_that_is_gone_is_an_error_even_if_it_is_kept(tmp_path: Path, kind: str) -> None:
    look, item = Decoder(bytes_of, stores(tmp_path)[kind]), saved(tmp_path / "a.png", noise())
    look(item)
    item.path.unlink()
    with pytest.raises(InputError, match=r"a\.png: no such file"):
        look(item)


def test_memory_keeps_what_fits_and_no_more() -> None:
    """Ten bytes more than two pictures of 3600 bytes."""
    memory = Memory(7210)
    for name in "abc":
        memory.add(name, STAMP, noise())
    assert [memory.find(name, STAMP) is not None for name in "abc"] == [True, True, False]
    memory.add("a", Stamp(9, 9), noise(1, 3))               # in place of the old one
    assert memory.find("a", STAMP) is None
    memory.add("d", STAMP, noise(1, 1199))
    assert memory.find("d", STAMP) is not None


def test_a_region_keeps_to_its_part() -> None:
    shared = np.zeros(20_000, np.uint8)
    region = Region(shared, 5000, 13_000)
    for name in "abc":
        region.add(name, STAMP, noise())
    assert [region.find(name, STAMP) is not None for name in "abc"] == [True, True, False]
    assert not shared[:5000].any()
    assert not shared[13_000:].any()
    kept = region.take_new()
    assert [each.name for each in kept] == ["a", "b"]
    assert 5000 <= kept[0].start < kept[0].stop <= kept[1].start < kept[1].stop <= 13_000
    assert region.take_new() == []


def test_regions_see_what_others_kept() -> None:
    shared = np.zeros(20_000, np.uint8)
    one, other = Region(shared, 0, 10_000), Region(shared, 10_000, 20_000)
    one.add("a", STAMP, noise())
    other.known.update((kept.name, kept) for kept in one.take_new())
    found = other.find("a", STAMP)
    assert found is not None
    assert np.array_equal(found, noise())
    assert other.find("a", Stamp(1, 3)) is None
    assert Kept("a", STAMP, 0, 30, 40).stop == 3600


def test_a_region_stops_keeping_when_the_system_has_no_more() -> None:
    """To write where memory is missing would end the process by a signal."""
    asked = []

    def reserve(start: int, count: int) -> None:
        asked.append((start, count))
        if start > 0:
            raise OSError(28, "No space left on device")

    region = Region(np.zeros(20_000, np.uint8), 0, 20_000, reserve)
    for name in "abc":
        region.add(name, STAMP, noise())
    assert [region.find(name, STAMP) is not None for name in "abc"] == [True, False, False]
    assert asked[0] == (0, 3600)
    assert len(asked) == 2


# ---------------------------------------------------------------------- on disk
def test_a_folder_outlives_the_process_that_filled_it(tmp_path: Path) -> None:
    item, read = saved(tmp_path / "a.png", noise()), Counting()
    Decoder(read, Folder(tmp_path / "kept"))(item)
    assert np.array_equal(Decoder(read, Folder(tmp_path / "kept"))(item), noise())
    assert read.count == 1
    assert not list((tmp_path / "kept").rglob("*.part"))


@pytest.mark.parametrize("damage", ["cut", "empty", "foreign", "floats", "objects"])
def test_a_damaged_file_in_the_folder_is_made_again(tmp_path: Path, damage: str) -> None:
    """Objects would be a pickle, which nobody opens."""
    item = saved(tmp_path / "a.png", noise())
    Decoder(bytes_of, Folder(tmp_path / "kept"))(item)
    (file,) = (tmp_path / "kept").rglob("*.npy")
    whole, other = file.read_bytes(), io.BytesIO()
    np.save(other, np.array([[[1.0]]]) if damage == "floats" else np.array([{}], object), allow_pickle=True)
    contents = {"cut": whole[:-1], "empty": b"", "foreign": b"GIF89a", "floats": other.getvalue(),
                "objects": other.getvalue()}  # fmt: skip
    file.write_bytes(contents[damage])
    look = Decoder(bytes_of, Folder(tmp_path / "kept"))
    assert np.array_equal(look(item), noise())
    assert (look.hits, look.misses) == (0, 1)
    assert file.read_bytes() == whole


def test_a_folder_that_cannot_be_is_refused_and_one_that_is_lost_does_no_harm(tmp_path: Path) -> None:
    item = saved(tmp_path / "a.png", noise())
    with pytest.raises(DataError, match=r"a\.png: is a file, wanted a folder"):
        Folder(item.path)
    folder = Folder(tmp_path / "kept")
    (tmp_path / "kept").rmdir()
    look = Decoder(bytes_of, folder)
    assert np.array_equal(look(item), look(item))
    assert folder.full


def test_a_disk_that_is_nearly_full_is_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "LEAST_DISK", 1 << 60)
    folder = Folder(tmp_path / "kept")
    folder.add("a", STAMP, noise())
    assert folder.full
    assert not list((tmp_path / "kept").rglob("*.npy"))


# ---------------------------------------------------------------------- what is decoded
def test_a_picture_is_turned_as_exif_says_unless_its_labels_were_made_without(tmp_path: Path) -> None:
    """Orientation 6 is seen a quarter turned. Labels for the size as it is stored were made by who did not know."""
    exif = Image.Exif()
    exif[0x0112] = 6
    item = saved(tmp_path / "a.jpg", noise(30, 40), exif=exif)
    look = Decoder(bytes_of)
    assert look(item).shape == (40, 30, 3)
    assert look(item._replace(size=(30, 40))).shape == (40, 30, 3)
    assert look(item._replace(size=(40, 30))).shape == (30, 40, 3)
    assert look(item._replace(size=(400, 300))).shape == (40, 30, 3)


def test_means_of_squares_are_kept_of_pictures_that_are_much_too_large(tmp_path: Path) -> None:
    """For inputs of at most 10 x 6 a picture of 63 x 38 can be three times smaller: 21 x 12, its last rows left out."""
    picture = noise(38, 63)
    wanted = [
        [[round(float(picture[3 * y : 3 * y + 3, 3 * x : 3 * x + 3, c].mean()) + 1e-9) for c in range(3)]
         for x in range(21)] for y in range(12)
    ]  # fmt: skip
    item = saved(tmp_path / "a.png", picture)
    assert np.array_equal(Decoder(bytes_of, None, (10, 6))(item), picture)      # its boxes could not be measured
    item = item._replace(size=(63, 38))
    for store in stores(tmp_path).values():
        look = Decoder(bytes_of, store, (10, 6))
        assert np.array_equal(look(item), wanted)
        assert np.array_equal(look(item), wanted)
        assert look.hits == 1
        assert np.array_equal(Decoder(bytes_of, store)(item), picture)          # never mixed up
        assert np.array_equal(Decoder(bytes_of, store, (16, 10))(item), picture)


def test_the_budget_is_a_quarter_of_the_least_memory_that_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A control group's limit counts where there is one; "max" is none."""
    system = cache.available_memory()
    assert 0 < system < 1 << 50
    monkeypatch.setattr(cache, "GROUPS", tmp_path)
    (tmp_path / "memory.max").write_text("1000000\n")
    (tmp_path / "memory.current").write_text("200000\n")
    assert cache.available_memory() == 800_000
    assert cache.usual_budget() == 200_000
    (tmp_path / "memory.current").write_text("2000000\n")
    assert cache.available_memory() == 0
    (tmp_path / "memory.max").write_text("max\n")
    assert cache.available_memory() > 1 << 20
