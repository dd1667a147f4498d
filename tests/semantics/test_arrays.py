"""docs/semantics.md, Arrays: names, dtypes, indices, orders and memory. The rest is in test_python.py."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.testing import check_op

answers = pytest.mark.answers

STANDARD = """
    abs acos acosh add all any arange argmax argmin argsort asarray asin asinh astype atan atan2 atanh bitwise_and
    bitwise_invert bitwise_left_shift bitwise_or bitwise_right_shift bitwise_xor broadcast_arrays broadcast_to
    can_cast ceil clip concat copysign cos cosh count_nonzero cumulative_prod cumulative_sum diff divide empty
    empty_like equal exp expand_dims expm1 eye finfo flip floor floor_divide from_dlpack full full_like greater
    greater_equal hypot iinfo isdtype isfinite isinf isnan less less_equal linspace log log10 log1p log2 logaddexp
    logical_and logical_not logical_or logical_xor matmul matrix_transpose max maximum mean meshgrid min minimum
    moveaxis multiply negative nextafter nonzero not_equal ones ones_like permute_dims positive pow prod reciprocal
    remainder repeat reshape result_type roll round searchsorted sign signbit sin sinh sort split sqrt square
    squeeze stack std subtract sum take take_along_axis tan tanh tensordot tile tril triu trunc unique_all
    unique_counts unique_inverse unique_values unstack var vecdot where zeros zeros_like
"""
"""Every function of the standard without conj, imag and real; `split`, which it lacks, is handgrad's own."""


def numbers(seed: int, *shape: int, dtype: Any = np.float64) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


@answers("names, axes, `keepdims`, `correction=0`")
def test_the_array_api_standard() -> None:
    xp = Tensor(0.0).__array_namespace__()
    assert xp.__array_api_version__ == "2024.12"
    assert not [name for name in STANDARD.split() if not callable(getattr(xp, name, None)) or not hasattr(hg, name)]
    assert not [name for name in ("linalg", "fft", "conj", "imag", "real") if hasattr(xp, name)]
    x = numbers(1, 2, 3, 4)
    for name in ("sum", "mean", "max", "min", "prod", "var", "std"):
        for axis in (None, -1, (0, 2), ()):
            for keepdims in (False, True):
                got = getattr(hg, name)(Tensor(x), axis=axis, keepdims=keepdims)
                want = getattr(np, name)(x, axis=axis, keepdims=keepdims)  # NumPy's own default is correction=0 too
                assert got.shape == np.shape(want)
                np.testing.assert_allclose(got.numpy(), want, rtol=1e-13, atol=1e-15)
    n = x.shape[-1]
    np.testing.assert_allclose(
        hg.var(Tensor(x), axis=-1, correction=1).numpy(), hg.var(Tensor(x), axis=-1).numpy() * n / (n - 1), rtol=1e-13
    )


@answers("which functions keep the graph")
def test_what_can_be_differentiated_is_recorded() -> None:
    x = Tensor(numbers(2, 3, 3), requires_grad=True)
    followed = [
        hg.sort(x), hg.roll(x, 1), hg.einsum("ij,jk->ik", x, x), hg.repeat(x, 2), hg.tile(x, (2, 1)), hg.tril(x),
        hg.diff(x), hg.flip(x), hg.moveaxis(x, 0, 1), hg.take_along_axis(x, np.zeros((1, 3), np.int64), axis=0),
        hg.cumulative_sum(x, axis=0), hg.stack([x, x]), *hg.unstack(x), *hg.meshgrid(x[0], x[1]), hg.tensordot(x, x),
        hg.copysign(x, -1.0), hg.remainder(x, 0.7), hg.clip(x, -0.5, 0.5), hg.broadcast_to(x, (2, 3, 3)),
    ]  # fmt: skip
    assert all(y.requires_grad for y in followed)
    left = [
        hg.argsort(x), hg.argmax(x), hg.argmin(x), hg.nonzero(x)[0], hg.searchsorted(x[0], x[1]), hg.count_nonzero(x),
        *hg.unique_all(x), hg.unique_values(x), x == x, x < 0.0, hg.isnan(x), hg.all(x), hg.any(x), hg.signbit(x),
    ]  # fmt: skip
    assert all(type(y) is Tensor and not y.requires_grad for y in left)
    for f in (hg.sort, lambda x: hg.roll(x, 1, axis=1), lambda x: hg.einsum("ij,kj->ik", x, x)):
        check_op(f, (numbers(3, 3, 3),), samples=2)


@answers("default dtype")
def test_default_dtype() -> None:
    for data in (1.5, [1.0, 2.0], [1, 2.5], []):
        assert Tensor(data).dtype == np.float32
    assert Tensor([1, 2]).dtype == np.int64 and Tensor([True]).dtype == np.bool_
    assert hg.zeros(3).dtype == hg.linspace(0, 1, 3).dtype == hg.eye(2).dtype == np.float32
    assert hg.arange(3).dtype == np.int64
    for kept in (np.float64, np.float32, np.int32, np.uint8, np.bool_):
        assert Tensor(np.zeros(2, kept)).dtype == kept


SCALARS = [2, 2.0, True, np.float64(2), np.float32(2), np.int64(2), np.array(2.0), np.array(2)]


@answers("Python numbers, NumPy scalars, 0-d arrays in an operation")
@pytest.mark.parametrize("number", SCALARS, ids=lambda n: f"{type(n).__name__} {getattr(n, 'dtype', '')}")
def test_numbers_are_weak(number: Any, dtype: Any) -> None:
    x = Tensor(np.array([1.0, 3.0], dtype), requires_grad=True)
    for f in (operator.add, operator.sub, operator.mul, operator.truediv, operator.pow):
        for y in (f(x, number), f(number, x)):
            assert y.dtype == dtype
        assert hg.grad(lambda x, f=f: hg.sum(f(x, number)))(x).dtype == dtype
    third = hg.grad(hg.grad(lambda x: hg.sum(x**3 * number)))
    assert third(Tensor(np.array(1.0, dtype))).dtype == dtype
    assert (Tensor([1, 2]) + int(number)).dtype == np.int64  # an integer leaves integers alone


@answers("integers with a Python float, `/` and `mean` of integers")
def test_integers_become_float64() -> None:
    i = Tensor([3, 4])
    for y in (i * 0.5, 1.5 - i, i / 2, 1 / i, i / i, hg.mean(i), Tensor([True, False]) * 0.5):
        assert y.dtype == np.float64
    assert (i / 2).numpy().tolist() == [1.5, 2.0]
    with pytest.raises(TypeError, match="astype"):
        Tensor([1.0, 2.0]) * (i * 0.5)
    assert (Tensor([1.0, 2.0]) * (i.astype(np.float32) * 0.5)).dtype == np.float32


@answers("float32 with float64 (or an integer array) in one operation")
@pytest.mark.parametrize("other", [np.float64, np.float16, np.int64, np.bool_])
def test_nothing_is_cast_silently(other: Any) -> None:
    x, y = Tensor([1.0, 2.0]), Tensor(np.ones(2, other))
    pairs: list[Any] = [
        lambda: x + y, lambda: y.data * x, lambda: hg.maximum(x, y), lambda: hg.where(x > 1.0, x, y),
        lambda: hg.concat([x, y]), lambda: hg.stack([x, y]),
    ]  # fmt: skip
    for pair in pairs:
        with pytest.raises(TypeError, match=r"casts nothing silently, so use x\.astype"):
            pair()
    assert hg.result_type(x, y) == np.result_type(np.float32, other)  # what the standard would have made of it
    assert (x + y.astype(np.float32)).dtype == np.float32


@answers("float16 and complex numbers")
def test_other_kinds_of_numbers() -> None:
    x = Tensor(np.array([1.0, 2.0], np.float16), requires_grad=True)
    assert hg.softmax(x * 2.0).dtype == hg.grad(lambda x: hg.sum(hg.softmax(x) ** 2))(x).dtype == np.float16
    with (
        hg.use_kernels("force"),
        pytest.raises(RuntimeError, match="kernels are forced, but there is none for float16"),
    ):
        hg.softmax(x)
    for call in (lambda: Tensor(1j), lambda: x * 1j, lambda: x + np.ones(2, np.complex64)):
        with pytest.raises(TypeError):
            call()


@answers("indices")
def test_indices(near: Any) -> None:
    a = numbers(4, 4, 3)
    x = Tensor(a)
    for key in (
        2,
        -1,
        slice(1, 9),
        slice(None, None, -2),
        (..., 1),
        (None, slice(0, 2), -3),
        (0, 1),
        np.int64(1),
        Tensor(1),
    ):
        plain = int(key) if isinstance(key, Tensor) else key
        near(x[key], a[plain])
        near(hg.grad(lambda x, key=key: hg.sum(x[key] ** 2))(x), 2 * a * _ones_at(a.shape, plain))
    for key in (np.array([0, 1]), [0, 1], x > 0.0, Tensor([0, 1]), np.ones(4, bool)):
        with pytest.raises(TypeError, match=r"hg\.take\(x, indices, axis=\.\.\.\), or hg\.where for a mask"):
            x[key]
    near(hg.take(x, np.array([3, 0, 3]), axis=0), a[[3, 0, 3]])
    near(hg.where(x > 0.0, x, 0.0), a * (a > 0))
    with pytest.raises(IndexError, match="out of bounds"):
        x[4]
    with pytest.raises(TypeError, match="cannot be written in place"):
        x[0] = 1.0


def _ones_at(shape: tuple[int, ...], key: Any) -> np.ndarray:
    found = np.zeros(shape)
    found[key] = 1.0
    return found


@answers("ids of rows, classes and places")
@pytest.mark.parametrize("wrong", [-1, 3])
def test_ids_are_not_counted_from_the_end(wrong: int, kernels: str) -> None:
    x, ids = Tensor(numbers(5, 3, 3, dtype=np.float32)), np.array([0, wrong])
    calls: list[Any] = [
        lambda: hg.take(x, ids, axis=0), lambda: hg.embedding(x, ids), lambda: hg.cross_entropy(x[:2], ids),
        lambda: hg.take_along_axis(x, ids[:, None], axis=0), lambda: hg.linear_cross_entropy(x[:2], x, ids),
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(IndexError, match=f"{wrong}"):
            call()
    assert hg.embedding(x, np.array([2])).shape == (1, 3)
    assert np.array_equal(x[-1].numpy(), x[2].numpy())  # a single index is


@answers("`vecdot`")
def test_vecdot(near: Any) -> None:
    a, b = numbers(6, 2, 3), numbers(7, 4, 2, 3)
    near(hg.vecdot(Tensor(a), Tensor(b)), np.sum(a * b, axis=-1))
    near(hg.vecdot(Tensor(a), Tensor(b), axis=-2), np.sum(a * b, axis=-2))
    with pytest.raises(ValueError, match="counted from the end"):
        hg.vecdot(Tensor(a), Tensor(b), axis=1)


@answers("`split(x, 3)`, `split(x, [1, 2])`")
def test_split() -> None:
    x = Tensor(np.arange(6.0))
    assert [p.numpy().tolist() for p in hg.split(x, 3)] == [[0, 1], [2, 3], [4, 5]]
    assert [p.numpy().tolist() for p in hg.split(x, [1, 2, 3])] == [[0], [1, 2], [3, 4, 5]]
    assert [len(p) for p in np.split(x.numpy(), [1, 2])] == [1, 1, 4]  # positions, in NumPy
    for sections in (4, [1, 2], [3, 4]):
        with pytest.raises(ValueError, match=r"^split: "):
            hg.split(x, sections)
    check_op(lambda x: hg.split(x, [1, 0, 5])[2] * hg.split(x, [5, 1])[0], (numbers(8, 6),), samples=2)


@answers("`pad`")
def test_pad(near: Any) -> None:
    a = numbers(9, 2, 3)
    for ours, numpys in ((1, 1), ((1, 2), ((1, 1), (2, 2))), (((0, 1), (2, 0)), ((0, 1), (2, 0)))):
        near(hg.pad(Tensor(a), ours, value=7.0), np.pad(a, numpys, constant_values=7.0))
    near(hg.grad(lambda x: hg.sum(hg.pad(x, 1, value=3.0) ** 2))(Tensor(a)), 2 * a)


@answers("`einsum`")
def test_einsum(near: Any) -> None:
    a, b = numbers(10, 2, 1, 3), numbers(11, 4, 3)
    near(hg.einsum("...i,...i->...", Tensor(a), Tensor(b)), np.einsum("...i,...i->...", a, b))
    near(hg.einsum("i...->i...", Tensor(a)), a)
    assert np.einsum("ij,ij->i", a[0], b).shape == (4,)  # NumPy stretches the letter i from 1 to 4
    with pytest.raises(ValueError, match=r"^einsum: "):
        hg.einsum("ij,ij->i", Tensor(a[0]), Tensor(b))
    with pytest.raises(ValueError, match=r"^einsum: "):
        hg.einsum("...i->i", Tensor(a))
    with pytest.raises(TypeError, match=r"^einsum: "):
        hg.einsum("i,i->", Tensor([True]), Tensor([True]))
    check_op(lambda x, y: hg.einsum("...i,...i->...", x, y), (a, b), samples=2)


@answers("`dtype=` of `sum`, `prod`, `cumulative_sum`, `cumulative_prod`")
def test_dtype_of_sums() -> None:
    small = np.full(3, 100, np.int8)
    for name in ("sum", "prod", "cumulative_sum", "cumulative_prod"):
        f, numpys = getattr(hg, name), getattr(np, name)
        assert f(Tensor(small)).dtype == numpys(small).dtype == np.int64
        assert np.array_equal(f(Tensor(small)).numpy(), numpys(small))
        assert f(Tensor(small), dtype=np.int8).dtype == np.int8
        x = Tensor(numbers(12, 4), requires_grad=True)
        assert f(x, dtype=np.float32).dtype == np.float32
        assert hg.grad(lambda x, f=f: hg.sum(f(x, dtype=np.float32)))(x).dtype == np.float64
    big = np.array([1e300, 1e300, -1e300])
    assert np.isnan(hg.sum(Tensor(big), dtype=np.float32).item())  # cast first: inf - inf


@answers("`matmul`, `linear` of integers")
def test_products_of_integers() -> None:
    i = np.arange(4).reshape(2, 2)
    for call in (lambda: Tensor(i) @ Tensor(i), lambda: hg.linear(Tensor(i), Tensor(i))):
        with pytest.raises(TypeError, match="must be a floating point array"):
            call()
    for got in (hg.einsum("ij,jk->ik", Tensor(i), Tensor(i)), hg.tensordot(Tensor(i), Tensor(i), axes=1)):
        assert got.dtype == np.int64 and np.array_equal(got.numpy(), i @ i)


@answers("NaN in `sort`, `argsort`, `argmax`, `argmin`, `unique_values`")
def test_nan_in_orders(dtype: Any, near: Any) -> None:
    x = Tensor(np.array([1.0, np.nan, np.inf, -1.0, np.nan], dtype))
    near(hg.sort(x), [-1.0, 1.0, np.inf, np.nan, np.nan])
    near(hg.sort(x, descending=True), [np.nan, np.nan, np.inf, 1.0, -1.0])
    assert hg.argsort(x).numpy().tolist() == [3, 0, 2, 1, 4]
    assert hg.argmax(x).item() == hg.argmin(x).item() == 1
    near(hg.unique_values(x), [-1.0, 1.0, np.inf, np.nan, np.nan])
    dy = np.array([1.0, 2.0, 3.0, 4.0, 5.0], dtype)
    near(hg.vjp(hg.sort, x)[1](Tensor(dy))[0], [2.0, 4.0, 3.0, 1.0, 5.0])


@answers("ties in `sort`, `argsort`, `argmax`, `argmin`")
def test_ties_in_orders(near: Any) -> None:
    x = Tensor(np.array([2.0, 1.0, 2.0, 1.0]))
    assert hg.argsort(x).numpy().tolist() == [1, 3, 0, 2]
    assert hg.argsort(x, descending=True).numpy().tolist() == [0, 2, 1, 3]
    assert (hg.argmax(x).item(), hg.argmin(x).item()) == (0, 1)
    near(hg.vjp(hg.sort, x)[1](Tensor(np.array([1.0, 2.0, 3.0, 4.0])))[0], [3.0, 1.0, 4.0, 2.0])


@answers("`round`")
def test_round() -> None:
    assert hg.round(Tensor([0.5, 1.5, 2.5, -0.5, -1.5])).numpy().tolist() == [0.0, 2.0, 2.0, 0.0, -2.0]


@answers("arrays inside a Tensor")
def test_memory() -> None:
    a = np.array([1.0, 2.0])
    own, shared = Tensor(a), Tensor(a, copy=False)
    a[0] = 9.0
    assert own.numpy()[0] == 1.0 and shared.numpy()[0] == 9.0 and a.flags.writeable
    assert np.shares_memory(shared.numpy(), a) and np.shares_memory(shared.numpy(), shared.data)
    for t in (own, shared, own * 2.0, own.detach()):
        with pytest.raises(ValueError, match="read-only"):
            t.numpy()[0] = 5.0
    x = Tensor(a, copy=False, requires_grad=True)
    y = hg.sum(x * x)
    a[0] = -3.0
    y.backward()  # no error: nobody could see it
    assert x.grad is not None and x.grad.numpy()[0] == -6.0


@answers("small arrays")
def test_small_arrays_run_the_formula() -> None:
    for n, runs in ((1023, 0), (1024, 1)):
        x = Tensor(numbers(14, n, dtype=np.float32), requires_grad=True)
        with hg.use_kernels("auto") as calls:
            hg.sum(hg.relu(x)).backward()
        assert (calls["relu forward"], calls["relu backward"]) == (runs, runs)
