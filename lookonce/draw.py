"""Boxes and names onto a picture."""

from __future__ import annotations

import colorsys
import io
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont, PngImagePlugin

from lookonce import files
from lookonce.detections import Detections
from lookonce.errors import shown
from lookonce.shapes import UInt8

Colour = tuple[int, int, int]
Rectangle = tuple[int | float, ...]           # left, top, right, bottom

MARK = b"drawn by lookonce"                   # a comment in every file that was drawn


def draw(picture: UInt8[np.ndarray, "H W 3"], found: Detections) -> UInt8[np.ndarray, "H W 3"]:
    """A copy of the picture with each box, its name and its score.

    Names go above their box, below it, or inside its top, wherever they cover the fewest of those already written;
    the surest are written first.
    """
    image = Image.fromarray(np.ascontiguousarray(picture))
    pen = ImageDraw.Draw(image)
    width = max(1, round(0.005 * min(image.size)))                       # Darknet: .006 of the height
    font = _font(max(11, round(0.023 * min(image.size))))
    known = found[np.isfinite(found.clipped().xyxy).all(axis=1)]                # weights may give what is no number
    boxes = [(one, tuple(round(x) for x in one.xyxy)) for one in known.clipped()]
    boxes = [(one, box) for one, box in boxes if box[2] > box[0] and box[3] > box[1]]
    for one, (left, top, right, bottom) in reversed(boxes):
        pen.rectangle((left, top, right - 1, bottom - 1), outline=colour_of(one.label), width=width)
    written = np.zeros((0, 4))
    for one, box in boxes:
        text = f"{shown(one.name)} {one.score:.0%}"
        x0, y0, x1, y1 = pen.textbbox((0, 0), text, font=font)
        plate = _free_place(box, x1 - x0 + 2 * width, y1 - y0 + 2 * width, image.size, written)
        written = np.vstack([written, plate])
        colour = colour_of(one.label)
        ink = (0, 0, 0) if _brightness(colour) > 140 else (255, 255, 255)
        pen.rectangle(plate, fill=colour)
        pen.text((plate[0] + width - x0, plate[1] + width - y0), text, fill=ink, font=font)
    return np.array(image)


def colour_of(label: int) -> Colour:
    """A colour for a class: neighbours differ by the golden angle, and by how full and how bright they are."""
    full, bright = ((0.75, 0.95), (0.55, 0.9), (0.95, 0.75))[label % 3]
    r, g, b = colorsys.hsv_to_rgb(label * 0.61803398875 % 1, full, bright)
    return round(255 * r), round(255 * g), round(255 * b)


def save(picture: UInt8[np.ndarray, "H W 3"], path: Path) -> None:
    """Write a picture as its suffix says, JPEG or PNG, marked as ours; it appears under `path` only when it is whole.

    Raises DataError if no file can be written there.
    """
    buffer = io.BytesIO()
    if path.suffix.lower() == ".png":
        comment = PngImagePlugin.PngInfo()
        comment.add_text("Comment", MARK.decode())
        Image.fromarray(picture).save(buffer, "PNG", pnginfo=comment)
    else:
        Image.fromarray(picture).save(buffer, "JPEG", quality=92, comment=MARK)
    with files.write_atomically(path) as file:
        file.write(buffer.getbuffer())


def _free_place(
    box: Rectangle, wide: int | float, high: int | float, size: tuple[int, int], written: np.ndarray
) -> Rectangle:
    """Where to write a name: the place at the box, inside the picture, that overlaps least with what is `written`."""
    left, top, _, bottom = box
    x = min(left, max(0, size[0] - wide))
    places = [(x, y, x + wide, y + high) for y in (top - high, bottom, top) if y >= 0 and y + high <= size[1]]
    return min(places or [(x, 0, x + wide, high)], key=lambda place: _overlap(np.array(place), written))


def _overlap(one: np.ndarray, others: np.ndarray) -> float:
    """The area that an xyxy rectangle has in common with others (N, 4)."""
    sides = np.minimum(one[2:], others[:, 2:]) - np.maximum(one[:2], others[:, :2])         # (N, 2)
    return float(sides.clip(0).prod(axis=1).sum())


def _brightness(colour: Colour) -> float:
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    """Pillow's own font: no file of the system is needed."""
    return ImageFont.load_default(size)
