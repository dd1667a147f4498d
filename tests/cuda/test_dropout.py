"""dropout's CUDA rungs give the bits of the kernel for the CPU; and mistakes that must be caught."""

import numpy as np
import pytest

from handgrad.kernels.cpu import dropout
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

SIZES = [0, 1, 3, 4, 5, 255, 1023, 1024, 1025, 2050]
P = 0.3


def trial(pair, n: int) -> None:
    rng = np.random.default_rng(n)
    x, dy = (rng.standard_normal(n).astype(np.float32) for _ in range(2))
    x[::5] = np.inf
    mask = rng.random(n) >= P
    assert pair.accepts(x, mask, p=P)
    y, residuals = pair.forward(x, mask, p=P)
    assert residuals is None and y.dtype == x.dtype and y.tobytes() == dropout.forward(x, mask, p=P)[0].tobytes()
    calls = {"residuals": None, "wanted": (True, False), "into": (None, None), "p": P}
    (dx, nothing), (want, _) = (each.vjp(dy, None, x, mask, **calls) for each in (pair, dropout))
    assert nothing is None and dx.dtype == x.dtype and dx.tobytes() == want.tobytes()


def trials(name: str) -> None:
    for n in SIZES:
        trial(rung("dropout", name), n)
    with running(("forward",), sanitize=True):
        trial(rung("dropout", name), 5)


@pytest.mark.parametrize("name", LADDERS["dropout"])
def test_the_bits_of_the_cpu(name):
    trials(name)


@pytest.mark.parametrize("name", LADDERS["dropout"])
def test_what_is_not_accepted(name):
    pair, x, mask = rung("dropout", name), np.zeros((2, 3), np.float32), np.ones((2, 3), bool)
    assert pair.accepts(x, mask, p=0.0) and not pair.accepts(x, mask, p=1.0) and not pair.accepts(x, mask, p=-0.1)
    assert not pair.accepts(x.astype(float), mask, p=P) and not pair.accepts(x[0], mask, p=P)
    assert not pair.accepts(x, x, p=P)
    nothing = pair.vjp(x, x, x, mask, residuals=None, wanted=(False, False), into=(None, None), p=P)
    assert nothing == (None, None)


MISTAKES = [
    ("01_elementwise", "if (i >= n) return;", ""),
    ("01_elementwise", "mask[i] ? x[i] * scale : 0.0f", "mask[i] * x[i] * scale"),
    ("02_vector_loads", "i + 4 <= n", "i < n"),
    ("02_vector_loads", "j < n", "j < n - 1"),
    ("02_vector_loads", "m.w ?", "m.z ?"),
]


@pytest.mark.parametrize(("name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(name, old, new, caught):
    assert caught(f"dropout_{name}", old, new, lambda: trials(name)) is not None, "it survived"
