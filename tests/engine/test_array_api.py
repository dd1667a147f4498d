"""The array API standard 2024.12, name by name: there, NumPy's numbers and dtypes, and in the graph where that makes sense.

Left out are the functions that only complex numbers need (conj, imag, real). NumPy 2 implements the standard itself; where
it lacks an argument (argsort's `descending`) the test spells the meaning out.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor
from handgrad.engine.testing import check_op

XP = Tensor(0.0).__array_namespace__()
RNG = np.random.default_rng(7)
A, B = np.round(RNG.standard_normal((3, 4)) * 2, 1), np.round(RNG.standard_normal((3, 4)) * 2, 1) + 0.05
P = np.abs(A) + 0.3  # positive
U = A / 9  # inside of (-1, 1)
DISTINCT = RNG.permutation(12).reshape(3, 4) * 0.5
I, J = RNG.integers(-5, 6, (3, 4)), RNG.integers(1, 4, (3, 4))
M, N = A > 0, B > 0
V = np.array([3.0, -1.0, 2.0])

# name -> (arguments, keywords); where derivatives exist the first case is checked against finite differences
DIFFERENTIABLE: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    **{name: [((A,), {}), ((A.astype(np.float32),), {})] for name in (
        "atan", "cos", "cosh", "exp", "expm1", "negative", "positive", "sin", "sinh", "square", "tan", "tanh", "asinh")},
    **{name: [((U,), {})] for name in ("acos", "asin", "atanh", "log1p")},
    **{name: [((P,), {})] for name in ("log", "log2", "log10", "sqrt", "reciprocal")},
    "acosh": [((P + 1,), {})],
    "abs": [((B,), {}), ((I,), {})],
    **{name: [((B, A - 0.05), {}), ((A, B[0]), {}), ((A, 2.5), {})] for name in (
        "add", "atan2", "copysign", "divide", "hypot", "logaddexp", "multiply", "subtract")},
    **{name: [((A, B), {}), ((I, J), {}), ((A, 0.25), {})] for name in ("maximum", "minimum")},
    "remainder": [((B, 1.7 + U), {}), ((A, B), {}), ((I, J), {}), ((A, 0.25), {})],
    "pow": [((P, B), {}), ((A, 2), {})],
    "clip": [((B, -1.0, 1.5), {}), ((B,), {"max": 0.5}), ((I, -2, 2), {}), ((B, B - 1, B[0] + 1), {})],
    "where": [((M, A, B), {}), ((M, 1.0, B), {})],
    "astype": [((A, np.float32), {}), ((A, np.int64), {}), ((M, np.float64), {})],
    "take": [((A, np.array([2, 0, 2])), {"axis": 0})],
    "take_along_axis": [((A, np.array([[1], [0], [3]])), {"axis": 1}), ((A, np.argsort(A, axis=0)), {"axis": 0})],
    "matmul": [((A, B.T), {}), ((A[0], B[0]), {}), ((A, B[0]), {})],
    "matrix_transpose": [((A,), {})],
    "tensordot": [((A, B), {"axes": ((0, 1), (0, 1))}), ((A, B.T), {"axes": 1}), ((V, V), {"axes": 0})],
    "vecdot": [((A, B), {}), ((A, B), {"axis": -2}), ((A, B[0]), {})],
    "broadcast_to": [((A, (2, 3, 4)), {})],
    "concat": [(([A, B],), {"axis": 1}), (([A, B],), {"axis": None}), (([I, J],), {})],
    "expand_dims": [((A,), {"axis": 1}), ((A,), {"axis": -1})],
    "flip": [((A,), {}), ((A,), {"axis": 1}), ((A,), {"axis": (0, 1)})],
    "moveaxis": [((A.reshape(3, 2, 2), 0, -1), {}), ((A.reshape(3, 2, 2), (0, 2), (1, 0)), {})],
    "permute_dims": [((A, (1, 0)), {})],
    "repeat": [((A, 2), {"axis": 1}), ((A, np.array([1, 0, 2])), {"axis": 0}), ((A, 3), {})],
    "reshape": [((A, (2, 6)), {}), ((A, (-1,)), {})],
    "roll": [((A, 1), {}), ((A, -3), {"axis": 1}), ((A, (1, 5)), {"axis": (0, 1)}), ((A, (1, 2)), {"axis": (1, 1)})],
    "squeeze": [((A[:, None],), {"axis": 1})],
    "stack": [(([A, B],), {"axis": 1}), (([A, B],), {"axis": -1})],
    "tile": [((A, (2,)), {}), ((A, (2, 1, 3)), {}), ((A, ()), {})],
    "sort": [((DISTINCT,), {}), ((A,), {"axis": 0}), ((I,), {})],
    "cumulative_prod": [((A,), {"axis": 1}), ((I,), {"axis": 0}), ((A,), {"axis": 1, "include_initial": True})],
    "cumulative_sum": [((A,), {"axis": 1}), ((V,), {}), ((A,), {"axis": 0, "include_initial": True}), ((I,), {"axis": 0})],
    "max": [((DISTINCT,), {}), ((A,), {"axis": 1, "keepdims": True}), ((I,), {})],
    "min": [((DISTINCT,), {}), ((A,), {"axis": (0, 1)}), ((I,), {"axis": 0})],
    "mean": [((A,), {}), ((A,), {"axis": 0})],
    "prod": [((A,), {}), ((A,), {"axis": 0, "keepdims": True}), ((I,), {}), ((A,), {"dtype": np.float32})],
    "std": [((A,), {}), ((A,), {"axis": 1, "correction": 1})],
    "sum": [((A,), {}), ((I,), {"axis": 1}), ((M,), {}), ((I,), {"dtype": np.float64}), ((A,), {"axis": ()})],
    "var": [((A,), {}), ((A,), {"axis": 0, "correction": 1.0, "keepdims": True})],
    "diff": [((A,), {}), ((A,), {"axis": 0, "n": 2}), ((I,), {"prepend": I[:, :1]}), ((M,), {}), ((A,), {"n": 0})],
    "tril": [((A,), {}), ((I,), {"k": 1}), ((M,), {"k": -1})],
    "triu": [((A,), {}), ((A,), {"k": -1})],
    "unstack": [((A,), {}), ((A,), {"axis": 1})],
    "broadcast_arrays": [((A, V[:, None]), {})],
    "meshgrid": [((V, A[0], U[0]), {}), ((V, A[0]), {"indexing": "ij"}), ((V,), {})],
}  # fmt: skip
PLAIN: dict[str, list[tuple[tuple[Any, ...], dict[str, Any]]]] = {
    **{name: [((A,), {}), ((I,), {})] for name in ("ceil", "floor", "round", "sign", "trunc")},
    **{name: [((np.array([1.0, -0.0, np.nan, np.inf]),), {})] for name in ("isfinite", "isinf", "isnan", "signbit")},
    **{name: [((A, B), {}), ((I, J), {}), ((A, 0.5), {})] for name in (
        "equal", "not_equal", "less", "less_equal", "greater", "greater_equal", "floor_divide")},
    **{name: [((I, J), {})] for name in ("bitwise_left_shift", "bitwise_right_shift")},
    **{name: [((I, J), {}), ((M, N), {})] for name in ("bitwise_and", "bitwise_or", "bitwise_xor")},
    **{name: [((M, N), {})] for name in ("logical_and", "logical_or", "logical_xor")},
    "bitwise_invert": [((I,), {}), ((M,), {})],
    "logical_not": [((M,), {})],
    "nextafter": [((A, B), {})],
    **{name: [((A,), {}), ((A,), {"axis": 1}), ((I,), {"axis": 0, "keepdims": True})] for name in ("argmax", "argmin")},
    "count_nonzero": [((I,), {}), ((M,), {"axis": 1, "keepdims": True})],
    "nonzero": [((I,), {}), ((M,), {})],
    "searchsorted": [((V, A), {"sorter": np.argsort(V)}), ((np.sort(V), A), {"side": "right"})],
    "argsort": [((A,), {}), ((A,), {"axis": 0, "stable": True})],
    **{name: [((I,), {})] for name in ("unique_all", "unique_counts", "unique_inverse", "unique_values")},
    **{name: [((M,), {}), ((M,), {"axis": 1}), ((I,), {"axis": (0, 1), "keepdims": True})] for name in ("all", "any")},
    "arange": [((5,), {}), ((1, 7, 2), {}), ((0.0, 1.0, 0.25), {"dtype": np.float64})],
    "asarray": [((A,), {}), (([1, 2],), {"dtype": np.int32}), ((A,), {"copy": True})],
    **{name: [] for name in ("empty", "empty_like")},  # whatever numbers the memory holds
    "eye": [((3,), {"dtype": np.float64}), ((2, 3), {"k": 1, "dtype": np.int64})],
    "from_dlpack": [((A,), {})],
    "full": [(((2, 3), 1.5), {"dtype": np.float64}), (((2,), 7), {})],
    "full_like": [((A, 2.0), {}), ((I, 2), {"dtype": np.float64})],
    "linspace": [((0.0, 1.0, 5), {"dtype": np.float64}), ((0.0, 1.0, 4), {"endpoint": False, "dtype": np.float64})],
    "ones": [(((2, 3),), {"dtype": np.float64}), ((4,), {"dtype": np.int64})],
    "ones_like": [((A,), {}), ((I,), {})],
    "zeros": [(((2, 3),), {"dtype": np.float64})],
    "zeros_like": [((A,), {}), ((M,), {})],
}  # fmt: skip
QUESTIONS = ("can_cast", "finfo", "iinfo", "isdtype", "result_type", "__array_namespace_info__")
CONSTANTS = ("e", "inf", "nan", "newaxis", "pi")
DTYPES = ("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")

DERIVATIVES = [(name, cases[0]) for name, cases in DIFFERENTIABLE.items() if cases]
ALL = [(name, case) for table in (DIFFERENTIABLE, PLAIN) for name, cases in table.items() for case in cases]


def tensors(value: Any) -> Any:
    if isinstance(value, list) and any(isinstance(v, np.ndarray) for v in value):
        return [Tensor(v) for v in value]
    return Tensor(value) if isinstance(value, np.ndarray) else value


def arrays(value: Any) -> Any:
    return value.data if isinstance(value, Tensor) else value


def test_every_name_is_there() -> None:
    names = {*DIFFERENTIABLE, *PLAIN, *QUESTIONS, *CONSTANTS, *DTYPES}
    assert not [name for name in names if not hasattr(XP, name)]
    assert XP.__array_api_version__ == "2024.12"


@pytest.mark.parametrize("name, case", ALL, ids=[f"{name}-{i}" for i, (name, _) in enumerate(ALL)])
def test_numpys_numbers_and_dtypes(name: str, case: Any) -> None:
    args, params = case
    with np.errstate(all="ignore"):
        got = getattr(XP, name)(*map(tensors, args), **{k: tensors(v) for k, v in params.items()})
        want = getattr(np, name)(*args, **params)
    many = isinstance(want, (tuple, list))
    assert not many or isinstance(got, list) == (name in ("broadcast_arrays", "meshgrid"))
    assert not many or len(got) == len(want)
    for g, w in zip(got if many else (got,), want if many else (want,), strict=True):
        w = np.asarray(w) if name != "unique_values" else np.sort(w)  # NumPy leaves their order open
        assert isinstance(g, Tensor) and (g.shape, g.dtype) == (w.shape, w.dtype)
        if w.dtype.kind == "f":
            eps = float(np.finfo(w.dtype).eps)
            scale = float(np.max(np.abs(w), initial=0.0, where=np.isfinite(w)))
            np.testing.assert_allclose(g.numpy(), w, rtol=0, atol=16 * eps * max(scale, 1.0))
        else:
            np.testing.assert_array_equal(g.numpy(), w)
        assert not g.requires_grad and not g.data.flags.writeable


@pytest.mark.parametrize("name, case", DERIVATIVES, ids=[name for name, _ in DERIVATIVES])
def test_what_is_differentiable_stays_in_the_graph(name: str, case: Any) -> None:
    """Gradients of float inputs against finite differences, through `backward`."""
    args, params = case
    listed = isinstance(args[0], list)
    inputs = tuple(args[0]) if listed else args
    positions = [i for i, a in enumerate(inputs) if isinstance(a, np.ndarray) and a.dtype.kind == "f"]

    def function(*xs: Tensor) -> Any:
        full = list(inputs)
        for i, x in zip(positions, xs, strict=True):
            full[i] = x
        result = getattr(XP, name)(full, **params) if listed else getattr(XP, name)(*full, **params)
        return tuple(result) if isinstance(result, (tuple, list)) else result

    if name == "astype":
        assert function(*(Tensor(inputs[i], requires_grad=True) for i in positions)).requires_grad
        return
    check_op(function, tuple(inputs[i] for i in positions), samples=2, name=name)


@pytest.mark.parametrize(
    "name", [name for name, cases in PLAIN.items() if cases and name not in ("asarray", "from_dlpack")]
)
def test_what_is_not_differentiable_has_no_graph(name: str) -> None:
    for args, params in PLAIN[name]:
        xs = [Tensor(a, requires_grad=a.dtype.kind == "f") if isinstance(a, np.ndarray) else a for a in args]
        got = getattr(XP, name)(*xs, **params)
        assert all(not g.requires_grad for g in (got if isinstance(got, tuple) else (got,)))


def test_descending_orders_keep_equal_numbers_in_place() -> None:
    x = np.array([[2, 1, 2, 3], [0, 0, 1, 0]])
    order = XP.argsort(Tensor(x), descending=True).numpy()
    assert order.tolist() == [[3, 0, 2, 1], [2, 0, 1, 3]]
    np.testing.assert_array_equal(XP.sort(Tensor(x), descending=True).numpy(), -np.sort(-x))
    assert XP.argsort(Tensor(x), axis=0, descending=True).numpy().tolist() == [[0, 0, 0, 0], [1, 1, 1, 1]]


def test_sorted_numbers_take_their_gradients_along() -> None:
    x = Tensor(np.array([3.0, 1.0, 2.0]), requires_grad=True)
    XP.sort(x).backward(np.array([10.0, 20.0, 30.0]))
    assert x.grad is not None and x.grad.numpy().tolist() == [30.0, 10.0, 20.0]


def test_named_tuples_keep_their_names() -> None:
    found = XP.unique_all(Tensor(I))
    assert found._fields == ("values", "indices", "inverse_indices", "counts")
    np.testing.assert_array_equal(found.values.numpy()[found.inverse_indices.numpy()], I)


def test_what_the_namespace_says_about_itself() -> None:
    info = XP.__array_namespace_info__()
    assert info.default_device() == "cpu" and info.devices()[0] == "cpu"
    assert info.capabilities()["boolean indexing"] is False
    with pytest.raises(TypeError, match="getitem: got an array as an index"):
        Tensor(A)[Tensor(M)]
    assert set(info.dtypes()) == set(DTYPES)
    assert set(info.dtypes(kind="real floating")) == {"float32", "float64"}
    assert set(info.dtypes(kind=("bool", "signed integer"))) == {"bool", "int8", "int16", "int32", "int64"}
    assert info.default_dtypes()["real floating"] == XP.ones(1).dtype
    assert info.default_dtypes()["integral"] == XP.arange(3).dtype
    assert {*DIFFERENTIABLE, *PLAIN} <= set(dir(XP))


def test_questions_about_dtypes() -> None:
    assert XP.finfo(Tensor(A)).eps == np.finfo(np.float64).eps and XP.finfo(np.float32).bits == 32
    assert XP.iinfo(Tensor(I)).max == np.iinfo(np.int64).max
    for question, dtype in ((XP.finfo, np.int64), (XP.iinfo, np.float32)):
        with pytest.raises(TypeError, match=rf"info: got {np.dtype(dtype).name}, but it must be"):
            question(dtype)
    with pytest.raises(ValueError, match=r"^asarray: device is 'gpu', but it must be 'cpu' or 'cuda'"):
        XP.asarray([1.0], device="gpu")
    with pytest.raises(ValueError, match=r"^arange: step is 0, but it must lead from start to stop"):
        XP.arange(1, 10, 0)
    assert XP.can_cast(np.float32, np.float64) and not XP.can_cast(Tensor(A), np.float32)
    assert XP.isdtype(np.dtype(np.int8), "integral") and XP.result_type(Tensor(A), np.float32) == np.float64


def test_operators() -> None:
    x, i, m = Tensor(B), Tensor(I), Tensor(M)
    for got, want in (
        (abs(x), abs(B)), (i << 1, I << 1), (2 << Tensor(J), 2 << J), (i >> Tensor(J), I >> J), (~m, ~M), (x % 0.5, B % 0.5),
        (i % 3, I % 3), (7 % Tensor(J), 7 % J), (x // 0.5, B // 0.5), (+x, B), (i & 1, I & 1), (m | Tensor(N), M | N),
    ):  # fmt: skip
        np.testing.assert_array_equal(got.numpy(), want)
        assert got.dtype == want.dtype
    x = Tensor(B, requires_grad=True)
    (abs(x) + x % 0.75).sum().backward()
    np.testing.assert_array_equal(x.grad.numpy(), np.sign(B) + 1)


@pytest.mark.parametrize(
    "call, sentence",
    [
        (lambda: XP.argmax(Tensor(A), axis=4), "argmax: axis is 4, but x has 2 axes"),
        (lambda: XP.bitwise_and(Tensor(A), Tensor(A)), "bitwise_and: "),
        (lambda: XP.repeat(Tensor(A), [1, 2], axis=0), "repeat: repeats is .*, but it must be"),
        (lambda: XP.repeat(Tensor(A), -1), "repeat: repeats is -1"),
        (lambda: XP.tile(Tensor(A), (2, -1)), "tile: repetitions is"),
        (lambda: XP.moveaxis(Tensor(A), (0, 1), 0), "moveaxis: source is"),
        (lambda: XP.roll(Tensor(A), (1, 2), axis=0), "roll: shift is"),
        (lambda: XP.meshgrid(Tensor(A)), "meshgrid: array 0 has shape"),
        (lambda: XP.meshgrid(Tensor(V), indexing="yx"), "meshgrid: indexing is 'yx'"),
        (lambda: XP.tril(Tensor(V)), "tril: x has shape"),
        (lambda: XP.diff(Tensor(V), n=-1), "diff: n is -1"),
        (lambda: XP.broadcast_arrays(Tensor(A), Tensor(V)), "broadcast_arrays: the shapes"),
        (lambda: XP.take_along_axis(Tensor(A), Tensor(I), axis=1), "take_along_axis: indices holds"),
        (lambda: XP.take_along_axis(Tensor(A), Tensor(V)), "take_along_axis: indices is float64"),
        (lambda: XP.nonzero(Tensor(1.0)), "nonzero: x has no axes"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(call: Any, sentence: str) -> None:
    with pytest.raises((TypeError, ValueError, IndexError), match=sentence) as error:
        call()
    assert "\n" not in str(error.value)


def test_numpy_arrays_and_numbers_are_welcome() -> None:
    for name, args in (("unique_values", (I,)), ("nonzero", (I,)), ("argsort", (A,)), ("roll", (A, 1)), ("diff", (A,))):
        got = getattr(hg, name)(*args)
        assert all(isinstance(g, Tensor) for g in (got if isinstance(got, tuple) else (got,)))
