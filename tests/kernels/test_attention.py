import numpy as np
import pytest

from handgrad.kernels.cpu import attention


def oracle(dy, q, k, v, mask=None, *, causal=False, scale=None, window=None, grouped=False):
    """The whole T x S matrix, in float64; grouped heads by copies of the keys and values."""
    if grouped:
        share = q.shape[-3] // k.shape[-3]
        copies = [np.repeat(a, share, axis=-3) for a in (k, v)]
        y, (dq, *dkv) = oracle(dy, q, *copies, mask, causal=causal, scale=scale, window=window)
        sums = [d.reshape(*a.shape[:-2], share, *a.shape[-2:]).sum(-3) for d, a in zip(dkv, (k, v), strict=False)]
        return y, (dq, *sums) if mask is None else (dq, *sums, None)
    T, S = q.shape[-2], k.shape[-2]
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    visible = np.tril(np.ones((T, S), bool), S - T) if causal else np.ones((T, S), bool)
    if window is not None:
        visible &= np.abs(np.arange(T)[:, None] + S - T - np.arange(S)) < window
    visible = np.broadcast_to(visible if mask is None else visible & mask, (*q.shape[:-1], S))
    s = np.where(visible, scale * q @ np.swapaxes(k, -1, -2), -np.inf)
    m = s.max(-1, keepdims=True, initial=-1e300)
    e = np.where(visible, np.exp(s - m), 0)
    total = e.sum(-1, keepdims=True)
    p = e / np.where(total == 0, 1, total)
    dp = dy @ np.swapaxes(v, -1, -2)
    ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * scale
    gradients = ds @ k, np.swapaxes(ds, -1, -2) @ q, np.swapaxes(p, -1, -2) @ dy
    return p @ v, gradients if mask is None else (*gradients, None)


def arrays(rng, lead, T, S, D, dtype):
    return tuple(rng.standard_normal((*lead, n, D)).astype(dtype) for n in (T, S, S))


SHAPES = [
    ((), 1, 1, 1), ((3,), 5, 5, 7), ((2, 2), 1, 9, 16), ((2, 2), 2, 3, 4), ((1, 3), 70, 131, 33), ((2, 1), 131, 70, 20),
    ((1, 1), 65, 64, 64), ((2, 1, 2), 8, 24, 32), ((1, 2), 17, 17, 256), ((3, 4), 64, 64, 32),
]  # fmt: skip


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(("lead", "T", "S", "D"), SHAPES, ids=str)
def test_pair(kit, rng, lead, T, S, D, causal):
    """Tails of every kind; T > S causal has rows that see nothing."""
    inputs = arrays(rng, lead, T, S, D, np.float32)
    length = 4 * max(D, T, S) ** 0.5
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=length, rng=rng, causal=causal)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_float64(kit, rng, causal):
    inputs = arrays(rng, (2, 2), 37, 75, 12, np.float64)
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=32, rng=rng, causal=causal, scale=0.7)


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize(
    ("lead", "mask_shape"),
    [((3, 2), (3, 1, 1, 70)), ((3, 2), (70,)), ((3,), (3, 1, 70)), ((3, 2), (1, 1, 1, 70))],
    ids=str,
)
def test_key_mask(kit, rng, lead, mask_shape, causal):
    inputs = arrays(rng, lead, 20, 70, 16, np.float32)
    mask = rng.random(mask_shape) < 0.6
    mask[0] = mask[0] & (mask.ndim == 1)  # the first sequence is all padding: zeros and zero gradients
    kit.check(
        attention, (*inputs, mask), oracle, inputs="q k v mask", reads="q k v mask y", length=40, rng=rng, causal=causal
    )


@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
@pytest.mark.parametrize("window", [1, 2, 5, 63, 64, 65, 130, 1000])
@pytest.mark.parametrize(("T", "S"), [(200, 200), (3, 140), (140, 3), (70, 150), (150, 70)], ids=str)
def test_window(kit, rng, T, S, window, causal):
    """Windows within a tile, at its edges and across several; queries before the first key."""
    inputs = arrays(rng, (1, 2), T, S, 12, np.float32)
    params = {"causal": causal, "window": window}
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=60, rng=rng, **params)


GROUPS = [((1,), 4, 1), ((3,), 4, 2), ((2,), 6, 3), ((2,), 3, 3), ((2, 1), 6, 2), ((), 2, 2)]


@pytest.mark.parametrize("params", [{}, {"causal": True}, {"causal": True, "window": 9}, {"window": 9}], ids=str)
@pytest.mark.parametrize(("lead", "H", "G"), GROUPS, ids=str)
def test_grouped(kit, rng, lead, H, G, params):
    """dk and dv sum over the query heads of their group, and over no other."""
    q, k, v = arrays(rng, (*lead, H), 70, 81, 10, np.float32)
    inputs = (q, k[..., :G, :, :], v[..., :G, :, :])
    if not lead:
        assert not attention.accepts(*inputs, grouped=True)
        return
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=100, rng=rng, grouped=True, **params)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_grouped_with_window_and_mask(kit, rng, dtype):
    q, k, v = arrays(rng, (3, 4), 40, 90, 16, dtype)
    mask = rng.random((3, 1, 1, 90)) < 0.6
    kit.check(
        attention, (q, k[:, :2], v[:, :2], mask), oracle, inputs="q k v mask", reads="q k v mask y", length=100, rng=rng,
        causal=True, window=30, grouped=True, scale=0.3,
    )  # fmt: skip


@pytest.mark.parametrize("T", [150, 2])
@pytest.mark.parametrize("which", ["k", "v"])
@pytest.mark.parametrize("causal", [False, True], ids=["full", "causal"])
def test_not_finite_behind_the_window_is_not_seen(kit, rng, which, causal, T):
    """A NaN in key 70 reaches the queries whose window holds it; not their neighbours in the same tile of keys."""
    q, k, v = arrays(rng, (2, 2), T, 150, 16, np.float32)
    {"k": k, "v": v}[which][1, 0, 70] = np.nan
    q, k, v = (kit.freeze(a) for a in (q, k, v))
    params = {"causal": causal, "window": 4}
    y, lse = attention.forward(q, k, v, **params)
    here = np.arange(T) + 150 - T
    sees = (here - 70 < 4) & (here >= 70 if causal else 70 - here < 4)
    hit = np.isnan(y).any(-1)
    np.testing.assert_array_equal(hit[1, 0], sees)
    assert not hit[0].any() and not hit[1, 1].any()
    dy = kit.freeze(rng.standard_normal(y.shape).astype(np.float32))
    dq, dk, dv = attention.vjp(
        dy, kit.freeze(y), q, k, v, residuals=lse, wanted=(True,) * 3, into=(None,) * 3, **params
    )
    np.testing.assert_array_equal(np.isnan(dq[1, 0]).any(-1), sees)
    near = np.abs(np.arange(150) - 70) < 7
    assert not np.isnan(dk[1, 0][~near]).any() and not np.isnan(dv[1, 0][~near]).any()


def test_a_wide_window_gives_the_same_bits(rng):
    q, k, v = arrays(rng, (2, 2), 100, 130, 16, np.float32)
    for causal in (False, True):
        y, lse = attention.forward(q, k, v, causal=causal)
        same, also = attention.forward(q, k, v, causal=causal, window=130)
        np.testing.assert_array_equal(y, same)
        np.testing.assert_array_equal(lse, also)


def test_no_keys_below_several_leading_axes(rng):
    q, k, v = arrays(rng, (2, 2, 2), 5, 0, 4, np.float32)
    y, lse = attention.forward(q, k, v)
    np.testing.assert_array_equal(y, np.zeros_like(q))
    dq, dk, dv = attention.vjp(y, y, q, k, v, residuals=lse, wanted=(True,) * 3, into=(None,) * 3)
    np.testing.assert_array_equal(dq, np.zeros_like(q))
    assert dk.shape == dv.shape == k.shape


def test_strided_inputs_are_read_in_place(kit, rng):
    """(B, T, H, D) projections seen as (B, H, T, D): the layout that models hand in."""
    data = [rng.standard_normal((2, 33, 3, 8)).astype(np.float32) for _ in range(3)]
    q, k, v = (kit.freeze(np.swapaxes(a, 1, 2)) for a in data)
    assert attention.strided(q) is q
    exact = [a.astype(np.float64) for a in (q, k, v)]
    y, _ = attention.forward(q, k, v, causal=True)
    kit.close(y, oracle(np.zeros(q.shape), *exact, causal=True)[0], np.float32, 16)
    y, _ = attention.forward(kit.freeze(q[:, :, ::-1]), k, kit.freeze(v[..., ::-1]))  # what cannot be read in place
    kit.close(y, oracle(np.zeros(q.shape), exact[0][:, :, ::-1], exact[1], exact[2][..., ::-1])[0], np.float32, 16)


@pytest.mark.parametrize("which", ["q", "k", "v"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_not_finite_reaches_only_who_sees_it(kit, rng, which, value):
    q, k, v = arrays(rng, (2, 2), 70, 70, 16, np.float32)
    {"q": q, "k": k, "v": v}[which][0, 1, 41, 3] = value
    y, _ = attention.forward(*(kit.freeze(a) for a in (q, k, v)), causal=True)
    hit = ~np.isfinite(y).all(-1)
    assert not hit[1].any() and not hit[0, 0].any() and not hit[0, 1, :41].any()
    if np.isnan(value):
        assert hit[0, 1, 41] and (which == "q" or hit[0, 1, 41:].all())
        assert which != "q" or not hit[0, 1, 42:].any()
    mask = np.ones((2, 1, 1, 70), bool)
    mask[0, ..., 41] = False
    if which != "q":  # a key that is masked out is not seen at all
        y, lse = attention.forward(*(kit.freeze(a) for a in (q, k, v, mask)))
        assert np.isfinite(y).all()
        dy = kit.freeze(rng.standard_normal(y.shape).astype(np.float32))
        d = attention.vjp(
            dy, kit.freeze(y), *(kit.freeze(a) for a in (q, k, v, mask)),
            residuals=lse, wanted=(True, True, True, False), into=(None,) * 4,
        )  # fmt: skip
        assert all(np.isfinite(g).all() for g in d[:3]) and not d[1][0, 1, 41].any()


@pytest.mark.parametrize(("T", "S"), [(0, 5), (5, 0), (0, 0)])
def test_nothing(kit, rng, T, S):
    q, k, v = (kit.freeze(a) for a in arrays(rng, (2, 3), T, S, 4, np.float32))
    y, lse = attention.forward(q, k, v, causal=True)
    assert y.shape == q.shape and not y.any()
    d = attention.vjp(y, y, q, k, v, residuals=lse, wanted=(True,) * 3, into=(None,) * 3, causal=True)
    assert [g.shape for g in d] == [q.shape, k.shape, v.shape] and not any(g.any() for g in d)


LONG = [
    ((), 300, 300, 8, {"causal": True}),
    ((), 300, 300, 8, {}),
    ((1, 3), 260, 700, 20, {"causal": True}),
    ((2, 1), 700, 390, 16, {"causal": True}),
    ((2,), 520, 520, 12, {"causal": True, "window": 100}),
    ((1, 1), 400, 650, 7, {"window": 70, "scale": 0.3}),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("lead", "T", "S", "D", "params"), LONG, ids=str)
def test_few_heads_are_cut_into_blocks(kit, rng, lead, T, S, D, params, dtype):
    """Of queries, and on the way back of keys, whose parts of dq are added."""
    heads = int(np.prod(lead))
    assert attention.blocks(heads, T) > 1 or attention.blocks(heads, S) > 1
    inputs = arrays(rng, lead, T, S, D, dtype)
    length = 4 * max(T, S) ** 0.5
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=length, rng=rng, **params)


def test_grouped_heads_are_cut_into_blocks(kit, rng):
    q, k, v = arrays(rng, (2, 6), 300, 420, 10, np.float32)
    mask = rng.random((2, 1, 1, 420)) < 0.7
    mask[1] = False  # nothing to see: zeros, and zero gradients
    y, gradients = kit.check(
        attention, (q, k[:, :2], v[:, :2], mask), oracle, inputs="q k v mask", reads="q k v mask y", length=100, rng=rng,
        causal=True, grouped=True,
    )  # fmt: skip
    assert not y[1].any() and not any(g[1].any() for g in gradients[:3])


def test_a_block_of_queries_gives_the_bits_of_the_whole(monkeypatch, rng):
    """What a query sees is the same in whatever block it stands."""
    for params in ({}, {"causal": True}, {"causal": True, "window": 90}):
        q, k, v = arrays(rng, (1, 2), 520, 520, 16, np.float32)
        assert attention.blocks(2, 520) > 2
        y, lse = attention.forward(q, k, v, **params)
        with monkeypatch.context() as patch:
            patch.setattr(attention, "UNITS", 1)
            same, also = attention.forward(q, k, v, **params)
        np.testing.assert_array_equal(y, same)
        np.testing.assert_array_equal(lse, also)


FEW_SIZES = [
    ((2, 3), 1, 1, 8, {"causal": True}), ((1, 1), 1, 1500, 64, {"causal": True}), ((1, 12), 4, 333, 20, {"causal": True}),
    ((4,), 3, 200, 5, {"window": 33}), ((2, 1), 2, 700, 16, {"causal": True, "window": 300}),
    ((2,), 4, 2, 256, {"causal": True}), ((1, 16), 2, 1030, 64, {}),
]  # fmt: skip


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("lead", "T", "S", "D", "params"), FEW_SIZES, ids=str)
def test_few_queries(kit, rng, lead, T, S, D, params, dtype):
    """On one thread and on all, for one block of keys and for several."""
    inputs = arrays(rng, lead, T, S, D, dtype)
    length = 4 * max(S, D) ** 0.5
    kit.check(attention, inputs, oracle, inputs="q k v", reads="q k v y", length=length, rng=rng, **params)


def test_few_queries_in_groups_with_a_mask(kit, rng):
    q, k, v = arrays(rng, (3, 6), 2, 300, 12, np.float32)
    mask = rng.random((3, 1, 1, 300)) < 0.3
    mask[1], mask[2, ..., :150] = False, False
    k[2, :, :150], v[2, :, :150] = np.nan, np.inf  # masked: not read
    q, k, v, mask = (kit.freeze(a) for a in (q, k[:, :3, :300], v[:, :3, :300], mask))
    y, lse = attention.forward(q, k, v, mask, grouped=True)
    hidden = [np.where(mask[:, :, 0, :, None], a, 0) for a in (k, v)]
    exact = (a.astype(np.float64) for a in (np.zeros(q.shape), q, *hidden))
    kit.close(y, oracle(*exact, mask, grouped=True)[0], np.float32, 60)
    assert not y[1].any() and np.isposinf(lse.reshape(3, 6, 2)[1]).all()


def test_few_queries_read_a_cache_where_it_lies(kit, rng):
    """(B, H, room, D) seen as far as it is filled; a NaN behind is not read, and one inside reaches its own head only."""
    room = [rng.standard_normal((2, 3, 600, 16)).astype(np.float32) for _ in range(2)]
    for a in room:
        a[:, :, 500:] = np.nan
    q, (k, v) = (
        kit.freeze(rng.standard_normal((2, 3, 1, 16)).astype(np.float32)),
        (kit.freeze(a[:, :, :500]) for a in room),
    )
    assert attention.strided(k) is k
    y, _ = attention.forward(q, k, v, causal=True)
    exact = (a.astype(np.float64) for a in (np.zeros(q.shape), q, k, v))
    kit.close(y, oracle(*exact, causal=True)[0], np.float32, 60)
    for a in room:
        a[1, 2, 77] = np.nan
        y, _ = attention.forward(q, k, v, causal=True)
        np.testing.assert_array_equal(np.isnan(y).all(-1)[..., 0], np.isnan(y).any(-1)[..., 0])
        assert np.isnan(y[1, 2]).all() and np.isnan(y).sum() == 16
        a[1, 2, 77] = 0


@pytest.mark.parametrize("name", attention.RUNGS)
@pytest.mark.parametrize("params", [{}, {"causal": True}, {"causal": True, "scale": 0.7}], ids=str)
@pytest.mark.parametrize(("lead", "T", "S", "D"), [((3,), 9, 12, 5), ((2, 2), 70, 131, 16), ((1, 1), 130, 66, 40)])
def test_rungs(kit, rng, name, params, lead, T, S, D):
    inputs = arrays(rng, lead, T, S, D, np.float32)
    kit.check(attention.RUNGS[name], inputs, oracle, inputs="q k v", reads="q k v y", length=60, rng=rng, **params)


@pytest.mark.parametrize("name", ["numba 02_rows", "numba 03_products", "numba 04_tiles"])
def test_rungs_in_float64_and_with_nothing(kit, rng, name):
    rung = attention.RUNGS[name]
    inputs = arrays(rng, (2,), 65, 70, 8, np.float64)
    kit.check(rung, inputs, oracle, inputs="q k v", reads="q k v y", length=60, rng=rng, causal=True)
    for T, S in ((0, 5), (5, 0), (0, 0)):
        q, k, v = (kit.freeze(a) for a in arrays(rng, (2, 3), T, S, 4, np.float32))
        y, lse = rung.forward(q, k, v, causal=True)
        assert y.shape == q.shape and not y.any()
        d = rung.vjp(y, y, q, k, v, residuals=lse, wanted=(True,) * 3, into=(None,) * 3, causal=True)
        assert [g.shape for g in d] == [q.shape, k.shape, v.shape] and not any(g.any() for g in d)


def test_accepts(rng):
    q, k, v = arrays(rng, (2, 3), 4, 6, 8, np.float32)
    assert attention.accepts(q, k, v) and attention.accepts(q, k, v, None, causal=True, scale=1.0)
    assert attention.accepts(q, k, v, np.ones((2, 1, 1, 6), bool))
    for shape in [(4, 6), (2, 3, 1, 6), (2, 1, 4, 6), (1, 1, 1, 1), (5, 1, 1, 6)]:
        assert not attention.accepts(q, k, v, np.ones(shape, bool)), shape
    assert not attention.accepts(q, k, v, np.ones(6, np.float32))
    assert not attention.accepts(q, k[:1], v[:1])
    assert not attention.accepts(*arrays(rng, (), 2, 2, 257, np.float32))
    assert attention.accepts(q, k, v, None, None) and not attention.accepts(q, k, v, None, np.zeros(6, np.float32))
    assert attention.accepts(q, k, v, window=1) and not attention.accepts(q, k, v, window=0)
    assert not attention.accepts(q, k[:, :1], v[:, :1]) and attention.accepts(q, k[:, :1], v[:, :1], grouped=True)
    assert not attention.accepts(q, k[:, :2], v[:, :2], grouped=True)  # 3 heads are no multiple of 2
    assert not attention.accepts(q[:, :1], k, v, grouped=True)
    assert not attention.accepts(q, k[:1, :1], v[:1, :1], grouped=True)  # another batch
    assert not attention.accepts(q, k[:, :0], v[:, :0], grouped=True)
    assert not attention.accepts(q, k, v[..., :4])
