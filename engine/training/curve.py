"""The loss curve of a run as one SVG file, drawn by hand: no plotting library, readable on light and dark pages."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from ..errors import UserError
from ..files import StrPath, write_text_atomically

__all__ = ["loss_curve_svg"]

Points = list[tuple[float, float]]  # (step, loss)

_WIDTH, _HEIGHT = 800, 450
_LEFT, _RIGHT, _TOP, _BOTTOM = 80, 760, 76, 394  # the plot's edges
INK, _BLUE, _ORANGE = "#7d8590", "#3b82f6", "#ea7317"  # contrast 3:1 or more on white and on near black
_MOST_POINTS = 1000


def loss_curve_svg(metrics: Sequence[Mapping[str, Any]], path: StrPath, *, title: str = "Loss") -> None:
    """Draw the `loss` and `validation_loss` of the records (as `read_metrics` returns them) against `step`.

    Fifty training losses or more are drawn faint, with their moving average over a fiftieth of the run on top.
    Losses that are not finite are left out. The file is self-contained and written atomically.
    Raises UserError if there is no loss to draw.
    """
    training, validation = _points(metrics, "loss"), _points(metrics, "validation_loss")
    if not training and not validation:
        raise UserError(f"cannot draw {path}: the metrics hold no finite loss or validation_loss")
    raw = _thinned(training)
    smooth = _moving_average(raw, len(raw) // 100) if len(raw) >= 50 else raw

    x_end = max(step for step, _ in training + validation) or 1.0
    losses = [loss for _, loss in raw + validation]
    y_ticks = _ticks(min(losses), max(losses), 6)
    y_low, y_high = y_ticks[0], y_ticks[-1]

    def place(points: Points) -> Points:
        x_scale, y_scale = (_RIGHT - _LEFT) / x_end, (_BOTTOM - _TOP) / (y_high - y_low)
        return [(_LEFT + step * x_scale, _BOTTOM - (loss - y_low) * y_scale) for step, loss in points]

    body = [_text(_LEFT, 30, escape(title), size=17, extra=' font-weight="600"')]
    for tick, (_, y) in zip(y_ticks, place([(0.0, tick) for tick in y_ticks]), strict=True):
        body.append(f'<path d="M{_LEFT} {y:.1f}H{_RIGHT}" stroke="{INK}" stroke-opacity="0.22"/>')
        body.append(_text(_LEFT - 10, y + 4.5, _number(tick, y_ticks), anchor="end"))
    x_ticks = [tick for tick in _ticks(0.0, x_end, 8) if tick <= x_end and tick == int(tick)]
    for tick, (x, _) in zip(x_ticks, place([(tick, y_low) for tick in x_ticks]), strict=True):
        body.append(f'<path d="M{x:.1f} {_BOTTOM}v6" stroke="{INK}"/>')
        body.append(_text(x, _BOTTOM + 23, f"{tick:,.0f}", anchor="middle"))
    body.append(f'<path d="M{_LEFT} {_BOTTOM}H{_RIGHT}" stroke="{INK}"/>')
    body.append(_text((_LEFT + _RIGHT) / 2, _HEIGHT - 12, "iteration", anchor="middle"))
    middle = (_TOP + _BOTTOM) / 2
    body.append(_text(20, middle, "loss", anchor="middle", extra=f' transform="rotate(-90 20 {middle})"'))

    legend: list[tuple[str, str]] = []
    if training:
        if smooth is not raw:
            body.append(_line(place(raw), _BLUE, 1.0, 0.35))
        body.append(_line(place(smooth), _BLUE, 2.2))
        body += _dots(place(smooth), _BLUE) if len(smooth) == 1 else []
        legend.append((f"training {smooth[-1][1]:#.4g}", _BLUE))
    if validation:
        body.append(_line(place(validation), _ORANGE, 2.2))
        body += _dots(place(validation), _ORANGE) if len(validation) <= 60 else []
        best_step, best = min(validation, key=lambda point: point[1])
        last = f"validation {validation[-1][1]:#.4g}"
        legend.append((last if best == validation[-1][1] else f"{last}, best {best:#.4g} at {best_step:,.0f}", _ORANGE))
    entries = [
        f'<tspan dx="{20 * (i > 0)}" fill="{ink}" font-weight="700">\u2014</tspan> {t}'
        for i, (t, ink) in enumerate(legend)
    ]
    body.append(_text(_LEFT, 54, "".join(entries)))

    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}" height="{_HEIGHT}" '
        f'role="img" font-family="system-ui, -apple-system, Segoe UI, Helvetica, Arial, sans-serif">'
    )
    drawing = "\n".join([head, f"<title>{escape(title)}: {', '.join(text for text, _ in legend)}</title>", *body])
    write_text_atomically(path, drawing + "\n</svg>\n")


def _points(metrics: Sequence[Mapping[str, Any]], name: str) -> Points:
    pairs = [(float(record["step"]), record.get(name)) for record in metrics]
    return [(step, float(loss)) for step, loss in pairs if loss is not None and math.isfinite(loss)]


def _thinned(points: Points) -> Points:
    """At most _MOST_POINTS points: means of equally many neighbours, as many as it takes."""
    if len(points) <= _MOST_POINTS:
        return points
    edges = [index * len(points) // _MOST_POINTS for index in range(_MOST_POINTS + 1)]
    groups = [points[first:last] for first, last in pairwise(edges)]
    return [(sum(x for x, _ in g) / len(g), sum(y for _, y in g) / len(g)) for g in groups]


def _moving_average(points: Points, reach: int) -> Points:
    """Centred means of 2 reach + 1 losses, of fewer towards the ends, so that the line ends where they do."""
    result: Points = []
    for index, (step, _) in enumerate(points):
        near = min(reach, index, len(points) - 1 - index)
        window = points[index - near : index + near + 1]
        result.append((step, sum(loss for _, loss in window) / len(window)))
    return result


def _ticks(low: float, high: float, most: int) -> list[float]:
    """Two to most + 1 multiples of 1, 2 or 5 times a power of ten, the first <= low and the last >= high."""
    if high - low <= 1e-9 * max(abs(low), abs(high)):
        pad = abs(low) / 2 or 1.0
        low, high = low - pad, high + pad
    power = 10.0 ** math.floor(math.log10((high - low) / most))
    step = next(factor * power for factor in (1, 2, 5, 10, 20) if (high - low) / (factor * power) <= most - 1)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [float(f"{count * step:.12g}") for count in range(first, last + 1)]


def _number(tick: float, ticks: Sequence[float]) -> str:
    decimals = max(0, -math.floor(math.log10(ticks[1] - ticks[0]) + 1e-9))
    return f"{tick:,.{decimals}f}" if decimals <= 4 else f"{tick:g}"


def _text(x: float, y: float, text: str, *, size: int = 13, anchor: str = "start", extra: str = "") -> str:
    return f'<text x="{x:g}" y="{y:.1f}" font-size="{size}" fill="{INK}" text-anchor="{anchor}"{extra}>{text}</text>'


def _dots(points: Points, colour: str) -> list[str]:
    return [f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3.2" fill="{colour}"/>' for x, y in points]


def _line(points: Points, colour: str, width: float, opacity: float = 1.0) -> str:
    path = "M" + "L".join(f"{x:.1f} {y:.1f}" for x, y in points)
    style = f'fill="none" stroke="{colour}" stroke-width="{width}" stroke-opacity="{opacity}"'
    return f'<path d="{path}" {style} stroke-linejoin="round" stroke-linecap="round"/>'
