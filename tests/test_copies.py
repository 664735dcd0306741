"""Copies of pictures and videos: none replaces another, nor a file that it is of."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lookonce.copies import Copies
from lookonce.detections import Detections
from lookonce.errors import DataError, InputError
from lookonce.sources import Reading, View

SIZE = (64, 48)


def grey(level: int, size: tuple[int, int] = SIZE) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def nothing(size: tuple[int, int] = SIZE) -> Detections:
    return Detections.none(("dog",), size)


def box() -> Detections:
    corners = np.array([[8, 16, 56, 40]], np.float32)
    return Detections(corners, np.ones(1, np.float32), np.zeros(1, np.int64), ("dog",), SIZE)


def still(name: str, level: int = 100) -> View:
    return View(name, grey(level))


def frame(name: str, number: int, level: int = 100, size: tuple[int, int] = SIZE) -> View:
    return View(name, grey(level, size), number, 10.0)


def keep(folder: Path, views: Iterable[View]) -> None:
    with Copies(folder) as copies:
        for view in views:
            copies.add(view, nothing(view.picture.shape[1::-1]))


def test_a_copy_that_cannot_be_written_was_not_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As on a full disk, which is told by whoever writes; the next picture is drawn under the free name."""

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with Copies(tmp_path) as copies:
        with monkeypatch.context() as patch:
            patch.setattr("lookonce.draw.save", full)
            with pytest.raises(InputError, match=r"a\.jpg: the copy cannot be written: No space left on device"):
                copies.add(still("a.jpg"), nothing())
        assert copies.written == []
        copies.add(still("b.jpg"), nothing())
        assert copies.written == [tmp_path / "b.jpg"]


def level(path: Path) -> int:
    """The grey level of a saved picture."""
    with Image.open(path) as image:
        return round(float(np.asarray(image.convert("L")).mean()))


def levels(path: Path) -> list[float]:
    """The grey levels of a video's frames."""
    with pytest.importorskip("av").open(str(path)) as container:
        return [float(each.to_ndarray(format="rgb24").mean()) for each in container.decode(video=0)]


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


# ---------------------------------------------------------------------- pictures
def test_a_copy_has_the_boxes_and_the_picture_none(tmp_path: Path) -> None:
    view = still("in/a.png")
    with Copies(tmp_path / "out") as copies:
        copies.add(view, box())
    with Image.open(tmp_path / "out" / "a.png") as image:
        copy = np.asarray(image)
    assert (view.picture == 100).all()
    assert (copy[39, 8:56] != 100).any()
    assert (copy[41:] == 100).all()


@pytest.mark.parametrize(
    ("name", "copy"),
    [("a.jpg", "a.jpg"), ("a.JPEG", "a.jpg"), ("a.png", "a.png"), ("a.PNG", "a.png"), ("a.webp", "a.jpg"),
     ("a.bmp", "a.jpg"), ("stdin", "stdin.jpg"), ("a.b.jpg", "a.b.jpg"), ("in/-a.jpg", "-a.jpg"), (".a.jpg", ".a.jpg"),
     ("a;touch x;.jpg", "a;touch x;.jpg"), ("a\nb.jpg", "a\nb.jpg")],
)  # fmt: skip
def test_a_copy_is_called_as_its_picture(name: str, copy: str, tmp_path: Path) -> None:
    keep(tmp_path / "out", [still(name)])
    assert there(tmp_path / "out") == [copy]


def test_copies_of_pictures_of_one_name_do_not_collide(tmp_path: Path) -> None:
    names = ["a/x.jpg", "b/x.jpg", "b/x.jpeg", "x-2.jpg", "x.png", "c/x.jpg"]
    keep(tmp_path / "out", (still(name, 40 * place) for place, name in enumerate(names)))
    copies = [level(tmp_path / "out" / name) for name in there(tmp_path / "out")]
    assert sorted(copies) == pytest.approx([40 * place for place in range(len(names))], abs=1)


def test_copies_of_an_earlier_run_are_replaced(tmp_path: Path) -> None:
    for number in (50, 150):
        keep(tmp_path / "out", [still("in/a.jpg", number)])
    assert there(tmp_path / "out") == ["a.jpg"]
    assert level(tmp_path / "out" / "a.jpg") == pytest.approx(150, abs=1)


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
def test_what_is_no_copy_is_not_replaced(name: str, tmp_path: Path) -> None:
    """A picture of the same name in the folder for copies, that had nothing to do with this run."""
    Image.fromarray(grey(30)).save(tmp_path / name)
    before = (tmp_path / name).read_bytes()
    for number in (150, 200):
        keep(tmp_path, [still(f"elsewhere/{name}", number)])
    assert (tmp_path / name).read_bytes() == before
    assert there(tmp_path) == sorted([name, name.replace("a.", "a-2.")])
    assert level(tmp_path / name.replace("a.", "a-2.")) == pytest.approx(200, abs=1)


def test_what_cannot_be_written_is_said_at_once(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="file: is a file, wanted a folder"):
        Copies(tmp_path / "file")


ORIGINALS = {
    "one": ["a.jpg"],
    "one that is called as another's copy": ["dog.jpg", "dog-2.jpg", "dog-3.jpg"],
    "two that would have one copy": ["dog.jpeg", "dog.jpg", "dog.webp", "dog.png"],
}


@pytest.mark.parametrize("names", ORIGINALS.values(), ids=ORIGINALS.keys())
@pytest.mark.parametrize("folder", [".", "../in", "link"])
def test_no_picture_is_replaced_by_a_copy(
    folder: str, names: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The folder for copies is that of the pictures, also by another name."""
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path / "in")
    (tmp_path / "in" / "link").symlink_to(tmp_path / "in")
    for place, name in enumerate(names):
        Image.fromarray(grey(20 + 40 * place)).save(name)
    before = {name: hashlib.sha256(Path(name).read_bytes()).digest() for name in names}
    complaints: list[str] = []
    with Copies(Path(folder)) as copies:
        for view in Reading(["."], complaints.append):
            copies.add(view, box())
    assert complaints == []
    assert {name: hashlib.sha256(Path(name).read_bytes()).digest() for name in names} == before
    assert len(there(tmp_path / "in")) == 2 * len(names) + 1


def test_a_link_to_a_picture_elsewhere_is_not_written_through(tmp_path: Path) -> None:
    original = tmp_path / "a.png"
    Image.fromarray(grey(30)).save(original)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "a.png").symlink_to(original)
    keep(tmp_path / "out", [still(str(original), 200)])
    assert level(original) == 30


# ---------------------------------------------------------------------- videos
def test_a_video_becomes_an_mp4_with_each_of_its_frames(tmp_path: Path) -> None:
    keep(tmp_path, (frame("in/a.avi", number, 20 * number + 20) for number in range(8)))
    assert there(tmp_path) == ["a.mp4"]
    assert levels(tmp_path / "a.mp4") == pytest.approx([20 * number + 20 for number in range(8)], abs=4)


def test_videos_and_pictures_in_turn_have_each_their_copy(tmp_path: Path) -> None:
    first = [frame("a/x.mkv", 0, 40), frame("a/x.mkv", 1, 80), still("x.jpg", 30), frame("b/x.mp4", 0, 120)]
    keep(tmp_path, [*first, frame("0", 0, 160), frame("rtsp://host/1", 0, 200)])
    assert there(tmp_path) == ["live-2.mp4", "live.mp4", "x-2.mp4", "x.jpg", "x.mp4"]
    expected = {"x.mp4": [40, 80], "x-2.mp4": [120], "live.mp4": [160], "live-2.mp4": [200]}
    for name, grey_levels in expected.items():
        assert levels(tmp_path / name) == pytest.approx(grey_levels, abs=4)


def test_the_video_itself_is_not_replaced(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"the original")
    keep(tmp_path, [frame(str(tmp_path / "a.mp4"), 0)])
    assert (tmp_path / "a.mp4").read_bytes() == b"the original"
    assert there(tmp_path) == ["a-2.mp4", "a.mp4"]


def test_a_video_that_breaks_off_is_kept_as_far_as_it_came(tmp_path: Path) -> None:
    def views() -> Iterator[View]:
        yield frame("a.avi", 0, 60)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        keep(tmp_path, views())
    assert levels(tmp_path / "a.mp4") == pytest.approx([60], abs=4)
    assert there(tmp_path) == ["a.mp4"]


def test_frames_of_another_size_go_on_in_another_file(tmp_path: Path) -> None:
    keep(tmp_path, [frame("a.avi", 0, 40), frame("a.avi", 1, 80, size=(32, 24)), frame("a.avi", 2, 120, size=(32, 24))])
    assert there(tmp_path) == ["a-2.mp4", "a.mp4"]
    assert levels(tmp_path / "a.mp4") == pytest.approx([40], abs=4)
    assert levels(tmp_path / "a-2.mp4") == pytest.approx([80, 120], abs=4)


def test_a_video_of_an_earlier_run_is_replaced(tmp_path: Path) -> None:
    for number in (50, 150):
        keep(tmp_path, [frame("a.avi", 0, number)])
    assert there(tmp_path) == ["a.mp4"]
    assert levels(tmp_path / "a.mp4") == pytest.approx([150], abs=4)


def test_an_address_may_be_longer_than_a_file_name(tmp_path: Path) -> None:
    """No name has 5,000 letters; a token in an address may."""
    address = f"https://host/{'a' * 5000}"
    for _ in range(2):
        keep(tmp_path, [frame(address, 0, 90)])
    assert there(tmp_path) == ["live.mp4"]


def test_a_live_source_that_tells_no_rate_can_be_kept(tmp_path: Path) -> None:
    keep(tmp_path, [View("0", grey(100), 0, None)])
    assert there(tmp_path) == ["live.mp4"]
