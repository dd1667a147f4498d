"""Tensor itself: what goes in, what it says of itself, what comes out, and what is refused."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import handgrad as hg
from handgrad import Tensor

QUICK = settings(deadline=None, derandomize=True, max_examples=150)
F64 = np.dtype(np.float64)


# ---- in


@pytest.mark.parametrize(
    ("data", "dtype"),
    [
        (1.5, "float32"), ([1.0, 2.0], "float32"), ([1, 2.5], "float32"), ([], "float32"), (3, "int64"),
        ([[1, 2], [3, 4]], "int64"), (True, "bool"), ([True, False], "bool"), (np.zeros(2), "float64"),
        (np.zeros(2, np.float16), "float16"), (np.zeros(2, np.int8), "int8"), (np.float64(2.0), "float64"),
        (np.float32(2.0), "float32"),
    ],
)  # fmt: skip
def test_python_numbers_are_float32_and_int64_and_numpy_keeps_its_dtype(data: Any, dtype: str) -> None:
    t = Tensor(data)
    assert t.dtype == np.dtype(dtype)
    assert np.array_equal(t.numpy(), np.asarray(data))
    assert Tensor(t).dtype == t.dtype


def test_dtype_can_be_asked_for() -> None:
    assert Tensor([1, 2], dtype=np.float64).dtype == F64
    assert Tensor(np.zeros(2), dtype=np.float32).dtype == np.float32
    assert Tensor(np.zeros(2), dtype=np.float32, copy=False).dtype == np.float32


def test_the_constructor_copies() -> None:
    a = np.array([1.0, 2.0])
    t = Tensor(a)
    a[0] = 9.0
    assert t.numpy()[0] == 1.0
    assert a.flags.writeable
    assert not np.shares_memory(Tensor(t).numpy(), t.numpy())


def test_copy_false_shares_read_only_and_leaves_the_users_array_writable() -> None:
    a = np.array([1.0, 2.0])
    t = Tensor(a, copy=False)
    assert np.shares_memory(t.numpy(), a)
    assert a.flags.writeable
    with pytest.raises(ValueError, match=r"read-only"):
        t.numpy()[0] = 5.0
    a[0] = 7.0
    assert t.numpy()[0] == 7.0


def test_a_copy_of_a_transposed_array_lies_in_rows() -> None:
    a = np.arange(6.0).reshape(2, 3).T
    assert Tensor(a).numpy().flags.c_contiguous
    assert np.array_equal(Tensor(a).numpy(), a)


@pytest.mark.parametrize("data", ["abc", ["a", "b"], 1j, [1j, 2.0], None, object(), np.array(["x"]), np.zeros(2, "M8[s]")])
def test_what_is_no_number_is_refused_by_a_sentence(data: Any) -> None:
    with pytest.raises(TypeError, match=r"^Tensor: data of dtype .* is neither floating point nor integer nor boolean"):
        Tensor(data)


def test_only_floating_point_can_require_grad() -> None:
    for data in ([1, 2], [True]):
        with pytest.raises(TypeError, match=r"^Tensor: only floating point can require grad, but this is"):
            Tensor(data, requires_grad=True)


def test_numpy_subclasses_become_plain_arrays() -> None:
    m = np.zeros((2, 2)).view(np.recarray)
    assert type(Tensor(m).data) is np.ndarray
    assert type(Tensor(m, copy=False).data) is np.ndarray


# ---- numbers never promote


@pytest.mark.parametrize("number", [2, 2.0, True, np.float64(2.0), np.float32(2.0), np.int64(2), np.array(2.0), np.array(2)])
@pytest.mark.parametrize("f", [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow])
def test_scalars_of_every_kind_never_promote(f: Any, number: Any) -> None:
    for dtype in (np.float32, np.float64, np.float16):
        x = np.array([1.0, 3.0], dtype)
        for got, want in ((f(Tensor(x), number), f(x, float(number))), (f(number, Tensor(x)), f(float(number), x))):
            assert got.dtype == x.dtype
            assert np.array_equal(got.numpy(), want)


@pytest.mark.parametrize(
    "other",
    [np.ones(2), Tensor(np.ones(2)), np.ones(2, np.int64), np.ones(2, bool), np.ones(2, np.float16), Tensor(np.float64(2.0))],
)
def test_mixed_dtypes_are_refused_by_a_sentence(other: Any) -> None:
    x = Tensor([1.0, 2.0])
    for f in (operator.add, operator.mul, operator.truediv, hg.subtract, hg.power):
        with pytest.raises(TypeError, match=r"got .*float32.* together; handgrad casts nothing silently"):
            f(x, other)
        with pytest.raises(TypeError, match=r"casts nothing silently"):
            f(other, x)


# ---- operators


BINARY = [operator.add, operator.sub, operator.mul, operator.truediv, operator.pow]
COMPARE = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize("f", BINARY + COMPARE)
def test_operators_are_numpys_whoever_stands_on_the_left(f: Any) -> None:
    rng = np.random.default_rng(1)
    a, b = rng.uniform(0.5, 2.0, (2, 3)), rng.uniform(0.5, 2.0, 3)
    b[1] = a[0, 1]  # something equal
    for left, right in ((Tensor(a), Tensor(b)), (Tensor(a), b), (a, Tensor(b)), (Tensor(b), Tensor(a)), (b, Tensor(a))):
        got = f(left, right)
        assert type(got) is Tensor
        x, y = (v.numpy() if isinstance(v, Tensor) else v for v in (left, right))
        assert np.array_equal(got.numpy(), f(x, y))
    assert np.array_equal(f(Tensor(a), 1.5).numpy(), f(a, 1.5))
    assert np.array_equal(f(1.5, Tensor(a)).numpy(), f(1.5, a))


def test_matmul_from_both_sides() -> None:
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 3)), rng.standard_normal((3, 4))
    for got in (Tensor(a) @ Tensor(b), Tensor(a) @ b, a @ Tensor(b)):
        assert type(got) is Tensor
        assert np.array_equal(got.numpy(), a @ b)


def test_the_remaining_operators() -> None:
    a = np.array([1.0, -2.0])
    assert np.array_equal((-Tensor(a)).numpy(), -a)
    assert np.array_equal((+Tensor(a)).numpy(), a)
    p, q = np.array([True, False, True]), np.array([True, True, False])
    assert np.array_equal((Tensor(p) & Tensor(q)).numpy(), p & q)
    assert np.array_equal((Tensor(p) | q).numpy(), p | q)
    assert np.array_equal((~Tensor(p)).numpy(), ~p)


def test_comparisons_have_no_history() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert (x > 1.5).dtype == np.dtype(bool)
    assert not (x > 1.5).requires_grad


@pytest.mark.parametrize("other", ["a", [1.0, 2.0], (1.0,), {}, 1j])
def test_operands_of_other_types_are_refused_by_a_sentence(other: Any) -> None:
    with pytest.raises(TypeError, match=r"^add: got a \w+, but it takes Tensors, NumPy arrays and Python numbers"):
        Tensor([1.0, 2.0]) + other


def test_numpys_functions_refuse_a_tensor_instead_of_losing_its_history() -> None:
    with pytest.raises(TypeError):
        np.exp(Tensor([1.0], requires_grad=True))


def test_array_namespace_is_the_engines() -> None:
    t = Tensor([1.0])
    xp = t.__array_namespace__()
    assert xp is t.__array_namespace__(api_version="2024.12")
    assert type(xp.exp(t)) is Tensor
    assert xp.__array_api_version__ == "2024.12"


# ---- what it says of itself


def test_repr_reads_like_the_constructor_and_shows_the_operation() -> None:
    assert repr(Tensor([1.0, 2.5])) == "Tensor([1. , 2.5])"
    assert repr(Tensor([1, 2])) == "Tensor([1, 2], dtype=int64)"
    assert repr(Tensor([1.0], requires_grad=True)) == "Tensor([1.], requires_grad=True)"
    assert repr(hg.exp(Tensor([0.0], requires_grad=True))) == "Tensor([1.], op=<exp>)"
    assert repr(Tensor(np.zeros(1), requires_grad=True)) == "Tensor([0.], dtype=float64, requires_grad=True)"
    assert len(repr(hg.zeros(100_000))) < 500


def test_shape_and_its_relatives() -> None:
    t = Tensor(np.zeros((2, 3)))
    assert (t.shape, t.ndim, t.size, t.dtype, t.device) == ((2, 3), 2, 6, F64, "cpu")
    assert t.to_device("cpu") is t
    with pytest.raises(ValueError, match=r"^to: device is 'gpu', but it must be 'cpu' or 'cuda'"):
        t.to_device("gpu")
    assert t.T.shape == (3, 2)
    with pytest.raises(ValueError, match=r"^T: this Tensor has shape \(2,\)"):
        _ = Tensor([1.0, 2.0]).T
    assert Tensor(np.zeros((4, 2, 3))).mT.shape == (4, 3, 2)


def test_item_float_int_bool_index() -> None:
    assert Tensor([[2.5]]).item() == 2.5
    assert type(Tensor(2.5).item()) is float
    assert type(Tensor(3).item()) is int
    assert float(Tensor([2.5])) == 2.5
    assert int(Tensor(3)) == 3
    assert bool(Tensor(1.0)) is True
    assert bool(Tensor([0])) is False
    assert [10, 20, 30][Tensor(1)] == 20
    for f in (Tensor.item, float, bool):
        with pytest.raises(ValueError, match=r"^item: this Tensor has shape \(2,\), but only a single element"):
            f(Tensor([1.0, 2.0]))
    with pytest.raises(TypeError):
        [10, 20][Tensor(1.0)]


def test_len_and_iter() -> None:
    t = Tensor(np.arange(6.0).reshape(3, 2))
    assert len(t) == 3
    assert [row.numpy().tolist() for row in t] == [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]]
    for f in (len, iter):
        with pytest.raises(TypeError, match=r"^len: this Tensor has no axes"):
            f(Tensor(1.0))


# ---- out


def test_numpy_lends_a_read_only_view() -> None:
    t = Tensor([1.0, 2.0])
    assert np.shares_memory(t.numpy(), t.data)
    with pytest.raises(ValueError, match=r"read-only"):
        t.numpy()[0] = 1.0
    assert not hg.exp(t).numpy().flags.writeable
    assert not np.asarray(t).flags.writeable
    assert np.array(t).flags.writeable
    assert np.asarray(t, dtype=np.float64).dtype == F64


def test_numpy_refuses_what_requires_grad() -> None:
    x = Tensor([1.0], requires_grad=True)
    for t in (x, x * 2.0):
        for f in (Tensor.numpy, np.asarray, np.from_dlpack):
            with pytest.raises(RuntimeError, match=r"requires grad, which NumPy cannot follow; use t.detach"):
                f(t)
    assert x.detach().numpy() is not None


def test_no_output_of_an_operation_is_writable() -> None:
    x = Tensor(np.ones((2, 3)))
    for y in (x + 1.0, x.reshape(6), x[0], hg.sum(x), hg.concat([x, x]), hg.zeros(3), x > 0, hg.broadcast_to(x, (4, 2, 3))):
        assert not y.data.flags.writeable


def test_an_operation_on_a_users_array_neither_changes_nor_locks_it() -> None:
    a = np.ones((2, 3))
    y = Tensor(np.ones((2, 3))) + a
    hg.reshape(a, (6,))
    a[0, 0] = 5.0
    assert y.numpy()[0, 0] == 2.0


def test_dlpack_both_ways() -> None:
    t = Tensor(np.arange(6.0).reshape(2, 3))
    a = np.from_dlpack(t)
    assert np.array_equal(a, t.numpy())
    assert not np.shares_memory(a, t.numpy())  # not every consumer heeds DLPack's read-only flag
    assert not np.from_dlpack(t, copy=False).flags.writeable
    b = np.arange(4.0, dtype=np.float32)
    s = t.__array_namespace__().from_dlpack(b)
    assert type(s) is Tensor
    assert np.shares_memory(s.numpy(), b)
    assert t.__dlpack_device__() == a.__dlpack_device__()


def test_dlpack_gives_a_consumer_that_knows_no_read_only_a_copy() -> None:
    t = Tensor([1.0, 2.0])
    capsule = t.__dlpack__()

    class Old:
        def __dlpack__(self, **_: Any) -> Any:
            return capsule

        def __dlpack_device__(self) -> Any:
            return t.__dlpack_device__()

    assert not np.shares_memory(np.from_dlpack(Old()), t.numpy())


# ---- writes


def test_copy_overwrites_a_leaf_and_counts() -> None:
    x = Tensor([1.0, 2.0], requires_grad=True)
    assert x.copy_([3.0, 4.0]) is x
    assert x.detach().numpy().tolist() == [3.0, 4.0]
    assert x.version == [1]
    assert not x.data.flags.writeable
    with pytest.raises(ValueError, match=r"^copy_: got shape \(3,\), but this Tensor has shape \(2,\)"):
        x.copy_(np.zeros(3))
    with pytest.raises(TypeError):
        Tensor([1, 2]).copy_(np.array([1.5, 2.5]))
    assert x.version == [1]
    assert not x.data.flags.writeable


def test_a_result_cannot_be_written() -> None:
    x = Tensor([1.0], requires_grad=True)
    with pytest.raises(RuntimeError, match=r"^copy_: this Tensor is the result of an operation"):
        (x * 2.0).copy_([1.0])


def test_items_cannot_be_assigned() -> None:
    t = Tensor([1.0, 2.0])
    with pytest.raises(TypeError, match=r"a Tensor cannot be written in place"):
        t[0] = 5.0
    before = t
    t += 1.0
    assert before.numpy().tolist() == [1.0, 2.0]
    assert t.numpy().tolist() == [2.0, 3.0]


# ---- indexing


def keys(shape: tuple[int, ...]) -> st.SearchStrategy[Any]:
    """Every kind of basic key: integers, slices with any step, None, one Ellipsis; not always as a tuple."""
    bound = st.one_of(st.none(), st.integers(-6, 6))
    step = st.one_of(st.none(), st.sampled_from([-3, -2, -1, 1, 2, 3]))

    def part(n: int) -> st.SearchStrategy[Any]:
        kinds = [st.builds(slice, bound, bound, step)]
        return st.one_of(*kinds, st.integers(-n, n - 1)) if n else kinds[0]

    @st.composite
    def key(draw: Any) -> Any:
        used = draw(st.integers(0, len(shape)))
        cut = draw(st.integers(0, used))
        rest = len(shape) - used
        parts = [draw(part(n)) for n in shape[:cut]]
        parts += [Ellipsis] if draw(st.booleans()) or (rest and cut < used) else []
        parts += [draw(part(n)) for n in shape[cut + rest :]] if Ellipsis in parts else []
        for _ in range(draw(st.integers(0, 2))):
            parts.insert(draw(st.integers(0, len(parts))), None)
        return parts[0] if len(parts) == 1 and draw(st.booleans()) else tuple(parts)

    return key()


@QUICK
@given(data=st.data(), shape=st.lists(st.integers(0, 4), max_size=4).map(tuple))
def test_getitem_is_numpys_for_every_kind_of_key(data: Any, shape: tuple[int, ...]) -> None:
    key = data.draw(keys(shape))
    a = np.arange(float(np.prod(shape))).reshape(shape)
    got = Tensor(a)[key]
    assert got.shape == np.shape(a[key])
    assert np.array_equal(got.numpy(), a[key])


@QUICK
@given(data=st.data(), shape=st.lists(st.integers(1, 4), max_size=3).map(tuple))
def test_the_gradient_of_getitem_is_where_it_read(data: Any, shape: tuple[int, ...]) -> None:
    key = data.draw(keys(shape))
    x = Tensor(np.arange(float(np.prod(shape))).reshape(shape), requires_grad=True)
    y = x[key]
    dy = np.random.default_rng(0).standard_normal(y.shape)
    y.backward(dy)
    want = np.zeros(shape)
    want[key] = dy
    assert np.array_equal(x.grad.numpy(), want)


def test_bad_keys_are_sentences() -> None:
    x = Tensor(np.zeros((2, 3)))
    for key, sentence in (
        ((0, 0, 0), "^getitem: got 3 indices, but x has 2 axes"),
        (2, "^getitem: index 2 is out of bounds for axis 0 with length 2"),
        ((0, -4), "^getitem: index -4 is out of bounds for axis 1 with length 3"),
        ((Ellipsis, Ellipsis), "^getitem: "),
    ):
        with pytest.raises(IndexError, match=sentence):
            x[key]
    for key in ([0, 1], np.array([0, 1]), Tensor([0, 1]), x > 0):
        with pytest.raises(TypeError, match=r"^getitem: got an array as an index; use hg.take"):
            x[key]


@pytest.mark.parametrize("key", [1.5, "a", True, np.True_, ((0, 1),)])
def test_keys_that_are_no_integers_are_sentences_too(key: Any) -> None:
    with pytest.raises((TypeError, IndexError), match=r"^getitem: "):
        Tensor(np.zeros((2, 3)))[key]


def test_an_integer_tensor_is_an_index() -> None:
    x = Tensor(np.arange(3.0))
    assert x[Tensor(1)].item() == 1.0
    assert x[np.int64(2)].item() == 2.0
    assert x[Tensor(1) :].shape == (2,)
