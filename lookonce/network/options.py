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

    @classmethod
    def from_cfg(cls, section: Section) -> NetOptions:
        """The options of a [net] section. Raises CfgError."""
        section.know("seen", "time_steps", "B1", "B2", "eps", "max_ratio", "min_ratio", *FORK_NET_OPTIONS)
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
            max_batches=section.count("max_batches", default=0),
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
        )
