"""When a parallel region pays, and how work is cut: the one place for both.

Measured on two cores (benches/regions.py): a region costs 1 to 3 us while the other threads still spin, 6 to 11 us once they
sleep, a serial call 0.3 us. In a step they spin, and then a region pays where the serial call takes more than 2.5 to 5 us: from
2^13 or 2^14 elements of gelu, 2^14 to 2^16 of AdamW, 2^16 of a sum. PARALLEL_WORK loses at most 2 us between; below it kernels
run serially, on the very function that the region would call. Blocks of 2^12 to 2^14 elements take the same time.

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
