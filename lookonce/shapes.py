"""Array annotations such as `Float32[np.ndarray, "N 4"]`.

Type checkers always see jaxtyping. Tests import it before this package, so that beartype checks every annotated
call. A program that only runs never pays for it: annotations are strings (PEP 563) that nobody evaluates.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING or sys.modules.get("jaxtyping"):
    from jaxtyping import Bool, Float32, Float64, Int64, Real, UInt8
else:
    Bool = Float32 = Float64 = Int64 = Real = UInt8 = Any

__all__ = ["Bool", "Float32", "Float64", "Int64", "Real", "UInt8"]
