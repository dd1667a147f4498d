"""A training step finds its buffers again: in steady state it takes nothing large from the system.

The system gives a page at the first touch, which it counts as a page fault. Each program here trains in a process of its own,
without huge pages, so that a page is 4 KiB and the count says how much memory was fresh.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from handgrad.engine import process

GLIBC = pytest.mark.skipif(not process._is_glibc(), reason="glibc's mallopt")

FEW = 64  # pages: a quarter of a MiB; the logits alone are 12,564

TRAINING = """
import ctypes, resource
ctypes.CDLL(None).prctl(41, 1, 0, 0, 0)  # PR_SET_THP_DISABLE
from handgrad.engine import process
{settings}
import numpy as np, handgrad as hg
model = hg.models.GPT(hg.models.GPTConfig(50257, 64, n_layer=1, n_head=2, n_embd=32))
optimizer = hg.optim.AdamW(model.parameter_groups(0.1), max_norm=1.0)
ids = np.arange(257) * 7919 % 50257
def step():
    loss = model.loss(ids[:-1].reshape(4, 64), ids[1:].reshape(4, 64))
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()
def faults(steps=3):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        step()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before) / steps
faults()
print(faults())
"""

SETTINGS = {
    "as the command line does": "process.settle(); process.join_pools()",
    "as an import does": "",
    "in a glibc that takes no threshold above 32 MiB": """
class Old:
    def __init__(self, name): self.library = ctypes._CDLL(name)
    def __getattr__(self, name): return getattr(self.library, name)
    def mallopt(self, what, value):
        return 0 if what == process._M_MMAP_THRESHOLD and value > 1 << 25 else self.library.mallopt(what, value)
ctypes._CDLL, process.ctypes.CDLL = ctypes.CDLL, lambda name, **how: Old(name) if name is None else ctypes._CDLL(name, **how)
process.settle()
""",
}


def faults(settings: str, **environ: str) -> float:
    """Page faults of a step, after some that are not counted."""
    inherited = {
        name: value for name, value in os.environ.items() if not name.startswith(("MALLOC_", "GLIBC_", "OMP_", "GOMP_"))
    }
    command = [sys.executable, "-c", TRAINING.replace("{settings}", settings)]
    done = subprocess.run(command, env=inherited | environ, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    return float(done.stdout)


@GLIBC
@pytest.mark.parametrize("name", SETTINGS)
def test_a_step_takes_no_large_buffer_from_the_system(name: str) -> None:
    assert faults(SETTINGS[name]) < FEW


@GLIBC
def test_the_count_sees_what_malloc_gives_back() -> None:
    """Where the user tuned malloc, it stays as it is, and the logits' pages come anew in each step."""
    assert faults("", GLIBC_TUNABLES="glibc.malloc.tcache_max=1032") > 256 * 50257 * 4 / 4096
