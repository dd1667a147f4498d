"""Attention's weights as a picture: one row for each token that was written, dark where it looked."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape

import numpy as np

from ..files import StrPath, write_text_atomically
from .curve import INK

__all__ = ["attention_map_svg"]

_CELL = 22
_BLUE = "#3b82f6"


def attention_map_svg(weights: np.ndarray, source: Sequence[str], target: Sequence[str], path: StrPath) -> None:
    """Draw weights (T, S), each from 0 to 1, of the target's tokens over the source's; written atomically.

    Raises ValueError unless there is a row for each target and a column for each source token.
    """
    if weights.shape != (len(target), len(source)):
        raise ValueError(
            f"attention_map_svg: weights has shape {weights.shape}, but there are {len(target)} target and "
            f"{len(source)} source tokens"
        )
    widest, tallest = (max(map(len, tokens), default=1) for tokens in (target, source))
    turned = tallest > 2
    left, top = 60 + 9 * widest, 64 + (9 * tallest if turned else 12)
    width, height = left + _CELL * len(source) + 20, top + _CELL * len(target) + 20
    body = [_label(left, 26, "source", "start"), _label(16, top - 10, "target", "start")]
    for s, token in enumerate(source):
        x = left + _CELL * (s + 0.5)
        turn = f' transform="rotate(-90 {x:g} {top - 8})"' if turned else ""
        body.append(_label(x, top - 8, _seen(token), "start" if turned else "middle", turn))
    for t, token in enumerate(target):
        y = top + _CELL * t
        body.append(_label(left - 10, y + 0.7 * _CELL, _seen(token), "end"))
        for s, weight in enumerate(weights[t]):
            title = f"<title>{escape(_seen(token))} looks at {escape(_seen(source[s]))}: {weight:.2f}</title>"
            body.append(
                f'<rect x="{left + _CELL * s}" y="{y}" width="{_CELL - 1}" height="{_CELL - 1}" fill="{_BLUE}" '
                f'fill-opacity="{0.06 + 0.94 * float(weight):.3f}">{title}</rect>'
            )
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="ui-monospace, SFMono-Regular, Menlo, monospace">'
    )
    lines = [head, "<title>Where attention looks: target tokens over source tokens</title>", *body, "</svg>"]
    write_text_atomically(path, "\n".join(lines) + "\n")


def _seen(token: str) -> str:
    """A token that can be seen: a space as a middle dot, a line break as its symbol."""
    return token.replace(" ", "\u00b7").replace("\n", "\u21b5")


def _label(x: float, y: float, text: str, anchor: str, extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:g}" font-size="14" fill="{INK}" text-anchor="{anchor}"{extra}>{escape(text)}</text>'
