from __future__ import annotations

from lookonce.darknet.cfg import Cfg

TEXT = """# mine
[net]
width=1      # of the input
steps = 4, 8
# a word on scales
scales=.1,.1
[conv]
filters=2
[softmax]
tree=a.tree
groups=1
tree=b.tree"""


def test_options_of_several_sections_are_changed_at_once() -> None:
    changed = Cfg.parse(TEXT, quiet=True).with_changes({0: {"width": 5, "height": 6}, 1: {"filters": 7, "pad": 1}})
    assert changed.text == TEXT.replace("width=1      # of the input", "width=5").replace(
        "[net]", "[net]\nheight=6"
    ).replace("filters=2", "filters=7").replace("[conv]", "[conv]\npad=1")
    assert [section.line for section in changed.sections] == [2, 8, 11]


def test_what_is_taken_out_leaves_every_other_line() -> None:
    changed = Cfg.parse(TEXT, quiet=True).with_changes({0: {"steps": None, "scales": None, "policy": None}})
    assert changed.text == TEXT.replace("steps = 4, 8\n", "").replace("scales=.1,.1\n", "")


def test_an_option_that_stands_twice_is_taken_out_twice() -> None:
    """Otherwise the second, which did not count, would."""
    changed = Cfg.parse(TEXT, quiet=True).with_changes({2: {"tree": None}})
    assert changed.text == TEXT.replace("tree=a.tree\n", "").replace("\ntree=b.tree", "\n")
    assert "tree" not in changed.sections[2].options


def test_a_key_of_that_name_in_another_section_stays() -> None:
    text = "[net]\nwidth=1\n[conv]\nwidth=2\n"
    assert Cfg.parse(text).with_changes({0: {"width": None}}).text == "[net]\n[conv]\nwidth=2\n"


def test_no_change_is_none() -> None:
    cfg = Cfg.parse(TEXT.replace("\n", "\r\n"), quiet=True)
    assert cfg.with_changes({}).text == cfg.text
    assert cfg.with_changes({1: {}}).text == cfg.text
