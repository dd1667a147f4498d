"""Every mechanical mistake in the source of every vjp is noticed, or is shown to be no mistake."""

import re
from dataclasses import replace

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.testing import mutants as m
from handgrad.engine.testing import random_sample
from handgrad.engine.testing.subject import of_row
from handgrad.engine.testing.survival import fate, raises
from handgrad.reference.table import BY_NAME, ROWS

TIE = "both sides give the same where they meet"
EMPTY = "a guard for no numbers at all: no entry of a gradient could be wrong"
GUARD = "the number that stands in for a forbidden one is selected away, or multiplied by zero, afterwards"
TRUTH = "a factor, or the same one on both sides, does not change the truth of a condition"
OTHER_END = "the same place, counted from the other end"
SHIFT = "softmax does not change when all scores are shifted; the shift only keeps exp from overflowing"
ORDER = "the result is the same; the other one only costs more"

HARMLESS = {
    "atan2: _over line *: changes a constant: *where(origin, 1.0, r) -> *": GUARD,
    "attention: _group_by_group line *: changes a constant: inputs[1] -> inputs[2]": "k and v have the same heads",
    "attention: attention_weights line *: *: scores -> 1.001 * scores": EMPTY,
    "attention: attention_weights line *: *(largest == -math.inf, 0.0, largest) -> *": SHIFT,
    "attention: attention_weights line *: *: largest == -math.inf -> *": SHIFT,
    "attention: attention_weights line *: flips a sign: -math.inf -> math.inf": SHIFT,
    "attention: attention_weights line *: *: scores - largest -> *": SHIFT,
    "attention: attention_weights line *: *(allowed, scores - largest, 0.0) -> *": GUARD,
    "attention: attention_weights line *: *(total == 0.0, 1.0, total) -> *(total == 0.0, 1.001, total)": GUARD,
    "attention: may_attend line *: flips a sign: -math.inf -> math.inf": "exp(-inf) is 0 without the rule, too",
    "binary_cross_entropy_with_logits: _* line *: another comparison: x < 0 -> x <= 0": TIE,
    "cross_entropy: _rows_only line *: scales by 1.001: * -> (*, 1.001 * counts, *)": TRUTH,
    "cross_entropy: _rows_only line *: *(counts, axis=-1), logits, 0.0) -> *": GUARD,
    "cross_entropy: _rows_only line *: *(rows == 0, 1.0, rows) -> *": GUARD,
    "cumulative_prod: cumulative_prod_vjp line *: scales by 1.001: (xp.zeros_like(x),) -> *": "a multiple of zero is zero",
    "cumulative_prod: cumulative_prod_vjp line *: drops a term: n - 1 -> -1": OTHER_END,
    "dropout_add: _mask line *: scales by 1.001: *": TRUTH,
    "einsum: _equal line *: scales by 1.001: *": TRUTH,
    "einsum: _unstretched line *: another comparison: len(own) < len(labels) -> *": ORDER,
    "einsum: contract line *: i + 1 -> *": ORDER,
    "glove: _errors line *: another axis: xp.take(b*": "a bias has one axis, the first and the last",
    "glove: _log_count line *: changes a constant: xp.where(x == 0.0, *, x) -> *": GUARD,
    "hypot: _over line *: changes a constant: *where(origin, 1.0, r) -> *": GUARD,
    "kl_divergence: _parts line *: changes a constant: xp.where(met, *) -> *": GUARD,
    "kl_divergence: _parts line *: scales by 1.001: * -> (*, 1.001 * met)": TRUTH,
    "logaddexp: _shares line *: changes a constant: xp.where(same, 0.0, *) -> *": "two equal numbers differ by 0, whichever",
    "logsumexp: _weights line *: changes a constant: xp.where(y == -math.inf, 0.0, y) -> *": "every weight is 0 there",
    "maximum: maximum_vjp line *: another comparison: x1 * x2 -> *": "a tie has been settled before that is asked",
    "mean: mean_vjp line *: changes a constant: * or 1 -> * or 2": EMPTY,
    "minimum: minimum_vjp line *: another comparison: x1 * x2 -> *": "a tie has been settled before that is asked",
    "prod: _others line *: drops a term: x.ndim - len(gone) -> -len(gone)": OTHER_END,
    "rotary_embedding: _turn line *: changes a constant: max(h, 1) -> max(h, 2)": "a single frequency is base^0 = 1",
    "silu: * line *: another comparison: x < 0.0 -> x <= 0.0": TIE,
    "silu: * line *: changes a constant: x < 0.0 -> x < 0.001": "either branch is right; the other one could overflow",
    "var: _deviations line *: changes a constant: * or 1 -> * or 2": EMPTY,
    "var: _freedom line *: changes a constant: max(*, 0.0) -> max(*, 0.001)": "no derivative where no freedom is left",
}
"""Survivors that compute the same gradient wherever it is defined: pattern (* is anything) -> why."""

FOUND = {op.name: m.mutants(op) for op in ROWS}


def _fits(pattern, name):
    return re.fullmatch(re.escape(pattern).replace(r"\*", ".*"), name) is not None


def _reason(name):
    return next((why for pattern, why in HARMLESS.items() if _fits(pattern, name)), None)


@pytest.fixture(scope="module")
def fates():
    """Every mutant by name with the sentence that rejects it, or None."""
    return {mutant.name: fate(mutant) for found in FOUND.values() for mutant in found}


def test_survivors_are_few_and_every_one_is_explained(fates):
    survivors = [name for name, sentence in fates.items() if sentence is None]
    ran = [name for name, sentence in fates.items() if sentence is None or not raises(sentence)]
    assert not [name for name in survivors if _reason(name) is None]
    assert len(survivors) <= 0.05 * len(ran), f"{len(survivors)} of {len(ran)} that could be run"


def test_no_explanation_is_left_over():
    """A reason for a mutant that is never made explains nothing."""
    names = [mutant.name for found in FOUND.values() for mutant in found]
    for pattern in HARMLESS:
        assert any(_fits(pattern, name) for name in names), pattern


def test_every_row_has_mutants():
    assert all(FOUND.values()), [name for name, found in FOUND.items() if not found]
    assert sum(map(len, FOUND.values())) > 10 * len(ROWS)


def test_softmax_has_every_mistake_that_can_be_made_in_it():
    changes = [mutant.change for mutant in FOUND["softmax"]]
    for change in (
        "drops a factor: y * (dy - xp.sum(dy * y, axis=axis, keepdims=True)) -> y",
        "drops a term: dy - xp.sum(dy * y, axis=axis, keepdims=True) -> dy",
        "flips a sign: dy - xp.sum(dy * y, axis=axis, keepdims=True) -> dy + xp.sum(dy * y, axis=axis, keepdims=True)",
        "another axis: xp.sum(dy * y, axis=axis, keepdims=True) -> xp.sum(dy * y, axis=0, keepdims=True)",
        "changes a constant: xp.sum(dy * y, axis=axis, keepdims=True) -> xp.sum(dy * y, axis=axis, keepdims=False)",
        "scales by 1.001: dy * y -> 1.001 * (dy * y)",
    ):
        assert change in changes
    assert len(set(changes)) == len(changes)


def test_names_say_function_line_and_change():
    op = BY_NAME["multiply"]
    first, second = op.vjp.__code__.co_firstlineno, FOUND["multiply"][0]
    assert second.name.startswith(f"multiply: multiply_vjp line {second.line}: ") and second.line > first
    assert any(mutant.change.startswith("exchanges: ") for mutant in FOUND["multiply"])
    assert any(mutant.change.startswith("forgets unbroadcast: ") for mutant in FOUND["multiply"])


def test_a_mutant_is_called_as_the_vjp_is_and_leaves_the_module_alone():
    """Also where the change is in a function that the vjp calls."""
    op = BY_NAME["max"]
    (x,) = (np.array([[1.0, 3.0], [2.0, 0.0]]),)
    before = op.forward(x, axis=1), op.vjp(np.ones(2), op.forward(x, axis=1), x, axis=1)[0]
    changed = [mutant for mutant in FOUND["max"] if mutant.function == "_share"]
    gradients = []
    for mutant in changed:
        try:
            gradients.append(mutant.vjp(np.ones(2), before[0], x, axis=1)[0])
        except Exception:
            continue
    assert any(not np.array_equal(dx, before[1]) for dx in gradients)
    assert np.array_equal(op.vjp(np.ones(2), op.forward(x, axis=1), x, axis=1)[0], before[1])


@pytest.mark.parametrize("op", ROWS, ids=[op.name for op in ROWS])
def test_what_is_rebuilt_without_a_change_is_the_vjp(op):
    """The machinery itself adds no mistake: the unchanged source, compiled and put in place, gives the same gradient."""
    sample = random_sample(op, np.random.default_rng(0))
    right = of_row(op)
    ys = right.forward(sample.inputs, sample.params)
    want = right.vjp(ys, ys, sample.inputs, sample.params)
    for function in m._reached(op.vjp):
        tree = m._tree(function)
        assert tree is not None, f"the source of {function.__name__} cannot be found"
        same = of_row(op, m._rebuilt(op.vjp, function, m._code(tree, function.__code__.co_freevars)))
        for a, b in zip(same.vjp(ys, ys, sample.inputs, sample.params), want, strict=True):
            assert (a is None) == (b is None) and (a is None or np.array_equal(a, b, equal_nan=True))


def closing_over(scale):
    """A vjp made by a function, from another one that it closes over."""

    def slope(x):
        return scale * x

    return lambda dy, y, x: (dy * slope(x),)


def test_lambdas_and_closures_have_mutants_too():
    """Also outside of the textbook: here of y = x^2."""
    found = m.mutants(replace(BY_NAME["exp"], vjp=closing_over(2.0)))
    gradients = {mutant.change: mutant.vjp(np.array([10.0]), None, np.array([3.0]))[0] for mutant in found}
    assert gradients["drops a factor: dy * slope(x) -> dy"] == 10.0
    assert gradients["drops a factor: scale * x -> x"] == 30.0
    assert gradients["drops a factor: scale * x -> scale"] == 20.0
    assert gradients["scales by 1.001: scale * x -> 1.001 * (scale * x)"] == pytest.approx(60.06)


def double(dy, y, x):
    """The right vjp of y = x^2, in two ways by a recursion: a function must find itself under its own name."""
    return (2.0 * x * dy,) if y is not None else double(dy, x * x, x)


def test_a_function_that_calls_itself_calls_its_mutant():
    found = m.mutants(replace(BY_NAME["exp"], vjp=double))
    (mutant,) = [mutant for mutant in found if mutant.change == "drops a factor: 2.0 * x * dy -> dy"]
    assert mutant.vjp(np.array([10.0]), None, np.array([3.0]))[0] == 10.0
