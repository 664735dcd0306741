"""The compiled kernel against the reference on many drawn layers: python bench/binary_exact.py [COUNT] [SEED]

The comparison of tests/binary, at length: 1,000,000 layers by default, on every path that this processor runs, by one
and by two threads. Stops at the first that differs.
"""

from __future__ import annotations

import sys
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "binary"))

from drawn_layers import compare

from lookonce.binary import kernel


def main() -> None:
    count, seed = (int(word) for word in (*sys.argv[1:], *("1000000", "0")[len(sys.argv) - 1 :]))
    module, problem = kernel.compiled()
    if module is None:
        sys.exit(f"the compiled kernel is missing: {problem}")
    paths = tuple(module.paths())
    rng, start = np.random.default_rng(seed), time.monotonic()
    for number in range(count):
        compare(number, rng, paths)
        if (number + 1) % 50_000 == 0:
            print(f"{number + 1:,} layers, {time.monotonic() - start:,.0f} s", flush=True)
    print(f"{count:,} layers from seed {seed}: exact on {', '.join(paths)}, in {time.monotonic() - start:,.0f} s")


if __name__ == "__main__":
    main()
