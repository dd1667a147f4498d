"""The CUDA kernels of losses at their edges: rows that do not count, classes ruled out, long vocabularies, bad targets."""

import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.launch import laid
from handgrad.kernels.cuda.on_cpu.kernel import running

every_rung = pytest.mark.parametrize("name", LADDERS["cross_entropy"])


def loss_and_slope(name, logits, targets, dy=1.0, **params):
    pair = rung("cross_entropy", name)
    assert pair.accepts(logits, targets, **params)
    loss, residuals = pair.forward(logits, targets, **params)
    wanted, into = (True, False), (None, None)
    dx, nothing = pair.vjp(
        np.array(dy, np.float32), loss, logits, targets, residuals=residuals, wanted=wanted, into=into, **params
    )
    assert loss.shape == () and nothing is None
    return loss, dx


@every_rung
def test_what_rows_that_do_not_count_hold_is_never_seen(name):
    logits = np.array([[0, 2], [np.nan, 1], [1, 1]], np.float32)
    loss, dx = loss_and_slope(name, logits, np.array([0, -100, 1]), ignore_index=-100)
    np.testing.assert_allclose(loss, (np.log(1 + np.exp(2)) + np.log(2)) / 2, rtol=1e-6)
    assert (dx[1] == 0).all() and np.isfinite(dx).all()
    loss, dx = loss_and_slope(name, logits, np.full(3, 7), ignore_index=7)
    assert loss == 0 and (dx == 0).all()
    assert np.isnan(loss_and_slope(name, logits, np.full(3, 7), dy=np.nan, ignore_index=7)[1]).all()


@every_rung
def test_classes_ruled_out_and_nan(name):
    logits = np.array([[0.5, -np.inf, 1.5]], np.float32)
    loss, dx = loss_and_slope(name, logits, np.array([2]))
    np.testing.assert_allclose(loss, np.log1p(np.exp(-1.0)), rtol=1e-6)
    assert dx[0, 1] == 0
    loss, dx = loss_and_slope(name, logits, np.array([2]), label_smoothing=0.3)
    assert loss == np.inf and np.isfinite(dx).all()
    assert loss_and_slope(name, logits, np.array([1]))[0] == np.inf
    for row in np.array([[0, np.nan, 1], [-np.inf] * 3, [0, np.inf, 1]], np.float32):
        loss, dx = loss_and_slope(name, row[None], np.array([0]))
        assert np.isnan(loss) and np.isnan(dx).all()


@every_rung
def test_all_the_certainty_is_handed_out(name):
    loss, dx = loss_and_slope(name, np.array([[0, 1, 2]], np.float32), np.array([0]), label_smoothing=1.0)
    p = np.exp([0, 1, 2]) / np.exp([0, 1, 2]).sum()
    np.testing.assert_allclose(loss, -np.log(p).mean(), rtol=1e-6)
    np.testing.assert_allclose(dx[0], p - 1 / 3, atol=1e-6)


@every_rung
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_vocabulary_of_gpt_2(name, smoothing):
    """50257 classes, so the second row begins at no multiple of 16 bytes; logits that grow along the row."""
    rng = np.random.default_rng(0)
    logits = (rng.standard_normal((2, 50257)) + np.arange(50257) / 5000).astype(np.float32)
    targets = np.array([50256, 3])
    with running(("forward",)):
        loss, dx = loss_and_slope(name, logits, targets, label_smoothing=smoothing)
    x = logits.astype(np.float64)
    log_p = x - np.log(np.exp(x).sum(-1, keepdims=True))
    q = np.full(x.shape, smoothing / x.shape[1])
    q[[0, 1], targets] += 1 - smoothing
    np.testing.assert_allclose(loss, -(q * log_p).sum() / 2, rtol=1e-5)
    np.testing.assert_allclose(dx, (np.exp(log_p) - q) / 2, atol=1e-7)


@every_rung
def test_what_is_refused(name):
    pair = rung("cross_entropy", name)
    logits, targets = np.zeros((2, 3), np.float32), np.zeros(2, np.int64)
    assert pair.accepts(logits, targets.astype(np.uint8))
    for bad in [
        (logits.astype(np.float64), targets), (logits, targets.astype(np.float32)), (logits, targets[:1]),
        (logits[:, :0], targets), (np.array(0, np.float32), targets),
    ]:  # fmt: skip
        assert not pair.accepts(*bad)
    for wrong in (3, -1):
        with pytest.raises(IndexError, match=f"^cross_entropy: targets holds {wrong}, but there are 3 classes, 0 to 2$"):
            pair.forward(logits, np.array([0, wrong]), ignore_index=7)
    loss, dx = loss_and_slope(name, logits[:0], targets[:0])
    assert np.isnan(loss) and dx.shape == (0, 3)


def test_kernels_get_arrays_that_begin_at_multiples_of_16_bytes():
    whole = np.arange(17, dtype=np.float32)
    assert {laid(whole[k:]).ctypes.data % 16 for k in range(4)} == {0}
    aligned = laid(whole)
    assert laid(aligned) is aligned and (laid(aligned[3:]) == whole[3:]).all()
