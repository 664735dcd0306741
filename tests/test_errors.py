"""Errors are one tree with exit codes; what a file says is shown on one line and never reaches a terminal as it is."""

from __future__ import annotations

import time
import warnings

import pytest

from lookonce import errors
from lookonce.darknet.cfg import Cfg
from lookonce.errors import LookonceError, LookonceWarning, nearest, shown, warn
from lookonce.network import Network


@pytest.mark.parametrize(
    ("name", "code"),
    [("CfgError", 2), ("WeightsError", 2), ("DataError", 2), ("InputError", 2), ("EngineError", 2),
     ("DownloadError", 2), ("CheckError", 3)],
)  # fmt: skip
def test_every_error_is_the_users_and_knows_its_exit_code(name: str, code: int) -> None:
    kind = getattr(errors, name)
    assert issubclass(kind, LookonceError)
    assert not issubclass(kind, OSError | ValueError)          # nobody catches one by accident
    assert kind("what").exit_code == code
    assert str(kind("what")) == "what"


def test_a_warning_names_itself_and_can_be_made_an_error() -> None:
    with pytest.warns(LookonceWarning, match="my.cfg:3: odd"):
        warn("my.cfg:3: odd")
    with warnings.catch_warnings():
        warnings.filterwarnings("error", category=LookonceWarning)
        with pytest.raises(LookonceWarning, match="odd"):
            warn("my.cfg:3: odd")


def test_a_warning_points_at_the_program_that_called_the_package() -> None:
    """Whether it comes from deep inside or at once."""
    text = "[net]\nwidth=8\nheight=8\nchannels=3\n[convolutional]\nfilters=1\nsize=1\nactivation=linear\nodd=1\n"
    for call in (lambda: Network.build(Cfg.parse(text, "my.cfg")), lambda: warn("odd")):
        with pytest.warns(LookonceWarning, match="odd") as caught:
            call()
        assert {warning.filename for warning in caught} == {__file__}


@pytest.mark.parametrize(
    ("word", "hint"),
    [("filtres", ", did you mean filters?"), ("leeky", ", did you mean leaky?"), ("leaky", ", did you mean leaky?"),
     ("banana", ""), ("", "")],
)  # fmt: skip
def test_the_nearest_known_word_is_offered_if_there_is_one(word: str, hint: str) -> None:
    assert nearest(word, iter(["filters", "leaky", "linear"])) == hint


def test_a_word_of_a_megabyte_is_compared_at_once() -> None:
    begun = time.process_time()
    assert nearest("filters" * 150_000, ["filters"] * 200) == ""
    assert time.process_time() - begun < 0.5


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("plain text", "plain text"),
        ("größe 画像 🐕", "größe 画像 🐕"),
        ("two\nlines\r", "two\\nlines\\r"),
        ("\x1b[31mred\x07", "\\x1b[31mred\\x07"),
        ("a\0b\t\x7f", "a\\x00b\\t\\x7f"),
        ("\u202egnp.exe", "\\u202egnp.exe"),            # right-to-left override
        ("\u2028\u2066\u200b\ufeff", "\\u2028\\u2066\\u200b\\ufeff"),
        ("\udcff\ud800", "\\udcff\\ud800"),             # bytes that were no UTF-8, and half a pair
        ("", ""),
    ],
)
def test_what_cannot_be_printed_is_escaped(text: str, wanted: str) -> None:
    assert shown(text) == wanted
    shown(text).encode()                                # raises for half a pair


def test_a_long_text_is_cut() -> None:
    assert shown("a" * 40) == "a" * 40
    assert shown("a" * 41) == "a" * 40 + "..."
    assert shown("a" * 1_000_000, 3) == "aaa..."
