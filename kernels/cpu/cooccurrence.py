"""Co-occurrence counts of a text, exact in integers: GloVe's X (Pennington, Socher and Manning, 2014, sections 3 and 4.2).

    X[i, j] = (1 / unit) sum of weights[d] over the places p of i and d = 1 ... window with j at p + d

(symmetric: and over those with j at p - d). V words, ids from 0; `ids` is the text, one id a place. The window looks over
no border: a negative id ends it. With unit = lcm(1 ... window) the weights unit / d are whole numbers, so a sum is the same
in every order, and neither threads nor a text that is counted in pieces change a bit.

The table has V^2 cells and few that are not zero. So it is made row by row: the places of each word are gathered by a
counting sort, one dense row of V integers takes all their windows (it stays in the cache), and what is not zero goes out as
records (i, j, count), sorted by i, then j. The same rows add up the records of several pieces of text.

Nothing here checks bounds. Callers promise: ids < V; within `window` places of every centre, on either side, the array
ends only behind a border; an output array has room for min(V, 2 * window * places of i) records a row i, and one more.
"""

import numpy as np
from numba import prange

from .jit import jit

RECORD = np.dtype([("i", np.int32), ("j", np.int32), ("count", np.int64)])
"""X[i, j] = count / unit."""

BORDER = -1
"""In a text: here a document ends."""


# ---- one piece of text


@jit()
def cooccurrence_count_01_table(ids, first, last, weights, symmetric, table):
    """The definition: every centre, every distance, all V^2 cells in memory. Adds to table (V, V)."""
    for p in range(first, last):
        i = ids[p]
        if i < 0:
            continue
        for d in range(1, weights.size):
            j = ids[p + d]
            if j < 0:
                break
            table[i, j] += weights[d]
        if symmetric:
            for d in range(1, weights.size):
                j = ids[p - d]
                if j < 0:
                    break
                table[i, j] += weights[d]


@jit()
def group_places(ids, first, last, starts, order):
    """Counting sort: order[starts[i] : starts[i + 1]] become the places of word i from first to last, in order of text.

    starts (V + 1,); order has room for every place that is not a border.
    """
    starts[:] = 0
    for p in range(first, last):
        if ids[p] >= 0:
            starts[ids[p] + 1] += 1
    for i in range(1, starts.size):
        starts[i] += starts[i - 1]
    for p in range(first, last):
        i = ids[p]
        if i >= 0:
            order[starts[i]] = p
            starts[i] += 1
    for i in range(starts.size - 1, 0, -1):  # each start has run to the next one's: move them back
        starts[i] = starts[i - 1]
    starts[0] = 0


@jit()
def cooccurrence_count_02_rows(ids, order, starts, weights, symmetric, begin, end, row, records):
    """One row at a time: V cells instead of V^2, but each row is searched from end to end for what is not zero.

    Rows begin to end into `records`; row (V,) is zero before and after. Returns how many records there are.
    """
    n = 0
    for i in range(begin, end):
        for place in order[starts[i] : starts[i + 1]]:
            for d in range(1, weights.size):
                j = ids[place + d]
                if j < 0:
                    break
                row[j] += weights[d]
            if symmetric:
                for d in range(1, weights.size):
                    j = ids[place - d]
                    if j < 0:
                        break
                    row[j] += weights[d]
        for j in range(row.size):
            if row[j] != 0:
                records[n].i = i
                records[n].j = j
                records[n].count = row[j]
                row[j] = 0
                n += 1
    return n


@jit(inner=True)
def _emit(i, row, lines, records, n):
    """Write the cells of row i that are not zero, in rising j, from records[n] on; clear them; return the new n.

    Only the lines of 8 cells (64 bytes, one of the cache's) that were touched are looked at, and eight untouched ones are
    passed over at once. Every cell looked at is written, and n moves on if it was wanted: cheaper than a branch that the
    processor cannot foresee. So one record behind the last is written too.
    """
    eights = lines.view(np.uint64)
    for eight in range(eights.size):
        if eights[eight] == 0:
            continue
        for line in range(8 * eight, 8 * eight + 8):
            if lines[line] == 0:
                continue
            lines[line] = 0
            for j in range(8 * line, 8 * line + 8):
                count = row[j]
                records[n].i = i
                records[n].j = j
                records[n].count = count
                row[j] = 0
                n += count != 0
    return n


@jit()
def cooccurrence_count_03_lines(ids, order, starts, weights, symmetric, begin, end, row, lines, records):
    """Only the touched cache lines of a row are searched: with V = 21,000 8 times rung 02 for 160,000 places, 1.4 for
    1.6 million.

    row (P,) and lines (P / 8,) uint8, with P from `row_length`, are zero before and after; lines[j >> 3] says that one of
    8 cells was touched.
    """
    n = 0
    for i in range(begin, end):
        for place in order[starts[i] : starts[i + 1]]:
            for d in range(1, weights.size):
                j = ids[place + d]
                if j < 0:
                    break
                row[j] += weights[d]
                lines[j >> 3] = 1
            if symmetric:
                for d in range(1, weights.size):
                    j = ids[place - d]
                    if j < 0:
                        break
                    row[j] += weights[d]
                    lines[j >> 3] = 1
        n = _emit(i, row, lines, records, n)
    return n


def row_length(words: int) -> int:
    """Cells of a row for that many words: whole groups of eight lines of 8."""
    return -(-words // 64) * 64


@jit(parallel=True)
def cooccurrence_count_04_threads(ids, order, starts, weights, symmetric, cuts, rows, lines, places, records, written):
    """Rows cuts[t] to cuts[t + 1] on thread t, with a row and lines of its own. No
    gain on two cores that are busy with other work, which is all it was measured on.

    Its records begin at places[t]; written[t] becomes their number.
    """
    for index in prange(written.size):
        t = np.int64(index)  # not the unsigned index: one compiled version of the callee
        written[t] = cooccurrence_count_03_lines(
            ids, order, starts, weights, symmetric, cuts[t], cuts[t + 1], rows[t], lines[t], records[places[t] :]
        )


# ---- several pieces


@jit()
def cooccurrence_merge_01_rows(runs, nexts, ends, begin, end, row, lines, records):
    """Add up rows begin to end of k sorted runs: no heap, since a dense row puts things in order by itself.

    runs (k, B) records, of which nexts[r] to ends[r] are still to come; nexts moves on. Returns the number of records. That
    no sum outgrows 63 bits is the caller's promise.
    """
    n = 0
    for i in range(begin, end):
        for r in range(nexts.size):
            k = nexts[r]
            while k < ends[r] and runs[r, k].i == i:
                j = runs[r, k].j
                row[j] += runs[r, k].count
                lines[j >> 3] = 1
                k += 1
            nexts[r] = k
        n = _emit(i, row, lines, records, n)
    return n
