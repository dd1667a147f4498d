"""Words of a text as bytes, told apart by a hash table: for texts whose words are already separated by blanks.

A word is what stands between blanks (space, tab, newline); what the bytes mean is nobody's business here, so any encoding
that leaves those three alone will do, UTF-8 for one. Words are numbered from 0 in the order of their first appearance.

The table is open addressing with linear steps over FNV-1a hashes (Fowler, Noll and Vo), 64 bits:

    slots    (S,)   int32, S a power of two above W: the number of the word in this slot, or -1
    hashes   (W,)   uint64
    begins   (W+1,) int64: word w is letters[begins[w] : begins[w + 1]]
    letters  (L,)   uint8: the distinct words, one behind the other

Equal hashes are not believed: the letters are compared.
"""

import numpy as np

from .jit import jit

BORDER = -1
"""In ids: here a document ends."""

_NEWLINE, _SPACE, _TAB = 10, 32, 9
_FNV_OFFSET = np.uint64(14695981039346656037)
_FNV_PRIME = np.uint64(1099511628211)


@jit(inner=True)
def _is_blank(letter):
    return letter in (_SPACE, _NEWLINE, _TAB)


@jit(inner=True)
def _next_word(text, p):
    """(begin, end, hash) of the first word that begins at p; text[p] is not blank."""
    begin, code = p, _FNV_OFFSET
    while p < text.size and not _is_blank(text[p]):
        code = (code ^ np.uint64(text[p])) * _FNV_PRIME
        p += 1
    return begin, p, code


@jit(inner=True)
def _find(text, begin, end, code, slots, hashes, begins, letters):
    """The slot of the word text[begin:end], or the empty one where it belongs."""
    mask = np.uint64(slots.size - 1)
    slot = (code ^ (code >> np.uint64(32))) & mask
    while True:
        w = slots[slot]
        if w < 0:
            return slot
        if hashes[w] == code and begins[w + 1] - begins[w] == end - begin:
            first, length = begins[w], end - begin
            k = 0
            while k < length and letters[first + k] == text[begin + k]:
                k += 1
            if k == length:
                return slot
        slot = (slot + np.uint64(1)) & mask


@jit()
def words_fill(slots, hashes, known):
    """Put the first `known` words into empty slots again, after the table has grown."""
    slots[:] = -1
    mask = np.uint64(slots.size - 1)
    for w in range(known):
        slot = (hashes[w] ^ (hashes[w] >> np.uint64(32))) & mask
        while slots[slot] >= 0:
            slot = (slot + np.uint64(1)) & mask
        slots[slot] = w


@jit()
def words_count_01_hash(text, p, slots, hashes, begins, letters, counts, known):
    """Count the words of text (N,) uint8 from p on. Returns (p, known): p < N means that the table must grow first.

    counts (W,) int64. A table is full when a word may find no room: half of the slots taken, or no place for its letters.
    """
    while p < text.size:
        if _is_blank(text[p]):
            p += 1
            continue
        begin, end, code = _next_word(text, p)
        slot = _find(text, begin, end, code, slots, hashes, begins, letters)
        w = slots[slot]
        if w < 0:
            free = begins[known]
            if known == hashes.size or 2 * known >= slots.size or free + end - begin > letters.size:
                return begin, known
            for k in range(end - begin):
                letters[free + k] = text[begin + k]
            w = known
            begins[w + 1] = free + end - begin
            hashes[w], counts[w], slots[slot] = code, 0, w
            known += 1
        counts[w] += 1
        p = end
    return p, known


@jit()
def words_encode_01_hash(text, lines, slots, hashes, begins, letters, ids):
    """Write the ids of the known words of text (N,) uint8, leave the others out, and return how many ids there are.

    lines: a newline gives a BORDER. ids (N,) int32 has room for all: each id comes of at least one letter.
    """
    p = n = 0
    while p < text.size:
        if _is_blank(text[p]):
            if lines and text[p] == _NEWLINE and (n == 0 or ids[n - 1] != BORDER):
                ids[n] = BORDER
                n += 1
            p += 1
            continue
        begin, p, code = _next_word(text, p)
        w = slots[_find(text, begin, p, code, slots, hashes, begins, letters)]
        if w >= 0:
            ids[n] = w
            n += 1
    return n
