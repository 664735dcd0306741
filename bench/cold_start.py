"""From a cold process to the first detection, and what it takes of memory: python bench/cold_start.py

yolov3-tiny and yolov3 at 416, on random weights in a file (as quiet as trained ones: see overhead.py), on a picture of
768 x 576: ours to the boxes, and Python OpenCV's Darknet importer, where OpenCV < 5 is installed, to the raw heads.
Each figure is the median of several processes; peak memory is the process's.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

OURS = """
import json, resource, sys, time
start = time.perf_counter()
import lookonce
detect = lookonce.load(sys.argv[1], sys.argv[2])
detect(sys.argv[3])
taken = time.perf_counter() - start
print(json.dumps([taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""
OPENCV = """
import json, resource, sys, time
start = time.perf_counter()
import cv2
net = cv2.dnn.readNetFromDarknet(sys.argv[1], sys.argv[2])
picture = cv2.imread(sys.argv[3])
net.setInput(cv2.dnn.blobFromImage(picture, 1 / 255, (416, 416), swapRB=True))
net.forward(net.getUnconnectedOutLayersNames())
taken = time.perf_counter() - start
print(json.dumps([taken, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3]))
"""


def run(code: str, *arguments: str, times: int = 7) -> tuple[float, float] | None:
    """Median seconds and peak megabytes; None if it cannot run."""
    figures = []
    for _ in range(times):
        command = [sys.executable, "-W", "ignore", "-c", code, *arguments]
        done = subprocess.run(command, capture_output=True, check=False)
        if done.returncode:
            return None
        figures.append(json.loads(done.stdout.splitlines()[-1]))
    seconds, memory = zip(*figures, strict=True)
    return statistics.median(seconds), statistics.median(memory)


def main() -> None:
    warnings.simplefilter("ignore")
    from overhead import quiet
    from PIL import Image

    from lookonce import pictures
    from lookonce.model import open_model

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "picture.jpg"
        Image.effect_noise((768, 576), 60).convert("RGB").save(picture)
        for name in ("yolov3-tiny", "yolov3"):
            model = open_model(name, "random", size=416)
            quiet(model, pictures.read(picture))
            cfg, weights = Path(folder) / f"{name}.cfg", Path(folder) / f"{name}.weights"
            cfg.write_bytes(model.network.cfg.to_bytes())
            model.write_weights(weights)
            for who, code in (("lookonce", OURS), ("OpenCV", OPENCV)):
                found = run(code, str(cfg), str(weights), str(picture))
                said = f"{found[0]:.2f} s, peak {found[1]:,.0f} MB" if found else "cannot run here"
                print(f"{name}@416, first detection of a cold process, {who}: {said}")


if __name__ == "__main__":
    main()
