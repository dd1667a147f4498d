"""The roofline as a picture: production's kernels, numbered, forward on the left and backward on the right.

A kernel stands at the operations a byte of its row's cost, as high as the operations a second that it reached. Where bytes
bound it, its distance below its line is what is left to gain; how many operations an exponential counts as moves it along the
line only.
"""

from __future__ import annotations

import math
import sys
from pathlib import Path
from typing import Any

DIRECTIONS = {"forward": "#1d4ed8", "backward": "#c2410c"}
NEAR = 9.0
"""Points between a number and its mark; numbers keep as far apart from each other."""


def pyplot(what: str) -> Any:
    """matplotlib.pyplot, for files with the same bytes each time; None, and one line, where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        print(f"NOTE: no picture of {what} without matplotlib: pip install 'handgrad[plot]'", file=sys.stderr)
        return None
    matplotlib.use("Agg")
    matplotlib.rcParams |= {"svg.fonttype": "none", "svg.hashsalt": "handgrad", "font.size": 9}
    from matplotlib import pyplot as plt

    return plt


def draw(result: dict[str, Any], path: Path) -> None:
    """path_roofline.svg and path_roofline.png; one line where matplotlib is missing."""
    plt = pyplot("the roofline")
    if plt is None:
        return
    names = list(dict.fromkeys(name.rsplit(" ", 1)[0] for name in result["results"]))
    lines = math.ceil(len(names) / 4)
    figure = plt.figure(figsize=(14, 6.4 + 0.17 * lines), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[6.4, 0.17 * lines + 0.2])
    panels = [figure.add_subplot(grid[0, 0])]
    panels.append(figure.add_subplot(grid[0, 1], sharex=panels[0], sharey=panels[0]))
    places = [[placed(result, name, direction) for name in names] for direction in DIRECTIONS]
    lowest = min((place[1] for side in places for place in side if place), default=1.0)
    for axes, (direction, color), side in zip(panels, DIRECTIONS.items(), places, strict=True):
        roofs(axes, result["limits"], lowest)
        axes.set_title(direction, color=color)
        axes.set_xlabel("operations a byte")
        points = [(number, *place) for number, place in enumerate(side, 1) if place]
        axes.scatter([p[1] for p in points], [p[2] for p in points], s=14, color=color, zorder=3)
        number_points(axes, points)
    panels[0].set_ylabel("GFLOP/s")
    legend = figure.add_subplot(grid[1, :])
    legend.axis("off")
    for i, name in enumerate(names):
        column, line = divmod(i, lines)
        legend.text(
            column / 4, 1 - line / lines, f"{i + 1:>2}  {name}", fontsize=8, va="top", transform=legend.transAxes
        )
    threads = result["limits"]["threads"]
    figure.suptitle(
        f"handgrad's kernels in float32 on {threads} threads, arrays from memory where they were timed cold"
    )
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        figure.savefig(path.with_name(path.name + "_roofline" + suffix), dpi=110, metadata=metadata)
    plt.close(figure)


def placed(result: dict[str, Any], name: str, direction: str) -> tuple[float, float] | None:
    """(operations a byte, GFLOP/s) of production's kernel, else of the formula; None where there is no such point."""
    found = result["results"].get(f"{name} {direction}")
    if not found or not found["flops"]:
        return None
    timed = found["times"].get("cold") or found["times"].get("warm") or {}
    row = timed.get("numba") or timed.get("formula")
    return (found["flops"] / found["bytes"], found["flops"] / row["median"] * 1e-6) if row else None


def roofs(axes: Any, limits: dict[str, Any], lowest: float) -> None:
    """A line for each level of memory, up to the peak."""
    peak, x_end, y_least = limits["peak"], 512.0, 2 ** math.floor(math.log2(min(1.0, lowest)))
    for name, level in limits["levels"].items():
        bandwidth = level["bandwidth"]
        axes.plot([y_least / bandwidth, peak / bandwidth], [y_least, peak], color="#94a3b8", linewidth=1)
        x = 2.0**-4
        axes.annotate(f"{name} {bandwidth:.0f} GB/s", (x, x * bandwidth), rotation=45, rotation_mode="anchor",
            transform_rotates_text=True, fontsize=7.5, color="#475569", xytext=(-2, 3), textcoords="offset points")  # fmt: skip
    axes.plot(
        [peak / max(level["bandwidth"] for level in limits["levels"].values()), x_end],
        [peak] * 2,
        color="#94a3b8",
        linewidth=1,
    )
    axes.annotate(f"{peak:.0f} GFLOP/s", (x_end, peak), ha="right", va="bottom", fontsize=7.5, color="#475569")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(2.0**-5, x_end)
    axes.set_ylim(y_least, 2 * peak)


def number_points(axes: Any, points: list[tuple[int, float, float]]) -> None:
    """Each point's number near it, where no other number and no point is: round about it, then further away."""
    axes.figure.canvas.draw()
    unit = axes.figure.dpi / 72
    where = [axes.transData.transform((x, y)) / unit for _, x, y in points]
    taken = [tuple(place) for place in where]
    for (number, x, y), (px, py) in zip(points, where, strict=True):
        tried = [(r * math.cos(a), r * math.sin(a))
                 for r in (NEAR, 1.7 * NEAR, 2.6 * NEAR, 3.8 * NEAR) for a in (math.pi * k / 8 for k in range(16))]  # fmt: skip
        dx, dy = max(tried, key=lambda d: (free(px + d[0], py + d[1], taken), -math.hypot(*d)))
        taken.append((px + dx, py + dy))
        axes.annotate(str(number), (x, y), xytext=(dx, dy), textcoords="offset points", fontsize=7, ha="center", va="center",
            arrowprops={"arrowstyle": "-", "color": "#94a3b8", "linewidth": 0.5, "shrinkA": 0, "shrinkB": 1})  # fmt: skip


def free(x: float, y: float, taken: list[tuple[float, ...]]) -> float:
    """How far the nearest of what is there already is, as far as it matters."""
    return min(NEAR, *(math.hypot(x - a, y - b) for a, b in taken))
