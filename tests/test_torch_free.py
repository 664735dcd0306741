from __future__ import annotations

from pathlib import Path

from conftest import DETECTOR, Child

DETECT = """
import sys
for name in ("torch", "torchvision", "cv2", "onnxruntime", "av", "matplotlib", "jaxtyping"):
    sys.modules[name] = None                                # importing it fails
import numpy as np
import lookonce
detect = lookonce.load(sys.argv[1], "random", threshold=.1)
print(len(detect(np.random.default_rng(0).integers(0, 256, (50, 60, 3), np.uint8))) > 0)
others = ("torch", "pydantic", "typer", "rich")
print([name for name in list(sys.modules) if name.split(".")[0] in others and sys.modules[name]])
"""


def test_a_process_without_torch_detects_in_a_picture(child: Child, tmp_path: Path) -> None:
    """Nor any other library that the core does not declare; those of the command line stay out of the library."""
    (tmp_path / "net.cfg").write_text(DETECTOR)
    done = child("-W", "ignore", "-c", DETECT, str(tmp_path / "net.cfg"), memory=8 << 30)
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == ["True", "[]"]


def test_importing_the_package_loads_nothing_heavy(child: Child) -> None:
    code = "import sys, lookonce; print([n for n in ('numpy', 'onnx', 'openvino', 'PIL') if n in sys.modules])"
    assert child("-c", code).out == "[]\n"


def test_asking_for_help_loads_nothing_heavy(child: Child) -> None:
    code = (
        "import sys\nfrom lookonce.cli.main import main\ncode = main(['--help'])\n"
        "print(code, [n for n in ('numpy', 'onnx', 'openvino', 'PIL', 'av') if n in sys.modules])"
    )
    assert child("-c", code).out.endswith("0 []\n")
