"""Panels: the operands of a product, copied into the order in which a register tile reads them. See matmul.py.

An operand is (numbers in a line, stride of axis 0, stride of axis 1, jump). One stride is 1: along that axis numbers lie
side by side, in runs of W (two vectors) that begin `jump` apart. In an ordinary matrix that is W; a larger one means panels,
as lstm_packed.py keeps what belongs to one block of units. Here x(k, w) is x[k x_k + w x_w] but for the runs: w are rows of A
or columns of B, of which a panel holds `width`.
"""

from .jit import jit
from .tile import lanes_of, move, never_inline, prefetch, transpose


@jit(inner=True)
def run_of(index, jump, lanes):
    """Where number `index` of a contiguous axis lies."""
    return index // (2 * lanes) * jump + index % (2 * lanes)


@jit(inner=True)
def pack(x, x_k, x_w, jump, k0, w0, K, count, width, panels):
    """panels[(p K + k) width + j] = x(k0 + k, w0 + p width + j), zero behind `count` of p width + j.

    width: one or two vectors. Lines are moved, eight at a time so that what was fetched is used up, or blocks transposed.
    """
    never_inline()
    lanes = lanes_of(panels)
    whole = count // width
    if x_w == 1:
        for first in range(0, K, 8):
            for p in range(whole):
                x0 = k0 * x_k + run_of(w0 + p * width, jump, lanes)
                for k in range(first, min(K, first + 8)):
                    for j in range(0, width, lanes):
                        move(x, x0 + k * x_k + j, panels, (p * K + k) * width + j)
    else:
        for p in range(whole):
            x0 = (w0 + p * width) * x_w
            k = 0
            while k + lanes <= K:
                at = x0 + run_of(k0 + k, jump, lanes)
                for j in range(0, width, lanes):
                    transpose(x, at + j * x_w, x_w, panels, (p * K + k) * width + j, width)
                k += lanes
            for j in range(width):
                for rest in range(k, K):
                    at = x0 + j * x_w + run_of(k0 + rest, jump, lanes)
                    panels[(p * K + rest) * width + j] = x[at]
    left = count - whole * width
    if left:
        for k in range(K):
            line = panels[(whole * K + k) * width : (whole * K + k + 1) * width]
            line[left:] = panels.dtype.type(0)
            for j in range(left):
                w = w0 + whole * width + j
                if x_w == 1:
                    line[j] = x[(k0 + k) * x_k + run_of(w, jump, lanes)]
                else:
                    line[j] = x[w * x_w + run_of(k0 + k, jump, lanes)]


@jit(inner=True)
def ask_for(x, x_k, x_w, jump, k0, w0, K, count, part, parts):
    """Prefetches part `part` of `parts` of what `pack` will read next, a run of W at a time."""
    lanes = lanes_of(x)
    W = 2 * lanes
    lines, first = (K, w0) if x_w == 1 else (count, k0)
    runs = ((count if x_w == 1 else K) + W - 1) // W * lines
    index, end = runs * part // parts, runs * (part + 1) // parts
    run, line = index // lines, index % lines
    line0, stride = (k0, x_k) if x_w == 1 else (w0, x_w)
    while index < end:
        at = (line0 + line) * stride + run_of(first + run * W, jump, lanes)
        prefetch(x, at)
        prefetch(x, at + lanes)
        index += 1
        line += 1
        if line == lines:
            line, run = 0, run + 1
