"""A video that is damaged, foreign or made to harm: refused in one line, or read as far as it goes and reported."""

from __future__ import annotations

import io
import json
import os
import socket
import struct
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from conftest import Child
from corpus import WARNING, Case, End, Stage, build_stage, check, noise, run, smooth
from makers import encoded, flipped, resized_jpeg

av = pytest.importorskip("av")

COUNT, RATE, WIDTH, HEIGHT = 20, 10, 64, 48
PIXELS = {"mpeg4": "yuv420p", "mjpeg": "yuvj420p", "ffv1": "bgr0", "rawvideo": "bgr24"}


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return build_stage(tmp_path / "stage")


def video(stage: Stage, name: str, codec: str, frames: int = COUNT) -> bytes:
    """The bytes of a video of noise in the container that its name says."""
    path = stage.folder / f"whole.{name}"
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=RATE)
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, PIXELS[codec]
        for number in range(frames):
            frame = av.VideoFrame.from_ndarray(noise(HEIGHT, WIDTH, number), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path.read_bytes()


def frames_of(end: End) -> int:
    return end.out.count(" frame ")


def sound() -> bytes:
    """An MP4 with a second of silence and no picture."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return buffer.getvalue()


def test_what_is_no_video_is_refused_in_one_line(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V1, V2, V9, V10, V11."""
    mp4 = video(stage, "mp4", "mpeg4")
    bad: dict[str, tuple[bytes, Sequence[str]]] = {
        "V1 empty": (b"", []),
        "V1 text": (b"frame\n" * 1000, []),
        "V1 HTML": (b"<html>404</html>", []),
        "V1 zeros": (bytes(10_000), []),
        "V1 first box of an MP4": (mp4[:32], []),
        "V2 cut at 50 %, without its index": (mp4[: len(mp4) // 2], []),
        "V11 sound": (sound(), ["no pictures"]),
        "a WAV": (b"RIFF" + struct.pack("<I", 1036) + b"WAVEfmt " + struct.pack("<IHHIIHH", 16, 1, 1, 8000, 8000, 1, 8)
                  + b"data" + struct.pack("<I", 1000) + bytes(1000), []),
        "a picture": (encoded(smooth(16, 16), "PNG"), []),
    }  # fmt: skip
    cases = []
    for number, (id, (data, words)) in enumerate(bad.items()):
        path = stage.write(f"bad{number}.mp4", data)
        cases.append(Case(id, stage.detect(path), file=path, words=words))
    pipe = stage.folder / "pipe.mp4"
    os.mkfifo(pipe)
    cases.append(Case("V10 pipe", stage.detect(pipe), file=pipe, words=["pipe"]))
    cases.append(Case("V9 camera 99", stage.detect("99"), file="camera 99"))
    cases.append(Case("V9 camera 10^20", stage.detect("1" + "0" * 20), file="camera 1"))
    for end in check(child, tmp_path, cases, videos=True):
        assert end.wall < 8
    sources = [*(stage.folder / f"bad{number}.mp4" for number in range(len(bad))), stage.picture]
    (end,) = run(child, tmp_path, [Case("together", stage.detect(*sources))], videos=True)
    assert (end.code, len(end.lines)) == (1, len(bad))
    assert "picture.png: " in end.out


CUT = {"avi mjpeg": True, "avi mpeg4": True, "ts mpeg4": False}           # whether the container claims a number


def test_a_video_that_is_cut_is_read_to_the_cut_and_reported(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V3, B7: exit code 3 where it claims more frames than come, 1 if something failed beside it."""
    cases, cuts = [], []
    for kind in CUT:
        name, codec = kind.split()
        data = video(stage, name, codec)
        whole = stage.write(f"{codec}.{name}", data)
        cuts.append(stage.write(f"cut.{codec}.{name}", data[: len(data) // 2]))
        cases += [
            Case(f"{kind} whole", stage.detect(whole), "fine"),
            Case(f"{kind} cut", stage.detect(cuts[-1]), 3 if CUT[kind] else 0),
            Case(f"{kind} cut, with a picture", stage.detect(cuts[-1], stage.picture), 3 if CUT[kind] else 0),
            Case(f"{kind} cut, with a failure", stage.detect(cuts[-1], "absent.png"), 1),
        ]
    ends = check(child, tmp_path, cases, videos=True)
    for (kind, claims), cut, (whole, alone, beside, failed) in zip(
        CUT.items(), cuts, zip(*[iter(ends)] * 4, strict=True), strict=True
    ):
        assert frames_of(whole) == COUNT, kind
        assert 0 < frames_of(alone) < COUNT, kind
        assert frames_of(beside) == frames_of(failed) == frames_of(alone), kind
        assert "picture.png: " in beside.out, kind
        if claims:
            assert len(alone.lines) == 1, kind
            assert alone.err.startswith(f"lookonce: {cut}: {frames_of(alone)} frames"), kind
            assert f"claims {COUNT}" in alone.err, kind


def test_bytes_changed_by_chance_end_nothing(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V4: each video is answered or refused by name; one that gives fewer frames than it claims is told of."""
    rng = np.random.default_rng(4)
    cases, plans = [], []
    for name, codec in (("avi", "mjpeg"), ("mp4", "mpeg4"), ("mkv", "ffv1"), ("mjpeg", "mjpeg")):
        data = video(stage, name, codec, 5)
        paths = []
        for number in range(30):
            spoilt = data
            for _ in range((1, 20, 200)[number % 3]):
                spoilt = flipped(spoilt, rng)
            paths.append(stage.write(f"{number}.{codec}.{name}", spoilt))
        cases.append(Case(f"{name} {codec}", stage.detect(*paths)))
        plans.append(paths)
    for case, paths, end in zip(cases, plans, run(child, tmp_path, cases, videos=True), strict=True):
        assert end.code in (0, 1, 2, 3), (case.id, end.code, end.err[-500:])
        assert "Traceback" not in end.err, case.id
        assert all(line.startswith("lookonce: ") for line in end.lines), case.id
        answered = {line.split(" frame ")[0] for line in end.out.splitlines() if " frame " in line}
        told = {line.split(": ")[1] for line in end.lines if not line.startswith(WARNING)}
        assert answered | told == set(map(str, paths)), case.id
        assert (end.code == 0) == (not told), case.id


def test_an_avi_whose_frames_are_spoilt_is_short(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V4: the headers hold, of most frames nothing does."""
    data = video(stage, "avi", "mjpeg")
    first = data.index(b"\xff\xd8")
    second = data.index(b"\xff\xd8", first + 2)
    rest = data[second:].replace(b"\xff\xd8", b"\0\0").replace(b"\xff\xc0", b"\0\0")
    path = stage.write("spoilt.avi", data[:second] + rest)
    (end,) = run(child, tmp_path, [Case("spoilt", stage.detect(path))], videos=True)
    assert (end.code, frames_of(end)) == (3, 1)
    assert end.lines == [line for line in end.lines if line.startswith(f"lookonce: {path}: 1 frames")]
    assert f"claims {COUNT}" in end.err


def test_a_size_that_changes_on_the_way_is_followed(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V5: an MJPEG is one JPEG after the other, and each says its own size."""
    sizes = [(48, 64), (16, 200), (300, 20), (48, 64)]
    path = stage.write("sizes.mjpeg", b"".join(encoded(noise(*size), "JPEG") for size in sizes))
    (end,) = check(child, tmp_path, [Case("V5", stage.detect(path, more=["--format", "jsonl"]), "fine")], videos=True)
    rows = [json.loads(line) for line in end.out.splitlines()]
    assert [(row["height"], row["width"]) for row in rows] == sizes
    drawn = ["--save", str(tmp_path / "drawn")]
    (end,) = run(child, tmp_path, [Case("V5", stage.detect(path, more=drawn))], videos=True)
    assert end.code in (0, 2)
    assert len(end.lines) == (1 if end.code else 0)
    assert not list(tmp_path.rglob("*.part*")), "nothing half written stays"


def avi_of_rate(stage: Stage, scale: int, rate: int) -> bytes:
    """An AVI that claims `rate` / `scale` frames a second, in both of its headers."""
    data = bytearray(video(stage, "avi", "mjpeg"))
    header = data.index(b"strh") + 8
    struct.pack_into("<II", data, header + 20, scale, rate)
    struct.pack_into("<I", data, data.index(b"avih") + 8, min(2**32 - 1, 1_000_000 * scale // rate) if rate else 0)
    return bytes(data)


def test_a_rate_that_no_camera_has_is_warned_of(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V6: all frames are read, and the one who saves a copy is told that its speed is a guess."""
    cases = []
    for id, scale, rate in (("10^6 a second", 1, 1_000_000), ("one in 10^6 seconds", 1_000_000, 1)):
        path = stage.write(f"{rate}.avi", avi_of_rate(stage, scale, rate))
        cases.append(Case(f"V6 {id}", stage.detect(path), "warned", path))
    # FFmpeg takes 25 for this one, and says nothing.
    cases.append(Case("V6 0", stage.detect(stage.write("0.avi", avi_of_rate(stage, 1, 0))), 0))
    for end in check(child, tmp_path, cases, videos=True):
        assert frames_of(end) == COUNT


def test_a_length_that_lies_changes_nothing(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V6: an MP4 that claims -1 ticks, none, or more than there are, in each place that tells the length."""
    whole = video(stage, "mp4", "mpeg4")
    cases = []
    for length in (-1, 0, 1, 2**31 - 1):
        data = bytearray(whole)
        for box, place in ((b"mvhd", 20), (b"tkhd", 24), (b"mdhd", 20)):
            struct.pack_into(">i", data, data.index(box) + place, length)
        cases.append(Case(f"V6 {length}", stage.detect(stage.write(f"{length}.mp4", bytes(data))), 0))
    for end in check(child, tmp_path, cases, videos=True):
        assert frames_of(end) == COUNT


def test_a_frame_that_claims_to_be_huge_is_refused_before_it_takes_memory(
    stage: Stage, tmp_path: Path, child: Child
) -> None:
    """V7: in the sample table of an MP4, in the header of an AVI of bare pixels, and in frames themselves."""
    jpeg = encoded(smooth(32, 32), "JPEG")
    raw = bytearray(video(stage, "avi", "rawvideo", 3))
    struct.pack_into("<ii", raw, raw.index(b"strf") + 12, 65_000, 65_000)
    bad = {
        "V7 AVI of bare pixels": ("raw.avi", bytes(raw)),
        "V7 JPEG of 16,385": ("wide.mjpeg", encoded(np.zeros((1, 16_385, 3), np.uint8), "JPEG") * 3),
        "V7 JPEG that claims 16,000 x 16,000": ("square.mjpeg", resized_jpeg(jpeg, 16_000, 16_000) * 3),
        "V7 JPEG that claims 65,500 x 65,500": ("large.mjpeg", resized_jpeg(jpeg, 65_500, 65_500) * 3),
    }
    cases = []
    for id, (name, data) in bad.items():
        path = stage.write(name, data)
        cases.append(Case(id, stage.detect(path), file=path))
    check(child, tmp_path, cases, videos=True)
    table = bytearray(video(stage, "mp4", "mpeg4"))
    struct.pack_into(">HH", table, table.index(b"mp4v") + 28, 65_000, 65_000)
    path = stage.write("table.mp4", bytes(table))
    (end,) = run(child, tmp_path, [Case("V7 sample table", stage.detect(path))], videos=True)
    assert end.code in (0, 2, 3)
    assert end.grown < 200 << 20
    assert end.code != 0 or frames_of(end) == COUNT


def test_a_playlist_leads_nowhere(stage: Stage, tmp_path: Path, child: Child) -> None:
    """V8: whatever it is called, it names files and addresses to read, which a given file must not choose."""
    stage.write("other.mp4", video(stage, "mp4", "mpeg4"))
    with socket.create_server(("127.0.0.1", 0)) as canary:
        port = canary.getsockname()[1]
        address = f"http://127.0.0.1:{port}/a.ts"
        texts = {
            "HLS": f"#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.mp4\n#EXTINF:2,\n{address}\n#EXT-X-ENDLIST\n",
            "concat": f"ffconcat version 1.0\nfile other.mp4\nfile '{address}'\n",
            "SDP": f"v=0\no=- 0 0 IN IP4 127.0.0.1\ns=x\nc=IN IP4 127.0.0.1\nt=0 0\nm=video {port} RTP/AVP 96\n",
            "DASH": f'<MPD xmlns="urn:mpeg:dash:schema:mpd:2011"><BaseURL>{address}</BaseURL></MPD>',
            "ASX": f"[Reference]\nRef1={address}\n",
        }
        cases = []
        for id, text in texts.items():
            for suffix in ("mp4", "ts", "m3u8", "jpg"):
                path = stage.write(f"{id}.{suffix}", text)
                cases.append(Case(f"V8 {id} as {suffix}", stage.detect(path), file=path))
        for name in (
            f"concat:{stage.folder}/other.mp4", f"file:{stage.folder}/other.mp4", "lavfi:testsrc.mp4",
            f"subfile,,start,0,end,0,,:{stage.folder}/other.mp4", f"hls+{address}.mp4", f"crypto:{address}.mp4",
            f"async:{address}.mp4", "pipe:0.mp4", f"tcp://{address[7:]}.mp4", "ftp://127.0.0.1/a.mp4",
        ):  # fmt: skip
            cases.append(Case(f"V8 {name[:9]}", stage.detect(name), words=["no such file"]))
        check(child, tmp_path, cases, videos=True)
        canary.setblocking(False)
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_video_is_turned_as_its_metadata_say(turn: int, stage: Stage, tmp_path: Path, child: Child) -> None:
    """V12: the matrix of an MP4's track; a quarter turn swaps width and height. Clockwise, as it is to be shown."""
    data = bytearray(video(stage, "mp4", "mpeg4", 2))
    a, b, c, d = {0: (1, 0, 0, 1), 90: (0, 1, -1, 0), 180: (-1, 0, 0, -1), 270: (0, -1, 1, 0)}[turn]
    matrix = struct.pack(">9i", a << 16, b << 16, 0, c << 16, d << 16, 0, 0, 0, 1 << 30)
    place = data.index(b"tkhd") + 44
    data[place : place + 36] = matrix
    path = stage.write("turned.mp4", bytes(data))
    (end,) = check(child, tmp_path, [Case("V12", stage.detect(path, more=["--format", "jsonl"]), "fine")], videos=True)
    sizes = {(row["width"], row["height"]) for row in map(json.loads, end.out.splitlines())}
    assert sizes == {(WIDTH, HEIGHT) if turn in (0, 180) else (HEIGHT, WIDTH)}
