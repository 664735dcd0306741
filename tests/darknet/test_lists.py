"""Names, .data, maps and image lists: one entry a line, as people's editors leave them."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from lookonce.darknet.lists import names_to_bytes, read_data, read_image_list, read_lines, read_map, read_names
from lookonce.errors import DataError, LookonceWarning


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "my.list"


@pytest.fixture
def quiet() -> object:
    """Any warning is an error."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---------------------------------------------------------------------- lines and names
@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("end", [b"\n", b"\r\n", b"\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
def test_lines_are_the_same_whatever_ends_them(path: Path, end: bytes, mark: bytes, last: bool) -> None:
    path.write_bytes(mark + b"dog" + end + b"traffic light" + end + b"cat" + end * last)
    assert read_lines(path) == ["dog", "traffic light", "cat"]
    assert read_names(path, 3) == ("dog", "traffic light", "cat")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize("blanks", ["\n", "\n\n\n", "\r\n \r\n", "  "])
def test_blank_lines_at_the_end_are_no_names(path: Path, blanks: str) -> None:
    path.write_bytes(b"dog\n cat \n" + blanks.encode())
    assert read_names(path) == ("dog", "cat")


def test_a_blank_line_inside_counts_as_a_class_with_a_warning(path: Path) -> None:
    """Darknet's label numbers count lines: leaving the line out would move every name after it."""
    path.write_bytes(b"dog\n\ncat\n")
    with pytest.warns(LookonceWarning, match=r"my\.list:2: a blank line"):
        assert read_names(path, 3) == ("dog", "", "cat")


@pytest.mark.parametrize(("text", "count"), [("dog\n", 1), ("dog\ncat\nfox\n", 3)])
def test_other_than_one_name_a_class_is_refused_with_both_counts(path: Path, text: str, count: int) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=rf"my\.list: {count} names, .* 2 classes"):
        read_names(path, 2)


@pytest.mark.parametrize("text", ["", "\n", "\n\n \n", "\ufeff"])
def test_a_file_without_a_name_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=r"my\.list: holds no name"):
        read_names(path)


def test_bytes_that_are_no_utf8_are_read_as_latin1_with_a_warning(path: Path) -> None:
    path.write_bytes(b"dog\ncaf\xe9\n")
    with pytest.warns(LookonceWarning, match=r"my\.list: byte 7 is not UTF-8"):
        assert read_names(path, 2) == ("dog", "café")


@pytest.mark.usefixtures("quiet")
@pytest.mark.parametrize(
    "name",
    ["\x1b[31mred", "\u202eexe.gnp", "🐕", "a\x0bb\x0cc\x1cd\x85e\u2028f", "<img src=x onerror=alert(1)>",
     "a" * 100_000, "#hash", "a=b", "../../x"],
)  # fmt: skip
def test_a_name_is_kept_as_it_is_whatever_is_in_it(path: Path, name: str) -> None:
    """Who shows it escapes it; here a line is a line, also at characters where Python would end one."""
    path.write_bytes(f"dog\n{name}\ncat\n".encode())
    assert read_names(path, 3) == ("dog", name, "cat")


def test_nul_bytes_are_no_text(path: Path) -> None:
    path.write_bytes(b"dog\0\ncat\n")
    with pytest.raises(DataError, match=r"my\.list: holds NUL"):
        read_names(path)


def test_a_missing_file_is_named(path: Path) -> None:
    for reader in (read_names, read_data, read_image_list, lambda path: read_map(path, 9)):
        with pytest.raises(DataError, match=r"my\.list: no such file"):
            reader(path)


@pytest.mark.usefixtures("quiet")
def test_names_that_are_written_are_read_again(path: Path) -> None:
    names = ("dog", "traffic light", "größe", "a\u2028b")
    path.write_bytes(names_to_bytes(names, path))
    assert path.read_bytes() == "dog\ntraffic light\ngröße\na\u2028b\n".encode()
    assert read_names(path, 4) == names


# ---------------------------------------------------------------------- .data
DATA = """\
# mine
classes= 2
train  = data/train.txt
; not this one: names = other.names
names=my.names

backup = backup/
eval=coco
"""


@pytest.mark.usefixtures("quiet")
def test_a_data_file_gives_what_stands_in_it(path: Path) -> None:
    path.write_text(DATA)
    data = read_data(path)
    assert data.values == {
        "classes": "2", "train": "data/train.txt", "names": "my.names", "backup": "backup/", "eval": "coco"
    }  # fmt: skip
    (path.parent / "my.names").write_text("dog\ncat\n")
    assert data.file("names") == (path.parent / "my.names").resolve()


def test_a_data_file_without_a_key_says_which(path: Path) -> None:
    path.write_text(DATA)
    data = read_data(path)
    with pytest.raises(DataError, match=r"my\.list: has no valid="):
        data.file("valid")
    with pytest.raises(DataError, match=r"my\.list: names 'my\.names', which is not there"):
        data.file("names")


def test_the_value_of_a_path_keeps_its_inner_blanks_and_equals(path: Path) -> None:
    path.write_text("train = my pictures/a=b.txt\n")
    assert read_data(path).values["train"] == "my pictures/a=b.txt"


def test_a_file_outside_is_refused_unless_it_is_allowed(tmp_path: Path) -> None:
    (tmp_path / "cfg").mkdir()
    (tmp_path / "secret").write_text("x\n")
    path = tmp_path / "cfg" / "my.data"
    for named in ("../secret", str(tmp_path / "secret")):
        path.write_text(f"names = {named}\n")
        with pytest.raises(DataError, match="--allow-paths"):
            read_data(path).file("names")
        assert read_data(path).file("names", anywhere=True) == tmp_path / "secret"


def test_of_two_equal_keys_the_first_holds_with_a_warning(path: Path) -> None:
    path.write_text("classes = 2\nclasses = 80\n")
    with pytest.warns(LookonceWarning, match=r"my\.list:2: classes .*second time"):
        assert read_data(path).values["classes"] == "2"


def test_a_key_that_is_not_known_is_named_with_the_nearest(path: Path) -> None:
    path.write_text("clases = 2\n")
    with pytest.warns(LookonceWarning, match=r"my\.list:1: .*clases .*did you mean classes\?"):
        read_data(path)


@pytest.mark.parametrize(
    ("text", "words"),
    [("classes = 2\nnames\n", ":2: names is not key = value"), ("= 3\n", ":1: = 3"), ("names =\n", ":1: names ="),
     ("[net]\nwidth=3\n", "swapped"), ("", "no key = value"), ("# nothing\n\n", "no key = value")],
)  # fmt: skip
def test_a_data_file_with_a_fault_is_refused_with_its_line(path: Path, text: str, words: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError) as refused:
        read_data(path)
    assert f"{path}" in str(refused.value)
    assert words in str(refused.value)


# ---------------------------------------------------------------------- maps
def test_a_map_is_one_node_a_line(path: Path) -> None:
    path.write_text("5\r\n0\n\n 9 \n")
    assert read_map(path, 10) == (5, 0, 9)


NO_NODES = ["10", "-1", "dog", "1.0", "٣", "1 2", "9" * 30, "9" * 5000, "0" * 10 + "99", "0" * 10 + "9" * 5000]


@pytest.mark.parametrize("line", NO_NODES, ids=range(len(NO_NODES)))
def test_a_line_of_a_map_that_is_no_node_is_refused_with_its_number(path: Path, line: str) -> None:
    path.write_text(f"1\n\n{line}\n")
    with pytest.raises(DataError, match=r"my\.list:3: .* below 10"):
        read_map(path, 10)


def test_a_map_without_a_number_is_refused(path: Path) -> None:
    path.write_text("\n\n")
    with pytest.raises(DataError, match=r"my\.list: holds no number"):
        read_map(path, 10)


# ---------------------------------------------------------------------- image lists
def test_a_picture_is_looked_for_here_and_then_beside_its_list(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here, lists = tmp_path / "here", tmp_path / "lists"
    for file in (here / "a.jpg", here / "both.jpg", lists / "b.jpg", lists / "both.jpg"):
        file.parent.mkdir(exist_ok=True)
        file.touch()
    monkeypatch.chdir(here)
    (lists / "train.txt").write_text(f"a.jpg\r\n\n b.jpg \nboth.jpg\nnowhere.jpg\n{tmp_path}/c.jpg\n")
    assert read_image_list(lists / "train.txt") == [
        Path("a.jpg"), lists / "b.jpg", Path("both.jpg"), Path("nowhere.jpg"), tmp_path / "c.jpg",
    ]  # fmt: skip


@pytest.mark.parametrize("line", ["a;touch x;.jpg", "-rf", "$(id).jpg", "`id`", "x" * 4096, "images/labels/images.jpg"])
def test_a_line_of_an_image_list_is_a_name_and_nothing_else(path: Path, line: str) -> None:
    path.write_text(f"{line}\n")
    assert [str(found) for found in read_image_list(path)] == [line]
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("text", ["", "\n", " \n\n"])
def test_an_image_list_without_a_line_is_refused(path: Path, text: str) -> None:
    path.write_text(text)
    with pytest.raises(DataError, match=r"my\.list: holds no path"):
        read_image_list(path)


# ---------------------------------------------------------------------- Darknet's own
@pytest.mark.shared
@pytest.mark.parametrize(
    ("name", "count"),
    [("coco.names", 80), ("voc.names", 20), ("openimages.names", 601), ("9k.names", 9418), ("9k.labels", 9418),
     ("imagenet.labels.list", 21842), ("imagenet.shortnames.list", 21842)],
)  # fmt: skip
def test_darknets_lists_have_the_lengths_that_its_networks_need(shared: Path, name: str, count: int) -> None:
    assert len(read_names(shared / "data" / "lists" / name, count)) == count


@pytest.mark.shared
@pytest.mark.parametrize(("name", "count"), [("coco9k.map", 80), ("inet9k.map", 200)])
def test_darknets_maps_name_nodes_of_its_tree(shared: Path, name: str, count: int) -> None:
    found = read_map(shared / "data" / "lists" / name, 9418)
    assert len(found) == count
