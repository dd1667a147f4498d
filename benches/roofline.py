"""The roofline of this machine (Williams, Waterman and Patterson 2009): measured, as a limit for each kernel, and drawn.

A kernel that needs F operations and M bytes takes at least F / peak and M / bandwidth seconds; which of the two is larger says
what bounds it. Bandwidth depends on where the bytes lie: those of warm arrays as near as they fit, of cold inputs in memory.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import harness

MARGIN = 1.1
"""More than this share of a limit is an error: ours, or the limit's, whose measurement is as noisy as any other."""

CACHES = Path("/sys/devices/system/cpu/cpu0/cache")
USUAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


def cache_sizes() -> dict[str, int]:
    """Bytes of each level that one core can use."""
    found = {}
    for folder in sorted(CACHES.glob("index*")):
        if (folder / "type").read_text().strip() != "Instruction":
            text = (folder / "size").read_text().strip()
            found[f"L{(folder / 'level').read_text().strip()}"] = int(text.rstrip("KM")) << {"K": 10, "M": 20}.get(
                text[-1], 0
            )
    return found or USUAL


def measure(threads: int) -> dict[str, Any]:
    """Peak in GFLOP/s, and for each level of memory how much fits in (for all threads) and how fast it is, in GB/s."""
    sizes = cache_sizes()
    last = max(sizes.values())
    with harness.Worker("limits.py") as worker:
        worker.ask("start", threads=threads)
        found: dict[str, Any] = {
            "threads": threads,
            "peak": round(worker.ask("peak"), 1),
            "last_cache": last,
            "levels": {},
        }
        for name, size in sizes.items():
            shared = size == last
            each = size // threads if shared else size
            speed = worker.ask("bandwidth", size=each // 2)
            found["levels"][name] = {"holds": size if shared else threads * size, "bandwidth": round(speed, 1)}
        found["levels"]["memory"] = {"holds": None, "bandwidth": round(worker.ask("bandwidth", size=4 * last), 1)}
    return found


def show(limits: dict[str, Any]) -> None:
    """One line."""
    levels = ", ".join(f"{name} {level['bandwidth']:.0f}" for name, level in limits["levels"].items())
    print(f"at most {limits['peak']:.0f} GFLOP/s (float32); GB/s from {levels}; {limits['threads']} threads")


def limit(limits: dict[str, Any], flops: float, moved: float, *, far: float = 0.0) -> dict[str, Any]:
    """The fewest seconds in which `flops` operations and `moved` bytes can be done, and what they are bound by.

    far: so many of the bytes are known to lie in memory. The others lie as near as they can: as many as the first cache
    holds in it, as many as the second holds more in that, and so on.
    """
    memory = limits["levels"]["memory"]["bandwidth"]
    far = min(far, moved)
    left, inside, moving, name = moved - far, 0.0, far / memory, "memory"
    for level, found in limits["levels"].items():
        part = left if found["holds"] is None else min(left, found["holds"] - inside)
        moving, left, inside = moving + part / found["bandwidth"], left - part, inside + part
        if not left:
            name = "memory" if far else level
            break
    computing, moving = flops / limits["peak"] * 1e-9, moving * 1e-9
    return {"seconds": max(computing, moving), "bound": "peak" if computing > moving else name}


def grown(before: dict[str, Any], after: dict[str, Any]) -> float:
    """How many times as high a limit is by the second measurement, at most, and at least 1."""
    levels = [after["levels"][name]["bandwidth"] / level["bandwidth"] for name, level in before["levels"].items()]
    return max(1.0, after["peak"] / before["peak"], *levels)


def draw(result: dict[str, Any], path: Path) -> None:
    """Every row of production's kernels on the roofline, as path.svg and path.png; one line where matplotlib is missing."""
    try:
        import matplotlib
    except ImportError:
        print("NOTE: no picture of the roofline without matplotlib: pip install 'handgrad[plot]'", file=sys.stderr)
        return
    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    limits = result["limits"]
    figure, axes = plt.subplots(figsize=(10, 6.5), constrained_layout=True)
    x = [2.0**k for k in range(-5, 10)]
    for name, level in limits["levels"].items():
        y = [min(limits["peak"], level["bandwidth"] * i) for i in x]
        axes.plot(x, y, color="#94a3b8", linewidth=1)
        axes.annotate(
            f"{name} {level['bandwidth']:.0f} GB/s", (x[1], y[1]), rotation=36, fontsize=8, color="#475569",
            xytext=(0, 4), textcoords="offset points",
        )  # fmt: skip
    axes.annotate(
        f"{limits['peak']:.0f} GFLOP/s", (x[-1], limits["peak"]), ha="right", va="bottom", fontsize=8, color="#475569"
    )
    for name, found in result["results"].items():
        timed = found["times"].get("cold") or found["times"]["warm"]
        row = timed.get("numba")
        if row is None:
            continue
        backward = name.endswith("backward")
        speed = found["flops"] / row["median"] * 1e-6
        intensity = found["flops"] / found["bytes"]
        axes.plot(intensity, speed, "s" if backward else "o", color="#c2410c" if backward else "#1d4ed8", markersize=4)
        axes.annotate(
            name.rsplit(" ", 1)[0], (intensity, speed), fontsize=5.5, xytext=(3, 2), textcoords="offset points"
        )
    axes.set_xscale("log", base=2)
    axes.set_yscale("log", base=2)
    axes.set_xlabel("operations a byte")
    axes.set_ylabel("GFLOP/s")
    axes.set_title(f"Kernels in float32 on {limits['threads']} threads, cold: forward (round), backward (square)")
    for suffix in (".svg", ".png"):
        figure.savefig(path.with_name(path.name + "_roofline" + suffix), dpi=130)
    plt.close(figure)
