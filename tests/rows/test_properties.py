"""Every row, formula and kernels, on examples that hypothesis draws: shapes, memory, dtypes, strange numbers.

`pytest tests/rows/test_properties.py --hypothesis-profile=ci` tries 200 examples each, `soak` 10,000 (tests/conftest.py).
"""

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.kernel_table import versions
from handgrad.engine.testing.example import Example
from handgrad.engine.testing.properties import holds
from handgrad.engine.testing.subject import of_kernel, of_row
from handgrad.reference.op import Sample
from handgrad.reference.table import ROWS

pytest.importorskip("hypothesis")
from hypothesis import assume, example, given

from handgrad.engine.testing.strategies import examples

EXAMPLES: dict[str, list[Example]] = {
    "astype": [
        Example(Sample((np.array(0.125),), {"dtype": np.dtype(np.longdouble)}, "longdouble's padding is not data")),
        Example(Sample((np.array(0.375),), {"dtype": np.dtype(np.float64)}, "rounds in the middle of a difference")),
    ],
    "add_layer_norm": [
        Example(
            Sample(
                (np.array([1.64874142]), np.array([-1.30315723]), np.array([0.82161814])), {"eps": 1e-05},
                "a row of one: layer_norm's gradient cancels beside the sum's",
            )
        ),
    ],
    "cross_entropy": [
        Example(
            Sample((np.array([0.25, -0.25]), np.array(0)), {}, "an index without axes, in every layout"),
            layouts=("negative strides", "negative strides"),
        ),
    ],
    "einsum": [
        Example(
            Sample(
                (
                    np.array([0.46347833, 0.31013699, -0.28144809]).reshape(3, 1, 1),
                    np.array([1.28, 1.71, -1.03]).reshape(3, 1, 1),
                ),
                {"equation": "kij,lmi"},
                "sums that nearly cancel",
            ),
            layouts=("", "zero strides"),
        ),
    ],
    "layer_norm": [
        Example(
            Sample((np.array([2.3882782, 0.0, 0.0]), np.array([0.0625, -0.875, 0.375])), {}, "the mean of equal numbers"),
            layouts=("zero strides", ""),
        ),
    ],
    "packed_attention": [
        Example(Sample((np.array([[[0.125, -0.125, 0.625]]]),), {"n_head": 1}, "the only score is infinite"), change="inf"),
    ],
    "rms_norm": [
        Example(
            Sample(
                (np.random.default_rng(0).standard_normal((42, 42, 1)), np.array([-0.27764609])),
                {"eps": 0.1},
                "the weight's gradient sums over 1,764 rows",
            ),
            dtype="float32",
        ),
        Example(Sample((np.array([2.21915792]), np.array([0.29335644])), {"eps": 0.1}, "a gradient that cancels")),
    ],
    "softmax": [
        Example(Sample((np.array([[0.5, -1.0], [2.0, 0.25]]),), {}, "overflows without the shift"), change="huge"),
        Example(Sample((np.array([[0.5, -1.0], [2.0, 0.25]]),), {}, "one NaN spoils its row alone"), change="nan"),
    ],
}  # fmt: skip
"""Examples that failed once, or nearly did, by row: tried first, on every version."""

SUBJECTS = [of_row(op) for op in ROWS]
SUBJECTS += [of_kernel(op, pair, name) for op in ROWS for name, pair in versions(op).items()]


def search(subject):
    """Looks for an example for which the subject's properties do not hold."""
    op, kernel = subject.op, subject.kernel

    @given(examples(op, None if kernel is None else kernel.accepts))
    def check(drawn):
        assume(kernel is None or kernel.accepts(*drawn.arrays(op), **drawn.sample.params))
        holds(subject, drawn)

    for known in EXAMPLES.get(op.name, []):
        check = example(known)(check)
    check()


@pytest.mark.parametrize("subject", SUBJECTS, ids=[subject.name for subject in SUBJECTS])
def test_properties_hold(subject):
    search(subject)
