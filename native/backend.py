"""How the package is built: by scikit-build-core, but for editable installs.

Those of scikit-build-core put a finder before `sys.path`, so that `PYTHONPATH` could no longer name another checkout.
Here they are a line in a .pth file, and the kernel lies in the checkout, as lookonce/_binary*.
"""

from __future__ import annotations

import importlib.machinery
import tempfile
from collections.abc import Mapping
from pathlib import Path

from scikit_build_core.build import (
    build_sdist,
    build_wheel,
    get_requires_for_build_editable,
    get_requires_for_build_sdist,
    get_requires_for_build_wheel,
)

__all__ = [
    "build_editable", "build_sdist", "build_wheel", "get_requires_for_build_editable", "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
]  # fmt: skip

Settings = Mapping[str, str | list[str]]


def build_editable(
    wheel_directory: str, config_settings: Settings | None = None, metadata_directory: str | None = None
) -> str:
    """A wheel that holds no code but names this checkout; returns its name. Builds the kernel into the checkout."""
    root = Path.cwd()
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        # If none can be built now, one of older sources would be taken.
        (root / "lookonce" / f"_binary{suffix}").unlink(missing_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        line = Path(folder) / "lookonce.pth"
        line.write_text(f"{root}\n", encoding="utf-8")
        mine: Settings = {
            "wheel.packages": [],
            f"wheel.force-include.{line}": line.name,
            "cmake.define.LOOKONCE_MODULE_FOLDER": str(root / "lookonce"),
        }
        return build_wheel(wheel_directory, {**(config_settings or {}), **mine}, metadata_directory)
