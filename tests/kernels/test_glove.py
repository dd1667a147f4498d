import numpy as np
import pytest

from handgrad.kernels.cpu import glove as k

LR, F = 0.05, (10.0, 0.75)


def start(rng, dtype, V=9, d=5, n=40):
    """(parameters, squares, i, j, x): pairs that share words, so that the order matters."""
    parameters = [rng.standard_normal(s).astype(dtype) * dtype(0.3) for s in ((V, d), (V, d), (V,), (V,))]
    squares = [np.full_like(p, 0.1) for p in parameters]
    return parameters, squares, rng.integers(0, V, n), rng.integers(0, V, n), rng.uniform(0.2, 30.0, n)


def textbook(parameters, squares, i, j, x):
    """One pair after the other in float64, from the formulas at the head of the kernel."""
    w, w_context, b, b_context = (p.astype(np.float64) for p in parameters)
    s = [q.astype(np.float64) for q in squares]
    cost = 0.0
    for r, c, count in zip(i, j, x, strict=True):
        e = w[r] @ w_context[c] + b[r] + b_context[c] - np.log(count)
        g = min(1.0, (count / F[0]) ** F[1]) * e
        cost += g * e / 2
        slopes = g * w_context[c], g * w[r], g, g
        for p, q, at, slope in zip((w, w_context, b, b_context), s, (r, c, r, c), slopes, strict=True):
            q[at] += slope**2
            p[at] -= LR * slope / (np.sqrt(q[at]) + k.EPS)
    return (w, w_context, b, b_context), s, cost


def packed(parameters, squares, i, j, x):
    """What rung 02 takes: words, contexts, rows, columns, logs, weights."""
    (w, wc, b, bc), (sw, swc, sb, sbc), dtype = parameters, squares, parameters[0].dtype
    f = np.minimum((x / F[0]) ** F[1], 1.0)
    pairs = i.astype(np.int32), j.astype(np.int32), np.log(x).astype(dtype), f.astype(dtype)
    return k.pack(w, b, sw, sb, context=False), k.pack(wc, bc, swc, sbc, context=True), pairs


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rungs_against_textbook(kit, rng, dtype):
    parameters, squares, i, j, x = start(rng, dtype)
    (w, wc, b, bc), s, cost = textbook(parameters, squares, i, j, x)
    words, contexts, pairs = packed(parameters, squares, i, j, x)
    sums, bad = k.glove_pairs_02_packed(words, contexts, *pairs, np.arange(i.size), LR)
    (w2, b2, sw2, sb2), (wc2, bc2, swc2, sbc2) = (
        k.unpack(words, 5, context=False),
        k.unpack(contexts, 5, context=True),
    )
    assert bad == -1 and sums == pytest.approx(cost, rel=1e-4 if dtype == np.float32 else 1e-13)
    p1, s1 = [p.copy() for p in parameters], [q.copy() for q in squares]
    sums = k.glove_pairs_01_one_number_at_a_time(*p1, *s1, i, j, x, LR, F)
    assert sums == pytest.approx(cost, rel=1e-4 if dtype == np.float32 else 1e-13)
    for got in ((w2, wc2, b2, bc2, sw2, swc2, sb2, sbc2), (*p1, *s1)):
        for a, want in zip(got, (w, wc, b, bc, *s), strict=True):
            kit.close(a, want, dtype, 200)  # the roundings of some twenty steps in a row


@pytest.mark.parametrize("d", [1, 5, 6, 50])
def test_what_is_no_parameter_stays(rng, d):
    """The ones that carry the biases, and the zeros behind."""
    parameters, squares, i, j, x = start(rng, np.float32, d=d)
    words, contexts, pairs = packed(parameters, squares, i, j, x)
    k.glove_pairs_02_packed(words, contexts, *pairs, np.arange(i.size), LR)
    assert words.shape[2] % k.LANES == 0 and words.shape[2] >= d + 2
    assert (words[:, 0, d + 1] == 1).all() and (contexts[:, 0, d] == 1).all()
    assert not words[:, 0, d + 2 :].any() and not contexts[:, 0, d + 2 :].any()


@pytest.mark.parametrize("size", [0, 1, 2, 5, 1000])
def test_shuffle_is_a_permutation_that_the_seed_decides(size):
    def order(seed, stream):
        found = np.arange(size)
        k.shuffle(found, np.uint64(seed), np.uint64(stream), np.uint64(3))
        return found

    assert sorted(order(1, 2)) == list(range(size))
    np.testing.assert_array_equal(order(1, 2), order(1, 2))
    if size == 1000:
        assert (order(1, 2) != order(2, 2)).any() and (order(1, 2) != order(1, 3)).any()


def test_every_permutation_is_as_likely_as_any():
    """All 24 of four numbers, 240 times each on average: chi squared has 23 degrees of freedom."""
    found = np.arange(4 * 5760).reshape(-1, 4) % 4
    for n, row in enumerate(found):
        k.shuffle(row, np.uint64(5), np.uint64(n), np.uint64(0))
    _, counts = np.unique(found @ [64, 16, 4, 1], return_counts=True)
    assert counts.size == 24 and ((counts - 240.0) ** 2 / 240.0).sum() < 60.0


@pytest.mark.parametrize("how", ["a NaN", "an overflow"])
def test_a_pair_that_diverges_is_named_and_nothing_after_it_runs(rng, how):
    parameters, squares, i, j, x = start(rng, np.float32)
    parameters[0][i[7]] = np.nan if how == "a NaN" else 1e30
    words, contexts, pairs = packed(parameters, squares, i, j, x)
    first = next(n for n in range(i.size) if i[n] == i[7])
    cost, bad = k.glove_pairs_02_packed(words, contexts, *pairs, np.arange(i.size), LR)
    assert bad == first and np.isfinite(cost)


def test_chunks_that_share_nothing_give_the_same_bits_on_any_number_of_threads(rng):
    """Four blocks on a diagonal, against one chunk after the other."""
    parameters, squares, _, _, _ = start(rng, np.float32, V=40)
    i = np.repeat(np.arange(4), 2000) * 10 + rng.integers(0, 10, 8000)
    j = np.repeat(np.arange(4), 2000) * 10 + rng.integers(0, 10, 8000)
    x, starts = rng.uniform(0.2, 30.0, 8000), np.arange(0, 8001, 2000)
    results = []
    for groups, threads in (([np.arange(4)], 2), ([np.arange(4)], 1), ([np.array([c]) for c in (3, 1, 0, 2)], 2)):
        words, contexts, pairs = packed(parameters, squares, i, j, x)
        for chunks in groups:
            k.glove_round(
                words,
                contexts,
                pairs,
                np.empty(8000, np.int64),
                starts,
                chunks,
                lr=LR,
                seed=1,
                stream=2,
                threads=threads,
            )
        results.append((words, contexts))
    for words, contexts in results[1:]:
        np.testing.assert_array_equal(words, results[0][0])
        np.testing.assert_array_equal(contexts, results[0][1])


def test_refuses(rng):
    words, contexts, pairs = packed(*start(rng, np.float32))
    order, starts, chunks = np.empty(40, np.int64), np.array([0, 40]), np.array([0])
    rest = {"lr": LR, "seed": 1, "stream": 1, "threads": 1}
    with pytest.raises(ValueError, match="glove_round: rows, columns, logs, weights and order have sizes \\[39, 40\\]"):
        k.glove_round(words, contexts, pairs, order[1:], starts, chunks, **rest)
    with pytest.raises(TypeError, match="glove_round: words are float32, but"):
        k.glove_round(words, contexts.astype(np.float64), pairs, order, starts, chunks, **rest)
    with pytest.raises(ValueError, match="both come from pack"):
        k.glove_round(words, contexts[:, :1], pairs, order, starts, chunks, **rest)
