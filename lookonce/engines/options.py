"""Options as programs give them, checked: a word, a number from 0 to 1, a count."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeGuard

import numpy as np

from lookonce.errors import EngineError, shown


def check_word(name: str, found: object, known: Sequence[str | None]) -> None:
    """Raises EngineError unless what was found for an option is one of the known."""
    if not isinstance(found, str | None) or found not in known:
        *others, last = map(str, known)
        raise EngineError(f"{name}={shown(repr(found))}: wanted {', '.join(others)} or {last}")


def share(name: str, found: object) -> float:
    """What was found for an option, a number from 0 to 1 of any kind but bool. Raises EngineError."""
    if isinstance(found, bool) or not isinstance(found, int | float | np.integer | np.floating) or not 0 <= found <= 1:
        raise EngineError(f"{name}={shown(repr(found))}: wanted a number from 0 to 1")
    return float(found)


def is_count(found: object) -> TypeGuard[int]:
    """Whether this is a whole number from 1, of Python's or NumPy's."""
    return not isinstance(found, bool) and isinstance(found, int | np.integer) and bool(found >= 1)
