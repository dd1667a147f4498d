"""When a parallel region pays, and how work is cut: the one place for both.

Entering a parallel region costs about 4 us (omp layer, tuned), a serial call 0.3 us. Below PARALLEL_WORK (counted in
elements that cost about a nanosecond each) kernels run serially, on the very function that the region would call.

Work is cut into blocks whose size depends on the problem alone, never on the number of threads, and partial sums are
added in the order of the blocks. So one thread and sixty-four give the same bits.
"""

PARALLEL_WORK = 1 << 14  # elements: the smallest work worth a region
CHUNK = 1 << 13  # elements of one block of an elementwise pass (a multiple of every vector length)
MAX_BLOCKS = 64  # most blocks of a reduction over rows: bounds the partial sums kept


def chunks(size: int) -> int:
    """Number of CHUNK-sized blocks in `size` elements."""
    return -(-size // CHUNK)


def row_block(rows: int, width: int) -> int:
    """Rows in one block: about CHUNK elements, at least one row, at most MAX_BLOCKS blocks."""
    return max(1, CHUNK // max(width, 1) // 2, -(-rows // MAX_BLOCKS))
