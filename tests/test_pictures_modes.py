"""One pixel truth: every way to store a picture gives the array that it stands for, from a file and from bytes."""

from __future__ import annotations

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce import pictures

SIDES = [(1, 1), (3, 5), (16, 24), (33, 17)]


@pytest.fixture(params=SIDES, ids=lambda side: f"{side[1]}x{side[0]}")
def side(request: pytest.FixtureRequest) -> tuple[int, int]:
    """Height and width: one pixel, less than a block of any codec, whole blocks, and a rest beyond them."""
    return request.param  # type: ignore[no-any-return]


def noise(*shape: int, most: int = 256, dtype: type = np.uint8) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(0, most, shape, dtype)


def read(data: bytes, folder: Path, *, upright: bool = True) -> np.ndarray:
    """What a file holds; the same from its bytes, with a name that lies, and as an image that Pillow opened."""
    path = folder / "picture.webp.jpg"
    path.write_bytes(data)
    array = pictures.read(path, upright=upright)
    assert np.array_equal(array, pictures.decode(data, upright=upright))
    for load in (False, True):
        with Image.open(path) as image:
            if load:
                image.load()
            assert np.array_equal(array, pictures.from_pillow(image, upright=upright))
    assert array.dtype == np.uint8
    assert array.flags["C_CONTIGUOUS"]
    return array


def encoded(image: Image.Image | np.ndarray, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image if isinstance(image, Image.Image) else Image.fromarray(image)).save(buffer, kind, **options)
    return buffer.getvalue()


def chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(rows: np.ndarray, depth: int, colour: int, *extra: bytes, width: int = 0, interlaced: bool = False) -> bytes:
    """A PNG of rows of bytes as they stand in the file (PNG specification, 11.2.2), without filters.

    `rows` is (height, bytes of a row), or with `interlaced` (height, width, bytes of a pixel).
    """
    if interlaced:
        # Adam7: seven passes; each begins at a row and column and takes every so many rows and columns.
        steps = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        parts = [rows[y::down, x::across] for y, x, down, across in steps]
        lines = [b"\0" + row.tobytes() for part in parts if part.shape[1] for row in part]
    else:
        lines = [b"\0" + row.tobytes() for row in rows]
    header = struct.pack(">IIBBBBB", width or rows.shape[1], len(rows), depth, colour, 0, 0, int(interlaced))
    body = chunk(b"IDAT", zlib.compress(b"".join(lines)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + b"".join(extra) + body + chunk(b"IEND", b"")


def packed(values: np.ndarray, depth: int) -> np.ndarray:
    """Rows of small numbers, eight divided by `depth` to the byte, the first in the highest bits."""
    bits = (values[:, :, None] >> np.arange(depth - 1, -1, -1)) & 1
    return np.packbits(bits.reshape(len(values), -1), axis=1)


# ---------------------------------------------------------------------- lossless: equal to the last bit
@pytest.mark.parametrize("kind", ["PNG", "BMP", "WEBP"])
def test_colour_is_as_it_was_written(kind: str, side: tuple[int, int], tmp_path: Path) -> None:
    array = noise(*side, 3)
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(read(encoded(array, kind, **options), tmp_path), array)


@pytest.mark.parametrize("kind", ["PNG", "BMP"])
def test_grey_is_three_equal_channels(kind: str, side: tuple[int, int], tmp_path: Path) -> None:
    grey = noise(*side)
    assert np.array_equal(read(encoded(grey, kind), tmp_path), np.dstack([grey] * 3))


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_grey_of_few_bits_reaches_from_black_to_white(depth: int, side: tuple[int, int], tmp_path: Path) -> None:
    """The highest value is white: of two bits the levels are 0, 85, 170, 255."""
    values = noise(*side, most=1 << depth)
    levels = values.astype(int) * 255 // ((1 << depth) - 1)
    data = png(packed(values, depth), depth, 0, width=side[1])
    assert np.array_equal(read(data, tmp_path), np.dstack([levels] * 3))


def test_sixteen_bits_are_cut_to_the_upper_eight(side: tuple[int, int], tmp_path: Path) -> None:
    """Darknet's stb_image does so: 0x12FF is 0x12, not rounded. In grey, grey with alpha, colour, colour with alpha."""
    for colour, channels in ((0, 1), (4, 2), (2, 3), (6, 4)):
        values = noise(*side, channels, most=65536, dtype=np.uint16)
        values.flat[0] = 0x12FF
        upper = (values >> 8)[:, :, : 1 if channels < 3 else 3]
        expected = np.repeat(upper, 3, axis=2) if channels < 3 else upper
        data = png(values.astype(">u2").view(np.uint8).reshape(side[0], -1), 16, colour, width=side[1])
        assert np.array_equal(read(data, tmp_path), expected), f"colour type {colour}"


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("alpha", [False, True])
def test_a_palette_is_looked_up_and_its_alpha_dropped(
    depth: int, alpha: bool, side: tuple[int, int], tmp_path: Path
) -> None:
    palette = noise(1 << depth, 3)
    values = noise(*side, most=1 << depth)
    extra = [chunk(b"PLTE", palette.tobytes())]
    if alpha:
        extra.append(chunk(b"tRNS", noise(1 << depth).tobytes()))
    data = png(packed(values, depth), depth, 3, *extra, width=side[1])
    assert np.array_equal(read(data, tmp_path), palette[values])


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_alpha_is_dropped_and_the_colour_below_it_stays(kind: str, side: tuple[int, int], tmp_path: Path) -> None:
    """Darknet takes the first three channels: a transparent red is red."""
    array = noise(*side, 4)
    array[0, 0] = 255, 0, 0, 0
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    assert np.array_equal(read(encoded(array, kind, **options), tmp_path), array[:, :, :3])


def test_grey_with_alpha_is_grey(side: tuple[int, int], tmp_path: Path) -> None:
    array = noise(*side, 2)
    expected = np.dstack([array[:, :, 0]] * 3)
    assert np.array_equal(read(png(array.reshape(side[0], -1), 8, 4, width=side[1]), tmp_path), expected)


def test_a_transparent_colour_of_a_png_is_that_colour(side: tuple[int, int], tmp_path: Path) -> None:
    """tRNS of a grey or coloured PNG names one colour as transparent."""
    grey, colour = noise(*side), noise(*side, 3)
    named_grey = chunk(b"tRNS", struct.pack(">H", grey[0, 0]))
    named_colour = chunk(b"tRNS", struct.pack(">HHH", *map(int, colour[0, 0])))
    assert np.array_equal(read(png(grey, 8, 0, named_grey), tmp_path), np.dstack([grey] * 3))
    data = png(colour.reshape(side[0], -1), 8, 2, named_colour, width=side[1])
    assert np.array_equal(read(data, tmp_path), colour)


@pytest.mark.parametrize(("colour", "channels"), [(0, 1), (2, 3), (6, 4)])
def test_an_interlaced_png_is_the_same_picture(
    colour: int, channels: int, side: tuple[int, int], tmp_path: Path
) -> None:
    array = noise(*side, channels)
    expected = np.repeat(array, 3, axis=2) if channels == 1 else array[:, :, :3]
    assert np.array_equal(read(png(array, 8, colour, interlaced=True), tmp_path), expected)


def test_a_bmp_from_the_top_is_the_same_picture(side: tuple[int, int], tmp_path: Path) -> None:
    """A negative height says that the first row comes first."""
    array = noise(*side, 3)
    height, width = side
    rows = np.zeros((height, (3 * width + 3) // 4 * 4), np.uint8)                  # rows end at multiples of 4
    rows[:, : 3 * width] = array[:, :, ::-1].reshape(height, -1)
    header = struct.pack("<IiiHHIIiiII", 40, width, -height, 1, 24, 0, rows.size, 0, 0, 0, 0)
    data = b"BM" + struct.pack("<IHHI", 54 + rows.size, 0, 0, 54) + header + rows.tobytes()
    assert np.array_equal(read(data, tmp_path), array)


# ---------------------------------------------------------------------- JPEG: equal but for its own rounding
def test_a_jpeg_is_what_pillow_reads(side: tuple[int, int], tmp_path: Path) -> None:
    """Two decoders of one standard may differ by rounding. With and without colour at half the size, and grey."""
    for options in ({}, {"subsampling": 0}, {"subsampling": 2}, {"quality": 40}, {"restart_marker_blocks": 1}):
        for array in (noise(*side, 3), noise(*side)):
            data = encoded(array, "JPEG", **options)
            expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
            assert np.abs(read(data, tmp_path) - expected).max() <= 1, options


def test_a_progressive_jpeg_is_the_same_picture(side: tuple[int, int], tmp_path: Path) -> None:
    """Its coefficients are those of the baseline file, in another order, and so are its pixels."""
    array = noise(*side, 3)
    plain, progressive = encoded(array, "JPEG"), encoded(array, "JPEG", progressive=True)
    assert progressive.count(b"\xff\xda") > plain.count(b"\xff\xda")
    assert np.array_equal(read(progressive, tmp_path), read(plain, tmp_path))


@pytest.mark.parametrize(("across", "down"), [(4, 1), (1, 4)], ids=["4:1:1", "4:4:1"])
def test_a_jpeg_with_one_colour_for_four_pixels_in_a_row_is_read(across: int, down: int, tmp_path: Path) -> None:
    """Pillow cannot write these samplings, so the header of a file is changed.

    Of 16 x 16 pixels with colours at half the size each way, a file holds four blocks of luminance, then one of either
    colour; so it does of 32 x 8 and of 8 x 32 pixels in these samplings. The blocks are the same, placed otherwise.
    """
    grey = noise(16, 16)
    data = bytearray(encoded(np.dstack([grey] * 3), "JPEG", subsampling=2))
    square = np.asarray(Image.open(io.BytesIO(data)).convert("L"))
    frame = data.index(b"\xff\xc0")
    assert data[frame + 11] == 0x22
    data[frame + 5 : frame + 9] = struct.pack(">HH", 8 * down, 8 * across)
    data[frame + 11] = across << 4 | down
    blocks = [square[:8, :8], square[:8, 8:], square[8:, :8], square[8:, 8:]]
    expected = np.concatenate(blocks, axis=0 if down == 4 else 1)
    array = read(bytes(data), tmp_path)
    assert array.shape == (8 * down, 8 * across, 3)
    assert np.abs(array.astype(int) - expected[:, :, None]).max() <= 2


def test_a_jpeg_that_stores_red_green_and_blue_is_not_taken_for_luminance(tmp_path: Path) -> None:
    array = np.zeros((16, 16, 3), np.uint8) + np.array([200, 40, 90], np.uint8)
    data = encoded(array, "JPEG", keep_rgb=True, quality=100, subsampling=0)
    assert np.abs(read(data, tmp_path).astype(int) - array).max() <= 2


INKS = [(0, 0, 0, 0), (255, 0, 0, 0), (0, 255, 0, 0), (0, 0, 255, 0), (0, 0, 0, 255), (40, 90, 200, 60), (255,) * 4]


def light(inks: tuple[int, ...]) -> np.ndarray:
    """What inks of 0 to 255 leave of white light: each takes its share, black of all three."""
    cyan, magenta, yellow, black = inks
    return np.array([(255 - ink) * (255 - black) / 255 for ink in (cyan, magenta, yellow)])


def adobe(data: bytes) -> int:
    """Where the APP14 segment of Adobe begins, that says how a JPEG's four channels are meant."""
    return data.index(b"\xff\xee\x00\x0eAdobe")


@pytest.mark.parametrize("inks", INKS, ids=str)
def test_the_inks_of_a_jpeg_become_light(inks: tuple[int, int, int, int], tmp_path: Path) -> None:
    """Adobe's programs store 255 minus the ink and say so by their marker; Pillow writes as they do."""
    data = encoded(Image.new("CMYK", (16, 24), inks), "JPEG", quality=100)
    assert adobe(data) > 0
    array = read(data, tmp_path)
    assert array.shape == (24, 16, 3)
    assert np.abs(array - light(inks)).max() <= 2


@pytest.mark.parametrize("inks", INKS, ids=str)
def test_inks_without_adobes_marker_are_read_as_with_it(inks: tuple[int, int, int, int], tmp_path: Path) -> None:
    """No standard says what they mean; Pillow and browsers take every JPEG of four channels as Adobe's."""
    data = encoded(Image.new("CMYK", (16, 24), inks), "JPEG", quality=100)
    place = adobe(data)
    array = read(data[:place] + data[place + 16 :], tmp_path)
    assert np.abs(array - light(inks)).max() <= 2


@pytest.mark.parametrize("inks", INKS, ids=str)
def test_inks_stored_as_luminance_and_two_colours_are_the_same(
    inks: tuple[int, int, int, int], tmp_path: Path
) -> None:
    """YCCK: cyan, magenta and yellow by JFIF's equations for red, green and blue; of black 255 minus the ink.

    Adobe's marker says so in its last byte, 2. Pillow cannot write it, so that byte is changed in a file whose four
    channels already are these. What Pillow is given as inks it stores as 255 minus them.
    """
    cyan, magenta, yellow, black = inks
    luminance = 0.299 * cyan + 0.587 * magenta + 0.114 * yellow
    stored = luminance, 128 + (yellow - luminance) / 1.772, 128 + (cyan - luminance) / 1.402, 255 - black
    given = tuple(255 - int(np.clip(round(value), 0, 255)) for value in stored)
    data = bytearray(encoded(Image.new("CMYK", (16, 24), given), "JPEG", quality=100))
    data[adobe(bytes(data)) + 15] = 2
    assert np.abs(read(bytes(data), tmp_path) - light(inks)).max() <= 4


# ---------------------------------------------------------------------- EXIF
# Where the first stored row and the first stored column lie when the picture is looked at (EXIF 2.32, tag 274).
ORIENTATIONS = {
    1: ("top", "left"), 2: ("top", "right"), 3: ("bottom", "right"), 4: ("bottom", "left"),
    5: ("left", "top"), 6: ("right", "top"), 7: ("right", "bottom"), 8: ("left", "bottom"),
}  # fmt: skip


def stored(seen: np.ndarray, orientation: int) -> np.ndarray:
    """How a camera that is held in some way stores what is seen, one pixel after the other."""
    row_side, column_side = ORIENTATIONS[orientation]
    height, width = seen.shape[:2]
    upright = row_side in ("top", "bottom")
    rows, columns = (height, width) if upright else (width, height)
    result = np.zeros((rows, columns, 3), np.uint8)
    for i in range(rows):
        for j in range(columns):
            # i counts away from row_side, j from column_side.
            away = {row_side: i, column_side: j}
            y = away["top"] if "top" in away else height - 1 - away["bottom"]
            x = away["left"] if "left" in away else width - 1 - away["right"]
            result[i, j] = seen[y, x]
    return result


def blocks(height: int, width: int) -> np.ndarray:
    """A picture of squares of 16 pixels, each of one colour: JPEG keeps it nearly as it is."""
    return np.repeat(np.repeat(noise(height, width, 3), 16, 0), 16, 1)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
@pytest.mark.parametrize(("kind", "options", "rounding"), [
    ("PNG", {}, 0), ("WEBP", {"lossless": True, "exact": True}, 0), ("JPEG", {"quality": 100, "subsampling": 0}, 3),
    ("JPEG", {"quality": 100, "subsampling": 0, "progressive": True}, 3),
])  # fmt: skip
def test_a_picture_is_turned_as_its_exif_says(
    kind: str, options: dict[str, object], rounding: int, orientation: int, tmp_path: Path
) -> None:
    seen = blocks(2, 3)
    told = Image.Exif()
    told[0x0112] = orientation
    camera = stored(seen, orientation)
    data = encoded(camera, kind, exif=told, **options)
    array = read(data, tmp_path)
    assert array.shape == seen.shape
    assert np.abs(array.astype(int) - seen).max() <= rounding
    as_stored = read(data, tmp_path, upright=False)
    assert as_stored.shape == camera.shape
    assert np.abs(as_stored.astype(int) - camera).max() <= rounding


@pytest.mark.parametrize("order", [b"II*\0", b"MM\0*"], ids=["little", "big"])
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_of_either_byte_order_turns_grey_and_inks_too(orientation: int, order: bytes, tmp_path: Path) -> None:
    """The segment is written byte by byte here: the header of TIFF, one directory, one entry of one short."""
    end = "<" if order[:1] == b"I" else ">"
    entry = struct.pack(f"{end}HHIHH", 0x0112, 3, 1, orientation, 0)
    body = b"Exif\0\0" + order + struct.pack(f"{end}IH", 8, 1) + entry + struct.pack(f"{end}I", 0)
    segment = b"\xff\xe1" + struct.pack(">H", len(body) + 2) + body
    seen = np.repeat(blocks(2, 3)[:, :, :1], 3, 2)
    camera = stored(seen, orientation)
    for mode in ("L", "CMYK"):
        plain = encoded(Image.fromarray(camera).convert("L").convert(mode), "JPEG", quality=100)
        array = read(plain[:2] + segment + plain[2:], tmp_path)
        assert array.shape == seen.shape
        assert np.abs(array.astype(int) - seen).max() <= 3, mode


def test_a_png_may_say_after_its_pixels_how_it_is_seen(tmp_path: Path) -> None:
    """Its specification has eXIf anywhere between the first chunk and the last."""
    told = Image.Exif()
    told[0x0112] = 6
    seen = noise(5, 7, 3)
    plain = png(stored(seen, 6).reshape(7, -1), 8, 2, width=5)
    late = plain[:-12] + chunk(b"eXIf", told.tobytes().removeprefix(b"Exif\0\0")) + plain[-12:]
    assert np.array_equal(read(late, tmp_path), seen)
    assert np.array_equal(read(late, tmp_path, upright=False), stored(seen, 6))
