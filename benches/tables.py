"""Rewrites the tables of benches/README.md from results/ops.json, between their marks.

    python benches/tables.py [--check] [--results FILE]

Runs of other machines lie beside it as ops_<machine>.json, and give a shorter table each; settings.json is a run with
--all-settings.

--check changes nothing and ends with exit code 1 where the tables are not those of the results.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import harness
import stories
from harness import BenchError

README = harness.HERE / "README.md"
DIRECTIONS = ("forward", "backward")
SETTINGS = ("torch", "torch as installed", "torch compiled", "numba", "numba as installed")
FEWEST_RUNGS = 3
"""A ladder that is told has so many rungs at least, production among them."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only say whether the tables are up to date")
    parser.add_argument("--results", type=Path, default=harness.RESULTS / "ops.json", help="default results/ops.json")
    arguments = parser.parse_args()
    text = README.read_text(encoding="utf-8")
    new = rewritten(text, *runs(arguments.results))
    if arguments.check and new != text:
        print(f"{README.name} is not up to date; run python benches/tables.py", file=sys.stderr)
        sys.exit(1)
    if new != text:
        from handgrad.engine.files import write_text_atomically

        write_text_atomically(README, new)
        print(f"written to {README}", file=sys.stderr)


def runs(path: Path) -> tuple[dict[str, Any], list[dict[str, Any]], dict[str, Any]]:
    """(the run, those of other machines, the one with all settings or nothing) that lie beside each other."""
    settings_file = path.with_name("settings.json")
    others = [read(other) for other in sorted(path.parent.glob(f"{path.stem}_*.json"))]
    return read(path), others, read(settings_file)["results"] if settings_file.exists() else {}


def read(path: Path) -> dict[str, Any]:
    """A result file."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BenchError(f"{path} cannot be read as a result file: {error}") from error


def rewritten(text: str, ops: dict[str, Any], others: list[dict[str, Any]], all_settings: dict[str, Any]) -> str:
    """The page with the tables of these results."""
    text = between(text, "ops", f"{about(ops)}\n\n{operations(ops['results'])}")
    text = between(text, "others", "\n\n".join(f"{about(run)}\n\n{ratios(run['results'])}" for run in others))
    text = between(text, "settings", settings(all_settings))
    return between(text, "ladders", ladders(ops["results"]))


def about(ops: dict[str, Any]) -> str:
    """A line about the machine and its limits."""
    limits = ops["limits"]
    levels = ", ".join(f"{name} {level['bandwidth']:.0f}" for name, level in limits["levels"].items())
    return (
        f"{ops['machine']['processor']}, {ops['threads']} threads, float32, PyTorch {ops['versions'].get('torch', 'absent')}, "
        f"{ops['date'][:10]}; at most {limits['peak']:.0f} GFLOP/s, and GB/s from {levels}."
    )


def between(text: str, mark: str, content: str) -> str:
    """text with `content` between <!-- mark --> and <!-- /mark -->."""
    begin, end = f"<!-- {mark} -->\n", f"<!-- /{mark} -->"
    if text.count(begin) != 1 or text.count(end) != 1:
        raise BenchError(f"{README.name} must have {begin.strip()} and {end} once each")
    before, rest = text.split(begin)
    return f"{before}{begin}{content.rstrip()}\n{end}{rest.split(end)[1]}"


def names(results: dict[str, Any]) -> list[str]:
    """The rows with their sizes, in the order of the results."""
    return list(dict.fromkeys(name.rsplit(" ", 1)[0] for name in results))


def operations(results: dict[str, Any]) -> str:
    """A line for each row and size: production's time, its speed beside PyTorch's, its share of the limit."""
    lines = [
        "| operation | forward ms (p10 to p90) | times PyTorch's speed, warm / cold | of the limit "
        "| backward ms (p10 to p90) | times | of the limit | dropped |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name in names(results):
        cells, dropped = [], []
        for direction in DIRECTIONS:
            found = results.get(f"{name} {direction}")
            cells += _figures(found["times"]) if found else ["", "", ""]
            dropped += [row["dropped_share"] for row in _ours(found["times"]).values()] if found else []
        lines.append(f"| {name} | {' | '.join(cells)} | {max(dropped):.0%} |")
    return "\n".join(lines)


def ratios(results: dict[str, Any]) -> str:
    """A line for each row and size: production's speed beside PyTorch's, warm / cold."""
    lines = ["| operation | forward, warm / cold | backward | dropped |", "|---|---|---|---|"]
    for name in names(results):
        cells, dropped = [], [0.0]
        for direction in DIRECTIONS:
            found = results.get(f"{name} {direction}")
            cells.append(_figures(found["times"])[1] if found else "")
            dropped += [row["dropped_share"] for row in _ours(found["times"]).values()] if found else []
        lines.append(f"| {name} | {' | '.join(cells)} | {max(dropped):.0%} |")
    return "\n".join(lines)


def _ours(times: dict[str, Any]) -> dict[str, Any]:
    """level -> production's kernel, or the formula where there is none."""
    return {level: timed.get("numba") or timed["formula"] for level, timed in times.items()}


def _figures(times: dict[str, Any]) -> list[str]:
    """[ms with its spread, ratios warm / cold, share of the limit]."""
    rows = _ours(times)
    warm = rows.get("warm") or rows["cold"]
    ratios = [f"{row['torch_to_this']['of_medians']:.2f}" for row in rows.values() if "torch_to_this" in row]
    spread = f"{warm['median']:.3g} ({warm['p10']:.3g} to {warm['p90']:.3g})"
    return [spread, " / ".join(ratios), f"{warm['of_limit']:.0%} of {warm['bound']}"]


def settings(results: dict[str, Any]) -> str:
    """For each row that was timed with --all-settings: milliseconds of either side with and without its settings."""
    lines = [f"| operation | {' | '.join(SETTINGS)} |", "|---" * (1 + len(SETTINGS)) + "|"]
    for name, found in results.items():
        timed = found["times"].get("warm", {})
        if "numba as installed" in timed:
            cells = [f"{timed[side]['median']:.3g}" if side in timed else "" for side in SETTINGS]
            lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) if len(lines) > 2 else "Not measured: `handgrad bench --all-settings`."


def ladders(results: dict[str, Any]) -> str:
    """For each row with rungs, at its first size and in each direction: what each rung is about, takes, and bought."""
    parts = []
    for name in names(results):
        op = name.split(" ", 1)[0]
        for direction in DIRECTIONS:
            timed = results.get(f"{name} {direction}", {"times": {}})["times"].get("warm", {})
            if table := ladder(timed, stories.told(op, list(timed), direction)):
                parts.append(f"{name}, {direction}:\n\n{table}\n")
    return "\n".join(parts)


def ladder(timed: dict[str, Any], told: dict[str, str]) -> str:
    """One ladder from below: production on one thread and on all threads come last. Empty where there is none, or where the
    direction is told elsewhere: masked_softmax's backward is softmax's.
    """
    rungs = sorted(side for side in timed if side.startswith("numba ") and side != "numba as installed")
    if not rungs or not told:
        return ""
    rungs += [side for side in ("numba, 1 thread", "numba") if side in timed]
    if len(rungs) < FEWEST_RUNGS:
        return ""
    lines, before = ["| rung | what is new | ms | times the speed of the one before |", "|---|---|---|---|"], None
    for side in rungs:
        ms = timed[side]["median"]
        label = {"numba": "production", "numba, 1 thread": "production, 1 thread"}.get(
            side, side.removeprefix("numba ")
        )
        bought = "" if before is None else f"{before / ms:.1f}" if before / ms >= 1.95 else f"{before / ms:.2f}"
        untold = "its parts, one after the other" if before is None else "as the rung before"
        idea = told.get(side, untold).replace("|", chr(92) + "|")
        lines.append(f"| {label} | {idea} | {ms:.3g} | {bought} |")
        before = ms
    return "\n".join(lines)


if __name__ == "__main__":
    harness.run(main)
