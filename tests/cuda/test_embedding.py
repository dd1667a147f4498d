"""embedding's CUDA rungs: rows copied exactly, gradients added in the order of the ids; and mistakes that must be caught."""

import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

EPS = float(np.finfo(np.float32).eps)
SIZES = [(3, 0, 4), (2, 3, 0), (1, 1, 1), (5, 7, 3), (4, 9, 4), (3, 40, 33), (70, 6, 128), (6, 13, 132), (9, 5, 129)]
"""(rows of weight, ids, columns): nothing, tails of four and of 32, more columns than a warp has, rows read often and never."""


def trial(pair, size, padding_idx=None, dtype=np.int64) -> None:
    V, R, C = size
    rng = np.random.default_rng([V, R, C])
    weight, ids = rng.standard_normal((V, C)).astype(np.float32), rng.integers(0, V, R).astype(dtype)
    given = {"padding_idx": padding_idx}
    assert pair.accepts(weight, ids, **given)
    y, residuals = pair.forward(weight, ids, **given)
    assert y.dtype == np.float32 and np.array_equal(y, weight[ids])
    dy = rng.standard_normal(y.shape).astype(np.float32)
    calls = {"residuals": residuals, "into": (None, None), **given}
    dweight, nothing = pair.vjp(dy, y, weight, ids, wanted=(True, False), **calls)
    want, terms, sums = np.zeros((V, C)), np.zeros((V, C)), np.zeros((V, C), np.float32)
    for r in range(R):
        if ids[r] != padding_idx:
            want[ids[r]] += dy[r]
            terms[ids[r]] += abs(dy[r])
            sums[ids[r]] += dy[r]
    assert nothing is None and dweight.dtype == np.float32 and dweight.shape == (V, C)
    assert (abs(dweight - want) <= R * EPS * terms).all()
    assert np.array_equal(dweight, sums), "the rows are not added in the order of the ids"
    assert pair.vjp(dy, y, weight, ids, wanted=(False, False), **calls) == (None, None)


def trials(pair) -> None:
    for size in SIZES:
        trial(pair, size)
    trial(pair, (3, 40, 33), padding_idx=1)
    with running(("forward",), sanitize=True):
        for size in [(5, 7, 3), (4, 9, 4)]:
            trial(pair, size)


every_rung = pytest.mark.parametrize("name", LADDERS["embedding"])


@every_rung
def test_rows_and_their_gradients(name):
    trials(rung("embedding", name))
    for dtype in (np.int32, np.uint8):
        trial(rung("embedding", name), (5, 7, 3), dtype=dtype)


@every_rung
def test_ids_of_any_shape_and_ids_that_are_no_rows(name):
    pair, weight = rung("embedding", name), np.arange(12, dtype=np.float32).reshape(3, 4)
    for ids in (np.array(1), np.array([[0, 2], [2, 2]])):
        y, _ = pair.forward(weight, ids)
        assert np.array_equal(y, weight[ids])
    for bad in (-1, 3):
        with pytest.raises(IndexError, match=f"^embedding: ids holds {bad}, but weight has 3 rows$"):
            pair.forward(weight, np.array([0, bad]))
    assert not pair.accepts(weight.astype(np.float64), np.array([0]))
    assert not pair.accepts(weight, np.array([0.0]))
    assert not pair.accepts(weight[0], np.array([0]))


MISTAKES = [
    ("01_naive", "if (i >= (size_t)R * C) return;", ""),
    ("01_naive", "if (i >= (size_t)V * C) return;", ""),
    ("01_naive", "(size_t)ids[i / C] * C", "(size_t)ids[i / C] * (C - 1)"),
    ("01_naive", "r < R;", "r < R - 1;"),
    ("01_naive", " && v != padding", ""),
    ("01_naive", "(size_t)r * C + c", "(size_t)r * C"),
    ("02_sorted", "if (r >= R) return;", ""),
    ("02_sorted", "if (k >= R) return;", ""),
    ("02_sorted", "if (C % 4 == 0 && c < C) return", "if (c < C) return"),
    ("02_sorted", "if (C % 4 == 0 && c < C) {", "if (c < C) {"),
    ("02_sorted", "C % 4 == 0 && c < C) return", "C % 4 == 0) return"),
    ("02_sorted", "C % 4 == 0 && c < C) {", "C % 4 == 0) {"),
    ("02_sorted", "c + 1 < C ? row[c + 1]", "true ? row[c + 1]"),
    ("02_sorted", "c + 2 < C ? row[c + 2]", "true ? row[c + 2]"),
    ("02_sorted", "c + 3 < C ? row[c + 3]", "true ? row[c + 3]"),
    ("02_sorted", "if (c + 1 < C) ", ""),
    ("02_sorted", "if (c + 2 < C) ", ""),
    ("02_sorted", "if (c + 3 < C) ", ""),
    ("02_sorted", "c += COLUMNS", "c += 2 * COLUMNS"),
    ("02_sorted", "if (id == padding) return;", ""),
    ("02_sorted", "if (k > 0 && sorted[k - 1] == id) return;", ""),
    ("02_sorted", "k > 0 && ", ""),
    ("02_sorted", "j < R && ", ""),
    ("02_sorted", " && sorted[j] == id", ""),
    ("02_sorted", "order[j] * C", "j * C"),
    ("02_sorted", "blockIdx.y * COLUMNS + ", ""),
    ("02_sorted", "(size_t)id * C", "(size_t)id * (C - 1)"),
]



@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(name, old, new, caught):
    said = caught(f"embedding_{name}", old, new, lambda: trials(rung("embedding", name)))
    assert said is not None, "it survived"
