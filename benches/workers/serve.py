"""The worker's half of the harness: answer requests, time blocks of steps. Imports nothing that has threads or settings.

A worker script calls `serve({"name": function, ...})`. Each line on its standard input is a JSON object: {"do": name, ...}
runs that function on the other entries and answers {"value": result} or {"error": sentence} on standard output; {"refused":
sentence} where it raised Refusal, which says what is wrong with what the user gave. What the script or a library prints goes
to standard error, so that it never mixes with answers.
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
import time
import traceback
from collections.abc import Callable, Mapping
from typing import Any

WARM_UP = 2
"""Steps at the start of each block that are not counted: caches and thread pools wake up."""


class Refusal(Exception):
    """What the user gave cannot be done; the sentence says why, and nobody needs a traceback."""


def serve(commands: Mapping[str, Callable[..., Any]]) -> None:
    """Answer requests until the input ends."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        request = json.loads(line)
        try:
            answer = {"value": commands[request.pop("do")](**request)}
        except Refusal as refusal:
            answer = {"refused": str(refusal)}
        except Exception as error:
            traceback.print_exc()
            answer = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(answer) + "\n")
        answers.flush()


def run_queue_wait() -> float:
    """Seconds that all threads of this process have stood runnable without a core, so far; 0.0 where the kernel is silent."""
    total = 0
    with contextlib.suppress(OSError):
        for thread in os.listdir("/proc/self/task"):
            with contextlib.suppress(OSError), open(f"/proc/self/task/{thread}/schedstat", "rb") as file:
                total += int(file.read().split()[1])
    return total * 1e-9


def timed_block(step: Callable[[], Any], seconds: float, *, inner: int = 1) -> list[tuple[float, float]]:
    """Run `step` for about `seconds`; (seconds, run queue wait) of each sample of `inner` steps, divided by `inner`."""
    for _ in range(WARM_UP * inner):
        step()
    samples = []
    repeat = range(inner)
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        before = run_queue_wait()
        start = time.perf_counter()
        for _ in repeat:
            step()
        elapsed = time.perf_counter() - start
        waited = max(0.0, run_queue_wait() - before)  # a thread that ended takes its count along
        samples.append((elapsed / inner, waited / inner))
    return samples
