from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce import pictures
from lookonce.errors import InputError
from lookonce.pictures import Placement, as_picture, fit, place, resize


def darknet_resize(picture: np.ndarray, width: int, height: int) -> np.ndarray:
    """Darknet's resize_image, transcribed pixel by pixel from its description: rows of values first, then columns.

    (H, W, C) in [0, 1] to (height, width, C), float64.
    """
    h, w, _ = picture.shape
    part = np.zeros((h, width, picture.shape[2]))
    for c in range(width):
        x = c * (w - 1) / (width - 1) if width > 1 else 0.0
        left = int(x)
        if c == width - 1 or w == 1:
            part[:, c] = picture[:, w - 1 if width > 1 else 0]
        else:
            part[:, c] = (1 - (x - left)) * picture[:, left] + (x - left) * picture[:, left + 1]
    out = np.zeros((height, width, picture.shape[2]))
    for r in range(height):
        y = r * (h - 1) / (height - 1) if height > 1 else 0.0
        top = int(y)
        out[r] = (1 - (y - top)) * part[top]
        if not (r == height - 1 or h == 1):
            out[r] += (y - top) * part[top + 1]
    return out


@pytest.mark.parametrize(
    ("source", "target"),
    [((40, 60), (31, 17)), ((40, 60), (97, 120)), ((7, 5), (7, 5)), ((1, 1), (9, 4)), ((1, 30), (5, 5)),
     ((30, 1), (5, 5)), ((50, 50), (1, 7)), ((61, 33), (25, 24)), ((2, 2), (48, 49))],
)  # fmt: skip
def test_resize_is_darknets(source: tuple[int, int], target: tuple[int, int]) -> None:
    """Sizes up and down, single pixels, and rows around the 24 that go at once."""
    rng = np.random.default_rng(0)
    picture = rng.integers(0, 256, (*source, 3), np.uint8)
    out = np.full((3, *target), np.nan, np.float32)
    resize(picture, out)
    expected = darknet_resize(picture / 255, target[1], target[0])
    np.testing.assert_allclose(out.transpose(1, 2, 0), expected, atol=3e-5)


def test_resize_writes_into_a_part_of_a_canvas() -> None:
    canvas = np.full((3, 20, 20), -1, np.float32)
    resize(np.full((9, 9, 3), 255, np.uint8), canvas[:, 5:10, 3:18])
    np.testing.assert_allclose(canvas[:, 5:10, 3:18], 1, rtol=1e-6)
    assert (canvas == -1).sum() == 3 * (400 - 5 * 15)


@pytest.mark.parametrize(
    ("picture", "input", "inner", "offset"),
    [
        ((768, 576), (416, 416), (416, 312), (0, 52)),
        ((576, 768), (416, 416), (312, 416), (52, 0)),
        ((500, 353), (416, 416), (416, 293), (0, 61)),          # 416 - 293 is odd: the margin is cut to 61
        ((100, 100), (320, 416), (320, 320), (0, 48)),
        ((5000, 2), (416, 416), (416, 1), (0, 207)),             # never thinner than a pixel
    ],
)
def test_letterbox_takes_darknets_whole_numbers(
    picture: tuple[int, int], input: tuple[int, int], inner: tuple[int, int], offset: tuple[int, int]
) -> None:
    assert place(picture, input, "letterbox") == Placement(picture, input, inner, offset)


@pytest.mark.parametrize(
    ("picture", "input", "inner", "offset"),
    [
        ((768, 576), (224, 224), (298, 224), (-37, 0)),          # 768 * 224 // 576 = 298; -74 // 2
        ((576, 768), (224, 224), (224, 298), (0, -37)),
        ((300, 300), (224, 224), (224, 224), (0, 0)),
        ((100, 400), (224, 224), (224, 896), (0, -336)),
    ],
)
def test_cropping_fills_the_input_and_cuts_the_longer_side(
    picture: tuple[int, int], input: tuple[int, int], inner: tuple[int, int], offset: tuple[int, int]
) -> None:
    assert place(picture, input, "crop") == Placement(picture, input, inner, offset)
    pixels = np.random.default_rng(0).integers(0, 256, (picture[1], picture[0], 3), np.uint8)
    canvas = np.full((3, input[1], input[0]), np.nan, np.float32)
    fit(pixels, canvas, "crop")
    whole = darknet_resize(pixels / 255, *inner)
    left, top = -offset[0], -offset[1]
    expected = whole[top : top + input[1], left : left + input[0]].transpose(2, 0, 1)
    np.testing.assert_allclose(canvas, expected, atol=1e-4)


def test_stretching_fills_the_input() -> None:
    assert place((500, 353), (416, 320), "stretch") == Placement((500, 353), (416, 320), (416, 320), (0, 0))


def test_the_margin_is_grey_and_the_rest_is_the_picture() -> None:
    canvas = np.full((3, 40, 40), np.nan, np.float32)
    placed = fit(np.full((10, 20, 3), 51, np.uint8), canvas, "letterbox")
    assert placed.offset == (0, 10)
    np.testing.assert_allclose(canvas[:, 10:30], 0.2, rtol=1e-6)
    assert (canvas[:, :10] == 0.5).all()
    assert (canvas[:, 30:] == 0.5).all()


@pytest.mark.parametrize("kind", ["letterbox", "stretch", "crop"])
@pytest.mark.parametrize("size", [(768, 576), (353, 500), (416, 416), (33, 1000)])
def test_a_box_comes_back_to_where_it_was(size: tuple[int, int], kind: pictures.Kind) -> None:
    """A box in the picture, led into the input by hand and back by the placement."""
    placed = place(size, (416, 320), kind)
    box = np.array([[0.1 * size[0], 0.2 * size[1], 0.7 * size[0], 0.9 * size[1]]], np.float32)
    scale = np.array([placed.inner[0] / size[0], placed.inner[1] / size[1]] * 2)
    inside = (box * scale + np.array(placed.offset * 2)) / np.array([416, 320] * 2)
    np.testing.assert_allclose(placed.to_picture(inside.astype(np.float32)), box, rtol=1e-4)


def test_only_where_the_margin_is_odd_darknets_inverse_differs() -> None:
    """Half a pixel of the input, times what a pixel of the input is in the picture."""
    box = np.array([[0.25, 0.25, 0.75, 0.75]], np.float32)
    even, odd = place((768, 576), (416, 416), "letterbox"), place((500, 353), (416, 416), "letterbox")
    np.testing.assert_array_equal(even.to_picture(box), even.to_picture(box, compat=True))
    gap = odd.to_picture(box) - odd.to_picture(box, compat=True)
    np.testing.assert_allclose(gap, [[0, 0.5 * 353 / 293, 0, 0.5 * 353 / 293]], atol=1e-3)


@pytest.mark.parametrize("shape", [(4, 6), (4, 6, 1), (4, 6, 3), (4, 6, 4)])
def test_arrays_become_pictures(shape: tuple[int, ...]) -> None:
    array = np.arange(np.prod(shape), dtype=np.uint8).reshape(shape)
    picture = as_picture(array)
    assert picture.shape == (4, 6, 3)
    first = array if array.ndim == 2 else array[:, :, 0]
    np.testing.assert_array_equal(picture[:, :, 0], first)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.zeros((4, 6, 3), np.float32), "float32.*uint8.*scale it"),
        (np.zeros((4, 6, 2), np.uint8), r"\(4, 6, 2\)"),
        (np.zeros((0, 6, 3), np.uint8), r"\(0, 6, 3\)"),
        (np.zeros((1, 4, 6, 3), np.uint8), r"\(1, 4, 6, 3\)"),
    ],
)
def test_other_arrays_are_refused_with_what_they_are(array: np.ndarray, says: str) -> None:
    with pytest.raises(InputError, match=says):
        as_picture(array)


def test_a_file_and_its_bytes_give_the_same_picture(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    image = Image.fromarray(rng.integers(0, 256, (30, 40, 3), np.uint8))
    for suffix in ("jpg", "png", "webp", "bmp"):
        path = tmp_path / f"picture.{suffix}"
        image.save(path)
        expected = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(pictures.read(path), expected)
        np.testing.assert_array_equal(pictures.decode(path.read_bytes()), expected)


def test_the_content_decides_not_the_name(tmp_path: Path) -> None:
    path = tmp_path / "picture.jpg"
    Image.new("RGB", (3, 3)).save(path, "PNG")
    assert pictures.read(path).shape == (3, 3, 3)
    Image.new("RGB", (3, 3)).save(path, "GIF")
    with pytest.raises(InputError, match="wanted JPEG, PNG, WebP or BMP"):
        pictures.read(path)


def test_a_cut_off_jpeg_is_refused_wherever_it_is_cut() -> None:
    buffer = io.BytesIO()
    rng = np.random.default_rng(0)
    Image.fromarray(rng.integers(0, 256, (64, 64, 3), np.uint8)).save(buffer, "JPEG")
    data = buffer.getvalue()
    for cut in (0, 1, 2, 3, 20, len(data) // 2, len(data) - 40, len(data) - 3):
        with pytest.raises(InputError, match="picture 7"):
            pictures.decode(data[:cut], "picture 7")


def test_darknet_leaves_exif_alone_and_we_do_not(tmp_path: Path) -> None:
    path = tmp_path / "turned.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6                                            # to be turned by a quarter, clockwise
    Image.new("RGB", (40, 20)).save(path, exif=exif)
    assert pictures.read(path).shape == (40, 20, 3)
    assert pictures.read(path, upright=False).shape == (20, 40, 3)


# ---------------------------------------------------------------------- images of Pillow's
def test_an_image_that_no_file_held_is_read_as_one_that_did() -> None:
    """16 bits of either byte order are cut to 8; of 32 bits the lower 16 count, as when Pillow writes them as PNG."""
    values = np.array([[0x0000, 0x12FF, 0xFFFF]], np.uint16)
    upper = np.repeat((values >> 8).astype(np.uint8)[:, :, None], 3, axis=2)
    for image in (Image.fromarray(values), Image.fromarray(values.astype(">u2")), Image.fromarray(values.astype("i4"))):
        np.testing.assert_array_equal(pictures.from_pillow(image), upper)
    white = Image.new("1", (3, 2), 1)
    np.testing.assert_array_equal(pictures.from_pillow(white), np.full((2, 3, 3), 255))


def test_an_image_that_cannot_be_read_is_named_with_the_reason(tmp_path: Path) -> None:
    path = tmp_path / "cut.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:900])
    with Image.open(path) as image, pytest.raises(InputError, match=r"cut\.png: cannot be decoded"):
        pictures.from_pillow(image)
    with pytest.raises(InputError, match="picture: is a Pillow image of floats, wanted 8 or 16 bits; scale it"):
        pictures.from_pillow(Image.new("F", (3, 3)))
    with pytest.raises(InputError, match="picture: is 0 x 3, which has no pixel"):
        pictures.from_pillow(Image.new("RGB", (0, 3)))
