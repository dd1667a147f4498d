"""A map of words: their vectors' two directions of largest variance, drawn as SVG, or as PNG by matplotlib.

Both pictures have the same geometry, in pixels from the top left. Imports nothing that loads NumPy at the top.
"""

from __future__ import annotations

import io
import math
import unicodedata
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from typing import Any

WIDTH, HEIGHT, SIZE = 1000, 800, 12.0  # of the picture and of its letters, in pixels
_INK, _BLUE = "#7d8590", "#3b82f6"  # the first is readable on white and on near black
_REACH = (0.0, 14.0, 28.0, 44.0, 62.0, 82.0)  # how far a label may be moved to where it covers no other
_CHINESE = ("Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", "PingFang SC", "Microsoft YaHei", "SimHei")


@dataclass(frozen=True)
class Label:
    """A word, the point (x, y) that it belongs to, and the left end (left, middle) of where it is written."""

    word: str
    x: float
    y: float
    left: float
    middle: float
    width: float

    @property
    def leader(self) -> tuple[float, float] | None:
        """Where a line from the point ends, if the word stands too far off to be its own."""
        end = (min(max(self.x, self.left), self.left + self.width), self.middle)
        return end if math.dist(end, (self.x, self.y)) > SIZE else None


def principal_components(rows: Any) -> Any:
    """(V, 2): each row's coordinates along the two directions of largest variance, by the singular value decomposition.

    A sign is arbitrary in the mathematics; here the largest coordinate of each column is positive.
    """
    import numpy as np

    rows = np.asarray(rows, np.float64)
    left, sizes, _ = np.linalg.svd(rows - np.mean(rows, axis=0), full_matrices=False)
    points = np.zeros((len(rows), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    largest = np.take_along_axis(points, np.argmax(np.abs(points), axis=0, keepdims=True), axis=0)
    return points * np.where(largest < 0, -1.0, 1.0)


def labels(words: Sequence[str], points: Any) -> list[Label]:
    """The words at their points (V, 2), the same scale along both axes, each beside its point or as near as is free.

    The first words choose first. Where nothing in reach is free, a word is written where it covers the least.
    """
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min((WIDTH - 200) / ((high - low)[0] or 1.0), (HEIGHT - 100) / ((high - low)[1] or 1.0))
    shifted = (points - (low + high) / 2) * scale
    places = [(WIDTH / 2 + float(x), HEIGHT / 2 - float(y)) for x, y in shifted]
    taken = [(x - 2.5, y - 2.5, x + 2.5, y + 2.5) for x, y in places]
    found = []
    for word, (x, y) in zip(words, places, strict=True):
        width = SIZE * sum(1.0 if unicodedata.east_asian_width(c) in "WF" else 0.6 for c in word)
        boxes = [
            box for box in _boxes(x, y, width) if box[0] >= 0 and box[1] >= 0 and box[2] <= WIDTH and box[3] <= HEIGHT
        ]
        best = min(boxes or list(_boxes(x, y, width))[:1], key=lambda box: sum(_covered(box, other) for other in taken))
        taken.append(best)
        found.append(Label(word, x, y, best[0], (best[1] + best[3]) / 2, width))
    return found


def _boxes(x: float, y: float, width: float) -> Any:
    """(left, top, right, bottom) of the places for a word beside (x, y), the nearest first."""
    height = SIZE + 1
    for reach in _REACH:
        for eighth in (0, 4, 1, 7, 3, 5, 2, 6) if reach else (0, 4, 2, 6):
            dx, dy = math.cos(eighth * math.pi / 4), -math.sin(eighth * math.pi / 4)
            middle_x, middle_y = x + dx * (5 + reach + width / 2), y + dy * (4 + reach + height / 2)
            yield middle_x - width / 2, middle_y - height / 2, middle_x + width / 2, middle_y + height / 2


def _covered(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    """The area that two boxes share."""
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def svg(found: Sequence[Label]) -> str:
    """The map as SVG."""
    body = []
    for label in found:
        x, y = f"{label.x:.1f}", f"{label.y:.1f}"
        if end := label.leader:
            body.append(
                f'<line x1="{x}" y1="{y}" x2="{end[0]:.1f}" y2="{end[1]:.1f}" stroke="{_INK}" stroke-width="0.4"/>'
            )
        body.append(f'<circle cx="{x}" cy="{y}" r="2.5" fill="{_BLUE}"/>')
        body.append(
            f'<text x="{label.left:.1f}" y="{label.middle + 0.35 * SIZE:.1f}" font-size="{SIZE:g}" fill="{_INK}">'
            f"{escape(label.word)}</text>"
        )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" '
        f'role="img" font-family="system-ui, sans-serif"><title>Map of {len(found)} words</title>'
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def png(found: Sequence[Label]) -> tuple[bytes, bool]:
    """(the map as PNG, twice as many pixels each way; whether the fonts have all its letters). ImportError without
    matplotlib.
    """
    from matplotlib.figure import Figure  # pyright: ignore[reportMissingImports]
    from matplotlib.font_manager import fontManager  # pyright: ignore[reportMissingImports]

    known = {font.name for font in fontManager.ttflist}
    points_a_pixel, fonts = 72 / 100, ["DejaVu Sans", *(name for name in _CHINESE if name in known)]
    figure = Figure(figsize=(WIDTH / 100, HEIGHT / 100), dpi=200)
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, WIDTH), ylim=(HEIGHT, 0))
    axes.axis("off")
    axes.scatter([a.x for a in found], [a.y for a in found], s=(5 * points_a_pixel) ** 2, color=_BLUE, linewidths=0)
    for label in found:
        if end := label.leader:
            axes.plot([label.x, end[0]], [label.y, end[1]], color=_INK, linewidth=0.3)
        axes.text(
            label.left, label.middle, label.word, fontsize=SIZE * points_a_pixel, color="#333333", family=fonts,
            verticalalignment="center_baseline", parse_math=False,
        )  # fmt: skip
    target = io.BytesIO()
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        figure.savefig(target, format="png")
    return target.getvalue(), not any("missing from" in str(warning.message) for warning in said)
