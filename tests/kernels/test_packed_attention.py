import numpy as np
import pytest

from handgrad.kernels.cpu import packed_attention


def oracle(dy, qkv, *, n_head, causal=True):
    """Head by head, the whole T x T matrix, in float64."""
    _, T, C = dy.shape
    D = C // n_head
    y, d = np.zeros(dy.shape), np.zeros(qkv.shape)
    hidden = ~np.tril(np.ones((T, T), bool)) if causal else np.zeros((T, T), bool)
    for h in range(n_head):
        at = [slice(part * C + h * D, part * C + (h + 1) * D) for part in range(3)]
        q, k, v = (qkv[..., a] for a in at)
        dy_h = dy[..., at[0]]
        s = np.where(hidden, -np.inf, q @ np.swapaxes(k, 1, 2) / np.sqrt(D))
        p = np.exp(s - s.max(-1, keepdims=True))
        p /= p.sum(-1, keepdims=True)
        y[..., at[0]] = p @ v
        dp = dy_h @ np.swapaxes(v, 1, 2)
        ds = p * (dp - (p * dp).sum(-1, keepdims=True)) / np.sqrt(D)
        d[..., at[0]], d[..., at[1]], d[..., at[2]] = ds @ k, np.swapaxes(ds, 1, 2) @ q, np.swapaxes(p, 1, 2) @ dy_h
    return y, (d,)


@pytest.mark.parametrize("causal", [True, False], ids=["causal", "full"])
@pytest.mark.parametrize(
    ("B", "T", "n_head", "D"), [(1, 1, 1, 1), (2, 5, 3, 7), (2, 64, 4, 32), (1, 131, 2, 24), (3, 8, 1, 64)]
)
def test_pair(kit, rng, B, T, n_head, D, causal):
    qkv = rng.standard_normal((B, T, 3 * n_head * D)).astype(np.float32)
    length = 4 * max(D, T) ** 0.5
    kit.check(
        packed_attention,
        (qkv,),
        oracle,
        inputs="qkv",
        reads="qkv y",
        length=length,
        rng=rng,
        n_head=n_head,
        causal=causal,
    )


def test_float64(kit, rng):
    qkv = rng.standard_normal((2, 21, 3 * 20))
    kit.check(packed_attention, (qkv,), oracle, inputs="qkv", reads="qkv y", length=24, rng=rng, n_head=2)


def test_later_tokens_do_not_change_earlier_outputs(kit, rng):
    qkv = rng.standard_normal((1, 70, 96)).astype(np.float32)
    y, _ = packed_attention.forward(kit.freeze(qkv.copy()), n_head=2)
    qkv[:, 40:] += 1
    z, _ = packed_attention.forward(kit.freeze(qkv), n_head=2)
    np.testing.assert_array_equal(y[:, :40], z[:, :40])
    assert (y[:, 40:] != z[:, 40:]).any()


def test_nothing_and_accepts(kit):
    qkv = kit.freeze(np.empty((0, 3, 12), np.float32))
    y, lse = packed_attention.forward(qkv, n_head=2)
    assert y.shape == (0, 3, 4)
    (d,) = packed_attention.vjp(y, y, qkv, residuals=lse, wanted=(True,), into=(None,), n_head=2)
    assert d.shape == qkv.shape
    assert packed_attention.accepts(qkv, n_head=4) and not packed_attention.accepts(qkv, n_head=3)
    assert not packed_attention.accepts(qkv.reshape(0, 12), n_head=2)
