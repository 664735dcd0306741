"""How large the core installs: python bench/installed_size.py

Makes an empty environment, installs the package without extras, and measures what lies in it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
TOOLS = ("pip", "setuptools", "pkg_resources", "_distutils_hack", "wheel")


def size(path: Path) -> int:
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and not file.is_symlink())


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, "-m", "venv", folder], check=True)
        pip = [str(Path(folder) / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check", str(ROOT)]
        subprocess.run(pip, check=True)
        packages = next((Path(folder) / "lib").glob("python*")) / "site-packages"
        sizes = {
            path.name: size(path) if path.is_dir() else path.stat().st_size
            for path in packages.iterdir()
            if not path.name.startswith(TOOLS)
        }
        total = sum(sizes.values())
        for name, each in sorted(sizes.items(), key=lambda item: -item[1])[:8]:
            print(f"{each / 1e6:8.1f} MB  {name}")
        print(f"{total / 1e6:8.1f} MB  in all, of which lookonce itself {sizes['lookonce'] / 1e6:.1f} MB")


if __name__ == "__main__":
    main()
