"""Does it learn as well as PyTorch? nanoGPT's published CPU run on tinyshakespeare, the same seeds on both sides.

    python benches/nanogpt_quality.py [--text PATH] [--seeds 1 2 3] [--iterations 2000] [--fresh]

Character model (65 characters, first 90% of the text to train on): 2,000 iterations of 12 blocks of 64, learning rate 1e-3
to 1e-4 by a cosine after 100 steps of warm-up, AdamW betas 0.9 and 0.99, weight decay 0.1 on matrices, clipping at 1.0, no
dropout, no bias. For each seed handgrad draws the initial weights and the batches, and both sides use these. Published: the
mean cross entropy in nats over all non-overlapping blocks of 64 of the validation split, each side in its own process, one
after the other. nanoGPT's README says 1.88 for this configuration (estimated on random blocks).

Each run takes one to two minutes on two cores. Finished runs are kept in the result file and not repeated; --fresh forgets
them. They are forgotten too when the text, the iterations or the sources of handgrad's numbers change.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import nanogpt  # noqa: E402

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
    text = {"path": str(arguments.text), "sha256": hashlib.sha256(arguments.text.read_bytes()).hexdigest()}
    if text["sha256"] != SHA256:
        print(f"NOTE: {arguments.text} is not the usual tinyshakespeare; the published figure does not apply", file=sys.stderr)
    key = {"text": text["sha256"], "iterations": arguments.iterations, "sources": sources()}
    runs = {} if arguments.fresh else finished(arguments.out, key)
    for seed in arguments.seeds:
        missing = [side for side in SIDES if f"{side} {seed}" not in runs]
        if missing:
            train_both(arguments, seed, missing, runs, lambda: save(arguments, key, text, runs))
    result = save(arguments, key, text, runs)
    show(result)


def train_both(arguments: argparse.Namespace, seed: int, missing: list[str], runs: dict[str, Any], keep: Any) -> None:
    """Runs the sides that lack a result for `seed`, in fresh processes one after the other, from the same inputs."""
    with tempfile.TemporaryDirectory() as folder:
        inputs = str(Path(folder) / "inputs.npz")
        with Worker(SIDES["handgrad"]) as worker:
            worker.ask("start", threads=arguments.threads, seed=seed)
            worker.ask("inputs", text=str(arguments.text), seed=seed, iterations=arguments.iterations, path=inputs)
        for side in missing:
            with Worker(SIDES[side]) as worker:
                settings = worker.ask("start", threads=arguments.threads)
                run = worker.ask("train", inputs=inputs, label=f"seed {seed}, {side}")
            runs[f"{side} {seed}"] = {**run, "settings": settings, "commit": harness.commit()}
            keep()


def save(arguments: argparse.Namespace, key: dict[str, Any], text: dict[str, Any], runs: dict[str, Any]) -> dict[str, Any]:
    """Write what is finished so far, with the means of the seeds that both sides have done."""
    both = [seed for seed in arguments.seeds if all(f"{side} {seed}" in runs for side in SIDES)]
    losses = {side: [runs[f"{side} {seed}"]["validation_loss"] for seed in both] for side in SIDES}
    means = {side: statistics.fmean(found) for side, found in losses.items()} if both else {}
    result = harness.record(
        "nanogpt_quality", unit="nats", key=key, configuration=nanogpt.SETTINGS | {
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
    print(f"validation loss in nats after {result['key']['iterations']} iterations")
    harness.print_table(["", "handgrad", "torch", "difference", "handgrad s", "torch s"], rows)
    print(f"nanoGPT publishes {PUBLISHED} after 2000 iterations\n")
    harness.verdict("MUST: handgrad's mean minus PyTorch's", result["difference"], MUST)


def finished(path: Path, key: dict[str, Any]) -> dict[str, Any]:
    """The runs in the result file, if they belong to the same text, iterations and sources."""
    if not path.exists():
        return {}
    try:
        old = json.loads(path.read_text())
    except json.JSONDecodeError:
        print(f"NOTE: {path} is broken; starting afresh", file=sys.stderr)
        return {}
    if old.get("key") != key:
        print(f"NOTE: the runs in {path} belong to another text, length or source; starting afresh", file=sys.stderr)
        return {}
    return old["runs"]


def sources() -> str:
    """A hash of every source on which a run's numbers depend: reference/, kernels/, engine/ and the workers."""
    digest = hashlib.sha256()
    for folder in (ROOT / "reference", ROOT / "kernels", ROOT / "engine", harness.WORKERS):
        for path in sorted(folder.rglob("*.py")):
            digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, default=TEXT, help=f"the text (default {TEXT})")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3], help="default 1 2 3")
    parser.add_argument("--iterations", type=int, default=nanogpt.ITERATIONS, help="default 2000; fewer only for a try")
    parser.add_argument("--threads", type=int, default=cores, help=f"threads of each side (default {cores})")
    parser.add_argument("--fresh", action="store_true", help="forget the finished runs in the result file")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "nanogpt_quality.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
