"""[detection]: the head of YOLO, version 1 (thesis 1.2-1.3)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from lookonce.arrays import namespace
from lookonce.darknet.cfg import Section
from lookonce.heads.head import Array, Candidates, DecodeOptions, Head, cell_corners, every_class, flat_cells
from lookonce.layers.ops import Ops, T
from lookonce.layers.shape import Shape


@dataclass(frozen=True)
class Detection(Head):
    """A flat vector: class probabilities of every cell, then confidences of every box, then x, y, w, h of every box.

    Nothing is activated: the network is trained to give the values as they are. With `sqrt`, the square roots of
    width and height (eq. 1.3).
    """

    section = "detection"
    classes: int
    coords: int
    side: int
    num: int
    softmax: bool
    sqrt: bool
    # for learning
    jitter: float = 0.2
    random: float = 0.0
    rescore: bool = False
    forced: bool = False
    coord_scale: float = 1.0
    object_scale: float = 1.0
    noobject_scale: float = 1.0
    class_scale: float = 1.0

    @classmethod
    def from_cfg(cls, section: Section, index: int) -> Detection:
        coords = section.integer("coords", default=1)
        if coords != 4:
            section.refuse("coords", "wanted coords=4: x, y, w, h (Darknet's default of 1 is of no use)")
        section.know("reorg", "resize", "max")          # of truths there may be any number
        return cls(
            classes=section.integer("classes", default=1, least=1, most=1 << 20),
            coords=coords,
            side=section.integer("side", default=7, least=1, most=1 << 10),
            num=section.integer("num", default=1, least=1, most=1 << 10),
            softmax=section.flag("softmax"),
            sqrt=section.flag("sqrt"),
            jitter=section.number("jitter", default=0.2),
            random=section.number("random", default=0.0),
            rescore=section.flag("rescore"),
            forced=section.flag("forced"),
            coord_scale=section.number("coord_scale", default=1.0),
            object_scale=section.number("object_scale", default=1.0),
            noobject_scale=section.number("noobject_scale", default=1.0),
            class_scale=section.number("class_scale", default=1.0),
        )

    def shape(self, source: Shape) -> Shape:
        cells = self.side**2
        wanted = cells * (self.num * (1 + self.coords) + self.classes)
        if source.size != wanted:
            raise ValueError(
                f"wants {wanted} values from the layer before ({self.side} x {self.side} cells x "
                f"({self.num} boxes x 5 + {self.classes} classes)); it has {source.size}"
            )
        return Shape(wanted, 1, 1)

    def forward(self, ops: Ops[T], x: T, weights: Mapping[str, T]) -> T:
        """Darknet's output: the vector as it came, classes through a softmax if the cfg says so."""
        _, c, h, w = x.shape
        x = ops.reshape(x, (-1, c * h * w, 1, 1))
        if not self.softmax:
            return x
        classes = self._class_rows(ops, x)
        rest = ops.slice(x, 1, self.side**2 * self.classes, x.shape[1])
        return ops.concat([ops.reshape(classes, (-1, self.side**2 * self.classes, 1, 1)), rest], 1)

    def decode(self, raw: Array, options: DecodeOptions) -> Candidates:
        """The boxes whose confidence times class probability passes (eq. 1.1)."""
        xp = namespace(raw)
        batch, s, b, k = raw.shape[0], self.side, self.num, self.classes
        flat = xp.reshape(raw, (batch, -1))
        first, second = s * s * k, s * s * (k + b)
        classes = xp.reshape(flat[:, :first], (batch, s * s, 1, k))
        if self.softmax:
            power = xp.exp(classes - xp.max(classes, axis=3, keepdims=True))
            classes = power / xp.sum(power, axis=3, keepdims=True)
        confidence = xp.reshape(flat[:, first:second], (batch, s * s, b, 1))
        score = xp.reshape(confidence * classes, (-1, k))                  # (N, K), N = B·S²·boxes
        corner = xp.asarray(cell_corners(s, s), dtype=raw.dtype, device=raw.device)
        corner = xp.reshape(xp.permute_dims(corner, (0, 2, 3, 1)), (1, s * s, 1, 2))
        box = xp.reshape(flat[:, second:], (batch, s * s, b, 4))
        centre = (box[..., 0:2] + corner) / s
        extent = box[..., 2:4] ** 2 if self.sqrt else box[..., 2:4]
        xyxy = xp.reshape(xp.concat([centre - extent / 2, centre + extent / 2], axis=3), (-1, 4))
        picture = xp.arange(score.shape[0], device=raw.device) // (s * s * b)
        return every_class(picture, xyxy, xp.reshape(confidence, (-1,)), score, options.threshold)

    def dense(self, ops: Ops[T], x: T, input: tuple[int, int]) -> tuple[T, T]:
        s, b, k = self.side, self.num, self.classes
        _, c, h, w = x.shape
        x = ops.reshape(x, (-1, c * h * w, 1, 1))
        first, second = s * s * k, s * s * (k + b)
        classes = self._class_rows(ops, x)                                                     # (B, S², K)
        confidence = ops.reshape(ops.slice(x, 1, first, second), (-1, s * s, b))               # (B, S², b)
        box = ops.reshape(ops.slice(x, 1, second, x.shape[1]), (-1, s * s, 4 * b))
        corner = flat_cells(ops, ops.constant(cell_corners(s, s)))                             # (1, S², 2)
        boxes, scores = [], []
        for number in range(b):
            centre = (ops.slice(box, 2, 4 * number, 4 * number + 2) + corner) / s              # (B, S², 2)
            extent = ops.slice(box, 2, 4 * number + 2, 4 * number + 4)
            extent = extent * extent if self.sqrt else extent
            boxes.append(ops.concat([centre - extent * 0.5, centre + extent * 0.5], 2))
            scores.append(classes * ops.slice(confidence, 2, number, number + 1))
        # Cell by cell, as decode numbers them.
        return self._cell_by_cell(ops, boxes, 4), self._cell_by_cell(ops, scores, k)

    def _cell_by_cell(self, ops: Ops[T], parts: Sequence[T], width: int) -> T:
        """One part (B, S², width) for each box of a cell, as rows (B, S²·boxes, width)."""
        cells = self.side**2
        each = [ops.reshape(part, (-1, cells, 1, width)) for part in parts]
        return ops.reshape(ops.concat(each, 2), (-1, cells * len(parts), width))

    def _class_rows(self, ops: Ops[T], x: T) -> T:
        """Class probabilities, (B, S², K)."""
        cells = self.side**2
        classes = ops.reshape(ops.slice(x, 1, 0, cells * self.classes), (-1, cells, self.classes))
        return ops.softmax(classes, 2) if self.softmax else classes
