"""Laws of the rows that walk through a sequence: lstm, gru, rnn (see laws.py). Time is the first axis, sequences the second."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from .laws import Pairs, Trial


def _split(t: Trial) -> tuple[Any, tuple[Any, ...], np.ndarray]:
    """x, the other inputs up to the lengths, and the lengths (T for all where there are none)."""
    x, *others = t.inputs
    steps, rows = x.shape[:2]
    last = others[-1]
    if last.dtype.kind in "iu":
        return x, tuple(others[:-1]), np.minimum(last, steps)
    return x, tuple(others), np.full(rows, steps)


def _outputs(t: Trial) -> range:
    return range(len(t.case.subject.op.outputs))  # type: ignore[union-attr]


def padding_is_unseen(t: Trial) -> Pairs:
    """Other numbers behind a sequence's length, NaN among them, change no output; and the outputs there are zero."""
    x, others, lengths = _split(t)
    lengths = np.minimum(lengths, t.case.rng.integers(0, x.shape[0] + 1, lengths.shape))
    inside = (np.arange(x.shape[0])[:, None] < lengths)[:, :, None]
    spoilt = np.where(inside, x, np.where(t.normal(x.shape) < 0, t.normal(x.shape), np.nan)).astype(x.dtype)
    pairs = [(t.run(spoilt, *others, lengths, output=k), t.run(x, *others, lengths, output=k)) for k in _outputs(t)]
    ys = pairs[0][0]
    return [*pairs, (ys, np.where(inside, ys, 0))]


def reverse_reads_backwards(t: Trial) -> Pairs:
    """`reverse` is the walk through the sequences turned around, each within its own length; so are its outputs."""
    x, others, lengths = _split(t)
    time = np.arange(x.shape[0])[:, None]
    mirrored = np.where(time < lengths, lengths - 1 - time, time)[:, :, None]
    there, back = not t.case.params["reverse"], bool(t.case.params["reverse"])
    turned = np.take_along_axis(x, mirrored, axis=0)
    pairs = [
        (t.run(turned, *others, lengths, output=k, reverse=there), t.run(x, *others, lengths, output=k, reverse=back))
        for k in _outputs(t)
    ]
    ys, want = pairs[0]
    return [(np.take_along_axis(ys, mirrored, axis=0), want), *pairs[1:]]


def goes_on_from_its_state(t: Trial) -> Pairs:
    """Two pieces of a sequence, the second from the state that the first ended in, give what the whole gives."""
    x, others, _ = _split(t)
    states = len(_outputs(t)) - 1
    cut = int(t.case.rng.integers(x.shape[0] + 1))
    first = [t.run(x[:cut], *others, output=k, reverse=False) for k in _outputs(t)]
    second = [t.run(x[cut:], *first[1:], *others[states:], output=k, reverse=False) for k in _outputs(t)]
    whole = [t.run(x, *others, output=k, reverse=False) for k in _outputs(t)]
    return [(np.concatenate([first[0], second[0]]), whole[0]), *zip(second[1:], whole[1:], strict=True)]


RECURRENT_LAWS = (padding_is_unseen, reverse_reads_backwards, goes_on_from_its_state)
