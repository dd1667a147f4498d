"""Counting co-occurrences for GloVe: handgrad beside Stanford's vocab_count and cooccur, checked first, then timed.

    python benches/glove_counts.py [--stanford BUILD_FOLDER] [--text FOLDER] [--rounds N] [--memory GIB] [--threads N]

Both read the same text (every file of --text, one behind the other; without it the pages of Python's own help) from the
same file, whole, with window 15, symmetric, 1 / distance, and words that occur --min-count times (5). Both may use the
same memory, both write their counts to a file, and neither waits until it is on the disk. Runs alternate, and the
order turns round. Two things are timed: counting with the vocabulary given, and both from the text.

Stanford's programs are whole processes, which costs them milliseconds. handgrad's is a process that is running already:
its start and the loading of the kernels (benches/startup.py has them) are not counted, and its vocabulary goes from
memory to memory. --stanford names the folder of the
built programs (github.com/stanfordnlp/GloVe, `make`); without it handgrad is timed alone.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import glove_stanford
import harness
from harness import BenchError, Worker

from handgrad.engine.text.corpora import python_topics

WINDOW = 15
MUST, GOAL = 3.0, 5.0  # times Stanford's words per second
CLOSE = 1e-4  # relative: Stanford's sums of rounded fractions


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba")
    with tempfile.TemporaryDirectory() as folder:
        text, rival = Path(folder) / "text", Stanford(arguments, Path(folder))
        text.write_bytes(corpus(arguments.text))
        memory = int(arguments.memory * 2**30)
        with Worker("glove_counts.py") as ours:
            settings = ours.ask(
                "start", threads=arguments.threads, text=str(text), vocabulary=str(Path(folder) / "ours.txt"),
                min_count=arguments.min_count, window=WINDOW, memory=memory,
            )  # fmt: skip
            check = compare(ours, rival, text, Path(folder)) if rival.skipped is None else None
            seconds = alternate(ours, rival, text, arguments.rounds)
            known = ours.ask("words")
    content = report(seconds, known["known"], rival.skipped, arguments.goal)
    result = harness.record(
        "glove_counts", unit="s", text={"bytes": len(corpus(arguments.text)), **known}, window=WINDOW,
        min_count=arguments.min_count, memory_gib=arguments.memory, threads=arguments.threads, settings=settings,
        rounds=arguments.rounds, check=check, skipped=rival.skipped,
        stanford={"flags": " ".join(glove_stanford.FLAGS), "dtype": "float64", "threads": 1},
        dtype="int64 multiples of 1 / 360360",
        folder_of_files=filesystem(tempfile.gettempdir()), **content,
    )  # fmt: skip
    harness.write_result(arguments.out, result)


class Stanford:
    """The C programs, or the reason why they are left out."""

    def __init__(self, arguments: argparse.Namespace, folder: Path) -> None:
        build = arguments.stanford
        self.folder, self.memory, self.min_count = folder, arguments.memory, arguments.min_count
        self.skipped: str | None = None
        if build is None:
            self.skipped = "no folder was given: build github.com/stanfordnlp/GloVe and name its build folder"
        elif not (build / "cooccur").is_file() or not (build / "vocab_count").is_file():
            self.skipped = "the folder that was given has no programs cooccur and vocab_count"
        else:
            self.build = build.resolve()
        if self.skipped:
            print(f"Stanford's programs are left out: {self.skipped}", file=sys.stderr)

    def run(self, text: Path, with_vocabulary: bool) -> float:
        """Seconds of one run from the text to a file of counts."""
        start = time.perf_counter()
        if with_vocabulary:
            self._call("vocab_count", text, "theirs.txt", "-min-count", self.min_count)
        self._call(
            "cooccur", text, "theirs.bin", "-vocab-file", "theirs.txt", "-window-size", WINDOW, "-memory", self.memory,
            "-overflow-file", "overflow",
        )  # fmt: skip
        return time.perf_counter() - start

    def _call(self, program: str, text: Path, out: str, *options: Any) -> None:
        command = [str(self.build / program), "-verbose", "0", *map(str, options)]
        with open(text, "rb") as source, open(self.folder / out, "wb") as target:
            done = subprocess.run(
                command, stdin=source, stdout=target, stderr=subprocess.PIPE, cwd=self.folder, check=False
            )
        if done.returncode:
            raise BenchError(f"{program} ended with exit code {done.returncode}: {done.stderr.decode()[-300:]}")


def corpus(folder: Path | None) -> bytes:
    """The text as bytes."""
    if folder is None:
        return python_topics().encode("utf-8")
    files = sorted(path for path in folder.iterdir() if path.is_file())
    if not files:
        raise BenchError(f"{folder} has no files")
    return b"".join(path.read_bytes() for path in files)


def compare(ours: Worker, rival: Stanford, text: Path, folder: Path) -> dict[str, Any]:
    """The same vocabulary and the same counts, or BenchError. Words of equal count may stand in another order."""
    rival.run(text, True)
    mine, theirs = (sorted((folder / name).read_text("utf-8").split("\n")) for name in ("ours.txt", "theirs.txt"))
    if mine != theirs:
        raise BenchError("the vocabularies differ")
    (folder / "theirs.txt").write_bytes((folder / "ours.txt").read_bytes())  # one order, so that ids are the same
    rival.run(text, False)
    found: dict[str, Any] = ours.ask("compare", theirs=str(folder / "theirs.bin"))
    if not found["same_pairs"] or found["largest_relative_difference"] > CLOSE:
        raise BenchError(f"the counts differ: {found}")
    print(
        f"checked: the same {found['pairs']:,} pairs, values within {found['largest_relative_difference']:.1e}, "
        f"as whole multiples of 1/360360 {'all equal' if found['nearest_integers_equal'] else 'NOT all equal'}"
    )
    return found


def alternate(ours: Worker, rival: Stanford, text: Path, rounds: int) -> dict[str, dict[str, list[float]]]:
    """Seconds by what is timed and by side, in turns."""
    found: dict[str, dict[str, list[float]]] = {}
    for done in range(rounds):
        for what, with_vocabulary in (("counts", False), ("vocabulary and counts", True)):
            sides = {"handgrad": lambda v=with_vocabulary: ours.ask("run", with_vocabulary=v)[0]}
            if rival.skipped is None:
                sides["stanford"] = lambda v=with_vocabulary: rival.run(text, v)
            for name in list(sides) if done % 2 == 0 else reversed(list(sides)):
                found.setdefault(what, {}).setdefault(name, []).append(sides[name]())
        print(f"\r  round {done + 1} of {rounds}", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 30 + "\r", end="", file=sys.stderr, flush=True)
    return found


def report(seconds: dict[str, dict[str, list[float]]], words: int, skipped: str | None, goal: float) -> dict[str, Any]:
    """Print the table and the verdicts; return them for the record."""
    rows, ratios, verdicts = [], {}, []
    for what, sides in seconds.items():
        for name, times in sides.items():
            p10, median, p90 = harness.percentiles(times)
            rows.append([f"{what}, {name}", *(f"{t:.3f}" for t in (median, p10, p90)), f"{words / median:,.0f}"])
        if skipped is None:
            each = [theirs / mine for theirs, mine in zip(sides["stanford"], sides["handgrad"], strict=True)]
            p10, median, p90 = harness.percentiles(each)
            ratios[what] = {"p10": round(p10, 3), "median": round(median, 3), "p90": round(p90, 3)}
    harness.print_table(["", "median s", "p10", "p90", "words/s"], rows)
    for what, ratio in ratios.items():
        print(f"{what}: {ratio['median']:.2f} times Stanford's speed, round by round {ratio['p10']} to {ratio['p90']}")
        for kind, limit in (("MUST", min(MUST, goal)), ("GOAL", goal)):
            verdicts.append(harness.verdict(f"{kind}: {what}", ratio["median"], limit, at_least=True, unit=" times"))
    rounded = {what: {name: [round(t, 4) for t in times] for name, times in s.items()} for what, s in seconds.items()}
    return {"seconds": rounded, "ratios": ratios, "verdicts": verdicts}


def filesystem(folder: str) -> str:
    """What kind of file system a folder is on, such as ext4, or "unknown"."""
    mounts = Path("/proc/mounts")
    lines = [line.split() for line in mounts.read_text().splitlines()] if mounts.exists() else []
    found = [(len(place), kind) for _, place, kind, *_ in lines if Path(folder).is_relative_to(place)]
    return max(found)[1] if found else "unknown"


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--stanford", type=Path, help="folder of Stanford's built programs (default: leave them out)")
    parser.add_argument("--text", type=Path, help="folder of UTF-8 files (default: Python's help pages)")
    parser.add_argument("--rounds", type=harness.positive_int, default=15, help="runs of each (default 15)")
    parser.add_argument(
        "--min-count", type=harness.positive_int, default=5, help="rarer words are left out (default 5)"
    )
    parser.add_argument("--goal", type=harness.positive, default=GOAL, help=f"times their speed (default {GOAL:g})")
    parser.add_argument("--memory", type=harness.positive, default=1.0, help="GiB for each side (default 1)")
    parser.add_argument("--threads", type=harness.positive_int, default=2, help="threads of handgrad (default 2)")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "glove_counts.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
