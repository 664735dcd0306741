"""Written videos are read back by PyAV itself."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from lookonce.errors import EngineError, InputError
from lookonce.video.writing import VideoWriter

av = pytest.importorskip("av")

LEVELS = range(10, 250, 20)


def grey(level: int, size: tuple[int, int] = (64, 48)) -> np.ndarray:
    return np.full((size[1], size[0], 3), level, np.uint8)


def written(path: Path) -> tuple[list[np.ndarray], float]:
    """The frames of a file, and its frames a second."""
    with av.open(str(path)) as container:
        stream = container.streams.video[0]
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)], float(stream.average_rate)


def write(path: Path, *pictures: np.ndarray) -> None:
    writer = VideoWriter(path, 25.0)
    for picture in pictures:
        writer.add(picture)
    writer.close()


def there(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.mark.parametrize("rate", [0.1, 1.0, 25.0, 30000 / 1001, 1000.0])
def test_what_was_written_can_be_read_back(rate: float, tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", rate)
    for level in LEVELS:
        writer.add(grey(level))
    writer.close()
    found, told = written(tmp_path / "a.mp4")
    assert [frame.mean() for frame in found] == pytest.approx(list(LEVELS), abs=4)
    assert told == pytest.approx(rate, rel=1e-6)
    assert there(tmp_path) == ["a.mp4"]


def test_colours_come_back_as_they_were(tmp_path: Path) -> None:
    """Left red, right blue: swapped channels or a mirrored picture would show."""
    picture = grey(0)
    picture[:, :32, 0] = picture[:, 32:, 2] = 200
    write(tmp_path / "a.mp4", picture, picture, picture)
    frame = written(tmp_path / "a.mp4")[0][-1]
    assert frame[8:-8, 8:24].mean(axis=(0, 1)) == pytest.approx([200, 0, 0], abs=12)
    assert frame[8:-8, 40:56].mean(axis=(0, 1)) == pytest.approx([0, 0, 200], abs=12)


def test_the_file_appears_only_when_it_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.mp4"
    writer = VideoWriter(path, 25.0)
    for level in LEVELS:
        writer.add(grey(level))
        assert not path.exists()
    writer.close()
    assert len(written(path)[0]) == len(LEVELS)


def test_an_older_file_stays_until_the_new_one_is_whole(tmp_path: Path) -> None:
    (tmp_path / "a.mp4").write_bytes(b"older")
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    writer.add(grey(100))
    assert (tmp_path / "a.mp4").read_bytes() == b"older"
    writer.close()
    assert len(written(tmp_path / "a.mp4")[0]) == 1


@pytest.mark.parametrize("size", [(65, 49), (64, 49), (3, 2), (2, 2)])
def test_an_odd_row_or_column_at_the_edge_is_left_out(size: tuple[int, int], tmp_path: Path) -> None:
    kept = (size[0] // 2 * 2, size[1] // 2 * 2)
    picture = grey(60, size)
    picture[:, kept[0] :] = picture[kept[1] :] = 255
    write(tmp_path / "a.mp4", picture)
    (frame,), _ = written(tmp_path / "a.mp4")
    assert frame.shape == (kept[1], kept[0], 3)
    assert np.abs(frame - 60.0).max() <= 6                        # nothing of the white edge


def test_without_a_frame_there_is_no_file(tmp_path: Path) -> None:
    VideoWriter(tmp_path / "a.mp4", 25.0).close()
    assert there(tmp_path) == []


def test_a_frame_of_another_size_is_refused_and_the_others_are_kept(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    writer.add(grey(100))
    with pytest.raises(InputError, match=r"a\.mp4: a frame of 32 x 24"):
        writer.add(grey(100, (32, 24)))
    writer.close()
    assert len(written(tmp_path / "a.mp4")[0]) == 1


@pytest.mark.parametrize("size", [(1, 1), (1, 48), (64, 1)])
def test_a_frame_that_is_too_small_for_the_format_is_refused(size: tuple[int, int], tmp_path: Path) -> None:
    """One row or column, and the odd one is left out: nothing remains."""
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    with pytest.raises(InputError, match=r"a\.mp4: .*{} x {}".format(*size)):
        writer.add(grey(100, size))
    writer.close()
    assert there(tmp_path) == []


def test_a_file_that_cannot_be_written_is_told_in_one_line(tmp_path: Path) -> None:
    """The encoder holds frames back, so that the file may be opened only at the end."""
    writer = VideoWriter(tmp_path / "gone" / "a.mp4", 25.0)
    shutil.rmtree(tmp_path / "gone")
    with pytest.raises(InputError, match=r"a\.mp4: .*written"), contextlib.closing(writer):
        writer.add(grey(100))


def test_closing_twice_is_no_harm(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    writer.add(grey(100))
    writer.close()
    writer.close()
    assert len(written(tmp_path / "a.mp4")[0]) == 1


@pytest.mark.parametrize("name", ["12:30.mp4", "-a.mp4", "a\nb.mp4", "%03d.mp4", "😀" * 60 + ".mp4"], ids=len)
def test_the_file_may_have_any_name(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To FFmpeg `12:` is a protocol like `http:`. 60 smileys are 240 bytes, of the 255 that a name may have."""
    monkeypatch.chdir(tmp_path)
    write(Path(name), grey(100))
    assert there(tmp_path) == [name]


def test_without_pyav_the_message_says_how_to_get_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(EngineError, match="pip install av"):
        VideoWriter(tmp_path / "a.mp4", 25.0)


def test_frames_of_a_live_source_keep_their_time(tmp_path: Path) -> None:
    """Every fifth was looked at: they are a fifth of a second apart, not a twenty-fifth."""
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    for number, level in enumerate(LEVELS):
        writer.add(grey(level), number / 5)
    writer.close()
    with av.open(str(tmp_path / "a.mp4")) as container:
        times = [frame.time for frame in container.decode(video=0)]
    assert times == pytest.approx([number / 5 for number in range(len(LEVELS))], abs=0.001)


def test_two_frames_at_one_time_follow_each_other(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 25.0)
    for level in LEVELS:
        writer.add(grey(level), 0.0)
    writer.close()
    assert len(written(tmp_path / "a.mp4")[0]) == len(LEVELS)
