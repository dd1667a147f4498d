"""Does it learn as well as PyTorch? nanoGPT's published CPU run on tinyshakespeare, the same seeds on both sides.

    python benches/nanogpt_quality.py [--text PATH] [--seeds 1 2 3] [--iterations 2000] [--fresh]

Character model (65 characters, first 90% of the text to train on): 2,000 iterations of 12 blocks of 64, learning rate 1e-3
to 1e-4 by a cosine after 100 steps of warm-up, AdamW betas 0.9 and 0.99, weight decay 0.1 on matrices, clipping at 1.0, no
dropout, no bias. For each seed handgrad draws the initial weights and the batches, and both sides use these. Published: the
mean cross entropy in nats over all non-overlapping blocks of 64 of the validation split, each side in its own process, one
after the other. nanoGPT's README says 1.88 for this configuration (estimated on random blocks).

Each run takes one to two minutes on two cores. Finished runs are kept in the result file and not repeated, as long as they
came from the same inputs (text, weights, batches) and the same sources of their side; --fresh forgets them all.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import harness
import numpy as np
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import nanogpt

ROOT = harness.HERE.parent
TEXT = ROOT.parent / "shared" / "data" / "text" / "tinyshakespeare.txt"
SHA256 = "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed"
SIDES = {"handgrad": "gpt_handgrad.py", "torch": "gpt_torch.py"}
MUST = 0.01
PUBLISHED = 1.88


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    if not arguments.text.is_file():
        raise BenchError(
            f"{arguments.text} is absent: this bench needs tinyshakespeare.txt (1,115,394 characters, karpathy/char-rnn, "
            "data/tinyshakespeare/input.txt); name it with --text PATH"
        )
    text = {"file": arguments.text.name, "sha256": hashlib.sha256(arguments.text.read_bytes()).hexdigest()}
    if text["sha256"] != SHA256:
        print(
            f"NOTE: {arguments.text} is not the usual tinyshakespeare; the published figure does not apply",
            file=sys.stderr,
        )
    runs = {} if arguments.fresh else finished(arguments.out)
    for seed in arguments.seeds:
        train_both(arguments, seed, runs, lambda: save(arguments, text, runs))
    show(save(arguments, text, runs))


def train_both(arguments: argparse.Namespace, seed: int, runs: dict[str, Any], keep: Callable[[], Any]) -> None:
    """Run the sides that lack a result for `seed`, in fresh processes one after the other, from the same inputs."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = str(Path(folder) / "inputs.npz")
        with Worker(SIDES["handgrad"]) as worker:
            worker.ask("start", threads=arguments.threads, seed=seed)
            worker.ask("inputs", text=str(arguments.text), seed=seed, iterations=arguments.iterations, path=inputs)
        for side in SIDES:
            fingerprint = f"{digest_of_inputs(inputs)} {digest_of_sources(side)}"
            if runs.get(f"{side} {seed}", {}).get("fingerprint") == fingerprint:
                continue
            with Worker(SIDES[side]) as worker:
                settings = worker.ask("start", threads=arguments.threads)
                run = worker.ask("train", inputs=inputs, label=f"seed {seed}, {side}")
            about = {"settings": settings, "commit": harness.commit(), "fingerprint": fingerprint}
            runs[f"{side} {seed}"] = run | about
            keep()


def save(arguments: argparse.Namespace, text: dict[str, Any], runs: dict[str, Any]) -> dict[str, Any]:
    """Write what is finished so far, with the means of the seeds that both sides have done."""
    both = [seed for seed in arguments.seeds if all(f"{side} {seed}" in runs for side in SIDES)]
    losses = {side: [runs[f"{side} {seed}"]["validation_loss"] for seed in both] for side in SIDES}
    means = {side: statistics.fmean(found) for side, found in losses.items()} if both else {}
    result = harness.record(
        "nanogpt_quality", unit="nats", configuration=nanogpt.SETTINGS | {
            "iterations": arguments.iterations, "min_lr": nanogpt.MIN_LR, "warmup": nanogpt.WARMUP,
            "lr_decay_iterations": nanogpt.ITERATIONS,
        },
        text=text, published=PUBLISHED, threads=arguments.threads, seeds=both, means=means,
        difference=means["handgrad"] - means["torch"] if both else None, runs=runs,
    )  # fmt: skip
    harness.write_result(arguments.out, result)
    return result


def show(result: dict[str, Any]) -> None:
    """The table and the verdict."""
    rows = []
    for seed in result["seeds"]:
        ours, theirs = (result["runs"][f"{side} {seed}"] for side in SIDES)
        losses = ours["validation_loss"], theirs["validation_loss"]
        seconds = [f"{run['training_seconds']:.0f}" for run in (ours, theirs)]
        rows.append([f"seed {seed}", *(f"{loss:.4f}" for loss in losses), f"{losses[0] - losses[1]:+.4f}", *seconds])
    means = result["means"]
    rows.append(["mean", f"{means['handgrad']:.4f}", f"{means['torch']:.4f}", f"{result['difference']:+.4f}", "", ""])
    print(f"validation loss in nats after {result['configuration']['iterations']} iterations")
    harness.print_table(["", "handgrad", "torch", "difference", "handgrad s", "torch s"], rows)
    print(f"nanoGPT publishes {PUBLISHED} after 2000 iterations\n")
    harness.verdict("MUST: handgrad's mean minus PyTorch's", result["difference"], MUST)


def finished(path: Path) -> dict[str, Any]:
    """The runs in the result file."""
    if not path.exists():
        return {}
    try:
        return json.loads(path.read_text())["runs"]
    except (json.JSONDecodeError, KeyError):
        print(f"NOTE: {path} is broken; starting afresh", file=sys.stderr)
        return {}


def digest_of_inputs(path: str) -> str:
    """A hash of the arrays that both sides start from."""
    digest = hashlib.sha256()
    with np.load(path) as arrays:
        for name in sorted(arrays.files):
            digest.update(name.encode() + b"\0" + np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()[:16]


def digest_of_sources(side: str) -> str:
    """A hash of the sources on which a side's numbers depend; PyTorch's version stands for PyTorch."""
    paths = [harness.WORKERS / name for name in (SIDES[side], "nanogpt.py", "torch_gpt.py")]
    if side == "handgrad":
        rooms = [
            ROOT / "reference",
            ROOT / "kernels",
            *(ROOT / "engine" / name for name in ("nn", "ops", "optim", "models")),
        ]
        paths += [*(path for room in rooms for path in room.rglob("*.py")), *(ROOT / "engine").glob("*.py")]
    digest = hashlib.sha256(harness.versions().get("torch", "").encode() if side == "torch" else b"")
    for path in sorted(paths):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT, help=f"the text (default {TEXT})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument(
        "--iterations", type=harness.positive_int, default=nanogpt.ITERATIONS, help="default 2000; fewer only for a try"
    )
    parser.add_argument(
        "--threads", type=harness.positive_int, default=cores, help=f"threads of each side (default {cores})"
    )
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs in the result file")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "nanogpt_quality.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
