"""What users write as sources, and how a run over many of them sums up."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce.errors import DataError, ExitCode, InputError
from lookonce.sources import Moving, Reading, Still, View, expand

SIZE = (8, 6)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Each test works in an empty folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


def picture(name: str, level: int = 100, **how: object) -> str:
    path = Path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        Image.new("RGB", SIZE, (level,) * 3).save(file, "PNG" if name.endswith(".png") else "JPEG", **how)
    return name


def video(name: str, frames: int = 10) -> str:
    av = pytest.importorskip("av")
    with av.open(name, "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        for number in range(frames):
            grey = np.full((48, 64, 3), 20 * number, np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(grey, format="rgb24")))
        container.mux(stream.encode())
    return name


def named(source: str) -> list[str]:
    return [item.name for item in expand(source)]


def type_in(data: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `data` come from standard input."""
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BufferedReader(io.BytesIO(data))))     # type: ignore[type-var]


# ---------------------------------------------------------------------- one source
def test_a_picture_is_itself_whether_it_is_there_or_not() -> None:
    assert list(expand("a.jpg")) == [Still("a.jpg")]
    assert list(expand("in/no such file")) == [Still("in/no such file")]


@pytest.mark.parametrize("name", ["a.mp4", "a.AVI", "in/a.webm", "0", "12", "rtsp://host/1", "HTTPS://host/a?b=[c]"])
def test_a_video_a_camera_and_a_stream_move(name: str) -> None:
    assert list(expand(name)) == [Moving(name)]


@pytest.mark.parametrize("name", ["0.jpg", "-1", "1.5", "ftp://host/a.jpg", "a.mp4.txt", "mp4"])
def test_what_only_looks_like_one_does_not(name: str) -> None:
    assert list(expand(name)) == [Still(name)]


def test_a_folder_means_the_pictures_in_it_by_name() -> None:
    for name in ("b.jpg", "a.png", "C.JPEG", "d.webp", "e.bmp", "notes.txt", "a.jpg.part", "clip.mp4", "sub/f.jpg"):
        picture(f"in/{name}")
    assert named("in") == named("in/") == [f"in/{name}" for name in ("C.JPEG", "a.png", "b.jpg", "d.webp", "e.bmp")]


@pytest.mark.parametrize("source", ["in", "in/*", "in/**", "in/*.jpg", "*.jpg"])
def test_a_folder_or_pattern_without_pictures_is_told(source: str) -> None:
    Path("in").mkdir()
    Path("in/notes.txt").write_text("no picture")
    with pytest.raises(InputError) as caught:
        named(source)
    assert str(caught.value).startswith(f"{source}: ")
    assert "\n" not in str(caught.value)


PATTERNS = {
    "in/*": ["in/a.jpg", "in/b.png"],
    "in/*.jpg": ["in/a.jpg"],
    "in/**": ["in/a.jpg", "in/b.png", "in/sub/c.jpg", "in/sub/deep/d.mp4"],
    "in/**/*.jpg": ["in/a.jpg", "in/sub/c.jpg"],
    "**/d.*": ["in/sub/deep/d.mp4"],
    "in/[ab].*": ["in/a.jpg", "in/b.png"],
    "in/?.png": ["in/b.png"],
}


@pytest.mark.parametrize(("pattern", "expected"), PATTERNS.items())
def test_a_pattern_means_the_pictures_and_videos_that_match(pattern: str, expected: list[str], here: Path) -> None:
    for name in ("in/a.jpg", "in/b.png", "in/notes.txt", "in/sub/c.jpg", "in/sub/deep/d.mp4"):
        picture(name)
    Path("in/folder.jpg").mkdir()
    assert named(pattern) == expected
    assert named(f"{here}/{pattern}") == [f"{here}/{name}" for name in expected]
    assert [type(item) for item in expand(pattern)] == [Moving if ".mp4" in name else Still for name in expected]


def test_a_file_called_as_a_pattern_or_list_is_that_file() -> None:
    for name in ("a[1].jpg", "what?.jpg", "@at.jpg", "a1.jpg"):
        assert named(picture(name)) == [name]


def test_a_list_names_a_source_a_line() -> None:
    picture("beside/b.jpg")
    Path("beside/list.txt").write_text("/absolute/a.jpg\n\n  b.jpg  \r\nclip.mp4\nnot there.jpg")
    assert list(expand("@beside/list.txt")) == [
        Still("/absolute/a.jpg"), Still("beside/b.jpg"), Moving("clip.mp4"), Still("not there.jpg"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("pattern", "says"),
    [("photos/*.jpg", "photos/*.jpg: matches no picture and no video; photos holds 1 .mp4, 2 .png"),
     ("*.jpg", "*.jpg: matches no picture and no video; this folder holds none"),
     ("fotos/*.jpg", "fotos/*.jpg: matches no picture and no video: there is no folder fotos, did you mean photos?")],
)  # fmt: skip
def test_a_pattern_that_matches_nothing_is_told_what_is_there(pattern: str, says: str) -> None:
    Path("photos").mkdir()
    for name in ("a.png", "B.PNG", "clip.mp4", "notes.md"):
        (Path("photos") / name).touch()
    with pytest.raises(InputError) as refused:
        list(expand(pattern))
    assert str(refused.value) == says


def test_a_list_without_its_sign_is_told_of_it() -> None:
    Path("mine.txt").write_text(picture("a.jpg"))
    said: list[str] = []
    assert [view.name for view in Reading(["mine.txt", "@mine.txt"], said.append)] == ["a.jpg"]
    assert [line.partition("; ")[2] for line in said] == [
        "wanted JPEG, PNG, WebP or BMP; @mine.txt takes the pictures that it lists"
    ]


@pytest.mark.parametrize(("content", "says"), [(None, "no such file"), ("", "no path"), ("\n \n", "no path")])
def test_a_list_that_names_nothing_is_told(content: str | None, says: str) -> None:
    if content is not None:
        Path("list.txt").write_text(content)
    with pytest.raises(DataError, match=rf"list\.txt: .*{says}"):
        named("@list.txt")


# ---------------------------------------------------------------------- standard input
@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_a_picture_on_standard_input_is_read(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(picture(name)).read_bytes()
    type_in(data, monkeypatch)
    assert list(expand("-")) == [Still("stdin", data)]


def test_other_formats_on_standard_input_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    for kind in ("WEBP", "BMP"):
        buffer = io.BytesIO()
        Image.new("RGB", SIZE).save(buffer, kind)
        type_in(buffer.getvalue(), monkeypatch)
        assert list(expand("-")) == [Still("stdin", buffer.getvalue())]


@pytest.mark.parametrize("first", ["a.jpg", "BMW.jpg", "RIFF.jpg", "in/ö.jpg"])
def test_paths_on_standard_input_are_read_one_a_line(first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bitmap begins with BM and a WebP with RIFF; so may a name."""
    type_in(f"{first}\n\n b c.png \r\nclip.mp4".encode(), monkeypatch)
    assert list(expand("-")) == [Still(first), Still("b c.png"), Moving("clip.mp4")]


def test_a_path_that_is_no_utf_8_comes_through(monkeypatch: pytest.MonkeyPatch) -> None:
    name = os.fsdecode(b"caf\xe9.jpg")
    picture(name)
    type_in(b"caf\xe9.jpg\n", monkeypatch)
    assert [view.name for view in Reading(["-"], pytest.fail)] == [name]


@pytest.mark.parametrize("typed", [b"", b"\n\n"])
def test_nothing_on_standard_input_is_told(typed: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pipe whose other end failed must not pass for success."""
    type_in(typed, monkeypatch)
    with pytest.raises(InputError, match="standard input: holds nothing"):
        list(expand("-"))


def test_what_is_there_goes_before_a_camera_of_that_number(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "2012").mkdir()
    (tmp_path / "2012" / "a.jpg").touch()
    assert list(expand("2012")) == [Still("2012/a.jpg")]
    assert list(expand("2013")) == [Moving("2013")]


def test_standard_input_has_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Path(picture("a.jpg")).read_bytes()
    monkeypatch.setattr("lookonce.sources.MAX_STDIN", len(data) - 1)
    type_in(data, monkeypatch)
    with pytest.raises(InputError, match="standard input: more than"):
        list(expand("-"))


# ---------------------------------------------------------------------- reading
def run(*sources: str) -> tuple[list[View], list[str], Reading]:
    complaints: list[str] = []
    reading = Reading(sources, complaints.append)
    return list(reading), complaints, reading


def test_all_that_is_read_comes_in_order_and_ends_in_0() -> None:
    sources = [picture("b.jpg", 200), picture("a.png", 50)]
    views, complaints, reading = run(*sources)
    assert [(view.name, view.frame, view.rate) for view in views] == [("b.jpg", None, None), ("a.png", None, None)]
    assert [round(float(view.picture.mean())) for view in views] == [200, 50]
    assert {view.picture.shape for view in views} == {(6, 8, 3)}
    assert complaints == []
    assert (reading.read, reading.failed, reading.short, reading.exit_code) == (2, 0, 0, ExitCode.OK)


BAD: dict[str, Callable[[Path], object]] = {
    "missing": lambda path: None,
    "empty": lambda path: path.touch(),
    "cut off": lambda path: path.write_bytes(Path(picture("whole.jpg")).read_bytes()[:200]),
    "a page": lambda path: path.write_text("<html>not found</html>"),
    "a folder": lambda path: path.mkdir(),
    "a link to itself": lambda path: path.symlink_to(path.name),
}


@pytest.mark.parametrize("make", BAD.values(), ids=BAD.keys())
def test_one_bad_picture_among_many_is_told_and_the_others_are_read(make: Callable[[Path], object]) -> None:
    make(Path("bad.jpg"))
    views, complaints, reading = run(picture("a.jpg"), "bad.jpg", picture("c.jpg"))
    assert [view.name for view in views] == ["a.jpg", "c.jpg"]
    assert len(complaints) == 1
    assert complaints[0].startswith("bad.jpg: ")
    assert "\n" not in complaints[0]
    assert (reading.read, reading.failed, reading.exit_code) == (2, 1, ExitCode.SOME_FAILED)


def test_a_bad_picture_in_a_folder_or_list_is_no_harm_to_those_after_it() -> None:
    picture("in/a.jpg")
    Path("in/b.jpg").write_bytes(b"no picture")
    picture("in/c.jpg")
    Path("list.txt").write_text("in/a.jpg\nin/b.jpg\nmissing.jpg\nin/c.jpg\n")
    for source, failed in (("in", 1), ("in/*", 1), ("@list.txt", 2)):
        views, complaints, reading = run(source)
        assert [view.name for view in views] == ["in/a.jpg", "in/c.jpg"]
        assert (len(complaints), reading.exit_code) == (failed, ExitCode.SOME_FAILED)


LONG = {"a name": "x" * 300 + ".jpg", "a path": "x" * 4096, "a list": "@" + "x" * 300, "a pattern": "x" * 300 + "*.jpg",
        "a video": "x" * 300 + ".mp4"}  # fmt: skip


@pytest.mark.parametrize("source", [*LONG.values(), "nul\0.jpg", "@nul\0"], ids=[*LONG, "NUL", "a list with NUL"])
def test_a_name_that_no_file_can_have_is_told_and_the_others_are_read(source: str) -> None:
    """A name has at most 255 bytes, a path 4,096."""
    views, complaints, reading = run(source, picture("a.jpg"))
    assert [view.name for view in views] == ["a.jpg"]
    assert len(complaints) == 1
    assert reading.exit_code == ExitCode.SOME_FAILED


def test_a_long_line_in_a_list_is_told_and_the_others_are_read() -> None:
    Path("list.txt").write_text(f"{picture('a.jpg')}\n{'x' * 5000}.jpg\n{picture('b.jpg')}\n")
    views, complaints, reading = run("@list.txt")
    assert [view.name for view in views] == ["a.jpg", "b.jpg"]
    assert (len(complaints), reading.exit_code) == (1, ExitCode.SOME_FAILED)


@pytest.mark.parametrize("sources", [["a.jpg"], ["in"], ["*.jpg", "@list.txt"], ["a.mp4"], ["99"]], ids=str)
def test_where_nothing_could_be_read_the_code_is_2(sources: list[str]) -> None:
    views, complaints, reading = run(*sources)
    assert views == []
    assert len(complaints) == len(sources)
    assert reading.exit_code == ExitCode.CANNOT


def test_a_picture_is_turned_as_exif_says_unless_told_not_to() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6                                              # orientation: turn by 90 degrees
    picture("a.jpg", exif=exif)
    shapes = [next(iter(Reading(["a.jpg"], pytest.fail, upright=upright))).picture.shape for upright in (True, False)]
    assert shapes == [(8, 6, 3), (6, 8, 3)]


NAMES = ["new\nline.jpg", "-.jpg", "--help.jpg", "a;touch x;.jpg", "$(touch x).jpg", " .jpg", "ö😀.jpg", "\udcff.jpg",
         "x" * 251 + ".jpg", "a:b.jpg", "%d.jpg", "\x1b[2J.jpg", "back\\slash.jpg"]  # fmt: skip


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_a_picture_may_have_any_name(name: str, here: Path) -> None:
    picture(name)
    for source in (name, ".", "*.jpg", f"{here}/*"):
        views, complaints, _ = run(source)
        assert [Path(view.name).name for view in views] == [name]
        assert complaints == []
    assert [path.name for path in here.iterdir()] == [name]       # none was taken for a command


# ---------------------------------------------------------------------- videos among them
def test_the_frames_of_a_video_come_with_their_numbers_between_the_pictures() -> None:
    views, complaints, reading = run(picture("a.jpg"), video("clip.avi"), picture("b.jpg"))
    assert [view.name for view in views] == ["a.jpg", *["clip.avi"] * 10, "b.jpg"]
    assert [(view.frame, view.rate) for view in views[1:-1]] == [(number, 10.0) for number in range(10)]
    assert [round(float(view.picture.mean()) / 20) for view in views[1:-1]] == list(range(10))
    assert complaints == []
    assert (reading.read, reading.exit_code) == (12, ExitCode.OK)


def test_a_video_that_is_shorter_than_it_claims_is_told_and_ends_in_3() -> None:
    clip = Path(video("clip.avi"))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 8 // 10])
    views, complaints, reading = run("clip.avi", picture("a.jpg"))
    came = len(views) - 1
    assert 0 < came < 10
    assert len(complaints) == 1
    assert f"{came} frames" in complaints[0]
    assert "claims 10" in complaints[0]
    assert (reading.read, reading.short, reading.exit_code) == (came + 1, 1, ExitCode.CHECK_FAILED)


def test_what_failed_counts_more_than_what_was_short() -> None:
    clip = Path(video("clip.avi"))
    clip.write_bytes(clip.read_bytes()[: clip.stat().st_size * 8 // 10])
    assert run("clip.avi", "missing.jpg")[2].exit_code == ExitCode.SOME_FAILED


def test_a_video_without_a_frame_has_failed() -> None:
    """It is cut in its first cluster, as MKV calls what holds frames."""
    clip = Path(video("clip.mkv"))
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"\x1f\x43\xb6\x75") + 12])
    views, complaints, reading = run("clip.mkv")
    assert views == []
    assert len(complaints) == 1
    assert complaints[0].startswith("clip.mkv: ")
    assert reading.exit_code == ExitCode.CANNOT


def test_a_caller_may_stop_in_the_middle_of_a_video() -> None:
    reading = Reading([video("clip.avi"), "missing.jpg"], pytest.fail)
    for view in reading:
        if view.frame == 3:
            break
    assert (reading.read, reading.exit_code) == (4, ExitCode.OK)
