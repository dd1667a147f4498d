"""einsum, tensordot and vecdot against NumPy's own, on random equations; and one sentence for each malformed equation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor, gradients
from handgrad.engine.testing import random_sample
from handgrad.reference.table import BY_NAME

QUICK = settings(deadline=None, derandomize=True, max_examples=150)
seeds = st.integers(0, 2**32 - 1)


def near(got: Any, want: Any) -> None:
    want = np.asarray(want)
    assert got.shape == want.shape
    np.testing.assert_allclose(got.numpy(), want, rtol=1e-12, atol=1e-12)


@QUICK
@given(seed=seeds)
def test_random_equations_are_numpys(seed: int) -> None:
    """One to three arrays; diagonals, summed letters, "..." that broadcasts, with and without an arrow."""
    sample = random_sample(BY_NAME["einsum"], np.random.default_rng(seed))
    equation = sample.params["equation"]
    near(hg.einsum(equation, *[Tensor(x) for x in sample.inputs]), np.einsum(equation, *sample.inputs))


@QUICK
@given(seed=seeds)
def test_gradients_of_random_equations_are_numpys(seed: int) -> None:
    """<dy, y> is linear in each array, so its slope along an entry is its value with a one there and zeros elsewhere."""
    rng = np.random.default_rng(seed)
    sample = random_sample(BY_NAME["einsum"], rng)
    xs, equation = list(sample.inputs), sample.params["equation"]
    leaves = [Tensor(x, requires_grad=True) for x in xs]
    y = hg.einsum(equation, *leaves)
    dy = rng.standard_normal(y.shape)
    i = int(rng.integers(len(xs)))
    (dx,) = gradients(y, [leaves[i]], dy)
    want = np.empty(xs[i].shape)
    for place in np.ndindex(want.shape):
        unit = np.zeros(want.shape)
        unit[place] = 1.0
        want[place] = np.sum(dy * np.einsum(equation, *xs[:i], unit, *xs[i + 1 :]))
    near(dx, want)


@QUICK
@given(seed=seeds)
def test_tensordot_is_numpys(seed: int) -> None:
    rng = np.random.default_rng(seed)
    shared = [int(n) for n in rng.integers(1, 4, rng.integers(0, 3))]
    a = [*(int(n) for n in rng.integers(1, 4, rng.integers(0, 3))), *shared]
    b = [*shared, *(int(n) for n in rng.integers(1, 4, rng.integers(0, 3)))]
    x1, x2 = rng.standard_normal(a), rng.standard_normal(b)
    near(hg.tensordot(Tensor(x1), Tensor(x2), axes=len(shared)), np.tensordot(x1, x2, axes=len(shared)))
    order1, order2 = rng.permutation(len(a)), rng.permutation(len(b))
    first = [int(np.flatnonzero(order1 == len(a) - len(shared) + i)[0]) for i in range(len(shared))]
    second = [int(np.flatnonzero(order2 == i)[0]) - len(b) for i in range(len(shared))]  # counted from the end
    x1, x2 = np.asarray(x1.transpose(order1)), np.asarray(x2.transpose(order2))
    near(hg.tensordot(Tensor(x1), Tensor(x2), axes=(first, second)), np.tensordot(x1, x2, axes=(first, second)))


@pytest.mark.parametrize(
    ("a", "b", "axis"),
    [
        ((3,), (3,), -1),
        ((2, 3), (3,), -1),
        ((2, 3), (4, 1, 3), -1),
        ((3, 1), (3, 4), -2),
        ((0,), (0,), -1),
        ((2, 0), (0,), -1),
    ],
)
def test_vecdot_is_numpys(a: tuple[int, ...], b: tuple[int, ...], axis: int) -> None:
    rng = np.random.default_rng(0)
    x1, x2 = rng.standard_normal(a), rng.standard_normal(b)
    near(hg.vecdot(Tensor(x1), Tensor(x2), axis=axis), np.vecdot(x1, x2, axis=axis))


def test_dtypes_stay() -> None:
    for dtype in (np.float32, np.float64, np.int32, np.int64):
        x = Tensor(np.arange(9).reshape(3, 3).astype(dtype))
        for equation, count in (("ij,jk->ik", 2), ("ii", 1), ("ij->", 1), ("i...->...", 1), ("ij,ij->ij", 2)):
            y = hg.einsum(equation, *[x] * count)
            assert y.dtype == dtype
            assert np.array_equal(y.numpy(), np.einsum(equation, *[x.numpy()] * count))


def test_spaces_and_capitals_in_an_equation() -> None:
    x = np.arange(6.0).reshape(2, 3)
    near(hg.einsum(" iJ , kJ -> k i ", Tensor(x), Tensor(x)), np.einsum("iJ,kJ->ki", x, x))
    near(hg.einsum("bA", Tensor(x)), np.einsum("bA", x))  # sorted: capitals come first


def test_the_second_derivative_of_a_quadratic_form() -> None:
    rng = np.random.default_rng(0)
    a, v = rng.standard_normal((3, 3)), Tensor(rng.standard_normal(3), requires_grad=True)
    (dv,) = gradients(hg.einsum("i,ij,j->", v, Tensor(a), v), [v], create_graph=True)
    near(dv.detach(), (a + a.T) @ v.detach().numpy())
    near(hg.stack([gradients(dv[i], [v], retain_graph=True)[0] for i in range(3)]), a + a.T)


def test_what_is_beside_a_diagonal_has_no_influence() -> None:
    x = Tensor(np.array([[1.0, np.nan], [np.inf, 2.0]]), requires_grad=True)
    y = hg.einsum("ii", x)
    assert y.item() == 3.0
    assert gradients(y, [x])[0].numpy().tolist() == [[1.0, 0.0], [0.0, 1.0]]


A, B = Tensor(np.ones((2, 3))), Tensor(np.ones((3, 4)))
MISFITS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: hg.einsum("ij,jk->ik", A), ValueError, "^einsum: equation 'ij,jk->ik' is for 2 arrays, but got 1$"),
    (lambda: hg.einsum("ij,kj->ik", A, B), ValueError, r"^einsum: xs\[1\] has shape \(3, 4\), but xs\[0\] \(2, 3\) needs 'j' "),
    (lambda: hg.einsum("ii", A), ValueError, r"^einsum: xs\[0\] has shape \(2, 3\), but xs\[0\] \(2, 3\) needs 'i' .* be 2$"),
    (lambda: hg.einsum("ijk->i", A), ValueError, r"^einsum: xs\[0\] has shape \(2, 3\), but 'ijk' in .* has other axes$"),
    (lambda: hg.einsum("i->i", A), ValueError, r"^einsum: xs\[0\] has shape \(2, 3\), but 'i' in .* has other axes$"),
    (lambda: hg.einsum("ij->ii", A), ValueError, "^einsum: equation 'ij->ii' has 'i' twice in its result$"),
    (lambda: hg.einsum("ij->ik", A), ValueError, "^einsum: equation 'ij->ik' has 'k' in its result, but in none of"),
    (lambda: hg.einsum("...j->j", A), ValueError, r"^einsum: equation '...j->j' has no \.\.\. in its result, but the arrays"),
    (lambda: hg.einsum("i1->i", A), ValueError, "^einsum: equation 'i1->i' has '1' in 'i1', where only letters"),
    (lambda: hg.einsum("......", A), ValueError, r"^einsum: equation '......' has '.' in '......', where only letters"),
    (lambda: hg.einsum("i.j", A), ValueError, r"^einsum: equation 'i.j' has '.' in"),
    (lambda: hg.einsum("ij->i->j", A), ValueError, "^einsum: equation 'ij->i->j' has '-' in 'i->j'"),
    (lambda: hg.einsum("ij->i,j", A), ValueError, "^einsum: equation 'ij->i,j' has ',' in 'i,j'"),
    (lambda: hg.einsum("ïj->j", A), ValueError, "^einsum: equation 'ïj->j' has 'ï'"),
    (lambda: hg.einsum("...,...", A, B), ValueError, r"^einsum: xs\[1\] has shape \(3, 4\), but xs\[0\] \(2, 3\) needs an"),
    (lambda: hg.einsum("ij", A > 0.0), TypeError, r"^einsum: xs\[0\] is bool, but products are of numbers"),
    (lambda: hg.einsum("ij,jk", A, Tensor(np.ones((3, 4), np.float32))), TypeError, "^einsum: got float32 and float64"),
    (lambda: hg.einsum(A, "ij"), TypeError, "^einsum: equation is a Tensor, but it must be a string"),  # type: ignore[arg-type]
    (lambda: hg.einsum("ij"), TypeError, "^einsum: got no arrays"),
    (lambda: hg.tensordot(A, B, axes=3), ValueError, "^tensordot: axes is 3, but x1 has 2 axes and x2 2$"),
    (lambda: hg.tensordot(A, B, axes=None), TypeError, "^tensordot: axes is None, but it must be a number, or axes"),  # type: ignore[arg-type]
    (lambda: hg.tensordot(A, B, axes=((0,), (0,))), ValueError, r"^tensordot: x1 has shape \(2, 3\) and x2 \(3, 4\), whose"),
    (lambda: hg.tensordot(A, B, axes=((0, 1), (0,))), ValueError, "^tensordot: x1 has shape"),
    (lambda: hg.tensordot(A, B, axes=((2,), (0,))), ValueError, "^tensordot: axis is 2, but x1 has 2 axes"),
    (lambda: hg.vecdot(A, B, axis=0), ValueError, "^vecdot: axis is 0, but it is counted from the end"),
    (lambda: hg.vecdot(A, B), ValueError, r"^vecdot: x1 has shape \(2, 3\) and x2 \(3, 4\), but they must agree along axis -1"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "sentence"), MISFITS, ids=range(len(MISFITS)))
def test_a_misfit_is_one_sentence(call: Callable[[], Any], kind: type[Exception], sentence: str) -> None:
    for _ in range(2):  # also when the equation was seen before
        with pytest.raises(kind, match=sentence):
            call()
