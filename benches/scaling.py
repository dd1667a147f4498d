"""How the time of a training step grows with width, depth, context and batch: by measure, and by the cost of its rows.

    python benches/scaling.py [--seconds S] [--threads T]

Around nanoGPT's CPU configuration each of the four is varied alone. Of each model the costs of all its operations, as the rows
of the table declare them, are added up on paper (workers/scaling_handgrad.py), and a step is timed. Then three numbers are
fitted to all points together, least squares of relative errors and none negative:

    seconds = flops / A + bytes / B + operations * C

A is the speed of arithmetic, B the speed of memory, C what an operation costs before it computes. How well
three numbers predict all points says whether the step is understood: what is left over is printed, and drawn.
"""

from __future__ import annotations

import argparse
import itertools
import os
import sys
from pathlib import Path
from typing import Any

import harness
import numpy as np
import roofline
from harness import Worker
from picture import pyplot

sys.path.insert(0, str(harness.WORKERS))
import gpt_sizes

SWEEPS = {
    "width": (64, 96, 128, 192, 256, 384, 512),
    "layers": (1, 2, 4, 6, 8, 12),
    "length": (16, 32, 64, 128, 256, 512),
    "batch": (1, 2, 4, 8, 12, 24, 48),
}
TITLES = {"width": "width", "layers": "depth (layers)", "length": "context (tokens)", "batch": "batch (texts)"}


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    limits = roofline.measure(arguments.threads)
    points = []
    with Worker("scaling_handgrad.py") as worker:
        settings = worker.ask("start", threads=arguments.threads)
        for sweep, values in SWEEPS.items():
            for value in values:
                found = worker.ask("point", size=size_with(sweep, value), seconds=arguments.seconds)
                summary = harness.summarize([[(s, w) for s, w in found.pop("samples")]])
                points.append({"sweep": sweep, "value": value, **found, **summary})
                print(f"\r  {sweep} {value}: {summary['median']:.2f} ms     ", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 40 + "\r", end="", file=sys.stderr)
    seconds = np.array([p["median"] for p in points]) * 1e-3
    costs = np.array([[p["flops"], p["bytes"], p["operations"]] for p in points])
    weights = fit(costs, seconds)
    predicted = costs @ weights
    for point, guess in zip(points, predicted, strict=True):
        point["predicted"] = round(guess * 1e3, 4)
    errors = np.abs(predicted / seconds - 1.0)
    speeds = {
        "gflops": _inverse(weights[0]), "gb_per_s": _inverse(weights[1]), "us_per_operation": round(weights[2] * 1e6, 3),
    }  # fmt: skip
    rows = [
        [
            f"{p['sweep']} {p['value']}",
            f"{p['median']:.2f}",
            f"{p['predicted']:.2f}",
            f"{p['predicted'] / p['median'] - 1:+.0%}",
        ]
        for p in points
    ]
    harness.print_table(["", "measured ms", "predicted ms", "off"], rows)
    print(
        f"\nfitted: {speeds['gflops'] or 'no limit'} GFLOP/s of {limits['peak']:.0f}, {speeds['gb_per_s'] or 'no limit'} GB/s, "
        f"{speeds['us_per_operation']} us an operation; off by {np.median(errors):.1%} in the median, "
        f"{errors.max():.1%} at most"
    )
    result = harness.record(
        "scaling", unit="ms", around=gpt_sizes.SIZES["nanogpt"].describe(), settings=settings, limits=limits, fitted=speeds,
        median_error=round(float(np.median(errors)), 4), largest_error=round(float(errors.max()), 4), points=points,
    )  # fmt: skip
    harness.write_result(arguments.out, result)
    draw(result, arguments.out.with_suffix(""))


def size_with(sweep: str, value: int) -> dict[str, Any]:
    """nanoGPT's size with one of them changed, as keyword arguments of Size; the context is as long as the texts."""
    s = gpt_sizes.SIZES["nanogpt"]
    size = {name: getattr(s, name) for name in s.__dataclass_fields__} | {sweep: value}
    return size | {"context": size["length"]}


def fit(costs: np.ndarray, seconds: np.ndarray) -> np.ndarray:
    """x >= 0 with the least sum of squares of costs x / seconds - 1: the best of all choices of what is zero. (n, 3), (n,)."""
    relative = costs / seconds[:, None]
    best, least = np.zeros(costs.shape[1]), np.inf
    for kept in itertools.product((False, True), repeat=costs.shape[1]):
        x, columns = np.zeros(costs.shape[1]), np.flatnonzero(kept)
        scale = relative[:, columns].max(axis=0, initial=0.0)  # columns of one size: flops and counts differ by 1e9
        if columns.size:
            x[columns] = np.linalg.lstsq(relative[:, columns] / scale, np.ones(len(seconds)), rcond=None)[0] / scale
        left = float(np.sum((relative @ x - 1.0) ** 2))
        if (x >= 0).all() and left < least:
            best, least = x, left
    return best


def _inverse(x: float) -> float | None:
    """1 / x in units of 1e9, or None for no limit."""
    return round(1e-9 / x, 2) if x > 0 else None


def draw(result: dict[str, Any], path: Path) -> None:
    """Four panels, measured points and predicted lines, as path.svg and path.png; a line where matplotlib is missing."""
    plt = pyplot("the costs")
    if plt is None:
        return
    figure, panels = plt.subplots(2, 2, figsize=(10, 7), constrained_layout=True)
    for axes, (sweep, title) in zip(panels.flat, TITLES.items(), strict=True):
        points = [p for p in result["points"] if p["sweep"] == sweep]
        x = [p["value"] for p in points]
        axes.plot(x, [p["predicted"] for p in points], color="#94a3b8", label="predicted from the rows' costs")
        low, high = ([abs(p[side] - p["median"]) for p in points] for side in ("p10", "p90"))
        axes.errorbar(
            x, [p["median"] for p in points], (low, high), fmt="o", color="#1d4ed8", markersize=5, label="measured"
        )
        axes.set_xscale("log", base=2)
        axes.set_yscale("log", base=2)
        axes.set_xticks(x, [str(value) for value in x])
        axes.yaxis.set_major_formatter("{x:g}")
        axes.minorticks_off()
        axes.grid(alpha=0.3)
        axes.set_xlabel(title)
        axes.set_ylabel("ms a step")
    panels[0, 0].legend(frameon=False)
    fitted = result["fitted"]
    speeds = [
        f"{fitted['gflops']:g} GFLOP/s" if fitted["gflops"] else "",
        f"{fitted['gb_per_s']:g} GB/s" if fitted["gb_per_s"] else "",
    ]
    speeds.append(f"{fitted['us_per_operation']:g} us an operation")
    figure.suptitle(f"A training step around nanoGPT's CPU model\n{', '.join(filter(None, speeds))} explain it "
                    f"to {result['median_error']:.0%} (median), {result['largest_error']:.0%} (worst)")  # fmt: skip
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_name(path.name + suffix), dpi=110)
    plt.close(figure)


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=harness.positive, default=1.0, help="of steps for each point (default 1)")
    parser.add_argument("--threads", type=harness.positive_int, default=cores, help=f"default {cores}")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "scaling.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
