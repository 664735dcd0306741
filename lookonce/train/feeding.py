"""How a cfg wants its pictures: what is done to each, and which make up a mini-batch at which size."""

from __future__ import annotations

from dataclasses import replace

from lookonce.data.batches import Augmentation
from lookonce.data.sampler import Sampler, Size, classifier_sizes, detector_sizes, fork_largest, fork_sizes
from lookonce.heads.detection import Detection
from lookonce.layers.convolution import Connected, Local
from lookonce.network import Network
from lookonce.train.memory import random_factor
from lookonce.train.settings import Order

EVERY, EVERY_OF_CLASSES = 10, 40  # batches of one size (detector.c, classifier.c)
LAST, LAST_OF_FORK = 200, 100  # batches at the end that take the largest size (detector.c)
MOSAIC = 0.5  # of the samples, with mosaic=1
UNTIL = 0.9  # of the batches: the last ones show pictures as they are judged
SMALLEST, SMALLEST_V1 = 0.001, 0.005  # boxes of a smaller share of the input are not learnt (data.c)


def augmentation_of(network: Network) -> Augmentation:
    """What learning does to pictures, by [net] and the last head.

    Version 1 cuts and stretches them, as the fork does; YOLOv2 and v3 show them whole at a random place. What is
    letterboxed when it is judged is not stretched here, and the reverse. Classifiers turn, scale and cut.
    """
    options = network.options
    common = Augmentation(
        resize=network.resize, flip=options.flip, hue=options.hue, saturation=options.saturation,
        exposure=options.exposure,
    )  # fmt: skip
    if not network.heads:
        return replace(
            common, placing="rotate", angle=options.angle, aspect=options.aspect, least=options.min_crop,
            most=options.max_crop, base=network.input.width,
        )  # fmt: skip
    head = network.heads[-1][1]
    return replace(
        common,
        placing="place" if network.resize == "letterbox" else "crop",
        jitter=float(getattr(head, "jitter", 0.0)),
        mosaic=MOSAIC if options.mosaic else 0.0,
        mosaic_until=round(UNTIL * options.max_batches) * options.subdivisions if options.mosaic else None,
        smallest=SMALLEST_V1 if isinstance(head, Detection) else SMALLEST,
    )


def sampler_of(
    network: Network,
    pictures: int,
    order: Order,
    seed: int,
    subdivisions: int | None = None,
    shares: tuple[tuple[int, float], ...] = (),
) -> Sampler:
    """Which of so many pictures make up each mini-batch, and its size: one of several with `random=1`."""
    options = network.options
    parts = subdivisions or options.subdivisions
    own = network.input.width, network.input.height
    sizes, last_from, last = sizes_of(network), None, None
    if len(sizes) > 1 and network.heads and options.max_batches:
        last_from = max(0, options.max_batches - (LAST_OF_FORK if network.cfg.fork else LAST))
        last = fork_largest(*own, random_factor(network), options.resize_step) if network.cfg.fork else None
    return Sampler(
        count=pictures,
        batch=options.batch // parts,
        seed=seed,
        sizes=sizes,
        replacement=order == "drawn",
        every=EVERY if network.heads else EVERY_OF_CLASSES,
        subdivisions=parts,
        last_from=last_from,
        last=last,
        shares=shares,
    )


def sizes_of(network: Network) -> tuple[Size, ...]:
    """The inputs that a network learns at: its own, or with `random=1` those of Darknet or of the fork.

    A network whose weights are for one size keeps it.
    """
    own = network.input.width, network.input.height
    if any(isinstance(node.layer, Connected | Local) for node in network.nodes):
        return (own,)
    if not network.heads:
        return classifier_sizes() if network.options.random else (own,)
    factor = random_factor(network)
    if not factor:
        return (own,)
    return fork_sizes(*own, factor, network.options.resize_step) if network.cfg.fork else detector_sizes()
