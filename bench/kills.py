"""Kill a small training run at random moments, resume it, and compare what it learns with an unbroken run.

    python bench/kills.py [KILLS]

Every run is killed by SIGKILL at random moments, writing included, and resumed until it ends; then the next one begins,
until there were KILLS kills (200). The models of all runs must be those of the unbroken one to the byte.
"""

from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

CFG = """[net]
width=64
height=64
channels=3
batch=4
subdivisions=2
learning_rate=0.001
burn_in=20
max_batches=150
policy=steps
steps=100
scales=.1
ema_alpha=.99
saturation=1.5
exposure=1.5
hue=.1
[convolutional]
filters=8
size=3
stride=4
pad=1
batch_normalize=1
activation=leaky
[dropout]
probability=.2
[convolutional]
filters=21
size=1
activation=linear
[yolo]
classes=2
num=3
anchors=8,8,16,24,40,30
random=0
"""


def make_data(folder: Path) -> Path:
    """Twelve noisy pictures with a bright square or a dark one each, in Darknet's form."""
    rng = np.random.default_rng(0)
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True)
    lines = []
    for number in range(12):
        picture = rng.integers(60, 180, (64, 64, 3), np.uint8)
        x, y, label = *rng.integers(4, 36, 2), number % 2
        picture[y : y + 20, x : x + 24] = 250 if label else 10
        path = folder / "images" / f"{number}.png"
        Image.fromarray(picture).save(path)
        line = f"{label} {(x + 12) / 64} {(y + 10) / 64} {24 / 64} {20 / 64}\n"
        (folder / "labels" / f"{number}.txt").write_text(line)
        lines.append(f"{path}\n")
    (folder / "train.txt").write_text("".join(lines))
    (folder / "my.names").write_text("dark\nbright\n")
    (folder / "my.cfg").write_text(CFG)
    data = folder / "my.data"
    data.write_text("classes = 2\ntrain = train.txt\nnames = my.names\n")
    return data


def child(arguments: list[str]) -> int:
    """A process that trains: forked, so that torch is loaded once."""
    pid = os.fork()
    if pid:
        return pid
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)
    code = 99
    try:
        from lookonce.cli.main import main

        code = main(arguments)
    finally:
        os._exit(code)


def ended(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def digest(run: Path) -> str:
    return hashlib.sha256((run / "last.safetensors").read_bytes()).hexdigest()


def main(kills: int) -> int:
    import torch

    import lookonce.train.starting  # everything is loaded before the first fork

    assert lookonce.train.starting
    torch.set_num_threads(1)
    rng = random.Random(0)
    folder = Path(tempfile.mkdtemp(prefix="kills-"))
    os.chdir(folder)
    data = make_data(folder / "set")
    start = ["train", str(folder / "set" / "my.cfg"), "--data", str(data), "--val-split", "none", "--threads", "1",
             "--device", "cpu", "--save-every", "0.02", "--tensorboard", "off", "-q", "-o"]  # fmt: skip
    begin = time.monotonic()
    assert ended(child([*start, "whole"])) == 0
    length = time.monotonic() - begin
    wanted, done, runs, lost = digest(Path("whole")), 0, 0, 0
    while done < kills:
        run = Path(f"run{runs}")
        arguments = [*start, str(run)]
        while True:
            pid = child(arguments)
            time.sleep(rng.uniform(0.02, length * 0.6))
            os.kill(pid, signal.SIGKILL)
            code = ended(pid)
            if code == 0:
                break
            if code != -signal.SIGKILL:
                print(f"run {runs}: ended by itself with {code} after {done} kills")
                return 1
            done += 1
            began = any(run.glob("checkpoint*.safetensors"))
            if not began:
                shutil.rmtree(run, ignore_errors=True)   # killed before its first checkpoint: nothing to go on from
                lost += 1
            arguments = ["train", "--resume", str(run), "--tensorboard", "off", "-q"] if began else [*start, str(run)]
        if digest(run) != wanted:
            print(f"run {runs}: its model differs from the unbroken run's after {done} kills")
            return 1
        runs += 1
        shutil.rmtree(run)
    print(f"{done} kills in {runs} runs of {length:.1f} s ({lost} before the first checkpoint): all models are equal")
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(int(sys.argv[1]) if len(sys.argv) > 1 else 200))
