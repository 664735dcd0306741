"""One text for the arrays of several libraries: the operations of the Array API standard, by whose array it is."""

from __future__ import annotations

from typing import Any

import numpy as np
from array_api_compat import array_namespace


def namespace(array: Any) -> Any:
    """The module whose functions take `array`. Raises TypeError if it is no array.

    NumPy from 2.1 on speaks the standard's names itself; its wrapper would import NumPy's testing tools, a fifth of
    the time that a detector takes to start.
    """
    return np if isinstance(array, np.ndarray) else array_namespace(array)
