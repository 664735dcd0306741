"""Small cfgs drawn by chance, which have every kind of layer that can be learnt."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from conftest import network_of

from lookonce.errors import CfgError
from lookonce.layers.activation import ACTIVATIONS
from lookonce.network import Network

Rng = np.random.Generator
NAMES = sorted(ACTIVATIONS)


def _one(rng: Rng, *values: object) -> str:
    return str(values[int(rng.integers(len(values)))])


def _maybe(rng: Rng, line: str) -> str:
    return line if rng.random() < 0.5 else ""


def _activation(rng: Rng) -> str:
    return f"activation={_one(rng, 'leaky', 'leaky', 'linear', 'relu', *NAMES)}\n"


def _convolutional(rng: Rng) -> str:
    text = f"[convolutional]\nfilters={_one(rng, 4, 6, 8, 12)}\nsize={_one(rng, 1, 1, 2, 3, 3, 3, 5)}\n"
    text += f"stride={_one(rng, 1, 1, 1, 2)}\n" if rng.random() < 0.9 else "stride_x=1\nstride_y=2\n"
    text += _one(rng, "pad=1\n", "pad=1\n", "padding=1\n", "")
    text += _one(rng, "", "", "groups=2\n", "groups=4\n") + _one(rng, "", "", "", "dilation=2\n")
    return text + _maybe(rng, "batch_normalize=1\n") + _activation(rng)


def _connected(rng: Rng) -> str:
    return f"[connected]\noutput={_one(rng, 8, 16, 30)}\n" + _maybe(rng, "batch_normalize=1\n") + _activation(rng)


def _local(rng: Rng) -> str:
    window = _one(rng, "size=3\npad=1\n", "size=2\n", "size=3\n", "size=1\n")
    return f"[local]\nfilters={_one(rng, 2, 4)}\nstride={_one(rng, 1, 2)}\n{window}{_activation(rng)}"


def _maxpool(rng: Rng) -> str:
    size = int(rng.integers(1, 6))
    padding = rng.integers(0, 2 * size - 1)
    return f"[maxpool]\nsize={size}\nstride={rng.integers(1, 4)}\n" + _maybe(rng, f"padding={padding}\n")


def _normalization(rng: Rng) -> str:
    # Darknet's sum lacks a channel: a larger alpha would take the logarithm of less than 0.
    return f"[normalization]\nsize={_one(rng, 2, 3, 5)}\nalpha={_one(rng, 1e-4, 3e-3)}\nbeta={_one(rng, 0.5, 0.75)}\n"


def _route(rng: Rng) -> str:
    layers = ",".join(str(-int(rng.integers(1, 5))) for _ in range(int(rng.integers(1, 4))))
    return f"[route]\nlayers={layers}\n" + _one(rng, "", "", "groups=2\n", "groups=2\ngroup_id=1\n")


def _shortcut(rng: Rng) -> str:
    text = f"[shortcut]\nfrom=-{rng.integers(2, 6)}\n" + _activation(rng)
    return text + _one(rng, "", "", "alpha=.5\nbeta=2\n")


def _weighted_shortcut(rng: Rng) -> str:
    """Layers of one shape, that a list of weighted sources may be had."""
    same = "[convolutional]\nfilters=6\nsize=1\nactivation=leaky\n"
    kind, normalization = _one(rng, "per_feature", "per_channel"), _one(rng, "none", "relu", "softmax")
    weighted = f"[shortcut]\nfrom=-2,-3\nweights_type={kind}\nweights_normalization={normalization}\n"
    return same + same + same + weighted + _activation(rng)


def _scale_channels(rng: Rng) -> str:
    gate = "[convolutional]\nfilters=8\nsize=1\nactivation=logistic\n"
    if rng.random() < 0.5:
        return gate + "[avgpool]\n" + gate + f"[scale_channels]\nfrom=-3\n{_activation(rng)}"
    return gate + gate.replace("8", "1") + f"[scale_channels]\nfrom=-2\nscale_wh=1\n{_activation(rng)}"


def _sam(rng: Rng) -> str:
    gate = "[convolutional]\nfilters=6\nsize=1\nactivation=logistic\n"
    return gate.replace("logistic", "leaky") + gate + f"[sam]\nfrom=-2\n{_activation(rng)}"


def _upsample(rng: Rng) -> str:
    return f"[upsample]\nstride={_one(rng, 2, 3, -2)}\n" + _maybe(rng, "scale=.5\n")


def _reorg(rng: Rng) -> str:
    options = "stride=2\n", "stride=2\nreverse=1\n", "extra=3\n", "flatten=1\n", "flatten=1\nreverse=1\n"
    return "[reorg]\n" + _one(rng, *options)


def _crop(rng: Rng) -> str:
    height, width = rng.integers(3, 9, 2)
    return f"[crop]\ncrop_height={height}\ncrop_width={width}\nflip=1\n" + _maybe(rng, "noadjust=1\n")


def _softmax(rng: Rng) -> str:
    return "[softmax]\n" + _one(rng, "", "groups=2\n", "temperature=2\n", "spatial=1\n")


def _head(rng: Rng) -> str:
    anchors = "anchors=1,2,3,4,5,6\n"
    return _one(
        rng,
        "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\n" + anchors,
        "[convolutional]\nfilters=14\nsize=1\nactivation=linear\n[yolo]\nclasses=2\nnum=3\nmask=0,2\nscale_x_y=1.1\n"
        + anchors,
        "[convolutional]\nfilters=21\nsize=1\nactivation=linear\n[region]\nclasses=2\nnum=3\nsoftmax=1\n" + anchors,
        "[connected]\noutput=48\nactivation=linear\n[detection]\nclasses=2\ncoords=4\nside=2\nnum=2\nsoftmax=1\n",
    )


def _plain(section: str) -> Callable[[Rng], str]:
    return lambda rng: f"[{section}]\n"


DRAWN: tuple[Callable[[Rng], str], ...] = (
    _convolutional, _convolutional, _convolutional, _convolutional, _connected, _local, _maxpool, _maxpool,
    _plain("avgpool"), _plain("batchnorm"), _normalization, _plain("l2norm"),
    lambda rng: "[activation]\n" + _activation(rng), _route, _route, _shortcut, _shortcut, _weighted_shortcut,
    _scale_channels, _sam, _upsample, _reorg, _reorg, lambda rng: "[reorg3d]\nstride=2\n", _crop,
    lambda rng: "[dropout]\nprobability=.3\n", _softmax, _plain("logistic"), _head, _head,
)  # fmt: skip
LARGEST = 20_000  # values of a layer: enough to be wrong in, and quick


def drawn(seed: int) -> Network:
    """A network of 4 to 12 sections; those that do not go with what is there are drawn again."""
    rng = np.random.default_rng(seed)
    channels, height, width = (int(rng.integers(*ends)) for ends in ((1, 5), (6, 15), (6, 15)))
    text = f"[net]\nwidth={width}\nheight={height}\nchannels={channels}\nbatch=3\n"
    text += _maybe(rng, "letter_box=1\n")
    text += "[convolutional]\nfilters=8\nsize=3\npad=1\nbatch_normalize=1\nactivation=leaky\n"
    network = network_of(text)
    wanted = int(rng.integers(4, 13))
    for _ in range(20 * wanted):
        longer = text + DRAWN[int(rng.integers(len(DRAWN)))](rng)
        try:
            found = network_of(longer)
        except CfgError:
            continue
        if max(node.shape.size for node in found.nodes) <= LARGEST:
            text, network = longer, found
        if len(network.nodes) >= wanted:
            break
    return network_of(text + "[cost]\n")
