"""Darknet's learning-rate policies (network.c, get_current_rate), and the fork's cosine."""

from __future__ import annotations

import itertools
import math

import numpy as np

from lookonce.network.options import NetOptions


def learning_rate(options: NetOptions, batch: int, seed: int = 0) -> float:
    """The rate of update number `batch`, the first being 1.

    While `batch` < `burn_in` it is the rate times (batch / burn_in)^power, whatever the policy:

        constant    rate
        step        rate · scale^⌊batch/step⌋
        steps       rate times each of `scales` up to the first whose step is not reached
        exp         rate · gamma^batch
        poly        rate · (1 - batch/max_batches)^power
        sigmoid     rate / (1 + e^(gamma·(batch - step)))
        random      rate · U(0, 1)^power, drawn from `seed` and the number
        sgdr        half a cosine from rate to `learning_rate_min` in each cycle of `sgdr_cycle` updates, or of all of
                    them; each cycle is `sgdr_mult` times the one before (the fork's)
    """
    rate = options.learning_rate
    if batch < options.burn_in:
        return rate * math.pow(batch / options.burn_in, options.power)
    match options.policy:
        case "step":
            return rate * math.pow(options.scale, batch // options.step)
        case "steps":
            pairs = zip(options.steps, options.scales, strict=True)
            return rate * math.prod(scale for _, scale in itertools.takewhile(lambda pair: pair[0] <= batch, pairs))
        case "exp":
            return rate * math.pow(options.gamma, batch)
        case "poly":
            return rate * math.pow(max(0.0, 1 - batch / max(1, options.max_batches)), options.power)
        case "sigmoid":
            return rate * 0.5 * (1 - math.tanh(0.5 * options.gamma * (batch - options.step)))
        case "random":
            return rate * math.pow(np.random.default_rng((seed, batch)).random(), options.power)
        case "sgdr":
            return _cosine(options, batch)
    return rate


def _cosine(options: NetOptions, batch: int) -> float:
    start, cycle = 0, options.sgdr_cycle or options.max_batches or 1
    while start + cycle < batch:
        start, cycle = start + cycle, cycle * max(1, options.sgdr_mult)
    least = options.learning_rate_min
    return least + 0.5 * (options.learning_rate - least) * (1 + math.cos(math.pi * (batch - start) / cycle))
