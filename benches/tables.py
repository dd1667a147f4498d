"""Rewrites the tables of benches/README.md from results/ops.json, between their marks.

    python benches/tables.py [--check]

--check changes nothing and ends with exit code 1 where the tables are not those of the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from typing import Any

import harness
from harness import BenchError

README = harness.HERE / "README.md"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    check = parser.parse_args().check
    text = README.read_text(encoding="utf-8")
    new = rewritten(text, json.loads((harness.RESULTS / "ops.json").read_text(encoding="utf-8")))
    if check and new != text:
        raise BenchError(f"{README.name} is not up to date; run python benches/tables.py")
    if new != text:
        from handgrad.engine.files import write_text_atomically

        write_text_atomically(README, new)
        print(f"written to {README}", file=sys.stderr)


def rewritten(text: str, ops: dict[str, Any]) -> str:
    """The page with the tables of these results."""
    limits = ops["limits"]
    levels = ", ".join(f"{name} {level['bandwidth']:.0f}" for name, level in limits["levels"].items())
    processor = ops["machine"]["processor"]
    about = (
        f"{processor}, {ops['threads']} threads, float32, PyTorch {ops['versions'].get('torch', 'absent')}; at most "
        f"{limits['peak']:.0f} GFLOP/s, and GB/s from {levels}."
    )
    text = between(text, "ops", f"{about}\n\n{operations(ops['results'])}")
    return between(text, "ladders", ladders(ops["results"]))


def between(text: str, mark: str, content: str) -> str:
    """text with `content` between <!-- mark --> and <!-- /mark -->."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise BenchError(f"{README.name} must have {begin.strip()} and {end} once each")
    before, rest = text.split(begin)
    return f"{before}{begin}{content.rstrip()}\n{end}{rest.split(end)[1]}"


def operations(results: dict[str, Any]) -> str:
    """A line for each row and size: production's time, its speed beside PyTorch's, its share of the limit."""
    lines = [
        "| operation | forward ms | times PyTorch's speed, warm / cold | of the limit | backward ms | times | of the limit |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in dict.fromkeys(name.rsplit(" ", 1)[0] for name in results):
        cells = []
        for direction in ("forward", "backward"):
            found = results.get(f"{name} {direction}")
            cells += _figures(found["times"]) if found else ["", "", ""]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _figures(times: dict[str, Any]) -> list[str]:
    """[ms, ratios warm / cold, share of the limit] of production's kernel, or of the formula where there is none."""
    rows = {level: timed.get("numba") or timed["formula"] for level, timed in times.items()}
    warm = rows["warm"]
    ratios = [f"{row['torch_to_this']['of_medians']:.2f}" for row in rows.values() if "torch_to_this" in row]
    return [f"{warm['median']:.3g}", " / ".join(ratios), f"{warm['of_limit']:.0%} of {warm['bound']}"]


def ladders(results: dict[str, Any]) -> str:
    """For each row with rungs, at its first size: what each rung takes."""
    lines = ["| operation | rung | forward ms | backward ms |", "|---|---|---|---|"]
    for name in dict.fromkeys(name.rsplit(" ", 1)[0] for name in results):
        timed = [
            results.get(f"{name} {direction}", {"times": {"warm": {}}})["times"]["warm"]
            for direction in ("forward", "backward")
        ]
        rungs = [side for side in dict.fromkeys([*timed[0], *timed[1]]) if side not in ("torch", "formula")]
        if len(rungs) < 2:
            continue
        rungs.sort(key=lambda side: (side == "numba", side.endswith("1 thread"), side))
        for side in rungs:
            cells = [f"{found[side]['median']:.3g}" if side in found else "" for found in timed]
            lines.append(f"| {name} | {side} | {' | '.join(cells)} |")
    return "\n".join(lines)


if __name__ == "__main__":
    harness.run(main)
