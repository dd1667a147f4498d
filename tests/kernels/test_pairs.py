"""Which rung a launcher calls, and with what: the rungs here are plain functions that write down how they were called."""

import numpy as np
import pytest

from handgrad.kernels.cpu.pairs import Elementwise, Naive, Rows
from handgrad.kernels.cpu.threads import CHUNK, PARALLEL_WORK, row_block


@pytest.fixture
def calls():
    return []


def rungs(calls, *names):
    """Functions that note their name, the shapes of their arrays, and their numbers."""

    def rung(name):
        return lambda *given: calls.append((name, *(a.shape if isinstance(a, np.ndarray) else a for a in given)))

    return [rung(name) for name in names]


FOUR = ("forward", "forward on threads", "vjp", "vjp on threads")


def back(pair, dy, y, x, into=None, **params):
    return pair.vjp(dy, y, x, residuals=None, wanted=(True,), into=(into,), **params)[0]


def test_small_arrays_run_serially_and_large_ones_in_blocks(calls):
    pair = Elementwise(*rungs(calls, *FOUR), reads="x")
    small, large = np.zeros((2, 3), np.float32), np.zeros((2, PARALLEL_WORK // 2 + 1), np.float32)
    n, blocks = large.size, PARALLEL_WORK // CHUNK + 1
    for x in (small, large):
        pair.forward(x)
        back(pair, x, None, x)
    assert calls == [
        ("forward", (6,), (6,), 0, 6),
        ("vjp", (6,), (6,), (6,), 0, 6, False),
        ("forward on threads", (n,), (n,), blocks),
        ("vjp on threads", (n,), (n,), (n,), blocks, False),
    ]


def test_rows(calls):
    pair = Rows(*rungs(calls, *FOUR))
    small, large = np.zeros((2, 3, 4), np.float32), np.zeros((PARALLEL_WORK // 4, 4), np.float32)
    block = row_block(*large.shape)
    for y in (small, large):
        pair.forward(y, axis=-1)
        back(pair, y, y, None, axis=-1)
    assert calls == [
        ("forward", (6, 4), (6, 4), 0, 6),
        ("vjp", (6, 4), (6, 4), (6, 4), 0, 6, False),
        ("forward on threads", large.shape, large.shape, block),
        ("vjp on threads", large.shape, large.shape, large.shape, block, False),
    ]


@pytest.mark.parametrize("add", [False, True])
def test_a_lent_buffer_is_used_by_production_and_not_by_rung_01(calls, add):
    x, buffer = np.zeros((2, 3), np.float32), np.zeros((2, 3), np.float32)
    for pair in (Elementwise(*rungs(calls, *FOUR), reads="x"), Rows(*rungs(calls, *FOUR))):
        assert back(pair, x, x, x, (buffer, add)) is buffer and calls[-1][-1] is add
        assert back(Naive(*rungs(calls, "forward", "vjp"), production=pair), x, x, x, (buffer, add)) is not buffer
        assert pair.vjp(x, x, x, residuals=None, wanted=(False,), into=(None,)) == (None,)
    assert len(calls) == 4


@pytest.mark.parametrize("reads", ["x", "y"])
def test_the_vjp_gets_what_it_reads(reads):
    """The other one has neither size nor numbers here."""
    seen = []
    rung = lambda dy, read, *rest: seen.append(read)  # noqa: E731
    pair = Elementwise(rung, rung, rung, rung, reads=reads)
    x = np.arange(3, dtype=np.float32)
    for each in (pair, Naive(rung, rung, pair)):
        back(each, x, x if reads == "y" else None, x if reads == "x" else None)
    assert all(np.array_equal(read, x) for read in seen) and len(seen) == 2


@pytest.mark.parametrize("shape, rows", [((2, 3), (2, 3)), ((2, 3, 4), (6, 4)), ((0, 3), None), ((3, 0), None)])
def test_rung_01_gets_the_whole_array_unless_it_is_empty(calls, shape, rows):
    x = np.zeros(shape, np.float32)
    for production, seen in (
        (Elementwise(*rungs(calls, *FOUR), reads="y"), (x.size,)),
        (Rows(*rungs(calls, *FOUR)), rows),
    ):
        pair = Naive(*rungs(calls, "naive forward", "naive vjp"), production=production)
        calls.clear()
        assert pair.forward(x)[0].shape == shape == back(pair, x, x, None).shape
        assert calls == ([("naive forward", seen, seen), ("naive vjp", seen, seen, seen)] if x.size else [])


def test_a_serial_rung_gets_all_rows_whatever_their_number(calls):
    pair = Rows.on_one_thread(*rungs(calls, "forward", "vjp"))
    large = np.zeros((PARALLEL_WORK // 4, 4), np.float32)
    for y in (large[:2], large):
        pair.forward(y)
        back(pair, y, y, None)
        forward, backward = calls[-2:]
        assert forward == ("forward", y.shape, y.shape, 0, len(y))
        assert backward == ("vjp", y.shape, y.shape, y.shape, 0, len(y), False)


def test_accepts():
    elementwise, rows = Elementwise(*[print] * 4, reads="x"), Rows(*[print] * 4)
    scalar, matrix = np.zeros(()), np.zeros((2, 3))
    for pair in (elementwise, Naive(print, print, elementwise)):
        assert pair.accepts(scalar) and not pair.accepts(matrix.astype(np.int64))
    for pair in (rows, Naive(print, print, rows)):
        assert pair.accepts(matrix) and pair.accepts(matrix, axis=1) and not pair.accepts(matrix, axis=0)
        assert not pair.accepts(scalar) and not pair.accepts(matrix.astype(np.float16))
