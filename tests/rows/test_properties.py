"""Every row, formula and kernels, on examples that hypothesis draws: shapes, memory, dtypes, strange numbers.

    pytest tests/rows/test_properties.py --hypothesis-profile=ci        200 examples each; dev: 20, soak: 10,000
"""

import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.kernel_table import versions
from handgrad.engine.testing.example import Example
from handgrad.engine.testing.properties import holds
from handgrad.engine.testing.subject import of_kernel, of_row
from handgrad.reference.table import ROWS

pytest.importorskip("hypothesis")
from hypothesis import assume, example, given

from handgrad.engine.testing.strategies import examples

EXAMPLES: dict[str, list[Example]] = {
}
"""Examples that failed once, by row: tried first, on every version."""

SUBJECTS = [of_row(op) for op in ROWS]
SUBJECTS += [of_kernel(op, pair, name) for op in ROWS for name, pair in versions(op).items()]


def search(subject):
    """Looks for an example for which the subject's properties do not hold."""
    op, kernel = subject.op, subject.kernel

    @given(examples(op, larger=kernel is not None))
    def check(drawn):
        assume(kernel is None or kernel.accepts(*drawn.arrays(op), **drawn.sample.params))
        holds(subject, drawn)

    for known in EXAMPLES.get(op.name, []):
        check = example(known)(check)
    check()


@pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
def test_properties_hold(subject):
    search(subject)
