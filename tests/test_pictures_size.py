"""The size of a picture from its header is that of the picture as it is read."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce import pictures
from lookonce.errors import InputError


def turned(orientation: int) -> Image.Exif:
    told = Image.Exif()
    told[0x0112] = orientation
    return told


@pytest.mark.parametrize("upright", [True, False])
@pytest.mark.parametrize("orientation", [1, 3, 6, 8])
@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp"])
def test_the_size_is_that_of_the_picture_that_is_read(
    tmp_path: Path, suffix: str, orientation: int, upright: bool
) -> None:
    path = tmp_path / f"a{suffix}"
    Image.new("RGB", (40, 30)).save(path, exif=turned(orientation))
    height, width, _ = pictures.read(path, upright=upright).shape
    assert pictures.size(path, upright=upright) == (width, height)


@pytest.mark.parametrize("mode", ["L", "CMYK", "RGB"])
def test_jpegs_of_every_mode_have_a_size(tmp_path: Path, mode: str) -> None:
    Image.new(mode, (41, 31)).save(tmp_path / "a.jpg")
    assert pictures.size(tmp_path / "a.jpg") == (41, 31)


def test_a_long_way_to_the_sizes_is_gone(tmp_path: Path) -> None:
    """Comments of 300 KB stand before them, more than is read at first."""
    Image.new("RGB", (41, 31)).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    comment = b"\xff\xfe\xff\xf0" + bytes(0xFFF0 - 2)
    (tmp_path / "a.jpg").write_bytes(data[:2] + comment * 5 + data[2:])
    assert pictures.size(tmp_path / "a.jpg") == (41, 31)


def test_the_pixels_are_not_needed(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (300, 400, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "a.jpg")
    data = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(data[: len(data) // 2])
    assert pictures.size(tmp_path / "a.jpg") == (400, 300)


@pytest.mark.parametrize("data", [b"", b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"hello", b"RIFF\0\0\0\0WAVE", b"BM"])
def test_what_is_no_picture_is_refused_in_one_line(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.jpg").write_bytes(data)
    with pytest.raises(InputError) as raised:
        pictures.size(tmp_path / "a.jpg")
    assert "\n" not in str(raised.value)
    with pytest.raises(InputError, match="no such file"):
        pictures.size(tmp_path / "b.jpg")
