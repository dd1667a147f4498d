"""What an operation costs before any arithmetic: one add of 4 float32 elements, against PyTorch.

    python benches/dispatch.py [--rounds N] [--seconds S]

Both inputs require grad; y = a + b; y.backward(dy). Three things are timed, each in calls of microseconds:
    forward       a + b, recorded
    accumulate    forward and backward, the gradients add up in .grad  (the figure of the GOAL)
    fresh         the same, with .grad set to None before each call
First the check: both sides give the same y and gradients. At the end, where handgrad's own time goes.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import harness
from harness import BenchError, Worker

PARTS = {"forward": "forward", "accumulate": "forward + backward", "fresh": "forward + backward, .grad None"}
GOAL = 2.0


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "torch")
    with Worker("dispatch_handgrad.py") as ours, Worker("dispatch_torch.py") as theirs:
        sides = {"handgrad": ours, "torch": theirs}
        settings = {name: side.ask("start", threads=arguments.threads) for name, side in sides.items()}
        left, right = (side.ask("check") for side in sides.values())
        if left != right:
            raise BenchError(f"the sides disagree: {left} and {right}; nothing was timed")
        found = {
            what: harness.alternate(sides, rounds=arguments.rounds, seconds=arguments.seconds, what=what)
            for what in PARTS
        }
        profile = ours.ask("profile")
    summaries = {
        what: {name: harness.summarize(blocks, unit=1e6) for name, blocks in sides.items()}
        for what, sides in found.items()
    }
    ratios = {what: harness.ratio_record(sides["handgrad"], sides["torch"]) for what, sides in found.items()}
    rows = [
        harness.row_of(f"{PARTS[what]}: {name}", summary) for what in PARTS for name, summary in summaries[what].items()
    ]
    harness.print_table(harness.header("us"), rows)
    print()
    for what, ratio in ratios.items():
        print(f"{PARTS[what]}: {ratio['of_medians']:.2f} times PyTorch's time")
    harness.say_if_noisy(summary for sides in summaries.values() for summary in sides.values())
    goal = harness.verdict("GOAL: forward + backward, times PyTorch's time", ratios["accumulate"]["of_medians"], GOAL)
    print("\nwhere handgrad's time goes (each part alone, best of 15 repeats)")
    harness.print_table(["", "us"], [[name, f"{us:.2f}"] for name, us in profile.items()])
    result = harness.record(
        "dispatch", unit="us", settings=settings, rounds=arguments.rounds, seconds_a_block=arguments.seconds,
        wait_limit=harness.WAIT_LIMIT, calls=summaries, ratio_to_torch=ratios, verdicts=[goal], profile_us=profile,
    )  # fmt: skip
    harness.write_result(arguments.out, result)


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "--rounds", type=harness.positive_int, default=8, help="blocks of each side for each part (default 8)"
    )
    parser.add_argument("--seconds", type=harness.positive, default=1.0, help="seconds a block (default 1)")
    parser.add_argument(
        "--threads",
        type=harness.positive_int,
        default=1,
        help="threads of each side (default 1: there is nothing to share)",
    )
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "dispatch.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
