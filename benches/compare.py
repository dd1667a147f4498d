"""Is it slower than it was? Two result files of ops.py, row by row.

    python benches/compare.py OLD.json NEW.json [--more-than 1.1]

Files come from different runs, so their times cannot be compared, but what was measured beside PyTorch in each can: a side's
speed is PyTorch's time over its own, and what changed is the ratio of the two speeds. A row counts as slower (or faster) where
that ratio is beyond --more-than and the spreads from round to round (p10 to p90) of the two files do not overlap.
What is in one file only is named. Exit code 0 where nothing is slower, 1 where a row is, 2 where the files cannot be compared.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import harness
from harness import BenchError


def main() -> None:
    arguments = parse()
    results = [read(path) for path in (arguments.old, arguments.new)]
    for what, (before, now) in differing(*results).items():
        print(f"NOTE: {what} was {before}, and is {now}")
    old, new = (dict(speeds(result)) for result in results)
    shared = [name for name in new if name in old]
    if not shared:
        raise BenchError(f"{arguments.old} and {arguments.new} have no row in common that was timed beside PyTorch")
    rows = sorted(
        ((judged(old[name], new[name], arguments.more_than), name) for name in shared), key=lambda row: row[0][1]
    )
    table = [
        [name, f"{old[name][1]:.2f}", f"{new[name][1]:.2f}", f"{change:.2f}", word]
        for (word, change), name in rows if word or arguments.all
    ]  # fmt: skip
    if table:
        harness.print_table(["row, caches, side", "speed before", "now", "now / before", ""], table)
    counts = {word: sum(found == word for (found, _), _ in rows) for word in ("slower", "faster")}
    print(f"{counts['slower']} slower, {counts['faster']} faster, {len(rows) - sum(counts.values())} as they were")
    for path, names in ((arguments.old, old.keys() - new.keys()), (arguments.new, new.keys() - old.keys())):
        for name in sorted(names):
            print(f"only in {path}: {name}")
    if counts["slower"]:
        sys.exit(1)


def differing(old: dict[str, Any], new: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """What else than the code may have changed the speeds: (before, now)."""
    found = {
        "the processor": [result.get("machine", {}).get("processor") for result in (old, new)],
        "the number of threads": [result.get("threads") for result in (old, new)],
        "PyTorch": [result.get("versions", {}).get("torch") for result in (old, new)],
        "NumPy": [result.get("versions", {}).get("numpy") for result in (old, new)],
    }
    return {what: (before, now) for what, (before, now) in found.items() if before != now}


def read(path: Path) -> dict[str, Any]:
    """A result file of ops.py."""
    try:
        result = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, json.JSONDecodeError) as error:
        raise BenchError(f"{path} cannot be read as a result file: {error}") from error
    if not isinstance(result, dict) or result.get("name") != "ops":
        raise BenchError(f"{path} is no result file of ops.py")
    return result


def speeds(result: dict[str, Any]) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """ "row, caches, side" -> (p10, median, p90) over rounds of PyTorch's time over the side's."""
    for row, found in result["results"].items():
        for level, timed in found["times"].items():
            for side, figures in timed.items():
                if by_round := figures.get("torch_to_this", {}).get("by_round"):
                    yield f"{row}, {level}, {side}", (by_round["p10"], by_round["median"], by_round["p90"])


def judged(old: tuple[float, float, float], new: tuple[float, float, float], more_than: float) -> tuple[str, float]:
    """(slower, faster or nothing; the ratio of the two speeds)."""
    change = new[1] / old[1]
    if change * more_than < 1 and new[2] < old[0]:
        return "slower", change
    if change > more_than and new[0] > old[2]:
        return "faster", change
    return "", change


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("old", type=Path)
    parser.add_argument("new", type=Path)
    parser.add_argument("--all", action="store_true", help="also the rows that are as fast as they were")
    parser.add_argument("--more-than", type=harness.positive, default=1.1, help="a change that counts (default 1.1)")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
