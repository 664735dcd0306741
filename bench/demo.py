"""The main job on a real picture, for `make demo`: python bench/demo.py [PICTURE]

With the folder ../shared beside the project a real detector runs on a photograph. Without it no trained weights are at
hand: a network of the zoo runs on random ones, which shows that everything works, and whose boxes mean nothing.
"""

from __future__ import annotations

import sys
import time
import warnings
from pathlib import Path

import lookonce
from lookonce import draw, pictures
from lookonce.cli.main import main

ROOT = Path(__file__).parents[1]
SHARED = ROOT.parent / "shared"
DRAWN = ROOT / "demo"


def portrait() -> Path:
    """A photograph that comes with matplotlib."""
    import matplotlib

    return Path(matplotlib.get_data_path()) / "sample_data" / "grace_hopper.jpg"


def real(picture: str) -> int:
    """A detector that other people trained, by the command line."""
    model = SHARED / "models" / "yolo-fastest-1.1-xl"
    names = str(SHARED / "models" / "coco.names")
    return main(
        ["detect", picture, "-m", f"{model}.cfg", "-w", f"{model}.weights", "--names", names, "--save", str(DRAWN)]
    )


def untrained(picture: str) -> int:
    """The surest five of the boxes that random weights dream up, by the library."""
    print("=" * 100)
    print("No trained weights are at hand: yolov3-tiny runs on RANDOM weights. Its boxes mean nothing.")
    print("For real ones: .venv/bin/lookonce model pull yolov3-tiny, then .venv/bin/lookonce detect PICTURE")
    print("=" * 100)
    warnings.simplefilter("ignore", lookonce.LookonceWarning)
    detect = lookonce.load("yolov3-tiny", "random")
    pixels = pictures.read(picture)
    found = detect(pixels)[:5]
    for one in found.clipped():
        print(f"  {one.name:<14} {one.score:.2f}  " + " ".join(f"{x:>5.0f}" for x in one.xyxy))
    draw.save(draw.draw(pixels, found), DRAWN / f"{Path(picture).stem}.jpg")
    return 0


def demo(picture: str | None) -> int:
    start = time.perf_counter()
    if (SHARED / "models").is_dir():
        code = real(picture or str(SHARED / "pictures" / "dog.jpg"))
    else:
        try:
            code = untrained(picture or str(portrait()))
        except lookonce.LookonceError as problem:
            print(f"demo: {problem}", file=sys.stderr)
            return problem.exit_code
    if code:
        return code
    print(f"\n{time.perf_counter() - start:.1f} s; drawn into {DRAWN}")
    print("next: .venv/bin/lookonce --help, or make demo IMG=your/photo.jpg")
    return code


if __name__ == "__main__":
    sys.exit(demo(sys.argv[1] if len(sys.argv) > 1 else None))
