"""Does it learn as well as PyTorch? nanoGPT's published CPU run on tinyshakespeare, the same seeds on both sides.

    python benches/nanogpt_quality.py [--text PATH] [--seeds 1 2 3] [--iterations 2000] [--fresh]

Character model (65 characters, first 90% of the text to train on): 2,000 iterations of 12 blocks of 64, learning rate 1e-3
to 1e-4 by a cosine after 100 steps of warm-up, AdamW betas 0.9 and 0.99, weight decay 0.1 on matrices, clipping at 1.0, no
dropout, no bias. For each seed handgrad draws the initial weights and the batches, and both sides use these. Published: the
mean cross entropy in nats over all non-overlapping blocks of 64 of the validation split, each side in its own process, one
after the other. nanoGPT's README says 1.88 for this configuration (estimated on random blocks).

Each run takes one to two minutes on two cores; finished ones are kept (paired_runs.py), and --fresh forgets them all.
"""

from __future__ import annotations

import sys
from typing import Any

import harness
import paired_runs

sys.path.insert(0, str(harness.WORKERS))
import nanogpt

SIDES = {"handgrad": "gpt_handgrad.py", "torch": "gpt_torch.py"}
MUST = 0.01
PUBLISHED = 1.88


def main() -> None:
    arguments = paired_runs.parse(__doc__, iterations=nanogpt.ITERATIONS, out="nanogpt_quality.json")
    harness.require("handgrad", "numba", "torch")
    text = paired_runs.tinyshakespeare(arguments.text)

    def save(runs: paired_runs.Runs) -> dict[str, Any]:
        seeds, means = paired_runs.means(runs, SIDES, arguments.seeds)
        result = harness.record(
            "nanogpt_quality", unit="nats", configuration=nanogpt.SETTINGS | {
                "iterations": arguments.iterations, "min_lr": nanogpt.MIN_LR, "warmup": nanogpt.WARMUP,
                "lr_decay_iterations": nanogpt.ITERATIONS,
            },
            text=text, published=PUBLISHED, threads=arguments.threads, seeds=seeds, means=means,
            difference=means["handgrad"] - means["torch"] if means else None, runs=runs,
        )  # fmt: skip
        harness.write_result(arguments.out, result)
        return result

    result = save(paired_runs.train_all(arguments, SIDES, ("nanogpt.py", "torch_gpt.py"), save))
    paired_runs.print_losses(result)
    print(f"nanoGPT publishes {PUBLISHED} after 2000 iterations\n")
    harness.verdict("MUST: handgrad's mean minus PyTorch's", result["difference"], MUST)


if __name__ == "__main__":
    harness.run(main)
