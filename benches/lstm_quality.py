"""Does an LSTM learn the same as in PyTorch? A character model on tinyshakespeare, the same seeds on both sides.

    python benches/lstm_quality.py [--text PATH] [--seeds 1 2 3] [--iterations 2000] [--fresh]

65 characters, an embedding of 128, two LSTM layers of 128, a linear layer; the first 90% of the text in 32 streams, read in
order by truncated backpropagation over 64 steps with the state carried along; AdamW, learning rate 3e-3 to 3e-4 by a cosine
after 100 steps of warm-up, clipping at 1.0. For each seed handgrad draws the initial weights, and both sides use these.
Each side cuts the streams, schedules the learning rate and carries the state by code of its own.

Compared: the first 20 losses, and at the end the mean cross entropy in nats over the validation part, read in order.
Finished runs are kept (paired_runs.py), and --fresh forgets them all.
"""

from __future__ import annotations

import sys
from typing import Any

import harness
import paired_runs

sys.path.insert(0, str(harness.WORKERS))
import char_lstm

SIDES = {"handgrad": "char_lstm_handgrad.py", "torch": "char_lstm_torch.py"}
LOSSES = 1e-4
RATIO = 0.01


def main() -> None:
    arguments = paired_runs.parse(__doc__, iterations=char_lstm.ITERATIONS, out="lstm_quality.json")
    harness.require("handgrad", "numba", "torch")
    text = paired_runs.tinyshakespeare(arguments.text)

    def save(runs: paired_runs.Runs) -> dict[str, Any]:
        seeds, means = paired_runs.means(runs, SIDES, arguments.seeds)
        configuration = char_lstm.SETTINGS | {"iterations": arguments.iterations}
        result = harness.record(
            "lstm_quality", unit="nats", configuration=configuration, text=text, threads=arguments.threads, seeds=seeds,
            means=means, ratio=means["handgrad"] / means["torch"] if means else None,
            first_losses_differ_by=max((apart(runs, seed) for seed in seeds), default=None), runs=runs,
        )  # fmt: skip
        harness.write_result(arguments.out, result)
        return result

    result = save(paired_runs.train_all(arguments, SIDES, ("char_lstm.py", "torch_gpt.py"), save))
    paired_runs.print_losses(result)
    print()
    harness.verdict("MUST: largest difference of the first 20 losses", result["first_losses_differ_by"], LOSSES)
    harness.verdict("MUST: validation losses apart, relative", abs(result["ratio"] - 1), RATIO)


def apart(runs: paired_runs.Runs, seed: int) -> float:
    """The largest difference of the first losses of a seed."""
    ours, theirs = (runs[f"{side} {seed}"]["first_losses"] for side in SIDES)
    return max(abs(a - b) for a, b in zip(ours, theirs, strict=True))


if __name__ == "__main__":
    harness.run(main)
