"""[net]: the input's size, and how the network learns."""

from __future__ import annotations

from dataclasses import dataclass

from lookonce.darknet.cfg import Section
from lookonce.darknet.dialect import FORK_NET_OPTIONS
from lookonce.layers.shape import Shape

POLICIES = ("constant", "step", "exp", "poly", "steps", "sigmoid", "sig", "random", "sgdr")
LARGEST_SIDE = 1 << 20


@dataclass(frozen=True)
class NetOptions:
    """The options of [net], named and defaulted as Darknet does (parser.c, parse_net_options)."""

    input: Shape
    letter_box: bool | None             # of the fork: whether its makers letterbox; None where the cfg does not say
    batch: int
    subdivisions: int
    learning_rate: float
    momentum: float
    decay: float
    adam: bool
    policy: str
    burn_in: int
    power: float
    max_batches: int
    step: int
    scale: float
    gamma: float
    steps: tuple[int, ...]
    scales: tuple[float, ...]
    min_crop: int
    max_crop: int
    center: bool
    clip: float
    angle: float
    aspect: float
    saturation: float
    exposure: float
    hue: float
    random: bool
    notruth: bool
    b1: float                           # Adam's decay of the mean of gradients, and of that of their squares
    b2: float
    eps: float
    # of the fork
    learning_rate_min: float            # where the cosine of policy=sgdr ends
    sgdr_cycle: int                     # batches of its first cycle; each next one is sgdr_mult times as long
    sgdr_mult: int
    ema_alpha: float                    # of the average of weights that is kept and judged; 0 for none
    mosaic: bool
    flip: bool
    label_smooth_eps: float             # of classifiers; heads have their own
    resize_step: int                    # of input sizes while they change

    @classmethod
    def from_cfg(cls, section: Section) -> NetOptions:
        """The options of a [net] section. Raises CfgError."""
        section.know("seen", "time_steps", "max_ratio", "min_ratio", *FORK_NET_OPTIONS)
        if section.has("inputs") and not section.has("height"):
            section.refuse("inputs", "declares a vector: not a vision network; lookonce runs networks on pictures")
        width = section.integer("width", least=1, most=LARGEST_SIDE)
        policy = section.word("policy", default="constant", among=POLICIES)
        steps, scales = section.numbers("steps", default=()), section.numbers("scales", default=())
        if not all(step.is_integer() for step in steps):
            section.refuse("steps", "has an item that is not a whole number")
        if policy == "steps" and len(steps) != len(scales):
            section.refuse("scales", f"has {len(scales)} values; steps has {len(steps)}, and each needs one")
        batch = section.integer("batch", default=1, least=1, most=1 << 20)
        subdivisions = section.integer("subdivisions", default=1, least=1, most=1 << 20)
        max_batches = section.count("max_batches", default=0)
        if subdivisions > batch:
            section.warn(section.line, f"[net] subdivisions={subdivisions} is more than batch={batch}")
        return cls(
            input=Shape(
                section.integer("channels", least=1, most=LARGEST_SIDE),
                section.integer("height", least=1, most=LARGEST_SIDE),
                width,
            ),
            letter_box=section.flag("letter_box") if section.has("letter_box") else None,
            batch=batch,
            subdivisions=subdivisions,
            learning_rate=section.number("learning_rate", default=0.001, least=0),
            momentum=section.number("momentum", default=0.9, least=0, most=1),
            decay=section.number("decay", default=0.0001, least=0),
            adam=section.flag("adam"),
            policy="sigmoid" if policy == "sig" else policy,
            burn_in=section.count("burn_in", default=0),
            power=section.number("power", default=4.0),
            max_batches=max_batches,
            step=section.integer("step", default=1, least=1),
            scale=section.number("scale", default=1.0),
            gamma=section.number("gamma", default=1.0),
            steps=tuple(int(step) for step in steps),
            scales=scales,
            min_crop=section.integer("min_crop", default=width, least=0),
            max_crop=section.integer("max_crop", default=2 * width, least=0),
            center=section.flag("center"),
            clip=section.number("clip", default=0.0, least=0),
            angle=section.number("angle", default=0.0),
            aspect=section.number("aspect", default=1.0, least=0),
            saturation=section.number("saturation", default=1.0, least=0),
            exposure=section.number("exposure", default=1.0, least=0),
            hue=section.number("hue", default=0.0),
            random=section.flag("random"),
            notruth=section.flag("notruth"),
            b1=section.number("B1", default=0.9, least=0, most=1),
            b2=section.number("B2", default=0.999, least=0, most=1),
            eps=section.number("eps", default=1e-7, least=0),
            learning_rate_min=section.number("learning_rate_min", default=1e-5, least=0),
            sgdr_cycle=section.count("sgdr_cycle", default=max_batches),
            sgdr_mult=section.integer("sgdr_mult", default=2, least=1),
            ema_alpha=section.number("ema_alpha", default=0.0, least=0, most=1),
            mosaic=section.flag("mosaic"),
            flip=section.flag("flip", default=True),
            label_smooth_eps=section.number("label_smooth_eps", default=0.0, least=0, most=1),
            resize_step=section.integer("resize_step", default=32, least=1, most=LARGEST_SIDE),
        )
