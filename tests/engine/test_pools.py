"""One pool for NumPy and Numba: products stay right from every kind of caller, and nothing is joined unasked."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import handgrad as hg
from handgrad.kernels.cpu.tile import VECTOR_BYTES

LINUX = sys.platform == "linux"

PRODUCTS = """
import json, threading
import numpy as np
from handgrad.engine import pools

def worst():
    return max(float(np.max(np.abs(a @ b - np.einsum("ij,jk->ik", a, b)))) for a, b in pairs)

rng = np.random.default_rng(0)
sizes = (300, 257, 129), (64, 512, 640), (1, 700, 3)
pairs = [(rng.standard_normal((m, k)), rng.standard_normal((k, n))) for m, k, n in sizes]
why = pools.join()
again = pools.join()
found = [worst()]
threads = [threading.Thread(target=lambda: found.append(worst())) for _ in range(4)]
for t in threads: t.start()
for t in threads: t.join()
inverse = float(np.max(np.abs(np.linalg.inv(pairs[0][0][:200, :200]) @ pairs[0][0][:200, :200] - np.eye(200))))
print(json.dumps({"why": why, "again": again, "joined": pools.joined(), "found": found, "inverse": inverse}))
"""


def run(code: str, **environ: str) -> dict:
    """What the last line of a fresh process says, as JSON."""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, env={**os.environ, **environ}
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


@pytest.mark.skipif(not LINUX, reason="OpenMP's libgomp is looked for on Linux only")
def test_products_are_right_on_one_pool_from_threads_and_from_lapack():
    result = run(PRODUCTS)
    if not result["joined"]:
        pytest.skip(f"this machine cannot join the pools: {result['why']}")
    assert result["why"] is None and result["again"] is None
    assert max(result["found"]) < 700 * 2.3e-16 * 50 and len(result["found"]) == 5
    assert result["inverse"] < 1e-8


@pytest.mark.skipif(not LINUX, reason="OpenMP's libgomp is looked for on Linux only")
@pytest.mark.parametrize("environ", [{"OMP_THREAD_LIMIT": "1", "OMP_NUM_THREADS": "2"}, {"OMP_DYNAMIC": "true"}])
def test_nothing_is_joined_where_openmp_may_give_fewer_threads(environ: dict[str, str]):
    result = run(PRODUCTS, **environ)
    assert not result["joined"]
    assert "OMP_THREAD_LIMIT" in result["why"] or "no hook" in result["why"]
    assert max(result["found"]) < 700 * 2.3e-16 * 50


def test_a_process_that_is_not_ours_is_left_alone():
    code = """
import json, numpy
import handgrad as hg
from handgrad.engine import pools, process
process.settle_late()
process.join_pools()
print(json.dumps({"joined": pools.joined(), "settings": process.settings()["one_pool"]}))
"""
    assert run(code) == {"joined": False, "settings": False}


def test_no_product_of_nanogpts_step_wakes_blas(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its threads would spin against ours for the rest of the step, where `join` was not asked for: with the one product for 65
    logits alone (128 to 65: 38 us by BLAS, 45 by ours), a step took 40 ms instead of 15.
    """
    if VECTOR_BYTES != 64:
        pytest.skip("BLAS multiplies on this machine")
    model = hg.models.GPT(hg.models.GPTConfig(65, block_size=64, n_layer=1, n_head=4, n_embd=128, bias=False))
    ids = np.arange(12 * 64).reshape(12, 64) % 65
    for name in ("dot", "matmul", "einsum", "tensordot", "inner"):
        monkeypatch.setattr(np, name, None)
    with hg.use_kernels("auto"):
        model.loss(ids, ids).backward()
