"""Process settings, each case in a process of its own: libraries read their variables once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

import pytest

from handgrad.engine import process

OURS = ("OMP_", "GOMP_", "OPENBLAS_", "NUMBA_", "HANDGRAD_", "MALLOC_", "GLIBC_TUNABLES")
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="Linux's loader and affinity")
GLIBC = pytest.mark.skipif(not process._is_glibc(), reason="glibc's mallopt")
LIBGOMP = pytest.mark.skipif(not process._libgomp_opens(), reason="libgomp is not here")


def run(code: str, **environ: str) -> dict[str, Any]:
    """Run `code` in a fresh process; return what it describes, its settings, and `extra` if the code sets that."""
    before = {name: value for name, value in os.environ.items() if not name.startswith(OURS)}
    tail = "\nimport json; print(json.dumps([process.describe(), process.settings(), globals().get('extra')]))"
    command = [sys.executable, "-c", f"import os, sys\nfrom handgrad.engine import process\n{code}{tail}"]
    done = subprocess.run(command, env=before | environ, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    describe, settings, extra = json.loads(done.stdout)
    return {"describe": describe, "settings": settings, "extra": extra}


@LIBGOMP
@GLIBC
def test_settle_before_numpy_sets_everything_and_loads_neither() -> None:
    result = run("process.settle(); extra = 'numpy' in sys.modules or 'numba' in sys.modules")
    cores = str(len(os.sched_getaffinity(0)))
    variables = {
        "GOMP_SPINCOUNT": "3000",
        "OPENBLAS_THREAD_TIMEOUT": "12",
        "NUMBA_THREADING_LAYER": "omp",
        "OMP_NUM_THREADS": cores,
        "OPENBLAS_NUM_THREADS": cores,
        "NUMBA_NUM_THREADS": cores,
    }
    rest = {"threads": int(cores), "malloc": "keeps freed memory", "one_pool": False, "missed": []}
    assert result["settings"] == variables | rest
    assert result["describe"] == f"threads {cores} · omp, spin 3000 · OpenBLAS timeout 12 · malloc keeps freed memory"
    assert result["extra"] is False


def test_settle_again_changes_nothing() -> None:
    once = run("process.settle()")
    assert run("process.settle(); process.settle(); process.settle_late()") == once
    assert run("process.settle()\nimport numpy, numba\nprocess.settle()") == once


def test_the_user_keeps_what_was_exported() -> None:
    exported = {"GOMP_SPINCOUNT": "7", "OPENBLAS_THREAD_TIMEOUT": "20", "NUMBA_THREADING_LAYER": "workqueue"}
    result = run("process.settle()", OMP_NUM_THREADS="1,2", **exported)["settings"]
    assert {name: result[name] for name in exported} == exported
    assert result["OMP_NUM_THREADS"] == "1,2"
    assert result["OPENBLAS_NUM_THREADS"] == result["NUMBA_NUM_THREADS"] == "1"


def test_a_wait_policy_replaces_both_spin_settings() -> None:
    result = run("process.settle()", OMP_WAIT_POLICY="passive")
    assert "GOMP_SPINCOUNT" not in result["settings"]
    assert "OPENBLAS_THREAD_TIMEOUT" not in result["settings"]
    assert "passive waiting" in result["describe"]


@pytest.mark.parametrize(
    ("code", "environ", "threads"),
    [
        ("process.settle(3)", {"HANDGRAD_THREADS": "5", "OMP_NUM_THREADS": "7"}, "3"),
        ("process.settle()", {"HANDGRAD_THREADS": "5", "OMP_NUM_THREADS": "7"}, "5"),
        ("process.settle()", {"OMP_NUM_THREADS": "7"}, "7"),
    ],
)
def test_who_decides_the_thread_count(code: str, environ: dict[str, str], threads: str) -> None:
    settings = run(code, **environ)["settings"]
    counts = [settings[name] for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS")]
    assert counts == [threads] * 3
    assert settings["threads"] == int(threads)


@LINUX
def test_affinity_is_the_default_thread_count() -> None:
    result = run("os.sched_setaffinity(0, [min(os.sched_getaffinity(0))]); process.settle()")
    assert result["settings"]["NUMBA_NUM_THREADS"] == "1"


def test_threads_must_be_positive() -> None:
    with pytest.raises(ValueError, match="threads is 0, but it must be a positive number"):
        process.settle(0)


def test_late_says_what_could_not_be_set_and_how() -> None:
    result = run("import numpy\nprocess.settle_late()")
    assert result["describe"].endswith(
        "OPENBLAS_THREAD_TIMEOUT could not be set because NumPy was loaded first: "
        "start with handgrad's command line or export OPENBLAS_THREAD_TIMEOUT=12"
    )
    assert result["settings"]["missed"] == ["OPENBLAS_THREAD_TIMEOUT"]
    assert result["settings"]["GOMP_SPINCOUNT"] == "3000"  # libgomp is not loaded yet
    assert "OPENBLAS_THREAD_TIMEOUT" not in result["settings"]


def test_late_leaves_pools_at_their_sizes() -> None:
    assert not [name for name in run("process.settle_late()")["settings"] if name.endswith("NUM_THREADS")]
    asked = run("import numpy\nprocess.settle_late()", HANDGRAD_THREADS="3")["settings"]
    assert asked["NUMBA_NUM_THREADS"] == "3"
    assert asked["missed"] == ["OPENBLAS_NUM_THREADS", "OPENBLAS_THREAD_TIMEOUT"]
    assert "OMP_NUM_THREADS" not in asked


def test_late_is_silent_about_what_the_user_exported_in_time() -> None:
    result = run("import numpy\nprocess.settle_late()", OPENBLAS_THREAD_TIMEOUT="12")
    assert result["settings"]["missed"] == []
    assert "could not" not in result["describe"]


@LIBGOMP
@LINUX
def test_libgomp_that_is_loaded_already_is_noticed() -> None:
    result = run("import ctypes; ctypes.CDLL('libgomp.so.1'); process.settle_late()")
    assert result["settings"]["missed"] == ["GOMP_SPINCOUNT"]
    assert "because libgomp was loaded first" in result["describe"]


def test_without_libgomp_and_glibc_it_does_less() -> None:
    result = run("process._libgomp_opens = process._is_glibc = lambda: False; process.settle()")
    assert "NUMBA_THREADING_LAYER" not in result["settings"]
    assert result["settings"]["malloc"] == "as the system has it"
    assert result["settings"]["missed"] == []


def test_malloc_that_the_user_tuned_is_left_alone() -> None:
    code = "process._is_glibc = lambda: 1 / 0; process.settle()"
    assert run(code, MALLOC_TRIM_THRESHOLD_="1000")["settings"]["malloc"] == "as the user set it"
    assert run(code, GLIBC_TUNABLES="glibc.malloc.check=0")["settings"]["malloc"] == "as the user set it"


@GLIBC
def test_freed_arrays_fault_no_pages_in_again() -> None:
    code = """{settle}
import resource
import numpy as np
for round in range(4):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(5_000_000); np.ones(9_000_000)
extra = resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before
"""
    assert run(code.format(settle=""))["extra"] > 20
    assert run(code.format(settle="process.settle()"))["extra"] <= 2


@LIBGOMP
def test_numba_and_openblas_obey() -> None:
    code = """process.settle(1)
import numba, numpy, threadpoolctl
extra = [numba.config.NUMBA_NUM_THREADS, numba.config.THREADING_LAYER]
extra += [pool["num_threads"] for pool in threadpoolctl.threadpool_info()]
"""
    assert run(code)["extra"] == [1, "omp", 1, 1]
