"""Pictures: read within limits, fitted to a network as Darknet does, and boxes led back to where they were.

A picture is an array (H, W, 3) uint8, RGB. What EXIF says of its orientation is applied, as every viewer does; with
`upright=False` it is left alone, as in Darknet.
"""

from __future__ import annotations

import contextlib
import io
import re
import struct
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile
from simplejpeg import decode_jpeg, decode_jpeg_header

from lookonce import files
from lookonce.errors import InputError
from lookonce.shapes import Float32, UInt8

MAX_BYTES = 256 << 20
MAX_PIXELS = 40_000_000          # 120 MB of RGB; a picture of 20 KB can ask for more
MAX_SIDE = 16_384
MAX_SCANS = 100                  # of a progressive JPEG: 125 KB of scans can hold a core for seconds
MAX_WEBP_PIXELS = 16_000_000     # Pillow holds a WebP four times
HEADER = 1 << 16                 # where a JPEG's sizes and its orientation are nearly always
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp")

EXIF, ORIENTATION = b"Exif\0\0", 0x0112
GREY = 0.5                       # Darknet's margin

Kind = Literal["letterbox", "stretch", "crop"]


# How the formats that are read begin. Image.open would ask every plug-in, and warn of large pictures by itself.
FORMATS: tuple[tuple[bytes, type[ImageFile.ImageFile]], ...] = (
    (b"\x89PNG\r\n\x1a\n", PngImageFile), (b"RIFF", WebPImageFile), (b"BM", BmpImageFile),
)  # fmt: skip


# ---------------------------------------------------------------------- reading
def read(path: str | Path, *, upright: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """The picture in a file: JPEG, PNG, WebP or BMP by its content, the first frame of several. Raises InputError."""
    return decode(files.read_bytes(Path(path), MAX_BYTES, InputError), str(path), upright=upright)


def decode(data: bytes, name: str = "<bytes>", *, upright: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """The picture in an encoded file's bytes; `name` is for messages.

    Grey becomes three equal channels, transparency is dropped, 16 bits are cut to 8, CMYK is converted. Size is
    checked before anything is decoded. Raises InputError for other formats, damaged or cut-off files, and pictures
    beyond MAX_PIXELS, MAX_SIDE or MAX_SCANS.
    """
    with _as_input_errors(name):
        if data[:3] == b"\xff\xd8\xff":
            return _decode_jpeg(data, name, upright)
        return _decode_others(data, name, upright)


def size(path: str | Path, *, upright: bool = True) -> tuple[int, int]:
    """Width and height that `read` would give, from the file's header: nothing is decoded. Raises InputError."""
    name = str(path)
    with files.open_regular(Path(path), InputError) as file, _as_input_errors(name):
        data = file.read(HEADER)
    with _as_input_errors(name):
        if data[:3] != b"\xff\xd8\xff":
            data = files.read_bytes(Path(path), MAX_BYTES, InputError)
            plugin = next((plugin for magic, plugin in FORMATS if data.startswith(magic)), None)
            if plugin is None or (plugin is WebPImageFile and data[8:12] != b"WEBP") or b"eXIf" in data:
                height, width, _ = decode(data, name, upright=upright).shape        # says what is wrong, or turns it
                return width, height
            with plugin(io.BytesIO(data)) as image:
                (width, height), orientation = image.size, _orientation_of(image) if upright else 1
        else:
            try:
                height, width, *_ = decode_jpeg_header(data)
            except (KeyError, ValueError):                  # an odd sampling, or a long way to the sizes
                data = files.read_bytes(Path(path), MAX_BYTES, InputError)
                with JpegImageFile(io.BytesIO(data.replace(EXIF, b"exif\0\0"))) as image:
                    width, height = image.size
            orientation = _orientation(_exif_of(data)) if upright else 1
        _check_size(int(width), int(height), name)
    return (int(height), int(width)) if orientation in (5, 6, 7, 8) else (int(width), int(height))


def from_pillow(image: Image.Image, *, upright: bool = True) -> UInt8[np.ndarray, "H W 3"]:
    """An image of Pillow's, as if its file were read. Its size is not limited: whoever opened it has seen to that.

    Raises InputError for what cannot be loaded, and for floats, since nothing says what is white.
    """
    name = str(getattr(image, "filename", "") or "picture")
    if 0 in image.size:
        raise InputError(f"{name}: is {image.width} x {image.height}, which has no pixel")
    if image.mode == "F":
        raise InputError(f"{name}: is a Pillow image of floats, wanted 8 or 16 bits; scale it to 0..255 first")
    with _as_input_errors(name):
        picture = _pixels(image)
        return _turned(picture, _orientation_of(image) if upright else 1)


@contextlib.contextmanager
def _as_input_errors(name: str) -> Iterator[None]:
    """What decoders raise for damaged files, as InputError."""
    try:
        yield
    except InputError:
        raise
    except Image.DecompressionBombError:
        raise InputError(f"{name}: more pixels than the {MAX_PIXELS:,} that are read") from None
    except (OSError, ValueError, SyntaxError, EOFError, OverflowError, MemoryError, KeyError, Warning) as problem:
        reason = str(problem).replace("\n", " ")[:120] or type(problem).__name__
        raise InputError(f"{name}: cannot be decoded, it is damaged or cut off: {reason}") from None


def as_picture(array: np.ndarray, name: str = "picture") -> UInt8[np.ndarray, "H W 3"]:
    """An array as a picture: (H, W), (H, W, 1), (H, W, 3) or (H, W, 4) uint8, RGB order. Raises InputError."""
    if array.dtype != np.uint8:
        hint = "; scale it to 0..255 first" if array.dtype.kind == "f" else ""
        raise InputError(f"{name}: is an array of {array.dtype}, wanted uint8{hint}")
    if array.ndim == 2:
        array = array[:, :, None]
    if array.ndim != 3 or array.shape[2] not in (1, 3, 4) or 0 in array.shape:
        raise InputError(f"{name}: is an array of shape {array.shape}, wanted (height, width, 3)")
    if array.shape[2] == 1:
        array = np.repeat(array, 3, axis=2)
    return array[:, :, :3]


def _decode_jpeg(data: bytes, name: str, upright: bool) -> np.ndarray:
    try:
        height, width, space, _ = decode_jpeg_header(data)
    except KeyError:                                        # a sampling that simplejpeg has no name for: left to Pillow
        with JpegImageFile(io.BytesIO(data.replace(EXIF, b"exif\0\0"))) as image:
            (width, height), space = image.size, ""
    _check_size(int(width), int(height), name)
    _check_scans(data, name)
    orientation = _orientation(_exif_of(data)) if upright else 1
    if space in ("RGB", "YCbCr", "Gray"):
        with contextlib.suppress(ValueError):               # stray bytes are no harm; a cut-off file fails again
            return _turned(decode_jpeg(data), orientation)
    # CMYK, YCCK, odd samplings. Pillow would look into the EXIF when it opens the file, and warn of what it finds.
    with JpegImageFile(io.BytesIO(data.replace(EXIF, b"exif\0\0"))) as image:
        picture = _pixels(image)
    return _turned(picture, orientation)


def _decode_others(data: bytes, name: str, upright: bool) -> np.ndarray:
    plugin = next((plugin for magic, plugin in FORMATS if data.startswith(magic)), None)
    if plugin is None or (plugin is WebPImageFile and data[8:12] != b"WEBP"):
        kind = files.kind_of(data[:64]) if data else "empty"
        what = f"is {kind}" if kind else "is in no format that is read here, or damaged"
        raise InputError(f"{name}: {what}; wanted JPEG, PNG, WebP or BMP")
    with plugin(io.BytesIO(data)) as image:
        _check_size(image.width, image.height, name, MAX_WEBP_PIXELS if plugin is WebPImageFile else MAX_PIXELS)
        picture = _pixels(image)
        orientation = _orientation_of(image) if upright else 1
    del image                                               # it holds the picture once more
    return _turned(picture, orientation)


BAND = 256                       # rows that are converted at once: as a whole Pillow would hold them three times


def _pixels(image: Image.Image) -> np.ndarray:
    """A picture of Pillow's, in any of its modes, as RGB."""
    picture = np.empty((image.height, image.width, 3), np.uint8)
    image.load()
    for top in range(0, image.height, BAND):
        part = image.crop((0, top, image.width, min(top + BAND, image.height)))
        if part.mode.startswith("I"):
            picture[top : top + BAND] = np.clip(np.asarray(part).astype(np.int64) >> 8, 0, 255)[:, :, None]
        elif part.mode == "P":
            picture[top : top + BAND] = np.asarray(part.convert("RGBA"))[:, :, :3]      # its alpha would be warned of
        else:
            picture[top : top + BAND] = np.asarray(part if part.mode == "RGB" else part.convert("RGB"))
    return picture


def _check_size(width: int, height: int, name: str, most: int = MAX_PIXELS) -> None:
    if width < 1 or height < 1:
        raise InputError(f"{name}: is {width} x {height}, which has no pixel")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > most:
        raise InputError(
            f"{name}: is {width} x {height}; wanted at most {MAX_SIDE:,} a side and {most // 10**6} megapixels"
        )


def _check_scans(data: bytes, name: str) -> None:
    """Count the scans of a JPEG by walking from marker to marker."""
    place, scans = 2, 0
    while (found := MARKER.search(data, place)) is not None:
        place = found.end()
        kind = data[place - 1]
        if kind == 0xD9:
            break
        if kind == 0xDA:
            scans += 1
            if scans > MAX_SCANS:
                raise InputError(f"{name}: a JPEG of more than {MAX_SCANS} scans; it is made to keep a processor busy")
        if kind not in (0x01, 0xD8):
            place += int.from_bytes(data[place : place + 2], "big")


MARKER = re.compile(rb"\xff[^\x00\xff\xd0-\xd7]")           # a marker: not a stuffed byte, filling or restart


def _exif_of(data: bytes) -> bytes:
    """What a JPEG's first EXIF segment holds."""
    place = data.find(EXIF, 0, 1 << 16)
    length = int.from_bytes(data[max(0, place - 2) : place], "big") if place >= 0 else 0
    return data[place + len(EXIF) : place - 2 + length] if length else b""


def _orientation_of(image: Image.Image) -> int:
    """What an image of Pillow's says of how it is seen. It must be loaded: a PNG may say so after its pixels."""
    return _orientation(image.info.get("exif", b"").removeprefix(EXIF))


def _orientation(tiff: bytes) -> int:
    """What EXIF says of how a picture is seen, 1 to 8; 1 if it says nothing that can be read.

    The first directory of a TIFF: its entries have 12 bytes, tag, type, count and value. Pillow would read all of
    them, follow where they lead, and warn.
    """
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(tiff[:4])
    if order is None or len(tiff) < 8:
        return 1
    (start,) = struct.unpack_from(f"{order}I", tiff, 4)
    if start + 2 > len(tiff):
        return 1
    (count,) = struct.unpack_from(f"{order}H", tiff, start)
    for place in range(start + 2, min(start + 2 + 12 * count, len(tiff) - 11), 12):
        tag, kind, values, value = struct.unpack_from(f"{order}HHIH", tiff, place)
        if tag == ORIENTATION:
            return value if kind == 3 and values == 1 and 1 <= value <= 8 else 1
    return 1


def _turned(picture: np.ndarray, orientation: int) -> np.ndarray:
    """The picture as its EXIF orientation says it is seen."""
    if orientation in (5, 6, 7, 8):
        picture = picture.transpose(1, 0, 2)
    if orientation in (2, 3, 6, 7):
        picture = picture[:, ::-1]
    if orientation in (3, 4, 7, 8):
        picture = picture[::-1]
    return np.ascontiguousarray(picture)


# ---------------------------------------------------------------------- fitting
@dataclass(frozen=True)
class Placement:
    """Where a picture lies in a network's input, all as (width, height) in pixels.

    Resized to `inner`, its left top corner is at `offset`, which is negative where the picture is cut.
    """

    picture: tuple[int, int]
    input: tuple[int, int]
    inner: tuple[int, int]
    offset: tuple[int, int]

    def to_picture(self, xyxy: Float32[np.ndarray, "N 4"], *, compat: bool = False) -> Float32[np.ndarray, "N 4"]:
        """Boxes relative to the input as pixels of the picture.

        The margin was cut to whole pixels when the picture was placed. With `compat` it is taken as it was before, as
        Darknet does (correct_yolo_boxes), which is half a pixel of the input off where the margin is odd.
        """
        size = np.array(self.input * 2, np.float32)
        inner = np.array(self.inner * 2, np.float32)
        offset = (size - inner) / 2 if compat else np.array(self.offset * 2, np.float32)
        scale = np.array(self.picture * 2, np.float32) / inner
        return (xyxy * size - offset) * scale


def place(picture: tuple[int, int], input: tuple[int, int], kind: Kind) -> Placement:
    """Where a picture of (width, height) goes in an input of (width, height), by letterbox, stretched or cropped.

    Letterboxed the whole picture fits in, cropped it fills the input; the numbers are Darknet's (letterbox_image;
    resize_min and a cut from the middle).
    """
    if kind == "stretch":
        return Placement(picture, input, input, (0, 0))
    (w, h), (width, height) = picture, input
    if (width / w < height / h) != (kind == "crop"):
        inner = width, max(1, h * width // w)
    else:
        inner = max(1, w * height // h), height
    return Placement(picture, input, inner, ((width - inner[0]) // 2, (height - inner[1]) // 2))


def fit(picture: UInt8[np.ndarray, "H W C"], canvas: Float32[np.ndarray, "C h w"], kind: Kind) -> Placement:
    """Write `picture`, resized, onto `canvas` with values in [0, 1] and a grey margin if any; say where it lies."""
    placed = place((picture.shape[1], picture.shape[0]), (canvas.shape[2], canvas.shape[1]), kind)
    (width, height), (left, top) = placed.inner, placed.offset
    if left < 0 or top < 0:
        whole = np.empty((canvas.shape[0], height, width), np.float32)
        resize(picture, whole)
        canvas[...] = whole[:, -top : canvas.shape[1] - top, -left : canvas.shape[2] - left]
        return placed
    canvas[:, :top] = GREY
    canvas[:, top + height :] = GREY
    canvas[:, top : top + height, :left] = GREY
    canvas[:, top : top + height, left + width :] = GREY
    resize(picture, canvas[:, top : top + height, left : left + width])
    return placed


ROWS = 24                        # so many are resized at once: their scratch stays in the processor's cache


def resize(picture: UInt8[np.ndarray, "H W C"], out: Float32[np.ndarray, "C h w"]) -> None:
    """Write `picture` resized, with values in [0, 1], onto `out`: Darknet's resize_image, to float rounding.

    Bilinear between the corners' centres, without antialiasing, in floats: rounding to bytes on the way is enough to
    move scores by .03.
    """
    height, width, channels = picture.shape
    resample(picture, out, steps(height, out.shape[1], 1, 1.0), steps(width, out.shape[2], channels, 1 / 255))


def resample(
    picture: UInt8[np.ndarray, "H W C"],
    out: Float32[np.ndarray, "C h w"],
    rows: tuple[np.ndarray, ...],
    columns: tuple[np.ndarray, ...],
) -> None:
    """Write onto `out` the sums that `rows` and `columns` say.

    Each has, for every place along its axis of `out`, two places of the picture and the share of each; those of
    `columns` are of interleaved channels, w·C of them. Rows first, since whole rows are quick to fetch; no matrix
    product, since a BLAS would leave threads spinning in the way of the engine's.
    """
    height, width, channels = picture.shape
    _, count_rows, count_columns = out.shape
    flat = np.ascontiguousarray(picture).reshape(height, width * channels)
    above, below, share_above, share_below = rows
    left, right, share_left, share_right = columns
    bytes_, wide, wide2, narrow, narrow2 = _scratch(width * channels, count_columns * channels)
    for first in range(0, count_rows, ROWS):
        block = slice(first, min(first + ROWS, count_rows))
        count = block.stop - block.start
        source, total, other = bytes_[:count], wide[:count], wide2[:count]
        np.take(flat, above[block], 0, out=source, mode="clip")
        np.multiply(source, share_above[block, None], out=total)
        np.take(flat, below[block], 0, out=source, mode="clip")
        np.multiply(source, share_below[block, None], out=other)
        total += other                                                              # (count, W·C)
        start, end = narrow[:count], narrow2[:count]
        np.take(total, left, 1, out=start, mode="clip")
        np.take(total, right, 1, out=end, mode="clip")
        start *= share_left
        end *= share_right                                                          # (count, w·C)
        planes = [part.reshape(count, count_columns, channels).transpose(2, 0, 1) for part in (start, end)]
        np.add(planes[0], planes[1], out=out[:, block])


@lru_cache(maxsize=256)
def steps(source: int, target: int, channels: int, scale: float) -> tuple[np.ndarray, ...]:
    """For each place of the target the two places of the source between which it lies, and the share of each.

    Along an axis of `channels` interleaved values; shares are times `scale`.
    """
    step = np.float32((source - 1) / (target - 1)) if target > 1 else np.float32(0)
    place = np.arange(target, dtype=np.float32) * step
    first = np.minimum(place.astype(np.int64), source - 1)
    share = np.where(first < source - 1, place - first, 0).astype(np.float32)
    second = np.minimum(first + 1, source - 1)
    interleave = np.arange(channels)
    places = [(index[:, None] * channels + interleave).reshape(-1) for index in (first, second)]
    shares = [np.repeat(part * np.float32(scale), channels) for part in (1 - share, share)]
    return (*places, *shares)


_kept = threading.local()


def _scratch(wide: int, narrow: int) -> tuple[np.ndarray, ...]:
    """This thread's buffers for a block of rows. Fresh memory costs more than what is written into it."""
    key = (wide, narrow)
    if getattr(_kept, "key", None) != key:
        _kept.key = key
        _kept.buffers = (
            np.empty((ROWS, wide), np.uint8),
            *(np.empty((ROWS, wide), np.float32) for _ in range(2)),
            *(np.empty((ROWS, narrow), np.float32) for _ in range(2)),
        )
    buffers: tuple[np.ndarray, ...] = _kept.buffers
    return buffers
