"""The checks that look closest, and the search for counterexamples: each one catches the mistake that it is for."""

import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.kernel_table import versions
from handgrad.engine.testing import CheckError, check_op
from handgrad.engine.testing.example import CHANGES, Example
from handgrad.engine.testing.properties import holds
from handgrad.engine.testing.subject import of_kernel, of_row
from handgrad.reference.op import Sample
from handgrad.reference.table import ATTENTION, BY_NAME, EXP, MULTIPLY, SOFTMAX, TANH


def caught(check, op, **more):
    with pytest.raises(CheckError) as error:
        check_op(op, **more)
    assert error.value.check == check, error.value
    assert "\n" not in str(error.value)
    return str(error.value)


# ---- complex step
def test_an_error_in_the_last_digits_is_seen_by_the_complex_step_alone():
    """In vjp and jvp alike, so that the adjoint holds. Where longdouble is no wider than float64, as it is made here,
    finite differences allow more than that.
    """
    off = 1.0 + 5e-14

    def forward(x):
        return np.tanh(x.astype(np.float64) if x.dtype == np.longdouble else x)

    def vjp(dy, y, x):
        return (dy * (1.0 - y * y) * off,)

    def jvp(dinputs, y, inputs):
        return dinputs[0] * (1.0 - y * y) * off

    row = replace(TANH, forward=forward, vjp=vjp, jvp=jvp, laws=())
    caught("complex step", row, skip=("second order",))
    check_op(row, skip=("complex step", "second order"))


def test_a_forward_that_is_not_analytic_must_say_so():
    def forward(x):
        return np.exp(np.real(x))

    sentence = caught("complex step", replace(EXP, forward=forward), skip=("second order",))
    assert "say so" in sentence
    report = check_op(replace(EXP, forward=forward, analytic=False), skip=("second order",))
    assert "complex step" in report.skipped


def test_abs_is_not_analytic():
    """|x| = sqrt(x^2) for real x, but the modulus of a complex number is not that function."""
    row = replace(
        EXP, name="abs", forward=np.abs, vjp=lambda dy, y, x: (dy * np.sign(x),), reads=("x",), laws=(), samples=(),
        jvp=lambda dxs, y, xs: dxs[0] * np.sign(xs[0]), definition=lambda x: np.abs(x),
        draw=lambda rng: Sample((rng.uniform(0.5, 1.0, 3),), {}, "random"),
    )  # fmt: skip
    caught("complex step", row, skip=("second order",))


# ---- standing still
def test_none_for_a_direction_must_be_understood():
    def jvp(dinputs, y, inputs):
        return dinputs[0] * inputs[1] + inputs[0] * dinputs[1]

    draw = lambda rng: Sample((rng.uniform(1, 2, 3), rng.uniform(1, 2, 3)), {}, "random")  # noqa: E731
    assert "None for x1" in caught("standing still", replace(MULTIPLY, jvp=jvp, draw=draw))


def test_none_for_a_direction_is_zero_and_not_one():
    def jvp(dinputs, y, inputs):
        dx1, dx2 = (1.0 if dx is None else dx for dx in dinputs)
        return dx1 * inputs[1] + inputs[0] * dx2

    draw = lambda rng: Sample((rng.uniform(1, 2, 3), rng.uniform(1, 2, 3)), {}, "random")  # noqa: E731
    caught("standing still", replace(MULTIPLY, jvp=jvp, draw=draw))


# ---- errors
def test_what_validate_lets_through_must_run():
    draw = lambda rng: Sample((rng.standard_normal((2, 3)),), {"axis": -2}, "random")  # noqa: E731
    row = replace(SOFTMAX, check=None, samples=(), draw=draw)
    assert "without axis 0 passes validate, but then forward raises AxisError" in caught("errors", row)


@pytest.mark.parametrize(
    "error, words",
    [
        (KeyError("x"), "KeyError"),
        (ValueError("bad shape"), "no sentence that starts with 'softmax'"),
        (ValueError("softmax: bad\nshape"), "no sentence"),
        (ValueError("softmax: x is of the wrong shape"), "does not say the shape"),
    ],
)
def test_a_complaint_must_be_a_sentence_with_the_shape(error, words):
    def check(x, *, axis=-1):
        if x.ndim != 2:
            raise error

    draw = lambda rng: Sample((rng.standard_normal((2, 3)),), {}, "random")  # noqa: E731
    row = replace(SOFTMAX, check=check, samples=(), draw=draw)
    assert words in caught("errors", row)


# ---- determinism
def _pair(op, **changed):
    pair = versions(op)["numba"]
    return SimpleNamespace(**{"accepts": pair.accepts, "forward": pair.forward, "vjp": pair.vjp} | changed)


def test_other_bits_on_another_number_of_threads_are_caught():
    import numba

    if numba.get_num_threads() < 2:
        pytest.skip("one thread only")
    right = versions(SOFTMAX)["numba"].forward

    def forward(x, **params):
        y = right(x, **params)[0]
        return (np.nextafter(y, np.inf) if numba.get_num_threads() == 1 else y), None

    assert "by one thread" in caught("determinism", SOFTMAX, kernel=_pair(SOFTMAX, forward=forward))
    assert numba.get_num_threads() >= 2


def test_other_bits_on_large_arrays_are_caught():
    right, calls = versions(SOFTMAX)["numba"].forward, []

    def forward(x, **params):
        calls.append(1)
        y = right(x, **params)[0]
        return (np.nextafter(y, np.inf) if len(calls) // 2 % 2 and x.size > 500 else y), None

    assert "called again" in caught("determinism", SOFTMAX, kernel=_pair(SOFTMAX, forward=forward))


# ---- properties: one example
X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])
PLAIN = Example(Sample((X,), {}, "planted"))


def fails(check, subject, example=PLAIN):
    with pytest.raises(CheckError) as error:
        holds(subject, example)
    assert error.value.check == check, error.value


@pytest.mark.parametrize("change", ["", *CHANGES])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_right_versions_hold(change, dtype):
    example = replace(PLAIN, change=change, dtype=dtype, layouts=("sliced strides",))
    holds(of_row(SOFTMAX), example)
    for name, pair in versions(SOFTMAX).items():
        holds(of_kernel(SOFTMAX, pair, name), example)


def test_wrong_formulas_do_not_hold():
    wrong_jvp = replace(SOFTMAX, jvp=lambda dxs, y, xs, axis=-1: SOFTMAX.jvp(dxs, y, xs, axis=axis) * 1.0001)
    fails("adjoint", of_row(wrong_jvp))
    both = replace(wrong_jvp, vjp=lambda dy, y, x, axis=-1: (SOFTMAX.vjp(dy, y, x, axis=axis)[0] * 1.0001,))
    fails("difference", of_row(both))
    fails("definition", of_row(replace(SOFTMAX, definition=lambda x, axis=-1: SOFTMAX.definition(x) + 1e-13)))


def test_a_formula_that_loses_digits_in_float32_does_not_hold():
    def forward(x):
        return np.log(1.0 + np.exp(x) - 1.0)  # the identity, but for rounding

    row = replace(
        EXP, forward=forward, vjp=lambda dy, y, x: (dy,), jvp=lambda dxs, y, xs: dxs[0], definition=lambda x: x
    )
    fails("value float32", of_row(row), Example(Sample((np.array([-9.0, -8.0]),), {}, "planted"), dtype="float32"))


def test_a_formula_without_its_shift_does_not_hold_for_huge_numbers():
    row = replace(SOFTMAX, forward=lambda x, axis=-1: np.exp(x) / np.sum(np.exp(x), axis=axis, keepdims=True))
    holds(of_row(row), PLAIN)
    fails("strange numbers", of_row(row), replace(PLAIN, change="huge"))


def test_a_formula_that_hides_nan_does_not_hold():
    row = replace(EXP, forward=lambda x: np.nan_to_num(np.exp(x)))
    fails("nan", of_row(row), replace(PLAIN, change="nan"))


def test_writing_and_remembering_do_not_hold():
    def writes(x, axis=-1):
        y = SOFTMAX.forward(x, axis=axis)
        if x.flags.writeable and x.shape == X.shape and x.dtype == np.float64:
            x[0, 0] += 1e-9
        return y

    fails("mutation", of_row(replace(SOFTMAX, forward=writes)), replace(PLAIN, frozen=False))
    calls = []

    def remembers(x, axis=-1):
        calls.append(1)
        return SOFTMAX.forward(x, axis=axis) * (1.0 + 1e-15 * len(calls))

    fails("second call", of_row(replace(SOFTMAX, forward=remembers)))


def _as_if_contiguous(x, **params):
    flat = x if x.flags.c_contiguous else np.ndarray(x.shape, x.dtype, buffer=np.ascontiguousarray(x.base))
    return versions(SOFTMAX)["numba"].forward(flat, **params)


def _hides_nan(x, **params):
    return versions(SOFTMAX)["numba"].forward(np.nan_to_num(x), **params)


def _overflows(x, **params):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True), None


@pytest.mark.parametrize(
    "forward, check, change",
    [
        (_as_if_contiguous, "value float64", {"layouts": ("permuted strides",)}),
        (_hides_nan, "nan", {"change": "nan"}),
        (_overflows, "strange numbers", {"change": "huge"}),
    ],
)
def test_wrong_kernels_do_not_hold(forward, check, change):
    subject = of_kernel(SOFTMAX, _pair(SOFTMAX, forward=forward), "planted")
    holds(subject, PLAIN)
    fails(check, subject, replace(PLAIN, **change))


# ---- strategies: what is drawn
def test_hypothesis_finds_what_random_points_miss_and_shrinks_it():
    """A gradient that is wrong for one row of five entries alone."""
    pytest.importorskip("hypothesis")
    from hypothesis import given, settings

    from handgrad.engine.testing.strategies import examples

    row = replace(SOFTMAX, vjp=lambda dy, y, x, axis=-1: (
        SOFTMAX.vjp(dy, y, x, axis=axis)[0] * (2.0 if x.shape[axis] == 5 and x.ndim == 2 else 1.0),))  # fmt: skip
    failed = []

    @settings(max_examples=500, derandomize=True, database=None, deadline=None)
    @given(examples(row))
    def search(example):
        try:
            holds(of_row(row), example)
        except CheckError:
            failed.append(example)
            raise

    with pytest.raises(CheckError):
        search()
    last = failed[-1]
    assert last.sample.inputs[0].size == 5 and last.change == "" and last.layouts == ("",)


def test_drawn_samples_reach_the_edges():
    """Empty axes, axes of length one that broadcast, and arrays in every layout and of both dtypes."""
    hypothesis = pytest.importorskip("hypothesis")
    from handgrad.engine.testing.strategies import examples, samples

    seen = {"empty": 0, "stretched": 0, "left out": 0, "frozen": 0}
    kinds, layouts, dtypes = set(), set(), set()

    @hypothesis.settings(max_examples=300, derandomize=True, database=None, deadline=None)
    @hypothesis.given(examples(BY_NAME["dropout"]), samples(BY_NAME["where"]), samples(BY_NAME["exp"]))
    def look(example, where, exp):
        kinds.add(example.change)
        layouts.update(example.layouts)
        dtypes.add(example.dtype)
        seen["frozen"] += example.frozen
        seen["empty"] += exp.inputs[0].size == 0
        shapes = {np.shape(x) for x in where.inputs}
        seen["stretched"] += len(shapes) > 1
        seen["left out"] += len({len(shape) for shape in shapes}) > 1

    look()
    assert all(count > 5 for count in seen.values()), seen
    assert kinds == {"", *CHANGES} and len(layouts) == 6 and dtypes == {"float32", "float64"}


def test_a_draw_that_tries_until_it_fits_ends():
    hypothesis = pytest.importorskip("hypothesis")
    from handgrad.engine.testing.strategies import samples

    def draw(rng):
        while rng.integers(0, 10) != 7:
            pass
        return Sample((rng.standard_normal(2),), {}, "random")

    drawn = []

    @hypothesis.settings(max_examples=20, derandomize=True, database=None, deadline=None)
    @hypothesis.given(samples(replace(EXP, draw=draw)))
    def search(sample):
        drawn.append(sample)

    search()
    assert len(drawn) >= 20


def test_without_hypothesis_the_package_imports_and_strategies_say_what_to_install(monkeypatch):
    name = "handgrad.engine.testing.strategies"
    monkeypatch.delitem(sys.modules, name, raising=False)
    for module in [m for m in sys.modules if m.split(".")[0] == "hypothesis"]:
        monkeypatch.delitem(sys.modules, module)
    monkeypatch.setitem(sys.modules, "hypothesis", None)
    with pytest.raises(ImportError, match="pip install hypothesis"):
        __import__(name)
    assert ATTENTION.name == "attention"
