"""The namespace: NumPy's meaning wherever the array API standard has the function, and one sentence for every misfit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.tensor import KERNELS

XP = Tensor(0.0).__array_namespace__()
QUICK = settings(deadline=None, derandomize=True, max_examples=40)
seeds = st.integers(0, 2**32 - 1)


def same(got: Any, want: Any) -> None:
    """The same numbers, shape and dtype, up to the rounding of the same operations."""
    assert type(got) is Tensor
    want = np.asarray(want)
    assert (got.shape, got.dtype) == (want.shape, want.dtype)
    assert not got.data.flags.writeable
    assert np.array_equal(got.numpy(), want, equal_nan=want.dtype.kind == "f")


def shape_of(rng: np.random.Generator, most: int = 3) -> tuple[int, ...]:
    return tuple(int(n) for n in rng.integers(1, 5, rng.integers(0, most + 1)))


def floats(rng: np.random.Generator, *shape: int) -> np.ndarray:
    return np.round(rng.standard_normal(shape) * 2.0, 1)  # some of them equal, some 0, some whole


# ---- NumPy's meaning

UNARY = ("exp", "tanh", "negative", "positive", "square", "abs", "ceil", "floor", "trunc", "round", "sign", "signbit",
         "isfinite", "isinf", "isnan")  # fmt: skip
BINARY = ("add", "subtract", "multiply", "divide", "equal", "not_equal", "less", "less_equal", "greater", "greater_equal",
          "floor_divide", "remainder")  # fmt: skip
BITS = ("bitwise_and", "bitwise_or", "bitwise_xor", "logical_and", "logical_or", "logical_xor")


def ours(names: tuple[str, ...]) -> list[str]:
    return [name for name in names if hasattr(XP, name)]


@pytest.mark.parametrize("name", ours(UNARY))
@QUICK
@given(seed=seeds)
def test_functions_of_one_array(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.asarray(floats(rng, *shape_of(rng)))
    if name.startswith("is") and x.size:
        x.reshape(-1)[0] = rng.choice([np.inf, -np.inf, np.nan])
    same(getattr(XP, name)(Tensor(x)), getattr(np, name)(x))
    same(getattr(XP, name)(Tensor(x.astype(np.float32))), getattr(np, name)(x.astype(np.float32)))


@pytest.mark.parametrize("name", ["log", "sqrt"])
def test_log_and_sqrt_at_and_below_zero(name: str) -> None:
    x = np.array([4.0, 1.0, 0.5, 0.0, -1.0])
    with np.errstate(all="ignore"):
        same(getattr(XP, name)(Tensor(x)), getattr(np, name)(x))


@pytest.mark.parametrize("name", ours(BINARY))
@QUICK
@given(seed=seeds)
def test_functions_of_two_arrays_broadcast(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    shape = shape_of(rng)
    a, b = (
        np.asarray(floats(rng, *(int(n) if rng.random() < 0.7 else 1 for n in shape[int(rng.integers(0, len(shape) + 1)) :])))
        for _ in range(2)
    )
    with np.errstate(all="ignore"):
        same(getattr(XP, name)(Tensor(a), Tensor(b)), getattr(np, name)(a, b))
        same(getattr(XP, name)(Tensor(a), 1.5), getattr(np, name)(a, 1.5))
        same(getattr(XP, name)(1.5, Tensor(b)), getattr(np, name)(1.5, b))


@pytest.mark.parametrize("name", ours(BITS))
def test_functions_of_bits(name: str) -> None:
    p, q = np.array([True, True, False, False]), np.array([True, False, True, False])
    same(getattr(XP, name)(Tensor(p), Tensor(q)), getattr(np, name)(p, q))
    same(XP.logical_not(Tensor(p)), ~p)
    same(XP.bitwise_invert(Tensor(p)), ~p)


@QUICK
@given(seed=seeds)
def test_power(seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = rng.uniform(0.5, 2.0, (2, 1)), rng.uniform(-2.0, 2.0, 3)
    same(XP.pow(Tensor(a), Tensor(b)) if hasattr(XP, "pow") else XP.power(Tensor(a), Tensor(b)), a**b)
    same(Tensor(a) ** 2, a**2)


@pytest.mark.parametrize("name", ["sum", "mean", "max", "argmax", "argmin", "all", "any"])
@QUICK
@given(seed=seeds)
def test_reductions(name: str, seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = np.asarray(floats(rng, *shape_of(rng)))
    x = x > 0 if name in ("all", "any") else x
    keepdims = bool(rng.integers(2))
    axes: list[Any] = [None, *range(-x.ndim, x.ndim)]
    if not name.startswith("arg"):
        axes.append(tuple(int(a) for a in rng.permutation(x.ndim)[: rng.integers(0, x.ndim + 1)]))
    axis = axes[rng.integers(len(axes))]
    same(getattr(XP, name)(Tensor(x), axis=axis, keepdims=keepdims), getattr(np, name)(x, axis=axis, keepdims=keepdims))
    if name in ("sum", "mean", "max", "argmax"):
        same(getattr(Tensor(x), name)(axis=axis), getattr(np, name)(x, axis=axis))


def test_sums_of_integers_and_of_nothing() -> None:
    same(XP.sum(Tensor([1, 2, 3])), np.sum([1, 2, 3]))
    same(XP.sum(Tensor(np.zeros((0, 2))), axis=0), np.zeros(2))
    same(XP.argsort(Tensor(np.array([3.0, 1.0, 2.0]))), np.array([1, 2, 0]))


@QUICK
@given(seed=seeds)
def test_shapes_and_orders(seed: int) -> None:
    rng = np.random.default_rng(seed)
    x = floats(rng, *(int(n) for n in rng.integers(1, 4, rng.integers(2, 5))))
    t, n = Tensor(x), x.ndim
    axes, axis = tuple(int(a) for a in rng.permutation(n)), int(rng.integers(-n, n))
    same(XP.permute_dims(t, axes), np.permute_dims(x, axes))
    same(t.permute_dims(tuple(a - n for a in axes)), np.permute_dims(x, axes))
    same(XP.matrix_transpose(t), np.matrix_transpose(x))
    same(XP.reshape(t, (x.size,)), x.reshape(-1))
    same(t.reshape(-1, x.shape[-1]), x.reshape(-1, x.shape[-1]))
    same(t.reshape((x.shape[0], -1)), x.reshape(x.shape[0], -1))
    same(XP.broadcast_to(t, (2, *x.shape)), np.broadcast_to(x, (2, *x.shape)))
    same(XP.expand_dims(t, axis=axis), np.expand_dims(x, axis))
    same(XP.squeeze(XP.expand_dims(t, axis=axis), axis=axis), x) if axis >= 0 else None
    same(XP.concat([t, t * 2.0, t], axis=axis), np.concat([x, x * 2, x], axis=axis))
    same(XP.concat([t, Tensor(np.ones(3))], axis=None), np.concat([x, np.ones(3)], axis=None))
    same(XP.stack([t, t * 2.0], axis=axis), np.stack([x, x * 2], axis=axis))
    ids = rng.integers(0, x.shape[axis], 5)
    same(XP.take(t, Tensor(ids), axis=axis), np.take(x, ids, axis=axis))
    same(XP.take(XP.reshape(t, (x.size,)), ids), np.take(x.reshape(-1), ids))
    same(XP.where(t > 0.0, t, -1.0), np.where(x > 0, x, -1.0))
    same(XP.where(t > 0.0, t, Tensor(np.ones(x.shape[-1]))), np.where(x > 0, x, np.ones(x.shape[-1])))


def test_reshape_takes_lengths_a_tuple_or_a_list() -> None:
    x = Tensor(np.zeros((2, 3)))
    assert x.reshape(3, 2).shape == x.reshape((3, 2)).shape == hg.reshape(x, [3, 2]).shape == (3, 2)
    assert x.reshape(6).shape == hg.reshape(x, 6).shape == (6,)
    assert x.reshape([3, 2]).shape == (3, 2)


def test_squeeze_takes_several_axes() -> None:
    x = Tensor(np.zeros((1, 3, 1)))
    assert XP.squeeze(x, axis=(0, 2)).shape == (3,)
    assert XP.squeeze(x, axis=-1).shape == (1, 3)


@pytest.mark.parametrize(
    ("a", "b"),
    [((3,), (3,)), ((3,), (3, 4)), ((2, 3), (3,)), ((2, 3), (3, 4)), ((5, 2, 3), (3, 4)), ((5, 1, 2, 3), (6, 3, 4)),
     ((5, 2, 3), (3,)),
     ((3,), (5, 3, 4)), ((2, 0), (0, 3)), ((0, 3), (3, 2))],
)  # fmt: skip
def test_matmul_and_its_vectors(a: tuple[int, ...], b: tuple[int, ...]) -> None:
    rng = np.random.default_rng(0)
    x, y = rng.standard_normal(a), rng.standard_normal(b)
    got = XP.matmul(Tensor(x), Tensor(y))
    assert got.shape == (x @ y).shape
    assert np.allclose(got.numpy(), x @ y, rtol=1e-13, atol=1e-14)
    tx, ty = Tensor(x, requires_grad=True), Tensor(y, requires_grad=True)
    dz = rng.standard_normal((x @ y).shape)
    (tx @ ty).backward(dz)
    x2, y2 = x if x.ndim > 1 else x[None], y if y.ndim > 1 else y[:, None]
    dz2 = dz.reshape(np.matmul(x2, y2).shape)
    for t, d in ((tx, dz2 @ np.matrix_transpose(y2)), (ty, np.matrix_transpose(x2) @ dz2)):
        lead = tuple(range(d.ndim - max(2, t.ndim)))
        d = d.sum(axis=lead)
        shape = t.shape if t.ndim > 1 else d.shape
        d = d.sum(axis=tuple(i for i, n in enumerate(shape) if n == 1 and d.shape[i] != 1), keepdims=True)
        assert np.allclose(t.grad.numpy(), d.reshape(t.shape), rtol=1e-12, atol=1e-13)


def test_creation_defaults_to_float32_and_follows_the_standard() -> None:
    for got, want in (
        (XP.zeros((2, 3)), np.zeros((2, 3), np.float32)),
        (XP.ones(2), np.ones(2, np.float32)),
        (XP.full((2,), 1.5), np.full(2, 1.5, np.float32)),
        (XP.full((2,), 3), np.full(2, 3)),
        (XP.full((2,), True), np.full(2, True)),
        (XP.arange(5), np.arange(5)),
        (XP.arange(1, 7, 2), np.arange(1, 7, 2)),
        (XP.arange(3.0), np.arange(3.0, dtype=np.float32)),
        (XP.arange(3, dtype=np.float64), np.arange(3.0)),
        (XP.linspace(0.0, 1.0, 5), np.linspace(0, 1, 5, dtype=np.float32)),
        (XP.eye(2, 3), np.eye(2, 3, dtype=np.float32)),
        (XP.zeros_like(Tensor(np.ones(2))), np.zeros(2)),
        (XP.ones_like(Tensor([1, 2])), np.ones(2, np.int64)),
        (XP.full_like(Tensor(np.ones(2)), 7.0), np.full(2, 7.0)),
        (XP.asarray([1.0, 2.0]), np.array([1, 2], np.float32)),
        (XP.asarray([1, 2], dtype=np.float64), np.array([1.0, 2.0])),
    ):
        same(got, want)
    assert XP.empty((2, 3)).shape == (2, 3)
    assert XP.empty_like(Tensor(np.ones(2))).dtype == np.float64
    t = Tensor([1.0])
    assert XP.asarray(t) is t
    assert XP.asarray(t, copy=True) is not t


def test_dtypes_of_the_namespace() -> None:
    assert XP.result_type(Tensor(np.ones(1)), np.float32) == np.float64
    assert XP.isdtype(XP.float32, "real floating")
    assert not XP.isdtype(XP.int64, "real floating")
    assert XP.finfo(XP.float32).eps == np.finfo(np.float32).eps
    assert (XP.pi, XP.e, XP.inf, XP.newaxis) == (np.pi, np.e, np.inf, None)
    same(XP.astype(Tensor([1.5, -2.5]), np.int64), np.array([1, -2]))
    same(XP.astype(Tensor([1, 0]), np.bool), np.array([True, False]))


def test_the_face_of_the_package_has_the_namespace() -> None:
    for name in ("softmax", "where", "take", "pi", "float32", "astype", "zeros"):
        value = getattr(hg, name)
        assert value is getattr(XP, name) or value == getattr(XP, name)
        assert name in dir(XP)
    with pytest.raises(AttributeError, match=r"handgrad has no 'frobnicate'"):
        hg.frobnicate  # noqa: B018


def test_every_name_that_type_checkers_see_is_there() -> None:
    import ast
    from pathlib import Path

    tree = ast.parse(Path(hg.__file__).read_text())
    block = next(n for n in tree.body if isinstance(n, ast.If))
    names = [a.asname or a.name for n in block.body if isinstance(n, ast.ImportFrom) for a in n.names if a.name != "*"]
    assert "Tensor" in names
    assert [name for name in names if not hasattr(hg, name)] == []


# ---- what is an operand

EVERY_OPERAND = [np.array(2.0), np.float64(2.0), 2.0]


@pytest.mark.parametrize("x", EVERY_OPERAND, ids=["0-d array", "NumPy scalar", "Python number"])
@pytest.mark.parametrize("name", ["exp", "log", "sqrt", "tanh", "gelu", "negative", "sum", "mean", "max", "astype"])
def test_one_number_is_an_operand_of_every_function(name: str, x: Any) -> None:
    params = (np.float64,) if name == "astype" else ()
    got = getattr(hg, name)(x, *params)
    assert np.isclose(got.item(), getattr(hg, name)(Tensor(np.array([2.0])), *params).item(), rtol=1e-6)


def test_an_id_and_a_mask_may_have_no_axes() -> None:
    logits = Tensor(np.array([1.0, 2.0, 3.0]))
    with_axis = hg.cross_entropy(logits.reshape(1, 3), np.array([2])).item()
    assert hg.cross_entropy(logits, np.array(2)).item() == with_axis
    assert hg.embedding(Tensor(np.eye(3)), np.array(2)).numpy().tolist() == [0.0, 0.0, 1.0]
    assert hg.embedding(Tensor(np.eye(3)), [2]).numpy().tolist() == [[0.0, 0.0, 1.0]]
    assert hg.dropout(Tensor(np.array(1.0)), np.array(True), p=0.5).item() == 2.0


class Sub(np.ndarray):
    """Like np.memmap, which training data often is."""


def test_array_subclasses_are_plain_arrays_to_every_operation() -> None:
    a = np.array([[1.0, 2.0], [3.0, 4.0]])
    matrix = a.view(type("matrix", (np.ndarray,), {"__mul__": lambda self, other: self @ other}))
    assert np.array_equal(hg.multiply(matrix, matrix).numpy(), a * a)
    logits = Tensor(np.zeros((4, 5)))
    hg.cross_entropy(logits, np.zeros(4, int).view(Sub))
    with pytest.raises(ValueError, match=r"^cross_entropy: targets has shape"):
        hg.cross_entropy(logits, np.zeros(3, int).view(Sub))


# ---- the door


def x23() -> Tensor:
    return Tensor(np.arange(6.0).reshape(2, 3))


MISFITS: list[tuple[Callable[[], Any], type[Exception], str]] = [
    (lambda: x23() + np.ones(4), ValueError, r"^add: x2 has shape \(4,\), .* broadcast with \(2, 3\) of x1 \(2, 3\)"),
    (lambda: hg.matmul(x23(), x23()), ValueError, r"^matmul: x2 has shape \(2, 3\), but x1 \(2, 3\) needs axis -2 to be 3"),
    (lambda: hg.matmul(Tensor(1.0), x23()), ValueError, "^matmul: .* both need an axis"),
    (lambda: hg.linear(x23(), Tensor(np.ones((2, 5)))), ValueError, r"^linear: weight has shape \(2, 5\)"),
    (lambda: hg.layer_norm(x23(), np.ones(4)), ValueError, r"^layer_norm: weight has shape \(4,\)"),
    (lambda: hg.embedding(x23(), np.array([0, 2])), IndexError, "^embedding: ids holds 2, but weight has 2 rows"),
    (lambda: hg.embedding(x23(), np.array([-1, 0])), IndexError, "^embedding: ids holds -1, but weight has 2 rows"),
    (lambda: hg.embedding(x23(), np.array([0.0])), TypeError, "^embedding: ids is float64, but it must be an integer array"),
    (lambda: hg.scatter_rows(x23(), np.array([0, 5]), n=5), IndexError, "^scatter_rows: ids holds 5, but the result has 5"),
    (lambda: hg.cross_entropy(x23(), np.array([0, 3])), IndexError, "^cross_entropy: targets holds 3, but logits has 3"),
    (lambda: hg.cross_entropy(x23(), np.array([0])), ValueError, r"^cross_entropy: targets has shape \(1,\)"),
    (lambda: hg.cross_entropy(x23(), np.array([0.0, 1.0])), TypeError, "^cross_entropy: targets is float64"),
    (lambda: hg.take(x23(), np.array([3]), axis=1), IndexError, "^take: indices holds 3, but x has 3 entries along axis 1"),
    (lambda: hg.take(x23(), np.array([-1]), axis=1), IndexError, "^take: indices holds -1"),
    (lambda: hg.take(x23(), np.array([0])), ValueError, "^take: x has 2 axes, so say along which"),
    (lambda: hg.take(x23(), np.array([[0]]), axis=0), ValueError, r"^take: indices has shape \(1, 1\)"),
    (lambda: hg.sum(x23(), axis=2), ValueError, "^sum: axis is 2, but x has 2 axes"),
    (lambda: hg.softmax(x23(), axis=-3), ValueError, "^softmax: axis is -3, but x has 2 axes"),
    (lambda: hg.max(x23(), axis=(0, -2)), ValueError, r"^max: axis is \(0, -2\), which names an axis twice"),
    (lambda: hg.mean(x23(), axis=0.5), TypeError, "^mean: axis is 0.5, but it must be an integer"),
    (lambda: hg.min(Tensor(np.zeros((0, 3)))), ValueError, "^min: x has shape .* at least one number"),
    (lambda: hg.reshape(x23(), (4, 2)), ValueError, r"^reshape: x has shape \(2, 3\), which does not fit into \(4, 2\)"),
    (lambda: hg.reshape(x23(), (-1, -1)), ValueError, r"^reshape: .* does not fit into \(-1, -1\)"),
    (lambda: hg.reshape(x23(), (-1, 4)), ValueError, r"^reshape: .* does not fit into \(-1, 4\)"),
    (lambda: hg.reshape(Tensor(np.zeros((0, 2))), (-1, 0)), ValueError, "^reshape: .* does not fit"),
    (lambda: hg.permute_dims(x23(), (0,)), ValueError, r"^permute_dims: axes is \(0,\)"),
    (lambda: hg.permute_dims(x23(), (0, 0)), ValueError, "^permute_dims: .*twice"),
    (lambda: hg.matrix_transpose(Tensor([1.0])), ValueError, "^matrix_transpose: .* needs two axes"),
    (lambda: hg.broadcast_to(x23(), (4, 3)), ValueError, "^broadcast_to: .* does not broadcast"),
    (lambda: hg.squeeze(x23(), axis=0), ValueError, "^squeeze: .* axis 0 must have length 1"),
    (lambda: hg.concat([]), ValueError, "^concat: got no arrays"),
    (lambda: hg.concat([x23(), Tensor(np.ones((2, 4)))]), ValueError, r"^concat: xs\[1\] has shape \(2, 4\)"),
    (lambda: hg.concat([x23(), Tensor([[1.0, 2.0, 3.0]])]), TypeError, "^concat: got float32 and float64 together"),
    (lambda: hg.dropout(x23(), np.ones((2, 3), bool), p=1.0), ValueError, "^dropout: p is 1.0"),
    (lambda: hg.dropout(x23(), np.ones(3, bool), p=0.5), ValueError, r"^dropout: mask has shape \(3,\)"),
    (lambda: hg.where(Tensor([1, 0, 1]), x23(), 0.0), TypeError, "^where: condition is int64, but it must be a boolean array"),
    (lambda: hg.attention(*[Tensor(np.ones((1, 2, 4)))] * 2, Tensor(np.ones((1, 3, 4)))), ValueError, "^attention: v has"),
    (lambda: hg.packed_attention(Tensor(np.ones((1, 2, 10))), n_head=2), ValueError, "^packed_attention: qkv has shape"),
    (lambda: hg.exp("a"), TypeError, "^exp: got a str"),
    (lambda: hg.sum([1.0, 2.0]), TypeError, "^sum: got a list"),
    (lambda: hg.matmul([[1.0]], x23()), TypeError, "^matmul: got a list"),
]  # fmt: skip


@pytest.mark.parametrize(("call", "kind", "sentence"), MISFITS, ids=[m[2][:40] for m in MISFITS])
def test_a_misfit_is_one_sentence_with_the_operations_name(call: Any, kind: type[Exception], sentence: str) -> None:
    for _ in range(2):  # also when shapes were seen before
        with pytest.raises(kind, match=sentence):
            call()


def test_auto_runs_kernels_on_large_arrays_alone_and_counts_every_call() -> None:
    small, large = Tensor(np.ones((4, 4), np.float32)), Tensor(np.ones((64, 64), np.float32))
    with hg.use_kernels("auto") as calls:
        for _ in range(3):
            hg.softmax(small)
            hg.softmax(large)
    assert calls == {"softmax forward": 3}
    with hg.use_kernels("off") as calls:
        hg.softmax(large)
    assert not calls
    with hg.use_kernels("force") as calls, pytest.raises(RuntimeError, match=r"^softmax: kernels are forced, but"):
        hg.softmax(Tensor(np.ones((4, 4), np.float16)))
    before = dict(KERNELS)
    with pytest.raises(ValueError, match=r"^use_kernels: mode is 'fast'"), hg.use_kernels("fast"):
        pass
    assert before == KERNELS and before  # a refused mode switches nothing off
