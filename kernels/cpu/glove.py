"""GloVe: one visit to shuffled pairs of words that met, each with AdaGrad's step for its two vectors and two biases.

    e = w_i . w~_j + b_i + b~_j - log x,    g = f e,    s <- s + (g q)^2,    p <- p - lr g q / (sqrt(s) + eps)

where q is what parameter p is multiplied by in e; derived in reference/glove.py. All in float32: a step is noise of a few
per cent, against which a rounding of 6e-8 is nothing. What it costs is that s, once large, no longer sees a (g q)^2 below
6e-8 s; that many of them would have to come, 16 million before s is off by a factor of 2. float64 is there for checking.

Packed parameters. A bias is a weight that is multiplied by the constant 1:

    w_i . w~_j + b_i + b~_j  =  [w_i, b_i, 1, 0..] . [w~_j, 1, b~_j, 0..]

so one loop does everything. An entry whose s is infinite never moves (g / infinity = 0): that keeps the ones at 1. Values
and s of one word lie side by side: words and contexts are (V, 2, D) arrays, [:, 0] the values and [:, 1] the s.

Threads work on chunks of the pairs. Chunks that share neither a word nor a context can run at once with no lock and give
the same bits in any order (Gemulla et al. 2011, stratified SGD); where they do share, two threads may read the same old
number and one of their two steps is lost now and then (Niu et al. 2011, Hogwild). The kernel is one and the same; which it
is depends on the chunks that the caller puts into one round. The second use is the only race in this folder.
"""

import math

import numpy as np
from numba import prange

from .jit import FLOATS, REDUCE, jit, numba_settings
from .jit import numba as _numba
from .philox import philox_block
from .threads import PARALLEL_WORK

LANES = 8  # D is a multiple: no loop has a remainder on machines with vectors of 8 float32
EPS = 1e-10  # added to sqrt(s), as PyTorch does: an s and a gradient of zero make no NaN
LIMIT = 1e6  # an error above says that a count is off by a factor of e^(10^6): the run has diverged


@jit()
def glove_pairs_01_one_number_at_a_time(w, w_context, b, b_context, sw, sw_context, sb, sb_context, i, j, x, lr, f):
    """The formula as it stands, f = (x_max, alpha): 1.5 us for a pair of size 50, on a busy machine. Returns the sum of
    f e^2 / 2.
    """
    cost = 0.0
    for k in range(i.size):
        r, c = i[k], j[k]
        e = b[r] + b_context[c] - math.log(x[k])
        for t in range(w.shape[1]):
            e += w[r, t] * w_context[c, t]
        g = e * min(1.0, (x[k] / f[0]) ** f[1])
        cost += 0.5 * g * e
        for t in range(w.shape[1]):
            dw, dw_context = g * w_context[c, t], g * w[r, t]
            sw[r, t] += dw * dw
            sw_context[c, t] += dw_context * dw_context
            w[r, t] -= lr * dw / (math.sqrt(sw[r, t]) + EPS)
            w_context[c, t] -= lr * dw_context / (math.sqrt(sw_context[c, t]) + EPS)
        sb[r] += g * g
        sb_context[c] += g * g
        b[r] -= lr * g / (math.sqrt(sb[r]) + EPS)
        b_context[c] -= lr * g / (math.sqrt(sb_context[c]) + EPS)
    return cost


@jit(fastmath=REDUCE)
def glove_pairs_02_packed(words, contexts, rows, columns, logs, weights, order, lr):
    """Packed parameters, log x and f(x) from before, vector lanes: 5 times rung 01, and 12 times where the words of the
    pairs stay in a core's cache, as they do in the blocks of the deterministic mode.

    Visits the pairs that `order` names; returns (sum of f e^2 / 2, the pair whose error passed LIMIT or -1).
    """
    number = words.dtype.type
    rate, eps = number(lr), number(EPS)
    cost = 0.0
    for n in range(order.size):
        k = order[n]
        word, context = words[rows[k]], contexts[columns[k]]
        e = -logs[k]
        for t in range(word.shape[1]):
            e += word[0, t] * context[0, t]
        if not abs(e) < LIMIT:  # NaN, too
            return cost, np.int64(k)
        g = weights[k] * e
        cost += 0.5 * np.float64(g) * np.float64(e)
        for t in range(word.shape[1]):
            p, q = word[0, t], context[0, t]
            dp, dq = g * q, g * p
            s_p, s_q = word[1, t] + dp * dp, context[1, t] + dq * dq
            word[1, t] = s_p
            context[1, t] = s_q
            word[0, t] = p - rate * dp / (math.sqrt(s_p) + eps)
            context[0, t] = q - rate * dq / (math.sqrt(s_q) + eps)
    return cost, np.int64(-1)


@jit()
def shuffle(order, seed, stream, counter):
    """order becomes a permutation of itself: Fisher and Yates from the end, with one Philox word for each place."""
    shift = np.uint64(32)
    for n in range(order.size - 1, 0, -4):
        found = philox_block(counter + np.uint64(n), stream, seed)
        for m in range(min(4, n)):
            last = n - m
            other = np.int64((found[m] * np.uint64(last + 1)) >> shift)
            order[last], order[other] = order[other], order[last]


@jit()
def glove_chunk(words, contexts, rows, columns, logs, weights, order, first, last, lr, seed, stream):
    """Rung 02 on the pairs first to last, shuffled in order[first:last], which is scratch."""
    own = order[first:last]
    for k in range(own.size):
        own[k] = first + k
    shuffle(own, seed, stream, np.uint64(first))
    return glove_pairs_02_packed(words, contexts, rows, columns, logs, weights, own, lr)


@jit(parallel=True)
def glove_pairs_03_threads(
    words, contexts, rows, columns, logs, weights, order, starts, chunks, lr, seed, stream, costs, failures
):
    """Chunks on all threads. Chunk c is the pairs starts[c] to starts[c + 1]; its cost and failure go to costs[n] and
    failures[n], n its place in `chunks`.
    """
    for index in prange(chunks.size):
        n = np.int64(index)  # not the unsigned index: one compiled version of the callee
        first, last = starts[chunks[n]], starts[chunks[n] + 1]
        costs[n], failures[n] = glove_chunk(
            words, contexts, rows, columns, logs, weights, order, first, last, lr, seed, stream
        )


def packed_width(size: int) -> int:
    """D: the vector, its bias and the constant 1, filled up to whole vectors of lanes."""
    return -(-(size + 2) // LANES) * LANES


def pack(w: np.ndarray, b: np.ndarray, sw: np.ndarray, sb: np.ndarray, *, context: bool) -> np.ndarray:
    """(V, 2, D) of values w (V, d), b (V,) and their s: [w, b, 1, 0..], or [w, 1, b, 0..] for contexts."""
    V, d = w.shape
    bias, one = (d + 1, d) if context else (d, d + 1)
    packed = np.zeros((V, 2, packed_width(d)), w.dtype)
    packed[:, 0, :d], packed[:, 0, bias], packed[:, 0, one] = w, b, 1
    packed[:, 1, :d], packed[:, 1, bias], packed[:, 1, d + 2 :], packed[:, 1, one] = sw, sb, 1, np.inf
    return packed


def unpack(packed: np.ndarray, size: int, *, context: bool) -> tuple[np.ndarray, ...]:
    """(w, b, sw, sb) of what `pack` made, as copies."""
    bias = size + 1 if context else size
    return tuple(a.copy() for n in (0, 1) for a in (packed[:, n, :size], packed[:, n, bias]))


def glove_round(
    words: np.ndarray, contexts: np.ndarray, pairs: tuple[np.ndarray, ...], order: np.ndarray, starts: np.ndarray,
    chunks: np.ndarray, *, lr: float, seed: int, stream: int, threads: int,
) -> tuple[float, int]:  # fmt: skip
    """Trains on these chunks at once. Returns (sum of f e^2 / 2, the first pair that diverged or -1).

    words, contexts: from `pack`, changed in place. pairs: (rows, columns) int32, in bounds, and (logs, weights) like
    words. order: int64 scratch as long as the pairs. starts: int64, where each chunk begins, and the end.
    chunks: int64, which of them. (seed, stream) decide how each is shuffled. threads: at most this many.
    """
    rows, columns, logs, weights = pairs
    sizes = {a.size for a in (*pairs, order)}
    if len(sizes) != 1 or starts[0] < 0 or starts[-1] > rows.size:
        raise ValueError(
            f"glove_round: rows, columns, logs, weights and order have sizes {sorted(sizes)}, but need one"
        )
    if words.dtype not in FLOATS or {a.dtype for a in (words, contexts, logs, weights)} != {words.dtype}:
        raise TypeError(f"glove_round: words are {words.dtype}, but parameters, logs and weights need one float dtype")
    if words.shape[1:] != contexts.shape[1:] or words.shape[1] != 2:
        raise ValueError(f"glove_round: words are {words.shape} and contexts {contexts.shape}, but both come from pack")
    costs, failures = np.zeros(chunks.size), np.full(chunks.size, -1)
    data, draw = (words, contexts, rows, columns, logs, weights, order), (float(lr), np.uint64(seed), np.uint64(stream))
    work = sum(int(starts[c + 1] - starts[c]) for c in chunks) * words.shape[2]
    if threads == 1 or work < PARALLEL_WORK:
        for n, c in enumerate(chunks):
            costs[n], failures[n] = glove_chunk(*data, starts[c], starts[c + 1], *draw)
    else:
        before = _numba.get_num_threads()
        _numba.set_num_threads(max(1, min(threads, numba_settings.NUMBA_NUM_THREADS)))
        try:
            glove_pairs_03_threads(*data, starts, chunks, *draw, costs, failures)
        finally:
            _numba.set_num_threads(before)
    bad = failures[failures >= 0]
    return math.fsum(costs), int(bad[0]) if bad.size else -1
