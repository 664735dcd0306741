"""A picture that is damaged, foreign or made to harm: refused in one line, and no harm to the others of a run."""

from __future__ import annotations

import contextlib
import io
import struct
import time
import zipfile
import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from conftest import Child
from corpus import Case, Stage, build_stage, check, noise, run, smooth
from makers import (
    PNG_MAGIC,
    SOS,
    black_png,
    bmp,
    chunk,
    claimed_webp,
    encoded,
    entry,
    exif,
    flipped,
    frames,
    png,
    resized_jpeg,
    scans_jpeg,
    segment,
    turned,
)
from PIL import Image

from lookonce import pictures
from lookonce.engines import available_engines
from lookonce.errors import InputError

JPEG = encoded(noise(64, 96), "JPEG", quality=90)
PROGRESSIVE = encoded(noise(64, 96), "JPEG", quality=90, progressive=True)
PNG = encoded(noise(64, 96), "PNG")
WEBP = encoded(noise(64, 96), "WEBP", lossless=True)
LOSSY_WEBP = encoded(noise(64, 96), "WEBP", quality=90)
BMP = encoded(noise(64, 96), "BMP")


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


Bad = dict[str, tuple[bytes | Callable[[], bytes], Sequence[str]]]


def pillow(kind: str, mode: str = "RGB") -> Callable[[], bytes]:
    """A small picture in another of Pillow's formats."""

    def make() -> bytes:
        buffer = io.BytesIO()
        Image.fromarray(smooth(32, 32)).convert(mode).save(buffer, kind)
        return buffer.getvalue()

    return make


def cuts(data: bytes, *shares: float) -> dict[str, tuple[bytes, Sequence[str]]]:
    return {f"cut at {share:.0%}": (data[: int(len(data) * share)], ["cut off"]) for share in shares}


def named(title: str, bad: Bad) -> Bad:
    return {f"{title} {id}": value for id, value in bad.items()}


NO_PICTURE: Bad = {
    "I1 empty": (b"", ["empty"]),
    "I1 one byte": (b"\xff", []),
    "I2 HTML": (b"<!DOCTYPE html><html>404</html>", ["HTML"]),
    "I2 SVG": (b'<?xml version="1.0"?><svg xmlns="http://www.w3.org/2000/svg"/>', ["XML"]),
    "I2 PDF": (b"%PDF-1.7\n" + bytes(500), ["PDF"]),
    "I2 text": (b"this is not a picture\n" * 50, ["JPEG, PNG, WebP or BMP"]),
    "I10 TIFF": (pillow("TIFF"), ["JPEG, PNG, WebP or BMP"]),
    "I10 ICNS": (pillow("ICNS"), ["JPEG, PNG, WebP or BMP"]),
    "I10 EPS": (pillow("EPS"), ["JPEG, PNG, WebP or BMP"]),
    "I10 JPEG 2000": (pillow("JPEG2000"), ["JPEG, PNG, WebP or BMP"]),
    "I10 AVIF": (pillow("AVIF"), ["JPEG, PNG, WebP or BMP"]),
    "I10 PPM": (pillow("PPM"), ["JPEG, PNG, WebP or BMP"]),
    "I10 ICO": (pillow("ICO"), ["JPEG, PNG, WebP or BMP"]),
    "I10 TGA": (pillow("TGA"), ["JPEG, PNG, WebP or BMP"]),
    "I10 PCX": (pillow("PCX"), ["JPEG, PNG, WebP or BMP"]),
    "I10 SGI": (pillow("SGI"), ["JPEG, PNG, WebP or BMP"]),
    "I10 DDS": (pillow("DDS"), ["JPEG, PNG, WebP or BMP"]),
    "I10 DIB": (pillow("DIB"), ["JPEG, PNG, WebP or BMP"]),
    "I10 XBM": (pillow("XBM", "1"), ["JPEG, PNG, WebP or BMP"]),
    "I11 GIF": (pillow("GIF"), ["JPEG, PNG, WebP or BMP"]),
    "I10 FITS": (b"SIMPLE  =                    T" + b" " * 2850, ["JPEG, PNG, WebP or BMP"]),
    "I10 PSD": (
        b"8BPS\0\1" + bytes(6) + struct.pack(">HIIHH", 3, 32, 32, 8, 3) + bytes(500), ["JPEG, PNG, WebP or BMP"]),
    "I10 FPX": (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(2000), ["JPEG, PNG, WebP or BMP"]),
    "I10 WMF": (b"\xd7\xcd\xc6\x9a" + bytes(200), ["JPEG, PNG, WebP or BMP"]),
}  # fmt: skip

DAMAGED: Bad = {
    **named("I3 JPEG", cuts(JPEG, 0.5, 0.9, 0.99)),
    **named("I3 progressive JPEG", cuts(PROGRESSIVE, 0.5, 0.9, 0.99)),
    **named("PNG", cuts(PNG, 0.01, 0.5, 0.99)),
    **named("WebP", cuts(WEBP, 0.5, 0.99)),
    **named("lossy WebP", cuts(LOSSY_WEBP, 0.5, 0.99)),
    **named("BMP", cuts(BMP, 0.5, 0.99)),
    "I3 header of a JPEG": (JPEG[: JPEG.index(SOS)], ["cut off"]),
    "I3 first three bytes of a JPEG": (b"\xff\xd8\xff", ["cut off"]),
    "I3 progressive JPEG without its last scan": (PROGRESSIVE[: PROGRESSIVE.rindex(SOS)], ["cut off"]),
    "I4 CRC of the pixels": (PNG[:1000] + bytes([PNG[1000] ^ 1]) + PNG[1001:], ["damaged"]),
    "I4 CRC of the header": (PNG[:29] + bytes([PNG[29] ^ 1]) + PNG[30:], ["damaged"]),
    "I4 no pixels": (PNG[:33] + PNG[-12:], ["damaged"]),
    "I4 no magic": (PNG[8:], ["JPEG, PNG, WebP or BMP"]),
}

SIZES: Bad = {
    "I5 PNG of 0 x 0": (png(0, 0, 8, 2, b""), []),
    "I5 PNG of 0 x 5": (png(0, 5, 8, 2, bytes(5)), []),
    "I5 PNG of 2^31-1": (png(2**31 - 1, 2**31 - 1, 8, 2, b""), ["pixels"]),
    "I5 PNG of 2^32-1": (png(2**32 - 1, 2**32 - 1, 8, 2, b""), []),
    "I5 PNG of 100,000": (png(100_000, 100_000, 8, 2, b""), ["pixels"]),
    "I5 PNG of 100,000, header only": (png(100_000, 100_000, 8, 2, None), []),
    "I6 PNG of 9,000": (lambda: black_png(9000), ["9000 x 9000", "40 megapixels"]),
    "I6 PNG of 13,000": (lambda: black_png(13_000), ["13000 x 13000", "40 megapixels"]),
    "I6 PNG of 32,767": (lambda: black_png(32_767), ["pixels"]),
    "PNG of 16,385 x 1": (encoded(np.zeros((1, 16_385), np.uint8), "PNG"), ["16385 x 1", "16,384"]),
    "PNG of 1 x 16,385": (encoded(np.zeros((16_385, 1), np.uint8), "PNG"), ["1 x 16385", "16,384"]),
    "PNG of a row more than 40 megapixels": (png(8000, 5001, 8, 0, b""), ["8000 x 5001", "40 megapixels"]),
    "JPEG of 65,500": (resized_jpeg(JPEG, 65_500, 65_500), ["65500 x 65500", "16,384"]),
    "JPEG of 0": (resized_jpeg(JPEG, 0, 0), []),
    "JPEG of 16,384": (resized_jpeg(PROGRESSIVE, 16_384, 16_384), ["16384 x 16384", "40 megapixels"]),
    "WebP of 16,383": (claimed_webp(16_383, 16_383), []),
    "WebP of 2^24": (claimed_webp(1 << 24, 1 << 24), []),
    "I9 BMP of height -2^31": (bmp(1, -(2**31)), []),
    "I9 BMP of height 2^31-1": (bmp(1, 2**31 - 1), []),
    "I9 BMP of width -1": (bmp(-1, 1, pixels=bytes(4)), []),
    "I9 BMP of width 2^31-1": (bmp(2**31 - 1, -1), []),
    "I9 BMP of width 0": (bmp(0, 0), []),
    "I9 BMP of width -2^31": (bmp(-(2**31), -(2**31)), []),
    "BMP of run lengths": (bmp(6000, 6000, 8, b"\0\1", compression=1, colours=1), []),
    "I8 JPEG of 2,000 scans": (lambda: scans_jpeg(4000, 2000), ["100 scans"]),
    "JPEG of 101 scans": (lambda: scans_jpeg(64, 101), ["100 scans"]),
    "I7 text of 200 MB": (
        lambda: png(8, 8, 8, 0, bytes(72), chunk(b"zTXt", b"a\0\0" + zlib.compress(bytes(200 << 20), 1))), []),
    "colour profile of 200 MB": (
        lambda: png(8, 8, 8, 0, bytes(72), chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(200 << 20), 1))), []),
}  # fmt: skip


@cache
def made(id: str) -> bytes:
    """The bytes of one of the bad pictures."""
    data, _ = (NO_PICTURE | DAMAGED | SIZES)[id]
    return data() if callable(data) else data


@pytest.mark.parametrize("bad", [NO_PICTURE, DAMAGED, SIZES], ids=["no picture", "damaged", "sizes"])
def test_a_bad_picture_is_refused_in_one_line_that_names_it(
    bad: Bad, stage: Stage, tmp_path: Path, child: Child
) -> None:
    """All are called .jpg: what counts is what they hold. Alone the exit code is 2; a good one beside them is read."""
    paths, cases = [], []
    for number, (id, (data, words)) in enumerate(bad.items()):
        path = stage.write(f"bad{number}.jpg", made(id) if callable(data) else data)
        paths.append(path)
        cases.append(Case(id, stage.detect(path), file=path, words=words))
    check(child, tmp_path, cases)
    (together,) = run(child, tmp_path, [Case("together", stage.detect(*paths, stage.picture))])
    assert together.code == 1
    assert all(line.startswith(f"lookonce: {path}: ") for path, line in zip(paths, together.lines, strict=True))
    assert together.out.startswith(f"{stage.picture}: ")


@pytest.mark.parametrize("id", SIZES)
def test_a_bomb_is_refused_within_50_milliseconds(id: str) -> None:
    """B2; the best of three, since other programs run on the same cores."""
    data = made(id)
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        with pytest.raises(InputError, match=r"^<bytes>: "):
            pictures.decode(data)
        best = min(best, time.perf_counter() - began)
    assert best < 0.05


DECODE_AND_MEASURE = """
import resource, sys
from pathlib import Path
from lookonce import pictures
for path in sys.argv[1:]:
    data = Path(path).read_bytes()
    if path == sys.argv[1]:
        pictures.decode(data)                           # whatever is loaded late is loaded now
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        continue
    try:
        pictures.decode(data)
        end = "read"
    except pictures.InputError:
        end = "refused"
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before, end)
"""


def test_a_bomb_takes_no_memory(stage: Stage, tmp_path: Path, child: Child) -> None:
    """B2: all of them in one process, none of which may make it grow by more than 20 MB."""
    paths = [stage.picture]
    for number, id in enumerate(SIZES):
        paths.append(str(stage.write(f"bomb{number}", made(id))))
    end = child("-c", DECODE_AND_MEASURE, *paths)
    assert (end.code, end.err) == (0, "")
    grown = {id: int(line.split()[0]) for id, line in zip(SIZES, end.out.splitlines(), strict=True)}
    assert {id: kilobytes for id, kilobytes in grown.items() if kilobytes > 20 << 10} == {}


@pytest.mark.parametrize("data", [JPEG, PROGRESSIVE, PNG, WEBP, LOSSY_WEBP, BMP],
                         ids=["JPEG", "progressive JPEG", "PNG", "WebP", "lossy WebP", "BMP"])  # fmt: skip
def test_a_picture_cut_anywhere_is_refused(data: bytes) -> None:
    """B6: at each of 100 places; what a broken download leaves is never looked at."""
    for percent in range(100):
        with pytest.raises(InputError):
            pictures.decode(data[: len(data) * percent // 100])


# ---------------------------------------------------------------------- accepted
def icc_jpeg() -> bytes:
    """A JPEG with a colour profile of 10 MB that is full of what looks like the start of a scan."""
    return encoded(noise(64, 96), "JPEG", quality=90, icc_profile=b"\xff\xda\x00\x0c" * (10 << 18))


def polyglot() -> bytes:
    buffer = io.BytesIO(JPEG)
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("evil.py", "print()")
    return buffer.getvalue()


SAME_AS_JPEG = {
    "I16 colour profile of 10 MB": icc_jpeg,
    "I17 JPEG and zip": polyglot,
    "I17 stray bytes": lambda: JPEG + b"x" * 9,
}
FIRST_FRAME = {
    "I11 APNG": lambda: frames("PNG", 1000),
    "I11 WebP": lambda: frames("WEBP", 1000, lossless=True),
}


def test_what_is_odd_but_whole_is_read(stage: Stage, tmp_path: Path, child: Child) -> None:
    """I11, I13, I16, I17: on the command line in silence, and pixel by pixel what they hold."""
    expected = np.asarray(Image.open(io.BytesIO(JPEG)))
    cases = []
    for id, make in (SAME_AS_JPEG | FIRST_FRAME).items():
        data = make()
        assert np.array_equal(pictures.decode(data), expected if id in SAME_AS_JPEG else noise(12, 16)), id
        cases.append(Case(id, stage.detect(stage.write(f"{id}.jpg", data)), "fine"))
    for height, width in ((1, 1), (1, 16384), (16384, 1)):
        array = noise(height, width)
        for kind in ("PNG", "JPEG", "WEBP", "BMP"):
            if kind == "WEBP" and max(height, width) > 16383:
                continue                                # its sides have 14 bits
            data = encoded(array, kind, **({"lossless": True} if kind == "WEBP" else {}))
            read = pictures.decode(data)
            assert read.shape == array.shape
            assert kind == "JPEG" or np.array_equal(read, array)
            path = stage.write(f"{width}x{height}.{kind}", data)
            cases.append(Case(f"I13 {width} x {height} {kind}", stage.detect(path), "fine"))
    check(child, tmp_path, cases)


ODD_EXIF = {
    "directory that leads to itself": exif([entry(0x0112, 3, 1, 1 << 16)], next_directory=8),
    "directory inside itself": exif([entry(0x8769, 4, 1, 8), entry(0x8825, 4, 1, 8), entry(0xA005, 4, 1, 8)]),
    "65,535 entries": exif([entry(0x0112, 3, 1, 1 << 16)] * 5000),
    "count of entries that lies": segment(0xE1, b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(30)),
    "values of 2^32-1": exif([entry(tag, kind, 2**32 - 1, 2**32 - 1) for kind in range(16) for tag in (270, 274)]),
    "offset beyond the end": segment(0xE1, b"Exif\0\0MM\0*\xff\xff\xff\xff"),
    "no directory": segment(0xE1, b"Exif\0\0"),
    "noise": segment(0xE1, b"Exif\0\0" + noise(50, 50).tobytes()),
    "orientation 0": exif([entry(0x0112, 3, 1, 0)]),
    "orientation 9": exif([entry(0x0112, 3, 1, 9 << 16)]),
    "orientation 2^32-1": exif([entry(0x0112, 4, 1, 2**32 - 1)]),
    "orientation as text": exif([entry(0x0112, 2, 4, 0x36363636)]),
    "orientation as a fraction": exif([entry(0x0112, 5, 1, 26)], more=struct.pack(">II", 6, 0)),
    "two orientations": exif([entry(0x0112, 3, 2, (6 << 16) + 8)]),
    "300 segments": exif([entry(0x0112, 3, 1, 1 << 16)]) * 300,
}


def test_exif_that_cannot_be_read_changes_nothing(stage: Stage, tmp_path: Path, child: Child) -> None:
    """I15: bombs, loops and values that are no orientation. The pixels are those without it."""
    expected = np.asarray(Image.open(io.BytesIO(JPEG)))
    cases = []
    for id, part in ODD_EXIF.items():
        data = JPEG[:2] + part + JPEG[2:]
        assert np.array_equal(pictures.decode(data), expected), id
        assert np.array_equal(pictures.decode(data, upright=False), expected), id
        cases.append(Case(id, stage.detect(stage.write(f"{id}.jpg", data)), "fine"))
    check(child, tmp_path, cases)


LARGEST: dict[str, dict[str, object]] = {"JPEG": {}, "PNG": {"compress_level": 1}, "WEBP": {"method": 0}, "BMP": {}}


@pytest.mark.parametrize("kind", LARGEST)
def test_the_largest_picture_that_is_read_takes_at_most_300_megabytes(
    kind: str, stage: Stage, tmp_path: Path, child: Child
) -> None:
    """B2: 40 megapixels are 120 MB, and once more to turn them. The file itself does not count: a BMP is no bomb."""
    options = LARGEST[kind] | ({} if kind == "BMP" else {"exif": turned()})
    large = stage.write("large", encoded(np.zeros((5000, 8000, 3), np.uint8), kind, **options))
    end = child("-c", DECODE_AND_MEASURE, stage.picture, str(large))
    assert (end.code, end.err) == (0, "")
    grown, how = end.out.split()
    assert how == "read" or kind == "WEBP"
    assert int(grown) * 1024 < (300 << 20) + large.stat().st_size


def test_a_jpeg_of_any_sampling_is_read_or_refused() -> None:
    """A header may claim 1 to 4 samples each way for each channel, and nonsense beyond; decoders know a few of them."""
    frame = JPEG.index(b"\xff\xc0")
    for luminance in range(256):
        for colour in (0x11, 0x12, 0x21, 0x22, 0x14, 0x33, 0x00, 0xFF):
            data = bytearray(JPEG)
            data[frame + 11], data[frame + 14] = luminance, colour
            with contextlib.suppress(InputError):
                assert pictures.decode(bytes(data)).shape == (64, 96, 3)


# ---------------------------------------------------------------------- chance
FLIPS = 250


def test_bytes_changed_by_chance_are_refused_or_read_but_end_nothing(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """I12, I18, B4: each of the pictures is answered or refused by name, and the run goes on to the last."""
    rng = np.random.default_rng(18)
    seeds = {
        "jpg": JPEG, "prog.jpg": PROGRESSIVE, "png": PNG, "webp": WEBP, "lossy.webp": LOSSY_WEBP,
        "bmp": encoded(noise(6, 6), "BMP"),
        "pal.png": encoded(smooth(40, 40)[:, :, 0] // 16, "PNG"), "grey.jpg": encoded(smooth(40, 40)[:, :, 0], "JPEG"),
        "exif.jpg": encoded(smooth(40, 40), "JPEG", exif=turned()), "anim.webp": frames("WEBP", 3),
    }  # fmt: skip
    cases, folders = [], []
    for kind, data in seeds.items():
        folder = stage.folder / kind
        folder.mkdir()
        folders.append(folder)
        for number in range(FLIPS):
            # Half of them keep the first bytes, so that damage reaches the decoder behind the header.
            bad = flipped(data, rng, begin=0 if number % 2 else min(len(data) // 4, 40))
            (folder / f"{number:04}.{kind}").write_bytes(bad)
        cases.append(Case(kind, stage.detect(folder)))
    ends = run(child, tmp_path, cases)
    for kind, folder, end in zip(seeds, folders, ends, strict=True):
        assert end.code in (0, 1, 2), (kind, end.code, end.err[-500:])
        assert "Traceback" not in end.err, kind
        answered = [line.split(": ")[0] for line in end.out.splitlines() if not line.startswith(" ")]
        refused = [line.split(": ")[1] for line in end.lines]
        assert all(line.startswith("lookonce: ") for line in end.lines), kind
        assert sorted(answered + refused) == sorted(map(str, folder.iterdir())), kind
        assert refused, kind


def test_a_picture_on_standard_input_has_the_same_limits(stage: Stage, tmp_path: Path, child: Child) -> None:
    bad = {
        "cut": (JPEG[:2000], "cut off"),
        "bomb": (black_png(9000), "40 megapixels"),
        "scans": (scans_jpeg(64, 101), "100 scans"),
        "half a magic": (PNG_MAGIC[:4], "stdin"),
        "RIFF that is sound": (b"RIFF" + bytes(4) + b"WAVEfmt " + bytes(100), "JPEG, PNG, WebP or BMP"),
    }
    cases = [
        Case(id, stage.detect("-"), file="stdin", words=[word], stdin=stage.write(f"stdin{number}", data))
        for number, (id, (data, word)) in enumerate(bad.items())
    ]
    check(child, tmp_path, cases)


@pytest.mark.parametrize("engine", available_engines())
def test_no_engine_writes_into_the_home_folder(engine: str, stage: Stage, tmp_path: Path, child: Child) -> None:
    """`run` looks there. Some libraries keep an identifier of the user and send it home."""
    check(child, tmp_path, [Case(engine, stage.detect(more=["--engine", engine]), "fine")])
