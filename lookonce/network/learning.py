"""How one layer learns: the options that every section of a cfg may have, read only when a network learns."""

from __future__ import annotations

from dataclasses import dataclass

from lookonce.darknet.cfg import Section
from lookonce.errors import shown, warn
from lookonce.network.network import Network

# What Darknet or the fork learn by, that is read here without being obeyed: by section.
IGNORED = {
    "net": ("center", "notruth", "blur", "gaussian_noise", "mixup", "cutmix", "adversarial_lr", "attention",
            "dynamic_minibatch", "sequential_subdivisions", "weights_reject_freq"),
    "yolo": ("objectness_smooth", "iou_thresh_kind", "delta_normalizer", "counters_per_class", "resize"),
    "dropout": ("dropblock",),
    "crop": ("angle", "saturation", "exposure", "shift"),
}  # fmt: skip
UNSET = {"saturation": "1", "exposure": "1", "delta_normalizer": "1", "iou_thresh_kind": "iou", "resize": "1"}


@dataclass(frozen=True)
class LayerLearning:
    """What a section says of learning.

    `rate` multiplies the network's. With `stop` this layer and all before it stay as they are. `frozen` keeps the
    layer's own arrays, `only_batch_norm` all of them but batch norm's. `clip` holds weights within plus and minus
    that, 0 for no limit. `smooth` is label smoothing of a loss that this layer is.
    """

    rate: float = 1.0
    stop: bool = False
    frozen: bool = False
    only_batch_norm: bool = False
    clip: float = 0.0
    smooth: float = 0.0

    @classmethod
    def from_section(cls, section: Section, clip: float) -> LayerLearning:
        """What `section` says; `clip` is [net]'s, which holds where it says none. Raises CfgError."""
        section.unsupported("truth", "onlyforward", "burnin_update")
        return cls(
            rate=section.number("learning_rate", default=1.0, least=0),
            stop=section.flag("stopbackward"),
            frozen=section.flag("dont_update"),
            only_batch_norm=section.flag("train_only_bn"),
            clip=section.number("clip", default=clip, least=0),
            smooth=section.number("smooth", default=0.0, least=0, most=1),
        )


def warn_of_ignored(network: Network) -> None:
    """Name the options of a cfg that would change how it learns, and do not here."""
    for section in network.cfg.sections:
        for key in IGNORED.get("net" if section.name == "network" else section.name, ()):
            option = section.options.get(key)
            if option is not None and option.value not in (UNSET.get(key, "0"), f"{UNSET.get(key, '0')}.0"):
                place = f"{network.cfg.path}:{option.line}"
                said = f"[{section.name}] {key}={shown(option.value)}"
                warn(f"{place}: {said} is not obeyed: the network learns without it")


def learning_of(network: Network) -> tuple[LayerLearning, ...]:
    """What each layer's section says of learning. Raises CfgError."""
    clip = network.options.clip
    return tuple(LayerLearning.from_section(section, clip) for section in network.cfg.sections[1:])
