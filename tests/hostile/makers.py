"""Pictures made to harm, byte by byte, and the encoders' ordinary ones to compare with."""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Sequence

import numpy as np
from corpus import noise
from PIL import Image

PNG_MAGIC = b"\x89PNG\r\n\x1a\n"
SOS, EOI = b"\xff\xda", b"\xff\xd9"


def encoded(array: np.ndarray, kind: str, **options: object) -> bytes:
    """An array as Pillow encodes it."""
    buffer = io.BytesIO()
    Image.fromarray(array).save(buffer, kind, **options)
    return buffer.getvalue()


def frames(kind: str, count: int, **options: object) -> bytes:
    """A first frame of noise, and others of one colour each."""
    buffer = io.BytesIO()
    others = [Image.new("RGB", (16, 12), (number % 256, 0, number // 256)) for number in range(count - 1)]
    Image.fromarray(noise(12, 16)).save(buffer, kind, save_all=True, append_images=others, **options)
    return buffer.getvalue()


def turned() -> Image.Exif:
    """EXIF that says: a quarter turn."""
    told = Image.Exif()
    told[0x0112] = 6
    return told


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width: int, height: int, depth: int, colour: int, rows: bytes | None, extra: bytes = b"") -> bytes:
    """A PNG of unfiltered rows, or of its header and nothing more; `extra` are chunks before the rows."""
    start = PNG_MAGIC + chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)) + extra
    return start if rows is None else start + chunk(b"IDAT", zlib.compress(rows, 1)) + chunk(b"IEND", b"")


def black_png(side: int) -> bytes:
    """A square of single bits, all zero: a few KB for as many megapixels as one likes."""
    return png(side, side, 1, 0, bytes((1 + (side + 7) // 8) * side))


def segment(marker: int, data: bytes) -> bytes:
    """One segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(data) + 2) + data


def resized_jpeg(data: bytes, width: int, height: int) -> bytes:
    """A JPEG whose header claims another size."""
    for marker in (b"\xff\xc0", b"\xff\xc2"):
        place = data.find(marker)
        if place >= 0:
            return data[: place + 5] + struct.pack(">HH", height, width) + data[place + 9 :]
    raise AssertionError("a JPEG without a frame")


def scans_jpeg(side: int, scans: int) -> bytes:
    """A progressive grey JPEG that says its last scan over and over."""
    data = encoded(np.zeros((side, side), np.uint8), "JPEG", progressive=True)
    last = data.rindex(SOS)
    return data[:last] + data[last:-2] * scans + EOI


def webp_chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a WebP, padded to an even length."""
    return kind + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def webp(*chunks: bytes) -> bytes:
    body = b"WEBP" + b"".join(chunks)
    return b"RIFF" + struct.pack("<I", len(body)) + body


def claimed_webp(width: int, height: int) -> bytes:
    """A WebP whose canvas claims a size, with a frame of one pixel."""
    canvas = struct.pack("<I", 0x02) + struct.pack("<I", width - 1)[:3] + struct.pack("<I", height - 1)[:3]
    dot = encoded(np.zeros((1, 1, 3), np.uint8), "WEBP", lossless=True)
    frame = bytes(12) + struct.pack("<I", 100)[:3] + b"\0" + dot[12:]
    return webp(webp_chunk(b"VP8X", canvas), webp_chunk(b"ANIM", bytes(6)), webp_chunk(b"ANMF", frame))


def bmp(width: int, height: int, bits: int = 24, pixels: bytes = b"", compression: int = 0, colours: int = 0) -> bytes:
    """A BMP of a header of 40 bytes and some pixels; a negative height means from the top."""
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, bits, compression, len(pixels), 2835, 2835, colours, 0)
    return b"BM" + struct.pack("<IHHI", 54 + len(pixels), 0, 0, 54) + header + pixels


def exif(entries: Sequence[bytes], next_directory: int = 0, more: bytes = b"") -> bytes:
    """EXIF of one directory, of entries of 12 bytes each, in a JPEG's APP1 segment."""
    directory = struct.pack(">H", len(entries)) + b"".join(entries) + struct.pack(">I", next_directory) + more
    return segment(0xE1, b"Exif\0\0MM\0*" + struct.pack(">I", 8) + directory)


def entry(tag: int, kind: int, count: int, value: int) -> bytes:
    return struct.pack(">HHII", tag, kind, count, value)


def flipped(data: bytes, rng: np.random.Generator, begin: int = 0) -> bytes:
    """The data with one to eight bytes changed, at or behind `begin`."""
    changed = bytearray(data)
    for place in rng.integers(begin, len(data), rng.integers(1, 9)):
        changed[place] ^= int(rng.integers(1, 256))
    return bytes(changed)
