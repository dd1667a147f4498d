"""Rewrites the tables of kernels/cuda/README.md from results/gpu.json, and draws the roofline of that GPU beside it."""

from __future__ import annotations

import json
import math
import re
import sys
from pathlib import Path
from typing import Any

import harness
from harness import BenchError
from picture import number_points, pyplot
from tables import between

README = harness.HERE.parent / "kernels" / "cuda" / "README.md"
NOT_MEASURED = "Not measured yet."
COLORS = {"forward": "#1d4ed8", "backward": "#c2410c"}


def rewrite(results: Path, *, check: bool = False) -> None:
    """The page and the pictures; without results the page says that nothing was measured. check: change nothing, and end
    with exit code 1 where the page is not that of the results.
    """
    text = README.read_text(encoding="utf-8")
    result = read(results)
    new = between(text, "gpu", NOT_MEASURED if result is None else page(result, ideas(text)))
    if check:
        if new != text:
            print(f"{README} is not up to date; run python benches/gpu.py --tables", file=sys.stderr)
            sys.exit(1)
        return
    if new != text:
        from handgrad.engine.files import write_text_atomically

        write_text_atomically(README, new)
        print(f"written to {README}", file=sys.stderr)
    if result is not None:
        draw(result, results.with_suffix(""))


def read(path: Path) -> dict[str, Any] | None:
    """A result file; None where there is none. BenchError for a rehearsal, which measured nothing."""
    if not path.exists():
        return None
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
        rehearsal = result["rehearsal"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BenchError(f"{path} cannot be read as a result file: {error}") from error
    if rehearsal:
        raise BenchError(f"{path} is a rehearsal's and holds no times")
    return result


def ideas(text: str) -> dict[str, str]:
    """rung -> idea, such as "matmul 01" -> ..., from the page's own table of the ladders."""
    return {m[1]: m[2] for m in re.finditer(r"^\| ([a-z_]+ \d\d)[^|]*\| ([^|]*) \|$", text, re.M)}


def page(result: dict[str, Any], told: dict[str, str]) -> str:
    """What was measured with what, a table for each case and direction, then what was wrong and what was left out."""
    limits, gpu = result["limits"], result["gpu"]
    peaks = ", ".join(f"{kind} {peak / 1e3:.1f}" for kind, peak in limits.get("peaks", {}).items())
    parts = [
        f"{gpu['name']}, driver {gpu.get('driver')}, PyTorch {result['versions'].get('torch')}, CuPy {gpu.get('cupy')}, "
        f"{result['date'][:10]}; at most {limits['bandwidth']:.0f} GB/s, and in TFLOP/s {peaks}. Median ms (p10 to p90)."
    ]
    for name, found in result["results"].items():
        if found["times"]:
            parts.append(f"{name}:\n\n{ladder(found, told)}")
    for what, title in (("errors", "Wrong, and not timed"), ("left_out", "Left out")):
        if result[what]:
            parts.append(f"{title}:\n\n" + "\n".join(f"- {line}" for line in result[what]))
    return "\n\n".join(parts)


def ladder(found: dict[str, Any], told: dict[str, str]) -> str:
    """The rungs from below, then the vendors."""
    lines = [
        "| rung | idea | ms | times the speed of the one before | of the limit | times the vendor's speed |",
        "|---|---|---|---|---|---|",
    ]
    before = None
    vendors = (*found["vendors"], "device copy")
    for name in sorted(found["times"], key=lambda name: (name in vendors, vendors.index(name) if name in vendors else name)):
        row = found["times"][name]
        is_rung = name not in vendors
        bought = f"{before / row['median']:.2f}" if is_rung and before else ""
        before = row["median"] if is_rung else before
        idea = told.get(f"{found['op']} {name[:2]}", "") if is_rung else ""
        share = f"{row['of_limit']:.0%} of {row['bound']}" if "of_limit" in row else ""
        ratio = f"{row['vendor_to_this']['of_medians']:.2f}" if "vendor_to_this" in row else ""
        spread = f"{row['median']:.4g} ({row['p10']:.4g} to {row['p90']:.4g})"
        lines.append(f"| {name.replace('_', ' ')} | {idea} | {spread} | {bought} | {share} | {ratio} |")
    return "\n".join(lines)


def places(result: dict[str, Any]) -> list[tuple[str, str, float, float]]:
    """(name, direction, operations a byte, GFLOP/s) of the fastest rung of each case."""
    found = []
    for key, case in result["results"].items():
        ms = [row["median"] for name, row in case["times"].items() if name not in (*case["vendors"], "device copy")]
        if ms and case["flops"]:
            name = key.rsplit(" ", 1)[0]
            found.append((name, case["direction"], case["flops"] / case["bytes"], case["flops"] / min(ms) * 1e-6))
    return found


def draw(result: dict[str, Any], path: Path) -> None:
    """path_roofline.svg and .png: the fastest rung of each case, numbered; one line where matplotlib is missing."""
    points = places(result)
    plt = pyplot("the roofline") if points else None
    if plt is None:
        return
    names = list(dict.fromkeys(name for name, *_ in points))
    lines = math.ceil(len(names) / 3)
    figure = plt.figure(figsize=(14, 6.4 + 0.17 * lines), layout="constrained")
    grid = figure.add_gridspec(2, 2, height_ratios=[6.4, 0.17 * lines + 0.2])
    first = None
    for column, (direction, color) in enumerate(COLORS.items()):
        axes = first = figure.add_subplot(grid[0, column], sharex=first, sharey=first)
        roofs(axes, result["limits"], min(x for *_, x, _ in points), max(x for *_, x, _ in points))
        axes.set_title(direction, color=color)
        axes.set_xlabel("operations a byte")
        axes.set_ylabel("GFLOP/s")
        mine = [(names.index(name) + 1, x, y) for name, way, x, y in points if way == direction]
        axes.scatter([x for _, x, _ in mine], [y for *_, y in mine], s=14, color=color, zorder=3)
        number_points(axes, mine)
    legend = figure.add_subplot(grid[1, :])
    legend.axis("off")
    for i, name in enumerate(names):
        column, line = divmod(i, lines)
        legend.text(column / 3, 1 - line / lines, f"{i + 1:>2}  {name}", fontsize=8, va="top", transform=legend.transAxes)
    figure.suptitle(f"The fastest rung of each ladder on {result['gpu']['name']}, arrays from memory")
    for suffix, metadata in ((".svg", {"Date": None}), (".png", {})):
        figure.savefig(path.with_name(path.name + "_roofline" + suffix), dpi=110, metadata=metadata)
    plt.close(figure)


def roofs(axes: Any, limits: dict[str, Any], least: float, most: float) -> None:
    """The slope of the device copy up to the peak of each arithmetic."""
    bandwidth, x_begin, x_end = limits["bandwidth"], min(0.1, least / 2), max(512.0, 2 * most)
    highest = max(limits["peaks"].values())
    axes.plot([x_begin, highest / bandwidth], [x_begin * bandwidth, highest], color="#94a3b8", linewidth=1)
    axes.annotate(f"{bandwidth:.0f} GB/s", (x_begin, x_begin * bandwidth), fontsize=7.5, color="#475569")
    for kind, peak in limits["peaks"].items():
        axes.plot([peak / bandwidth, x_end], [peak] * 2, color="#94a3b8", linewidth=1)
        axes.annotate(f"{kind} {peak:.0f} GFLOP/s", (x_end, peak), ha="right", va="bottom", fontsize=7.5, color="#475569")
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlim(x_begin, x_end)
