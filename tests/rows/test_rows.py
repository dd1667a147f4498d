"""Every row of the table, by name: its formulas, its own samples, its laws, and the wrong gradients that it plants."""

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.testing import LAWS, check_op, generated, random_sample
from handgrad.engine.testing.check import row_sample
from handgrad.engine.testing.report import Report
from handgrad.engine.testing.subject import of_row
from handgrad.engine.testing.wrongs import rejection
from handgrad.reference.table import ROWS

NAMES = [op.name for op in ROWS]
rows = pytest.mark.parametrize("op", ROWS, ids=NAMES)


@rows
def test_formula(op):
    """Value, vjp, jvp, second order, memory, dtypes, shapes at the edge, messages, laws: at ten random points."""
    report = check_op(op, samples=10, seed=1)
    wanted = {"definition", "shapes", "vjp", "jvp", "adjoint", "second order", "engine", "mutation", "second call"}
    wanted |= {"errors"} | ({"complex step"} if op.analytic else set())
    assert wanted | {"strides", "reads", "float32", "zero size"} <= set(report.checks) | set(report.skipped), report
    assert not wanted & set(report.skipped), report.skipped
    assert not report.warnings, report.warnings


SAMPLES = [(op, number) for op in ROWS for number in range(len(op.samples))]


@pytest.mark.parametrize("op, number", SAMPLES, ids=[f"{op.name}: {op.samples[n].why}" for op, n in SAMPLES])
def test_sample(op, number):
    """The row's own samples, some at kinks and infinities, against the definition."""
    op.validate(*op.samples[number].inputs, **op.samples[number].params)
    row_sample(of_row(op), number, Report(op.name, 0))


WRONGS = [(op, why) for op in ROWS for why in op.wrong]


@pytest.mark.parametrize("op, why", WRONGS, ids=[f"{op.name}: {why}" for op, why in WRONGS])
def test_planted_wrong_is_rejected(op, why):
    for seed in range(3):
        assert rejection(op, op.wrong[why], np.random.default_rng(seed)) is not None


def test_generated_wrongs_are_rejected():
    """Factor, sign, a dropped entry, an axis reversed, a constant, a cotangent of ones, in every row and input."""
    survivors, count = [], 0
    for op in ROWS:
        for how, wrong in generated(op).items():
            count += 1
            if rejection(op, wrong, np.random.default_rng(0)) is None:
                survivors.append(f"{op.name}: {how}")
    assert count > 200
    assert len(survivors) <= 0.05 * count, survivors


@rows
def test_row_is_complete(op):
    """The fields that a reader looks for are there, and every law that it names exists."""
    assert op.formula and op.gradient and op.source and op.wrong and op.samples
    assert len({sample.why for sample in op.samples}) == len(op.samples)
    assert set(op.laws) <= set(LAWS), sorted(set(op.laws) - set(LAWS))
    sample = random_sample(op, np.random.default_rng(0))
    op.validate(*sample.inputs, **sample.params)
    flops, elements = op.cost(*sample.inputs, **sample.params)
    assert flops >= 0 and elements > 0


def test_every_law_is_claimed():
    """A law that no row names is dead code."""
    claimed = {law for op in ROWS for law in op.laws}
    assert set(LAWS) <= claimed, sorted(set(LAWS) - claimed)


def test_every_law_says_what_it_states():
    assert all(law.__doc__ for law in LAWS.values())
