import os
import subprocess
import sys

import numpy as np

from handgrad.kernels.cpu import jit

SCRIPT = """
import sys
{prepare}
import numpy as np
from handgrad.kernels.cpu import jit, softmax
x = np.zeros((2, 3), np.float32); x.flags.writeable = False
assert np.allclose(softmax.forward(x)[0], 1 / 3)
print(jit.CACHE_FOLDER, sum(softmax.softmax_forward_05_ahead.stats.cache_hits.values()))
"""


def run(prepare: str = "", **environment: str) -> list[str]:
    import handgrad

    root = os.path.dirname(os.path.dirname(os.path.abspath(handgrad.__file__)))
    script = SCRIPT.format(prepare=prepare)
    paths = os.pathsep.join(p for p in [root, *sys.path] if p)
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": paths, **environment},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


def test_second_process_loads_from_the_cache(tmp_path):
    folder, hits = run(NUMBA_CACHE_DIR=str(tmp_path))
    assert folder.startswith(str(tmp_path / "handgrad-")) and hits == "0"
    assert run(NUMBA_CACHE_DIR=str(tmp_path)) == [folder, "1"]


def test_no_folder_means_no_cache_and_no_failure(tmp_path):
    (tmp_path / "file").write_text("a folder cannot be made below a file")
    assert run(NUMBA_CACHE_DIR=str(tmp_path / "file")) == ["None", "0"]


def test_frozen():
    x = np.zeros((2, 3), np.float32)
    y = jit.frozen(x)
    assert not y.flags.writeable and x.flags.writeable and np.shares_memory(x, y)
    assert jit.frozen(y) is y
    assert jit.frozen(x.T).flags.c_contiguous and not jit.frozen(x.T).flags.writeable
    raw = np.zeros(9, np.int8)[1:].view(np.float32)
    assert not raw.flags.aligned and jit.frozen(raw).flags.aligned


def test_lent():
    x = np.zeros((2, 3), np.float32)
    assert jit.lent(None) is None and jit.lent((x.T, True)) is None and jit.lent((x, True)) == (x, True)
