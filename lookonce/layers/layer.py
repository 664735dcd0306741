"""Layer: what every section of a cfg but [net] becomes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from lookonce.darknet.cfg import Section
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Parameter, Shape

LARGEST_WINDOW = 1024            # pixels a side that one output looks at
MAX_SOURCES = 64                 # of one layer; networks in use join up to 4


class Layer:
    """A layer with one source, the layer before it. Subclasses are frozen dataclasses of their options."""

    section: ClassVar[str]

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Layer:
        """The layer that `section` declares, `index` layers after [net]. Raises CfgError."""
        raise NotImplementedError

    def sources(self, index: int) -> tuple[int, ...]:
        """The layers it reads, -1 being the network's input."""
        return (index - 1,)

    def shape(self, source: Shape) -> Shape:
        """What it puts out for what flows in. Raises ValueError, in words, if it cannot take that."""
        return source

    def parameters(self, source: Shape) -> list[Parameter]:
        """The arrays it owns, in the order of the weights file."""
        return []

    def operations(self, source: Shape) -> int:
        """Multiplications and additions a picture, as Darknet counts: two a product of a convolution or matrix."""
        return 0

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        """The layer's output for `x`, (B, C, H, W) both."""
        return x


class Junction:
    """A layer that names the layers it reads, and has a list where Layer has one source."""

    section: ClassVar[str]

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Junction:
        """The layer that `section` declares, `index` layers after [net].

        Raises CfgError, also if it names a layer that does not stand before it.
        """
        raise NotImplementedError

    def sources(self, index: int) -> tuple[int, ...]:
        """The layers it reads, in the order in which the methods below take them."""
        raise NotImplementedError

    def shape(self, sources: Sequence[Shape]) -> Shape:
        """What it puts out for what flows in. Raises ValueError, in words, if its sources do not go together."""
        raise NotImplementedError

    def parameters(self, sources: Sequence[Shape]) -> list[Parameter]:
        """The arrays it owns, in the order of the weights file."""
        return []

    def operations(self, sources: Sequence[Shape]) -> int:
        """Multiplications and additions a picture: none, as Darknet counts."""
        return 0

    def forward(self, ops: Ops[T], xs: Sequence[T], weights: Mapping[str, T]) -> T:
        """The layer's output, (B, C, H, W), for its sources' outputs, each (B, C, H, W) of its own C, H and W."""
        raise NotImplementedError


def source_layers(section: Section, key: str, index: int, most: int = MAX_SOURCES) -> tuple[int, ...]:
    """The layers that `key` lists at layer `index`: relative to it if negative, counted from [net] otherwise.

    Raises CfgError if one does not stand before this layer, or there are more than `most`.
    """
    values = section.integers(key)
    if len(values) > most:
        section.refuse(key, f"names {len(values):,} layers, wanted at most {most}")
    places = tuple(index + value if value < 0 else value for value in values)
    for place in places:
        if not 0 <= place < index:
            reach = f"-1 to -{index} or 0 to {index - 1}" if index else "a layer before it, and there is none"
            section.refuse(key, f"means layer {place}, which does not stand before this layer {index}; wanted {reach}")
    return places
