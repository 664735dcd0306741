"""Small videos written by PyAV, each frame's number coded in its grey level; whole, damaged, and no videos at all."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from itertools import count, pairwise
from pathlib import Path
from time import monotonic

import numpy as np
import pytest
from conftest import Child

from lookonce.errors import EngineError, InputError, LookonceWarning
from lookonce.video import frames
from lookonce.video.frames import Frame, Video
from lookonce.video.newest import Newest

av = pytest.importorskip("av")

COUNT, STEP, RATE = 20, 12, 10                   # frames, grey levels between them, frames a second
PATIENCE = 10                                    # seconds, after which a test has failed
WIDTH, HEIGHT = 64, 48
PIXELS = {"libx264": "yuv420p", "mpeg4": "yuv420p", "mjpeg": "yuvj420p", "rawvideo": "bgr24"}


def write(path: Path, codec: str, picture: np.ndarray | None = None, rate: int = RATE, start: int = 0) -> Path:
    """COUNT frames, each grey of level STEP times its number, or all of them `picture`; from frame `start` on."""
    height, width = (HEIGHT, WIDTH) if picture is None else picture.shape[:2]
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt, stream.bit_rate = width, height, PIXELS[codec], 4_000_000
        for number in range(COUNT):
            grey = np.full((height, width, 3), STEP * number, np.uint8)
            frame = av.VideoFrame.from_ndarray(grey if picture is None else picture, format="rgb24")
            frame.pts = start + number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(found: list[Frame]) -> list[int]:
    """The numbers that the grey levels tell."""
    return [round(float(frame.picture.mean()) / STEP) for frame in found]


def read(path: Path) -> tuple[Video, list[Frame]]:
    with Video(path) as video:
        return video, list(video)


# ---------------------------------------------------------------------- files that are whole
FORMATS = [
    ("a.mp4", "libx264", COUNT, RATE),
    ("a.avi", "mpeg4", COUNT, RATE),
    ("A.AVI", "mjpeg", COUNT, RATE),
    ("a.mkv", "mpeg4", 0, RATE),
    ("a.ts", "mpeg4", 0, RATE),
    ("a.mjpeg", "mjpeg", 0, 25),
]


@pytest.mark.parametrize(("name", "codec", "claimed", "rate"), FORMATS)
def test_every_frame_of_a_file_comes_in_order(name: str, codec: str, claimed: int, rate: int, tmp_path: Path) -> None:
    if codec not in av.codecs_available:
        pytest.skip(f"this PyAV has no {codec}")
    video, found = read(write(tmp_path / name, codec))
    assert numbers(found) == list(range(COUNT))
    assert [frame.number for frame in found] == list(range(COUNT))
    assert {frame.picture.shape for frame in found} == {(HEIGHT, WIDTH, 3)}
    assert (video.claimed, video.read, video.rate) == (claimed, COUNT, rate)
    assert (video.complaint, video.live) == (None, False)


@pytest.mark.parametrize(("name", "codec"), [("a.mp4", "mpeg4"), ("a.mkv", "mpeg4"), ("a.ts", "mpeg4")])
def test_the_time_of_a_frame_counts_from_the_start(name: str, codec: str, tmp_path: Path) -> None:
    """The clock of a transport stream (.ts) begins anywhere."""
    _, found = read(write(tmp_path / name, codec, start=100 if name == "a.ts" else 0))
    assert [frame.time for frame in found] == pytest.approx([number / RATE for number in range(COUNT)], abs=0.002)


@pytest.mark.parametrize("size", [(1, 1), (300, 1), (1, 300), (65, 49)])
def test_a_frame_has_the_size_of_the_video(size: tuple[int, int], tmp_path: Path) -> None:
    picture = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), np.uint8)
    _, found = read(write(tmp_path / "a.avi", "rawvideo", picture))
    assert np.array_equal(found[0].picture, picture)


@pytest.mark.parametrize("rate", [1, 30, 1000])
def test_the_rate_is_what_the_file_says(rate: int, tmp_path: Path) -> None:
    assert read(write(tmp_path / "a.mp4", "mpeg4", rate=rate))[0].rate == rate


def test_a_rate_that_no_camera_has_is_told_and_taken_as_25(tmp_path: Path) -> None:
    with pytest.warns(LookonceWarning, match=r"a\.mp4: claims 5000 "):
        assert read(write(tmp_path / "a.mp4", "mpeg4", rate=5000))[0].rate == 25


UNITS = (1 << 16, 1 << 16, 1 << 30) * 3                           # MP4's fixed-point numbers
MATRICES = {"90": (0, 1, -1, 0), "180": (-1, 0, 0, -1), "270": (0, -1, 1, 0)}


@pytest.mark.parametrize("matrix", MATRICES.values(), ids=MATRICES.keys())
def test_frames_are_turned_as_the_file_says(matrix: tuple[int, int, int, int], tmp_path: Path) -> None:
    """The matrix of an MP4's track maps (x, y) to (ax + cy, bx + dy), with y down; here around the centre."""
    levels = {(-1, -1): 10, (1, -1): 80, (-1, 1): 150, (1, 1): 220}                  # corners, as (x, y)
    picture = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    for (x, y), level in levels.items():
        picture[_half(y, HEIGHT), _half(x, WIDTH)] = level
    path = write(tmp_path / "a.mp4", "mpeg4", picture)
    data = bytearray(path.read_bytes())
    place = data.index(b"tkhd") + 4 + 40                          # version, times, id, duration, layer, volume
    fixed = [int(value * unit) for value, unit in zip((*matrix[:2], 0, *matrix[2:], 0, 0, 0, 1), UNITS, strict=True)]
    data[place : place + 36] = struct.pack(">9i", *fixed)
    path.write_bytes(data)
    shown = read(path)[1][0].picture
    a, b, c, d = matrix
    assert shown.shape == ((HEIGHT, WIDTH, 3) if a else (WIDTH, HEIGHT, 3))
    for (x, y), level in levels.items():
        corner = shown[_half(b * x + d * y, shown.shape[0]), _half(a * x + c * y, shown.shape[1])]
        assert corner[4:-4, 4:-4].mean() == pytest.approx(level, abs=8)


def _half(side: int, length: int) -> slice:
    return slice(0, length // 2) if side < 0 else slice(length // 2, length)


NAMES = ["-a.mp4", "a;touch x;.mp4", "a\nb.mp4", "%03d.mp4", "é☃ .mp4", "12:30.mp4", "file:a.mp4"]


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To FFmpeg `12:` is a protocol like `http:`."""
    write(tmp_path / "plain.mp4", "mpeg4").rename(tmp_path / name)
    monkeypatch.chdir(tmp_path)
    assert len(read(Path(name))[1]) == COUNT
    assert [path.name for path in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize(("version", "named"), [("15.1.0", {"metadata_errors"}), ("19.0.2", set()), ("20.0", set())])
def test_pyav_is_asked_for_what_its_version_knows(
    version: str, named: set[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, opened, asked = write(tmp_path / "a.avi", "mjpeg"), av.open, []

    def listening(file: str, **options: object) -> object:
        asked.append(set(options) - {"options"})
        return opened(file)

    monkeypatch.setattr(av, "open", listening)
    monkeypatch.setattr(av, "__version__", version)
    assert len(read(path)[1]) == COUNT
    assert asked == [named]


def test_what_a_packet_of_no_known_coding_raises_is_no_traceback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """PyAV 19 raises a ValueError there, which is none of FFmpeg's errors."""

    class Packet:
        def decode(self) -> None:
            raise ValueError("cannot decode unknown codec")

    with Video(write(tmp_path / "a.avi", "mjpeg")) as video:
        class Container:
            def demux(self, stream: object) -> list[Packet]:
                return [Packet()]

        whole, video._container = video._container, Container()
        assert list(video) == []
        video._container = whole
        video.claimed = 0
        assert "0 frames, though it claims 20" in (video.complaint or "")


# ---------------------------------------------------------------------- files that are not
def test_a_cut_avi_gives_what_is_left_and_says_how_many_frames_it_claims(tmp_path: Path) -> None:
    path = write(tmp_path / "a.avi", "mjpeg")
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    video, found = read(path)
    assert 0 < len(found) < COUNT
    assert numbers(found) == list(range(len(found)))
    assert (video.claimed, video.read) == (COUNT, len(found))
    assert str(video.complaint).startswith(f"{path}: {len(found)} frames")
    assert f"claims {COUNT}" in str(video.complaint)


@pytest.mark.parametrize(("name", "codec", "to"), [("a.mp4", "mpeg4", 9), ("a.avi", "mjpeg", 9), ("a.mkv", "mjpeg", 5)])
def test_no_cut_goes_unnoticed(name: str, codec: str, to: int, tmp_path: Path) -> None:
    """An MKV claims no number of frames, but a length in seconds: little can be said of a cut near its end."""
    data = write(tmp_path / name, codec).read_bytes()
    for tenths in range(to):
        (tmp_path / name).write_bytes(data[: len(data) * tenths // 10])
        with contextlib.suppress(InputError):
            assert read(tmp_path / name)[0].complaint is not None


def _sound(path: Path) -> None:
    with av.open(str(path), "w", format="mp4") as container:
        stream = container.add_stream("aac", rate=8000)
        frame = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        frame.sample_rate = 8000
        container.mux(stream.encode(frame))
        container.mux(stream.encode())


NO_VIDEOS: dict[str, tuple[Callable[[Path], object], str]] = {
    "nothing": (lambda path: None, "no such file"),
    "a folder": (lambda path: path.mkdir(), "folder"),
    "empty": (lambda path: path.touch(), "is empty, wanted a video"),
    "a text": (lambda path: path.write_text("frame\n" * 100), "is a text, wanted a video"),
    "sound": (_sound, "only sound"),
    "an MP4 without its index": (lambda path: os.truncate(write(path, "mpeg4"), 1000), "cannot be opened"),
}


@pytest.mark.parametrize(("make", "says"), NO_VIDEOS.values(), ids=NO_VIDEOS.keys())
def test_what_is_no_video_is_told_in_one_line(make: Callable[[Path], object], says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.mp4"
    make(path)
    with pytest.raises(InputError) as caught:
        read(path)
    assert str(caught.value).startswith(f"{path}: ")
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


PLAYLISTS = {
    "a.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nother.mp4\n#EXT-X-ENDLIST\n",
    "b.m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:2\n#EXTINF:2,\nADDRESS\n#EXT-X-ENDLIST\n",
    "a.mp4": "ffconcat version 1.0\nfile other.mp4\n",
}


@pytest.mark.parametrize(("name", "text"), PLAYLISTS.items(), ids=PLAYLISTS.keys())
def test_a_playlist_is_refused_and_leads_nowhere(name: str, text: str, tmp_path: Path) -> None:
    """It names files and addresses to read; a file that was given to us must not choose them."""
    write(tmp_path / "other.mp4", "mpeg4")
    with socket.create_server(("127.0.0.1", 0)) as canary:
        (tmp_path / name).write_text(text.replace("ADDRESS", f"http://127.0.0.1:{canary.getsockname()[1]}/a.ts"))
        with pytest.raises(InputError, match=f"{name}: is a (playlist|text), wanted a video"):
            read(tmp_path / name)
        canary.setblocking(False)
        with pytest.raises(BlockingIOError):
            canary.accept()


@pytest.mark.parametrize("kind", ["pipe", "device"])
def test_a_pipe_or_device_is_refused_at_once(kind: str, child: Child, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.mp4")
    name = "a.mp4" if kind == "pipe" else "/dev/zero"
    done = child("-c", "import sys; from lookonce.video.frames import Video; Video(sys.argv[1])", name)
    assert done.code == 1
    assert done.err.splitlines()[-1].startswith(f"lookonce.errors.InputError: {name}: is a folder, pipe or device")


ABSENT = {
    "99": ("99", "camera 99: cannot be opened"),
    "long": ("a" * 4096 + ".mp4", "a.mp4: cannot be opened"),
    "NUL": ("a\0.mp4", "'a\\x00.mp4': not a file name"),
}


@pytest.mark.parametrize(("name", "said"), ABSENT.values(), ids=ABSENT.keys())
def test_what_cannot_be_there_is_told_in_one_line(name: str, said: str) -> None:
    with pytest.raises(InputError) as caught:
        Video(name)
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_frame_that_is_too_large_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write(tmp_path / "a.mp4", "mpeg4")
    monkeypatch.setattr(frames, "MAX_PIXELS", WIDTH * HEIGHT - 1)
    with pytest.raises(InputError, match=f"{WIDTH} x {HEIGHT}"):
        read(path)


FLIP = """
import contextlib, random, sys
from pathlib import Path
from lookonce.errors import InputError
from lookonce.video.frames import Video

read = 0
for path in map(Path, sys.argv[1:]):
    whole = path.read_bytes()
    for seed in range(30):
        data, chance = bytearray(whole), random.Random(seed)
        for _ in range(chance.choice([1, 10, 100])):
            data[chance.randrange(len(data))] = chance.randrange(256)
        path.write_bytes(data)
        with contextlib.suppress(InputError), Video(path) as video:
            assert sum(1 for _ in video) == video.read
            read += 1
print(read > 0)
"""


def test_flipped_bytes_crash_nothing(child: Child, tmp_path: Path) -> None:
    kinds = {"a.mp4": "mpeg4", "a.avi": "mjpeg", "a.mkv": "libx264" if "libx264" in av.codecs_available else "mpeg4"}
    for name, codec in kinds.items():
        write(tmp_path / name, codec)
    done = child("-c", FLIP, *kinds, timeout=60)
    assert (done.code, done.out) == (0, "True\n"), done.err[-2000:]


def test_without_pyav_the_message_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineError, match="pip install av"):
        Video("a.mp4")


# ---------------------------------------------------------------------- live sources: the newest frame
def frame(number: int) -> Frame:
    return Frame(number, number / RATE, np.zeros((1, 1, 3), np.uint8))


def test_of_a_live_source_the_newest_frame_comes_and_the_last() -> None:
    """Frames 1 to 50 arrive while the caller works on frame 0: 50 is next."""
    at_work, all_there, finished = threading.Event(), threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        yield frame(0)
        assert at_work.wait(PATIENCE)
        yield from map(frame, range(1, 51))
        all_there.set()
        assert finished.wait(PATIENCE)
        yield frame(51)

    newest = iter(Newest(camera()))
    assert next(newest).number == 0
    at_work.set()
    assert all_there.wait(PATIENCE)
    assert next(newest).number == 50
    finished.set()
    assert [one.number for one in newest] == [51]


def test_frames_of_a_fast_source_come_in_order_and_the_last_is_among_them() -> None:
    seen = [one.number for one in Newest(map(frame, range(10_000)))]
    assert all(before < after for before, after in pairwise(seen))
    assert seen[-1] == 9_999
    assert list(Newest(iter(()))) == []


def test_what_goes_wrong_in_a_live_source_arrives_after_its_last_frame() -> None:
    def camera() -> Iterator[Frame]:
        yield frame(0)
        raise InputError("camera 0: gone")

    newest = iter(Newest(camera()))
    assert next(newest).number == 0
    with pytest.raises(InputError, match="camera 0: gone"):
        next(newest)


def test_a_live_source_that_nobody_listens_to_any_more_is_read_no_further() -> None:
    """A thread that reads on would use a container that is closed."""
    left, late = threading.Event(), threading.Event()

    def camera() -> Iterator[Frame]:
        for number in count():
            if left.is_set():
                late.set()
                return
            yield frame(number)

    newest = Newest(camera())
    assert next(iter(newest)).number >= 0
    assert newest.stop(float(PATIENCE))
    left.set()
    assert not late.wait(0.2)


@pytest.fixture
def camera(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The address of a camera that speaks HTTP: `/N` is a video N times over, `/0` never answers."""
    body, over = write(tmp_path / "a.mjpeg", "mjpeg").read_bytes(), threading.Event()

    class Camera(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            times = int(self.path[1:])
            if not times:
                over.wait(PATIENCE)
            self.send_response(200)
            self.send_header("Content-Length", str(times * len(body)))
            self.end_headers()
            with contextlib.suppress(OSError):                    # the other side may hang up
                for _ in range(times):
                    self.wfile.write(body)

        def log_message(self, format: str, *arguments: object) -> None:
            """Tests are silent."""

    monkeypatch.setenv("no_proxy", "*")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera) as server:
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        over.set()
        server.shutdown()


def test_a_stream_gives_growing_numbers_up_to_its_last_frame(camera: str) -> None:
    with Video(f"{camera}3") as video:
        found = list(video)
    assert video.live
    assert (video.claimed, video.read, video.complaint) == (0, 3 * COUNT, None)
    assert all(before.number < after.number for before, after in pairwise(found))
    assert found[-1].number == 3 * COUNT - 1
    assert numbers(found) == [one.number % COUNT for one in found]


def test_a_stream_that_sends_nothing_is_given_up(camera: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(frames, "TIMEOUT", 0.2)
    start = monotonic()
    with pytest.raises(InputError, match="cannot be opened"):
        Video(f"{camera}0")
    assert monotonic() - start < PATIENCE


LEAVE = """
import sys
from lookonce.video.frames import Video

for _ in range(5):
    with Video(sys.argv[1]) as video:
        next(frame for frame in video if frame.number >= 3)
print("left")
"""


def test_a_stream_may_be_left_at_any_frame(camera: str, child: Child) -> None:
    done = child("-c", LEAVE, f"{camera}1000000")
    assert (done.code, done.out) == (0, "left\n"), done.err[-2000:]
