"""Every kernel pair of every row, by name: no dispatcher in between that could quietly run something else."""

import pytest

import handgrad.engine.ops  # noqa: F401
from handgrad.engine.kernel_table import versions
from handgrad.engine.testing import CheckError, check_op
from handgrad.engine.testing.check import row_sample
from handgrad.engine.testing.report import Report
from handgrad.engine.testing.subject import of_kernel
from handgrad.reference.table import ROWS

VERSIONS = [(op, name, pair) for op in ROWS for name, pair in versions(op).items()]
IDS = [f"{op.name}: {name}" for op, name, _ in VERSIONS]
pairs = pytest.mark.parametrize("op, name, pair", VERSIONS, ids=IDS)


@pairs
def test_kernel(op, name, pair):
    """Agreement in float64 and float32, residuals, buffers, NaN, the same bits, memory, shapes, laws: at eight points."""
    report = check_op(op, kernel=pair, kernel_name=name, samples=8, seed=2)
    wanted = {
        "value float64",
        "gradient float64",
        "value float32",
        "gradient float32",
        "residuals",
        "into",
        "determinism",
    }
    assert wanted <= set(report.checks)


@pairs
def test_row_samples(op, name, pair):
    """The row's own samples, where the kernel accepts them."""
    subject = of_kernel(op, pair, name)
    for number in range(len(op.samples)):
        row_sample(subject, number, Report(op.name, 0))


class _Broken:
    """A pair with one promise broken."""

    def __init__(self, pair, forward=None, vjp=None):
        self.accepts = pair.accepts
        self.forward = forward or pair.forward
        self.vjp = vjp or pair.vjp


def _softmax():
    from handgrad.reference.table import SOFTMAX

    return SOFTMAX, versions(SOFTMAX)["numba"]


def _scaled(op, pair):
    return _Broken(pair, forward=lambda x, **p: ((pair.forward(x, **p)[0] * 1.0001).astype(x.dtype), None))


def _ignores_nan(op, pair):
    import numpy as np

    return _Broken(pair, forward=lambda x, **p: pair.forward(np.nan_to_num(x), **p))


def _writes_past(op, pair):
    def vjp(dy, y, x, *, residuals, wanted, into, **p):
        (dx,) = pair.vjp(dy, y, x, residuals=residuals, wanted=wanted, into=[None], **p)
        if into[0] is None:
            return (dx,)
        into[0][0][...] = dx  # forgets that it should add
        return (into[0][0],)

    return _Broken(pair, vjp=vjp)


def _writes_but_returns_another(op, pair):
    def vjp(dy, y, x, *, residuals, wanted, into, **p):
        (dx,) = pair.vjp(dy, y, x, residuals=residuals, wanted=wanted, into=[None], **p)
        if into[0] is not None:
            into[0][0][...] = dx
        return (dx,)

    return _Broken(pair, vjp=vjp)


def _reads_x(op, pair):
    def vjp(dy, y, x, **rest):
        return pair.vjp(dy, y + 0 * x.sum(), x, **rest)

    return _Broken(pair, vjp=vjp)


def _scales_its_residuals(op, pair):
    def forward(x, **p):
        y = pair.forward(x, **p)[0]
        return y, y.copy()

    def vjp(dy, y, x, *, residuals, **rest):
        result = pair.vjp(dy, residuals, x, residuals=None, **rest)
        residuals *= 2
        return result

    return _Broken(pair, forward=forward, vjp=vjp)


def _float64(op, pair):
    return _Broken(pair, forward=lambda x, **p: (pair.forward(x, **p)[0].astype("float64"), None))


def _writes_input(op, pair):
    def forward(x, **p):
        x -= x.max()
        return pair.forward(x, **p)

    return _Broken(pair, forward=forward)


@pytest.mark.parametrize(
    "breaks, check",
    [
        (_scaled, "value"), (_ignores_nan, "nan"), (_writes_past, "into"), (_writes_but_returns_another, "into"),
        (_reads_x, ""), (_scales_its_residuals, "residuals"), (_float64, "value"), (_writes_input, ""),
    ],
    ids=lambda value: getattr(value, "__name__", value or "-").lstrip("_"),
)  # fmt: skip
def test_broken_kernel_is_rejected(breaks, check):
    op, pair = _softmax()
    with pytest.raises((CheckError, AttributeError, ValueError)) as error:
        check_op(op, kernel=breaks(op, pair), samples=8)
    if check:
        assert error.value.check.startswith(check), error.value
