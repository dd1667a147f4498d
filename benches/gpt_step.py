"""A training step of a GPT: handgrad against PyTorch, each in its own process.

    python benches/gpt_step.py [--size nanogpt|gpt2] [--rounds N] [--seconds S] [--threads T] [--torch-compile]

nanogpt is nanoGPT's CPU configuration; gpt2 is llm.c's case, GPT-2 with 124 million parameters at batches of 4 x 64 tokens.
A step is forward, loss.item(), backward, clipping to a global norm of 1 and AdamW; batches are prepared beforehand on both
sides. First the check: from the same weights and batch both sides must give the same loss and the same gradients. Then a
short trial finds PyTorch's best environment among VARIANTS. Then the timing (harness.py says how), of each side in its best
settings and "as installed": handgrad as `import handgrad` in somebody's program leaves it, and malloc as the system has it.
Last, each of handgrad's operations is timed by itself (workers/step_clock.py): where the time goes, and how much of it is
outside kernels.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

import harness
from harness import BenchError, Worker

sys.path.insert(0, str(harness.WORKERS))
import gpt_sizes

MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(1 << 30), "MALLOC_TRIM_THRESHOLD_": str(1 << 40)}
VARIANTS: dict[str, dict[str, str]] = {
    "as installed": {},
    "malloc keeps freed memory": MALLOC,
    "malloc keeps freed memory, short spin": MALLOC | {"GOMP_SPINCOUNT": "3000"},
}
"""PyTorch's candidates; handgrad sets the same two things for itself (engine/process.py)."""

UNTOUCHED = {"GLIBC_TUNABLES": "glibc.malloc.tcache_max=1032"}
"""The system's own setting, said aloud: then handgrad leaves malloc as it is."""

LOSS_TOLERANCE = 1e-5
GRADIENT_TOLERANCE = 1e-5
"""Relative, of the difference's norm to the gradient's, for each parameter: float32 sums in two different orders."""

LIMITS = {"nanogpt": {"MUST": 1.15, "GOAL": 1.5}, "gpt2": {"GOAL": 1.5}}
OUTSIDE = 0.1
"""More than this outside kernels would be worth recording a step and replaying it."""

PROFILED = {"nanogpt": 50, "gpt2": 5}
"""Steps, after the timing, in which each operation is timed."""

RESULT = {"nanogpt": "gpt_step.json", "gpt2": "gpt2_step.json"}


def main() -> None:
    arguments = parse()
    harness.require("handgrad", "numba", "torch")
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        common = {"threads": arguments.threads, "size": arguments.size}
        ours = stack.enter_context(Worker("gpt_handgrad.py"))
        settings = {"handgrad": ours.ask("start", **common)}
        ours.ask("save_weights", path=str(folder / "weights.npz"))
        plain = stack.enter_context(Worker("gpt_handgrad.py", UNTOUCHED))
        settings["handgrad as installed"] = plain.ask("start", settled=False, **common)
        variant, trial = best_variant(common, arguments.trial_seconds)
        rivals = [("torch eager", VARIANTS[variant], False), ("torch as installed", {}, False)]
        rivals += [("torch compile", VARIANTS[variant], True)] if arguments.torch_compile else []
        theirs = {}
        for name, environ, compiled in rivals:
            theirs[name] = stack.enter_context(Worker("gpt_torch.py", environ))
            settings[name] = theirs[name].ask("start", compile=compiled, **common)
            theirs[name].ask("load_weights", path=str(folder / "weights.npz"))
        settings["torch eager"]["variant"] = variant
        checks = {name: check(ours, side, name, folder) for name, side in theirs.items()}
        print(f"timing {arguments.rounds} rounds of {arguments.seconds:g} s each ...", file=sys.stderr)
        sides = {"handgrad": ours, "handgrad as installed": plain, **theirs}
        rounds = harness.alternate(sides, rounds=arguments.rounds, seconds=arguments.seconds)
        profile = ours.ask("profile", steps=PROFILED[arguments.size])
    summaries = {name: harness.summarize(blocks) for name, blocks in rounds.items()}
    pairs = {name: "handgrad as installed" if name == "torch as installed" else "handgrad" for name in theirs}
    ratios = {name: harness.ratio_record(rounds[name], rounds[our]) | {"to": our} for name, our in pairs.items()}
    print()
    harness.print_table(harness.header("ms"), [harness.row_of(name, s) for name, s in summaries.items()])
    print()
    for name, ratio in ratios.items():
        spread = (
            f", {ratio['by_round']['p10']:.3f} to {ratio['by_round']['p90']:.3f} by round"
            if "by_round" in ratio
            else ""
        )
        print(f"{name} / {ratio['to']}: {ratio['of_medians']:.3f}{spread}; "
              f"of all samples {ratio['of_undropped_medians']:.3f}")  # fmt: skip
    print_profile(profile)
    harness.say_if_noisy(summaries.values())
    speed = ratios["torch eager"]["of_medians"]
    verdicts = [harness.verdict(f"{label}: speed against PyTorch eager", speed, limit, at_least=True)
                for label, limit in LIMITS[arguments.size].items()]  # fmt: skip
    verdicts.append(harness.verdict("GOAL: share of the step outside kernels", profile["outside_share"], OUTSIDE))
    result = harness.record(
        RESULT[arguments.size].removesuffix(".json"), unit="ms", configuration=gpt_sizes.SIZES[arguments.size].describe(),
        settings=settings, rounds=arguments.rounds, seconds_a_block=arguments.seconds, wait_limit=harness.WAIT_LIMIT,
        check=checks, torch_trial=trial, steps=summaries, ratio_to_handgrad=ratios,
        profile=profile, verdicts=verdicts,
    )  # fmt: skip
    harness.write_result(arguments.out or harness.RESULTS / RESULT[arguments.size], result)


def print_profile(profile: dict[str, Any]) -> None:
    """Where handgrad's time goes: what takes more than a hundredth, and what is outside kernels."""
    parts = {name: ms for name, ms in profile["parts_ms"].items() if ms > 0.01 * profile["ms"]}
    print(f"where {profile['ms']:.1f} ms go: " + ", ".join(f"{name} {ms:.2f}" for name, ms in parts.items())
          + f"; outside kernels {profile['outside_ms']:.2f}, {profile['outside_share']:.1%}")  # fmt: skip


def best_variant(common: dict[str, Any], seconds: float) -> tuple[str, dict[str, float]]:
    """The environment in which PyTorch eager is fastest, and the median step of each in ms, alternating."""
    with contextlib.ExitStack() as stack:
        workers = {name: stack.enter_context(Worker("gpt_torch.py", environ)) for name, environ in VARIANTS.items()}
        for worker in workers.values():
            worker.ask("start", **common)
        print("finding PyTorch's best settings ...", file=sys.stderr)
        rounds = harness.alternate(workers, rounds=4, seconds=seconds / 4)
    medians = {name: harness.summarize(blocks)["median"] for name, blocks in rounds.items()}
    best = min(medians, key=medians.__getitem__)
    print(
        "PyTorch's settings: " + ", ".join(f"{name} {ms:.1f} ms" for name, ms in medians.items()) + f"; taken: {best}"
    )
    return best, medians


def check(ours: Worker, theirs: Worker, name: str, folder: Path) -> dict[str, Any]:
    """The same weights and batch must give the same loss and gradients; BenchError where they do not."""
    import numpy as np

    losses = [side.ask("gradients", path=str(folder / f"{i}.npz")) for i, side in enumerate((ours, theirs))]
    left, right = (np.load(folder / f"{i}.npz") for i in range(2))
    if sorted(left.files) != sorted(right.files):
        raise BenchError(f"the parameters differ: {sorted(set(left.files) ^ set(right.files))}")
    loss_error = abs(losses[0] - losses[1]) / abs(losses[1])
    errors = {key: float(np.linalg.norm(left[key] - right[key]) / np.linalg.norm(right[key])) for key in right.files}
    worst = max(errors, key=lambda name: (math.isnan(errors[name]), errors[name]))
    if not (loss_error <= LOSS_TOLERANCE and all(error <= GRADIENT_TOLERANCE for error in errors.values())):
        raise BenchError(
            f"handgrad and {name} disagree: losses {losses[0]:.7f} and {losses[1]:.7f}, "
            f"gradient of {worst} off by {errors[worst]:.1e} relative; nothing was timed"
        )
    print(f"check against {name}: loss {losses[0]:.6f}, off by {loss_error:.1e}; "
          f"worst gradient {worst}, off by {errors[worst]:.1e}")  # fmt: skip
    return {"losses": losses, "loss_error": loss_error, "worst_gradient": worst, "worst_gradient_error": errors[worst]}


def parse() -> argparse.Namespace:
    """The command line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=tuple(RESULT), default="nanogpt", help="which model (default nanogpt)")
    parser.add_argument("--rounds", type=harness.positive_int, default=12, help="blocks of each side (default 12)")
    parser.add_argument("--seconds", type=harness.positive, default=2.0, help="seconds a block (default 2)")
    parser.add_argument(
        "--trial-seconds", type=harness.positive, default=6.0, help="seconds for each of PyTorch's variants (default 6)"
    )
    parser.add_argument(
        "--threads", type=harness.positive_int, default=cores, help=f"threads of each side (default {cores})"
    )
    parser.add_argument("--torch-compile", action="store_true", help="time torch.compile too (needs a C++ compiler)")
    parser.add_argument("--out", type=Path, help="result file (default results/ and the model's own)")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
