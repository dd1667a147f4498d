"""Philox4x32-10 as an LLVM intrinsic: 16 counter blocks at a time, one a vector lane. What it computes: philox.py.

LLVM's loop vectoriser leaves the loop over blocks scalar: it takes the 64-bit products for expensive, and does not see that
both factors have 32 bits, for which every vector machine has an instruction. Here the vectors are written out, with a
block's four words in four vectors of 16; LLVM splits them on machines with narrower registers.
"""

from typing import Any

from llvmlite import ir
from numba import types

from .jit import intrinsic

BLOCKS = 16  # counter blocks of one call
WORDS = 4 * BLOCKS
M0, M1 = 0xD2511F53, 0xCD9E8D57  # multipliers, section 3.3 of the paper
W0, W1 = 0x9E3779B9, 0xBB67AE85  # key increments: golden ratio, sqrt(3) - 1

_WIDE = ir.VectorType(ir.IntType(64), BLOCKS)
_NARROW = ir.VectorType(ir.IntType(32), BLOCKS)


def _shuffle(indices: list[int]) -> Any:
    return ir.Constant(ir.VectorType(ir.IntType(32), len(indices)), indices)


def _all(value: int) -> Any:
    return ir.Constant(_WIDE, [value] * BLOCKS)


def _drawn(builder: Any, seed: Any, stream: Any, counter: Any) -> Any:
    """The words of the blocks counter to counter + 15 as one vector of 64, block after block."""
    low, half = _all(0xFFFFFFFF), _all(32)
    undefined = ir.Constant(_WIDE, ir.Undefined)

    def everywhere(scalar: Any) -> Any:
        vector = builder.insert_element(undefined, scalar, ir.Constant(ir.IntType(32), 0))
        return builder.shuffle_vector(vector, undefined, _shuffle([0] * BLOCKS))

    def split(vector: Any) -> tuple[Any, Any]:
        return builder.and_(vector, low), builder.lshr(vector, half)

    x0, x1 = split(builder.add(everywhere(counter), ir.Constant(_WIDE, list(range(BLOCKS)))))
    x2, x3 = split(everywhere(stream))
    k0, k1 = split(everywhere(seed))
    for _ in range(10):
        low_0, high_0 = split(builder.mul(x0, _all(M0)))
        low_1, high_1 = split(builder.mul(x2, _all(M1)))
        x0, x2 = builder.xor(builder.xor(high_1, x1), k0), builder.xor(builder.xor(high_0, x3), k1)
        x1, x3 = low_1, low_0
        k0, k1 = builder.and_(builder.add(k0, _all(W0)), low), builder.and_(builder.add(k1, _all(W1)), low)
    a, b, c, d = (builder.trunc(x, _NARROW) for x in (x0, x1, x2, x3))
    # Lane i of a, b, c, d becomes words 4 i to 4 i + 3.
    pairs = _shuffle([lane for i in range(BLOCKS) for lane in (i, i + BLOCKS)])
    ab, cd = builder.shuffle_vector(a, b, pairs), builder.shuffle_vector(c, d, pairs)
    fours = [lane for i in range(BLOCKS) for lane in (2 * i, 2 * i + 1, 2 * (i + BLOCKS), 2 * (i + BLOCKS) + 1)]
    return builder.shuffle_vector(ab, cd, _shuffle(fours))


def _store(context: Any, builder: Any, value: Any, array_type: Any, array: Any, at: Any) -> Any:
    """value into the memory that begins at array[at], whose numbers have four bytes."""
    start = builder.gep(context.make_array(array_type)(context, builder, array).data, [at])
    builder.store(value, builder.bitcast(start, value.type.as_pointer()), align=4)
    return context.get_dummy_value()


@intrinsic
def philox_lanes(typingctx: Any, seed: Any, stream: Any, counter: Any, words: Any, at: Any) -> Any:
    """words[at : at + 64] become the words of the blocks counter to counter + 15; nothing checks bounds.

    seed, stream, counter: uint64; words: flat, contiguous, uint32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        seed_, stream_, counter_, words_, at_ = arguments
        return _store(context, builder, _drawn(builder, seed_, stream_, counter_), words, words_, at_)

    u64 = types.uint64
    return types.void(u64, u64, u64, words, types.int64), generate


@intrinsic
def philox_bits(typingctx: Any, seed: Any, stream: Any, counter: Any, last: Any, bits: Any, at: Any) -> Any:
    """The 64 words compared with `last`: bit i of bits[at] is whether word i is at most `last`, of bits[at + 1] word 32 + i.

    seed, stream, counter: uint64; last: uint32; bits: flat, contiguous, uint32.
    """

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        seed_, stream_, counter_, last_, bits_, at_ = arguments
        words = _drawn(builder, seed_, stream_, counter_)
        undefined = ir.Constant(words.type, ir.Undefined)
        limit = builder.insert_element(undefined, last_, ir.Constant(ir.IntType(32), 0))
        limit = builder.shuffle_vector(limit, undefined, _shuffle([0] * WORDS))
        halves = []  # each as a number of its own, so that the order of bytes in memory does not count
        for start in (0, WORDS // 2):
            part = _shuffle(list(range(start, start + WORDS // 2)))
            kept = builder.icmp_unsigned("<=", *(builder.shuffle_vector(v, undefined, part) for v in (words, limit)))
            halves.append(builder.bitcast(kept, ir.IntType(32)))
        _store(context, builder, halves[0], bits, bits_, at_)
        return _store(context, builder, halves[1], bits, bits_, builder.add(at_, ir.Constant(ir.IntType(64), 1)))

    u64 = types.uint64
    return types.void(u64, u64, u64, types.uint32, bits, types.int64), generate
