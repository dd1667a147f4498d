"""stack, split, expand_dims, squeeze, flip, pad: what users write, what they get back, and the sentences for misfits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, gradients


def x23() -> Tensor:
    return Tensor(np.arange(6.0).reshape(2, 3), requires_grad=True)


def test_split_takes_a_number_of_pieces_or_their_lengths() -> None:
    x = Tensor(np.arange(12.0).reshape(2, 6))
    q, k, v = hg.split(x, 3, axis=-1)
    assert q.shape == k.shape == v.shape == (2, 2)
    assert v.numpy().tolist() == [[4.0, 5.0], [10.0, 11.0]]
    assert [y.shape for y in hg.split(x, [1, 0, 5], axis=1)] == [(2, 1), (2, 0), (2, 5)]
    assert [y.shape for y in hg.split(x, (2,))] == [(2, 6)]
    assert np.array_equal(hg.concat(hg.split(x, [4, 2], axis=1), axis=1).numpy(), x.numpy())


def test_a_piece_that_nobody_used_gets_zeros() -> None:
    x = x23()
    _, b, _ = hg.split(x, 3, axis=1)
    assert gradients(hg.sum(b * b), [x])[0].numpy().tolist() == [[0.0, 2.0, 0.0], [0.0, 8.0, 0.0]]


def test_each_is_one_node_and_its_backward_pass_ends() -> None:
    for function, name in (
        (lambda x: hg.expand_dims(x, axis=1), "expand_dims"),
        (lambda x: hg.squeeze(hg.expand_dims(x, axis=1), axis=1), "squeeze"),
        (lambda x: hg.stack([x, x], axis=1), "stack"),
        (lambda x: hg.flip(x, axis=0), "flip"),
        (lambda x: hg.pad(x, 1), "pad"),
        (lambda x: hg.split(x, [3], axis=1)[0], "split"),
    ):
        x = x23()
        y = function(x)
        assert y.node is not None
        assert y.node.op.name == name
        (dx,) = gradients(hg.sum(y * y * y), [x], create_graph=True)
        (ddx,) = gradients(hg.sum(dx), [x], create_graph=True)
        copies = 2.0 if name == "stack" else 1.0  # so often is each entry in y
        np.testing.assert_allclose(ddx.detach().numpy(), 6.0 * copies * x.detach().numpy())


def test_axes_count_from_both_ends() -> None:
    x = x23()
    assert hg.expand_dims(x, axis=-1).shape == (2, 3, 1)
    assert hg.expand_dims(x, axis=2).shape == (2, 3, 1)
    assert hg.stack([x, x, x], axis=-1).shape == (2, 3, 3)
    assert hg.stack([x, x, x], axis=-3).shape == (3, 2, 3)
    assert hg.squeeze(Tensor(np.zeros((1, 2, 1))), axis=(-1, 0)).shape == (2,)
    assert np.array_equal(hg.flip(x).detach().numpy(), np.flip(x.detach().numpy()))
    assert np.array_equal(hg.flip(x, axis=(0, -1)).detach().numpy(), np.flip(x.detach().numpy()))
    assert np.array_equal(hg.flip(x, axis=-2).detach().numpy(), np.flip(x.detach().numpy(), axis=0))


def test_pad_takes_one_number_one_an_axis_or_pairs() -> None:
    x = np.arange(6.0).reshape(2, 3)
    for widths in (1, [1, 2], [(0, 1), (2, 0)], [1, (0, 2)]):
        pairs: Any = [
            (w, w) if isinstance(w, int) else w for w in ([widths] * 2 if isinstance(widths, int) else widths)
        ]
        got = hg.pad(Tensor(x), widths, value=-1.5).numpy()
        assert np.array_equal(got, np.pad(x, pairs, constant_values=-1.5))
    ids = hg.pad(Tensor(np.array([1, 2])), [(0, 2)], value=7)
    assert ids.numpy().tolist() == [1, 2, 7, 7]
    assert ids.dtype == np.int64
    assert hg.pad(Tensor(np.ones(2, np.float32)), 1, value=-np.inf).dtype == np.float32


MISFITS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (
        lambda: hg.split(x23(), 2, axis=1),
        ValueError,
        r"^split: x has shape \(2, 3\), whose axis 1 is no 2 equal pieces",
    ),
    (lambda: hg.split(x23(), 0), ValueError, r"^split: x has shape \(2, 3\), whose axis 0 is no 0 equal pieces"),
    (
        lambda: hg.split(x23(), [1, 1], axis=1),
        ValueError,
        r"^split: sections is \(1, 1\), but .* add up to the 3 of axis 1",
    ),
    (lambda: hg.split(x23(), [4, -1], axis=1), ValueError, r"^split: sections is \(4, -1\)"),
    (lambda: hg.split(x23(), [], axis=1), ValueError, r"^split: sections is \(\)"),
    (lambda: hg.split(x23(), [2], axis=2), ValueError, "^split: axis is 2, but x has 2 axes"),
    (lambda: hg.stack([]), ValueError, "^stack: got no arrays"),
    (
        lambda: hg.stack([x23(), Tensor(np.ones(3))]),
        ValueError,
        r"^stack: xs\[1\] has shape \(3,\), but xs\[0\] has \(2, 3\)",
    ),
    (lambda: hg.stack([x23()], axis=3), ValueError, "^stack: axis is 3"),
    (lambda: hg.expand_dims(x23(), axis=3), ValueError, "^expand_dims: axis is 3"),
    (lambda: hg.squeeze(x23(), axis=0), ValueError, r"^squeeze: x has shape \(2, 3\), but axis 0 must have length 1"),
    (lambda: hg.flip(x23(), axis=2), ValueError, "^flip: axis is 2, but x has 2 axes"),
    (lambda: hg.pad(x23(), [1]), ValueError, r"^pad: widths has 1 pairs, but x \(2, 3\) needs one an axis"),
    (lambda: hg.pad(x23(), [(1, 1, 1), 0]), ValueError, "^pad: widths is .* each axis needs one number, or two"),
    (lambda: hg.pad(x23(), 1.5), ValueError, "^pad: widths is 1.5, but each axis needs one number, or two"),  # type: ignore[arg-type]
    (lambda: hg.split(x23(), 1.5), TypeError, "^split: sections is 1.5, but it must be an integer or hold integers"),  # type: ignore[arg-type]
    (lambda: hg.split(x23(), [1.5]), TypeError, r"^split: sections is \[1.5\], but it must be"),  # type: ignore[list-item]
    (lambda: hg.pad(x23(), -1), ValueError, "^pad: widths is .* no axis can be padded by less than 0"),
    (
        lambda: hg.pad(Tensor([1, 2]), 1, value=0.5),
        TypeError,
        "^pad: value is 0.5, which int64, the dtype of x, cannot hold",
    ),
    (lambda: hg.pad(Tensor([1, 2]), 1, value=-np.inf), TypeError, "^pad: value is -inf"),
    (lambda: hg.pad(Tensor([1, 2], dtype=np.int8), 1, value=1000), TypeError, "^pad: value is 1000, which int8"),
    (lambda: hg.pad(Tensor([True]), 1, value=2), TypeError, "^pad: value is 2, which bool"),
    (lambda: hg.pad(x23(), 1, value=None), TypeError, "^pad: value is None, but it must be a number"),  # type: ignore[arg-type]
    (lambda: hg.stack(3), TypeError, "^stack: arrays is of type int"),
    (lambda: hg.stack([x23()], axis=None), TypeError, "^stack: axis is None, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.expand_dims(x23(), axis=3), ValueError, "^expand_dims: axis is 3, but the result has 3 axes"),
    (lambda: hg.expand_dims(x23(), axis=(0, 1)), TypeError, r"^expand_dims: axis is \(0, 1\), but it must be"),  # type: ignore[arg-type]
    (lambda: hg.split(x23(), 2, axis=None), TypeError, "^split: axis is None, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.unstack(x23(), axis=1.0), TypeError, "^unstack: axis is 1.0, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.roll(x23(), 1.5), TypeError, "^roll: shift is 1.5, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.tile(x23(), 2), TypeError, "^tile: repetitions is 2, but it must be a tuple"),  # type: ignore[arg-type]
    (lambda: hg.tile(x23(), (1.5,)), TypeError, "^tile: an entry of repetitions is 1.5"),  # type: ignore[arg-type]
    (lambda: hg.tril(x23(), k=0.5), TypeError, "^tril: k is 0.5, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.diff(x23(), n=1.5), TypeError, "^diff: n is 1.5, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.sort(x23(), axis=None), TypeError, "^sort: axis is None, but it must be an integer"),  # type: ignore[arg-type]
    (lambda: hg.argmax(x23(), axis=(0, 1)), TypeError, r"^argmax: axis is \(0, 1\), but it must be"),  # type: ignore[arg-type]
    (lambda: hg.searchsorted(x23(), 1.0), ValueError, r"^searchsorted: x1 has shape \(2, 3\), but it must have one"),
    (lambda: hg.searchsorted(Tensor([1.0]), 1.0, side="up"), ValueError, "^searchsorted: side is 'up'"),
    (lambda: hg.searchsorted(Tensor([1.0]), 1.0, sorter=[0.0]), ValueError, r"^searchsorted: sorter is float64 \(1,\)"),
]


@pytest.mark.parametrize(("call", "kind", "sentence"), MISFITS, ids=[m[2][:40] for m in MISFITS])
def test_a_misfit_is_one_sentence(call: Callable[[], Any], kind: type[Exception], sentence: str) -> None:
    with pytest.raises(kind, match=sentence):
        call()
