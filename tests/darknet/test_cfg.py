"""The cfg format. The oracle is Darknet's grammar: blanks vanish, the first `=` splits, the first of two keys holds."""

from __future__ import annotations

import contextlib
import re
import time
import warnings
from pathlib import Path

import pytest
from conftest import network_of
from hypothesis import given, settings
from hypothesis import strategies as st

from lookonce.darknet.cfg import MAX_BYTES, MAX_LINE, MAX_SECTIONS, Cfg, Place, Section
from lookonce.darknet.dialect import FORK_OPTIONS, FORK_SECTIONS
from lookonce.errors import CfgError, LookonceWarning

NET = "[net]\nwidth=32\nheight=32\nchannels=3\n"            # 4 lines: what is put after it begins on line 5
LINES = ["[net]", "width = 4 16", "\theight=416", "channels=3", "# a comment", "", "[conv]", "filters=2"]


def read(tmp_path: Path, data: bytes, place: Place | None = None) -> Cfg:
    (tmp_path / "my.cfg").write_bytes(data)
    return Cfg.read(tmp_path / "my.cfg", place)


def content(cfg: Cfg) -> list[tuple[str, int, dict[str, tuple[str, int]]]]:
    return [(s.name, s.line, {key: (o.value, o.line) for key, o in s.options.items()}) for s in cfg.sections]


def section_of(line: str) -> Section:
    """A section with one option, on line 2."""
    return Cfg.parse(f"[net]\n{line}\n", "my.cfg").sections[0]


# ---------------------------------------------------------------------- grammar
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"], ids=["LF", "CRLF", "CR"])
@pytest.mark.parametrize("last", [True, False], ids=["ended", "open"])
@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"], ids=["plain", "BOM"])
def test_a_cfg_reads_the_same_whatever_its_line_ends(tmp_path: Path, end: str, last: bool, mark: bytes) -> None:
    cfg = read(tmp_path, mark + end.join(LINES).encode() + end.encode() * last)
    assert content(cfg) == [
        ("net", 1, {"width": ("416", 2), "height": ("416", 3), "channels": ("3", 4)}),
        ("conv", 7, {"filters": ("2", 8)}),
    ]


def test_a_byte_order_mark_before_a_comment_is_no_part_of_the_cfg(tmp_path: Path) -> None:
    assert content(read(tmp_path, b"\xef\xbb\xbf# mine\n[net]\n")) == [("net", 2, {})]


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("wid th\t= 4 1 6", "width", "416"),
        (" anchors = 10,13,  16,30", "anchors", "10,13,16,30"),
        ("a==3", "a", "=3"),
        ("a=b=c", "a", "b=c"),
        ("layers = 180 ###P6", "layers", "180"),
        ("activation=linear # as in the paper; x=y", "activation", "linear"),
        ("a=b;c", "a", "b;c"),                  # Darknet's comments are whole lines; only `#` is known inside one
        ("a=1\x0b2\x0c3\x854\u20285", "a", "1\x0b2\x0c3\x854\u20285"),   # other programs end lines at these
    ],
)
def test_blanks_vanish_and_the_first_equals_splits(line: str, key: str, value: str) -> None:
    assert content(Cfg.parse(f"[ n e t ]\n{line}\n")) == [("net", 1, {key: (value, 2)})]


@pytest.mark.parametrize("comment", ["# x=1", "; x=1", "  \t# [conv]", " ;", "#", "   ", "\t"])
def test_a_comment_or_empty_line_counts_as_a_line_only(comment: str) -> None:
    assert content(Cfg.parse(f"{comment}\n[net]\n{comment}\na=1")) == [("net", 2, {"a": ("1", 4)})]


def test_of_two_equal_keys_the_first_holds_and_both_lines_are_named() -> None:
    with pytest.warns(LookonceWarning, match=r"my\.cfg:4: \[net\] has batch a second time; line 2 \(batch=64\)"):
        cfg = Cfg.parse("[net]\nbatch=64\nwidth=1\nbatch=1\n", "my.cfg")
    assert cfg.sections[0].integer("batch") == 64


def test_the_same_key_in_two_sections_is_no_repetition() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Cfg.parse("[net]\n[conv]\nsize=1\n[conv]\nsize=3\n")


def test_an_option_nobody_asks_for_is_named_with_its_line_and_the_nearest_name() -> None:
    with pytest.warns(LookonceWarning, match=r"test\.cfg:7: \[conv\] has no option filtres, did you mean filters\?"):
        network_of(NET + "[conv]\nsize=1\nfiltres=8\n")


def test_options_that_only_matter_to_learning_are_known() -> None:
    """A selection of what parser.c reads; each would be a warning if it were not known."""
    net = "momentum=.9\ndecay=.0005\nadam=1\nB1=.9\nburn_in=1000\npolicy=steps\nsteps=-1,100\nscales=.1,10\nhue=.1\n"
    yolo = "[yolo]\nclasses=1\nignore_thresh=.7\ntruth_thresh=1\nrandom=1\njitter=.3\nmax=90\n"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        network_of(NET + net + "[conv]\nfilters=6\nstopbackward=1\nonlyforward=1\nlearning_rate=2\n" + yolo)


@pytest.mark.parametrize(
    ("short", "full", "option"),
    [("conv", "convolutional", "filters=4"), ("conn", "connected", "output=4"), ("max", "maxpool", "stride=2"),
     ("avg", "avgpool", ""), ("lrn", "normalization", "size=3"), ("soft", "softmax", "")],
)  # fmt: skip
def test_a_short_section_name_means_the_full_one(short: str, full: str, option: str) -> None:
    one, other = (network_of(f"{NET}[{name}]\n{option}\n").nodes[0].layer for name in (short, full))
    assert one == other
    assert one.section == full


@pytest.mark.parametrize("first", ["net", "network"])
def test_the_first_section_is_net_or_network(first: str) -> None:
    assert network_of(NET.replace("net", first) + "[avgpool]\n").input == (3, 32, 32)


# ---------------------------------------------------------------------- what is no cfg
@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("", ["no section", "[net]"]),
        ("# one\n\n; two\n", ["no section", "[net]"]),
        ("width=3\n[net]\n", [":1:", "width=3", "before any section"]),
        ("\n[convolutional]\n[net]\n", [":2:", "[convolutional]", "wanted [net]"]),
        ("[Net]\n", [":1:", "[Net]", "wanted [net]"]),
        ("[net\n", [":1:", "[net is no section", "[name]"]),
        ("[net]\n[]\n", [":2:", "[]"]),
        ("[net]\n[conv] x\n", [":2:", "[conv]x"]),
        ("[net]\nwidth\n", [":2:", "width", "key=value"]),
        ("[net]\n=3\n", [":2:", "=3", "key=value"]),
        ("[net]\nfilters=\n", [":2:", "filters=", "no value"]),
        ("[net]\nfilters = # none\n", [":2:", "filters=", "no value"]),
        ("[net]\n" + "a" * 1_000_000 + "=1\n", [":2:", "1,000,002 characters", f"{MAX_LINE:,}"]),
    ],
)
def test_a_fault_of_grammar_is_named_with_its_line(text: str, words: list[str]) -> None:
    with pytest.raises(CfgError) as refused:
        Cfg.parse(text, "my.cfg")
    assert all(word in str(refused.value) for word in ["my.cfg", *words]), refused.value
    assert len(str(refused.value)) < 300


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"<!DOCTYPE html><html><body>404</body></html>", ["HTML", "error page"]),
        (b"\n  <html>\n", ["HTML"]),
        (b'{"message": "Not Found"}', ["JSON"]),
        ("[net]\nwidth=1\n".encode("utf-16"), ["UTF-16", "wanted UTF-8"]),
        ("[net]\nwidth=1\n".encode("utf-16-be"), ["NUL"]),
        (b"\xfe\xff" + "[net]".encode("utf-16-be"), ["UTF-16"]),
        (b"[net]\nwidth=4\0\n", ["NUL"]),
        (b"\0\0\0\0\2\0\0\0\5\0\0\0" + bytes(8) + b"\x17\xb7\xd1\x38" * 9, ["weights file", "swapped"]),
        (b"PK\3\4" + b"\1" * 40, ["zip"]),
        (b"\x80\4\x95 a pickle", ["pickle"]),
        (b"\x1f\x8b\x08 gzip", ["gzip"]),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:00\n", ["LFS"]),
        (b"\x89PNG\r\n\x1a\n", ["PNG"]),
        (b"", ["no section"]),
        (b"#" * (MAX_BYTES + 1), [f"{MAX_BYTES + 1:,} bytes", f"{MAX_BYTES:,}"]),
    ],
)
def test_a_file_that_is_no_cfg_is_named_for_what_it_is(tmp_path: Path, data: bytes, words: list[str]) -> None:
    with pytest.raises(CfgError) as refused:
        read(tmp_path, data)
    assert all(word in str(refused.value) for word in [str(tmp_path / "my.cfg"), *words]), refused.value


def test_lines_and_sections_have_a_most_and_may_reach_it() -> None:
    value = "1" * (MAX_LINE - 2)
    assert content(Cfg.parse(f"[net]\na={value}")) == [("net", 1, {"a": (value, 2)})]
    with pytest.raises(CfgError, match=rf":2: a line of {MAX_LINE + 1:,} characters"):
        Cfg.parse(f"[net]\na={value}1")
    assert len(Cfg.parse("[net]\n" + "[conv]\n" * (MAX_SECTIONS - 1)).sections) == MAX_SECTIONS
    with pytest.raises(CfgError, match=rf":{MAX_SECTIONS + 1}: more than {MAX_SECTIONS:,} sections"):
        Cfg.parse("[net]\n" + "[conv]\n" * MAX_SECTIONS)


@pytest.mark.parametrize(
    "text",
    ["[net]\n" + "[c]\n" * 1_000_000, NET + "\n".join(f"learning_rates{i}=1" for i in range(40_000)) + "\n[avg]\n",
     NET + "width=1\n" * 100_000 + "[avg]\n", NET + "steps=" + "1," * 30_000 + "1\n[avg]\n"],
    ids=["sections", "unknown", "repeated", "list"],
)  # fmt: skip
def test_a_cfg_of_unreasonable_length_is_answered_within_two_seconds(text: str) -> None:
    """Each is smaller than the largest file that is read. To name 40,000 unknown options would take longest."""
    begun = time.process_time()
    with warnings.catch_warnings(record=True), contextlib.suppress(CfgError):
        network_of(text)
    assert time.process_time() - begun < 2


# ---------------------------------------------------------------------- options by kind
WHOLE_FAULTS = ["abc", "18abc", "1_8", "１８", "٣", "18.0", "1e3", "0x12", "-1", "0", str(2**31), str(2**63), "9" * 401,
                "1,2", "--1", "+-1", "nan", "inf", "+"]  # fmt: skip


@pytest.mark.parametrize("value", WHOLE_FAULTS, ids=range(len(WHOLE_FAULTS)))
def test_what_is_no_whole_number_of_at_least_one_is_refused(value: str) -> None:
    """C reads some of these as 18, 1 or 0 (atoi); Python's int takes the underscore and the digits of other scripts."""
    with pytest.raises(CfgError, match=r"my\.cfg:2: \[net\] filters=.* (is not a whole number|is out of range)"):
        section_of(f"filters={value}").integer("filters", default=1, least=1)


@pytest.mark.parametrize(("value", "number"), [("18", 18), ("+5", 5), ("007", 7), (str(2**31 - 1), 2**31 - 1)])
def test_a_whole_number_is_taken_as_c_reads_it(value: str, number: int) -> None:
    assert section_of(f"filters={value}").integer("filters", least=1) == number


def test_a_number_out_of_range_is_told_both_ends_of_its_range() -> None:
    """2^31 is "at least 1"; what is wrong with it is the other end."""
    with pytest.raises(CfgError, match=r"filters=2147483648 .*2,?147,?483,?647"):
        section_of("filters=2147483648").integer("filters", least=1)
    with pytest.raises(CfgError, match=r"width=1048577 .*1 to 1,?048,?576\b"):
        section_of("width=1048577").integer("width", least=1, most=1 << 20)


DECIMAL_FAULTS = ["nan", "-nan", "inf", "-inf", "1e999", "1_0", "0x1p3", "1,5", "１", "1.2.3", "e5", ".", "1e", "abc",
                  "1" * 400]  # fmt: skip


@pytest.mark.parametrize("value", DECIMAL_FAULTS, ids=range(len(DECIMAL_FAULTS)))
def test_what_is_no_finite_number_is_refused(value: str) -> None:
    with pytest.raises(CfgError, match=r"my\.cfg:2: \[net\] decay=.* is not a finite number"):
        section_of(f"decay={value}").number("decay", default=0.0)


@pytest.mark.parametrize(
    ("value", "number"), [(".5", 0.5), ("5.", 5), ("-0", 0), ("1e-3", 0.001), ("+2E2", 200), ("1e-999", 0), ("3", 3)]
)
def test_a_decimal_number_is_taken_as_c_reads_it(value: str, number: float) -> None:
    assert section_of(f"decay={value}").number("decay") == number


def test_a_flag_asks_only_whether_it_is_zero() -> None:
    assert [section_of(f"pad={value}").flag("pad") for value in ("0", "1", "2", "-1")] == [False, True, True, True]
    assert section_of("size=1").flag("pad", default=True)


@pytest.mark.parametrize(("value", "items"), [("1,2", (1, 2)), ("-1,8,", (-1, 8)), ("7", (7,)), ("180#P6,1", (180,))])
def test_a_comma_at_the_end_of_a_list_adds_nothing(value: str, items: tuple[int, ...]) -> None:
    assert section_of(f"layers={value}").integers("layers") == items
    assert section_of(f"layers={value}").numbers("layers") == items


@pytest.mark.parametrize("value", ["1,,2", ",", ",1", "1,,"])
def test_an_empty_item_in_a_list_is_refused(value: str) -> None:
    with pytest.raises(CfgError, match=r"my\.cfg:2: .*empty item"):
        section_of(f"layers={value}").integers("layers")


def test_an_option_without_default_is_missed_by_name() -> None:
    section = Cfg.parse("[net]\n\n[route]\n", "my.cfg").sections[1]
    for ask in (section.word, section.integer, section.number, section.integers, section.numbers):
        with pytest.raises(CfgError, match=r"my\.cfg:3: \[route\] needs layers="):
            ask("layers")


def test_a_message_stays_one_short_line_whatever_the_cfg_says() -> None:
    value = "\x1b[31m\u202e" + "x" * 60_000
    with pytest.raises(CfgError) as refused:
        section_of(f"width={value}").integer("width")
    assert str(refused.value).isprintable()
    assert len(str(refused.value)) < 200


def test_a_warning_shows_nothing_of_a_cfg_as_it_is() -> None:
    with pytest.warns(LookonceWarning, match=r"my\.cfg:4: .*second time") as warned:
        Cfg.parse(f"[net]\n[\x1b[31m{'x' * 60_000}]\na\x07=\x071\na\x07=\x072\n", "my.cfg")
    assert str(warned[0].message).isprintable()
    assert len(str(warned[0].message)) < 300


# ---------------------------------------------------------------------- files that a cfg names
def test_attached_lines_stand_in_for_a_file_and_the_disk_is_not_looked_at(tmp_path: Path) -> None:
    (tmp_path / "toy.tree").write_text("disk -1\n")
    cfg = read(tmp_path, b"[net]\ntree=toy.tree\nmap=a.map\n", Place(attached={"tree": "a -1\nb -1"}))
    lines, where = cfg.sections[0].lines("tree") or ([], "")
    assert lines == ["a -1", "b -1"]
    assert "my.cfg" in where
    with pytest.raises(CfgError, match=r"my\.cfg:3: .*map=a\.map .*not attached"):
        cfg.sections[0].lines("map")


def test_a_bundled_file_stands_in_for_one_that_is_not_there_with_a_warning(tmp_path: Path) -> None:
    bundled = tmp_path / "own.tree"
    bundled.write_text("own -1\n")
    cfg = read(tmp_path, b"[net]\n\ntree=data/9k.tree\n", Place(bundled={"9k.tree": bundled}))
    with pytest.warns(LookonceWarning, match=r"my\.cfg:3: data/9k\.tree is not there"):
        assert cfg.sections[0].lines("tree") == (["own -1"], str(bundled))


@pytest.mark.parametrize("named", ["/etc/passwd", "../secret", "nowhere.tree", "loop", "a" * 5000])
def test_a_file_that_cannot_be_had_is_named_with_the_line_that_asks_for_it(tmp_path: Path, named: str) -> None:
    (tmp_path / "cfg").mkdir()
    (tmp_path / "secret").write_text("a -1\n")
    (tmp_path / "cfg" / "loop").symlink_to("loop")
    (tmp_path / "cfg" / "my.cfg").write_text(f"{NET}[softmax]\ntree={named}\n")
    cfg = Cfg.read(tmp_path / "cfg" / "my.cfg")
    with pytest.raises(CfgError, match=re.escape(f"{tmp_path / 'cfg' / 'my.cfg'}:6:")):
        cfg.sections[1].lines("tree")


# ---------------------------------------------------------------------- writing
def test_an_option_is_changed_in_its_place_and_nothing_else() -> None:
    text = "# mine\r\n[net]\r\nwidth = 416  # wide\r\nheight=416\r\n\r\n[conv]\r\nfilters=2"
    cfg = Cfg.parse(text, "my.cfg")
    changed = cfg.with_options(cfg.sections[0], width=608, channels=3)
    assert changed.text == "# mine\r\n[net]\r\nchannels=3\r\nwidth=608\r\nheight=416\r\n\r\n[conv]\r\nfilters=2"
    assert changed.sections[0].integer("width") == 608
    assert changed.path == "my.cfg"
    assert cfg.text == text


def test_a_changed_cfg_does_not_warn_again_of_what_was_said() -> None:
    with pytest.warns(LookonceWarning, match="a second time"):
        cfg = Cfg.parse("[net]\nwidth=1\nwidth=2\nwide=3\n", "my.cfg")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        cfg.with_options(cfg.sections[0], width=3).sections[0].close()


def test_an_option_can_be_added_to_a_section_that_ends_the_file() -> None:
    cfg = Cfg.parse("[net]\nwidth=1\n[conv]")
    assert cfg.with_options(cfg.sections[1], filters=3).text == "[net]\nwidth=1\n[conv]\nfilters=3"


KEYS = st.from_regex(r"\A[a-z_]{1,6}\Z")
NOISE = st.binary(max_size=12).map(lambda b: bytes(c for c in b if c not in b"\r\n\0"))
VALUES = NOISE.map(lambda noise: b"v" + noise.replace(b"#", b""))
COMMENTS = NOISE.map(lambda noise: b"#" + noise)
BLANKS = st.text(" \t", max_size=2).map(str.encode)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])


@st.composite
def cfg_bytes(draw: st.DrawFn) -> bytes:
    """Bytes that are a cfg, though not always one that a text editor would write: most are no UTF-8."""
    lines = [b"[net]"]
    for key in draw(st.lists(KEYS, unique=True, max_size=6)):
        lines += draw(st.lists(COMMENTS | BLANKS, max_size=2))
        lines.append(draw(BLANKS) + key.encode() + draw(BLANKS) + b"=" + draw(BLANKS) + draw(VALUES) + draw(BLANKS))
    mark = draw(st.sampled_from([b"", b"\xef\xbb\xbf"]))
    return mark + b"".join(line + draw(ENDS) for line in lines) + draw(COMMENTS | st.just(b""))


@settings(deadline=None, derandomize=True, database=None)
@given(data=cfg_bytes())
def test_a_cfg_is_written_as_it_was_read_to_the_byte(tmp_path_factory: pytest.TempPathFactory, data: bytes) -> None:
    path = tmp_path_factory.mktemp("cfg") / "my.cfg"
    path.write_bytes(data)
    assert Cfg.read(path).to_bytes() == data


@settings(deadline=None, derandomize=True, database=None)
@given(data=cfg_bytes(), value=st.integers(0, 9999))
def test_changing_one_option_leaves_every_other_byte(data: bytes, value: int) -> None:
    """By hand: the one line that changes is found by its number, the rest is compared as bytes."""
    cfg = Cfg.parse(data.decode("utf-8", "surrogateescape"))
    section = cfg.sections[0]
    before = re.split(rb"(\r\n|\r|\n)", data)
    for key, option in section.options.items():
        wanted = before.copy()
        wanted[2 * (option.line - 1)] = f"{key}={value}".encode()
        changed = cfg.with_options(section, **{key: value})
        assert changed.to_bytes() == b"".join(wanted)
        assert changed.sections[0].integer(key) == value


# ---------------------------------------------------------------------- dialect
@pytest.mark.parametrize("words", ["letter_box=1", "mosaic=1", "[scale_channels]", "[yolo]\nscale_x_y=1.05"])
def test_a_word_of_the_fork_makes_the_whole_cfg_one_of_the_fork(words: str) -> None:
    cfg = Cfg.parse(f"[net]\n{words}\n[avg]\n")
    assert cfg.fork
    assert all(section.fork for section in cfg.sections)


@pytest.mark.shared
def test_none_of_the_original_cfgs_uses_a_word_of_the_fork_and_all_come_back(shared: Path) -> None:
    paths = sorted((shared / "data" / "darknet-cfg").glob("*.cfg"))
    assert len(paths) == 45
    for path in paths:
        cfg = Cfg.read(path)
        assert cfg.to_bytes() == path.read_bytes()
        assert not cfg.fork, path
        words = {word for section in cfg.sections for word in (section.name, *section.options)}
        assert not words & (FORK_SECTIONS | FORK_OPTIONS), path
