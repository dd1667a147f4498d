"""GloVe at special values, and its step, its row and the textbook's AdaGrad held to each other."""

import numpy as np
import pytest

import handgrad as hg
from handgrad.reference.glove import glove, glove_step, glove_vjp, weighting


@pytest.fixture
def rng():
    return np.random.default_rng(7)


def table(rng, v=4, d=3, n=6):
    parameters = [rng.standard_normal(s) for s in ((v, d), (v, d), (v,), (v,))]
    i, j = np.divmod(rng.choice(v * v, n, replace=False), v)
    return parameters, i, j, rng.uniform(0.2, 300.0, n)


def test_weights():
    """The paper's numbers: 1 from x_max on, (1/100)^(3/4) = 0.0316 for a single meeting, 0 for none."""
    np.testing.assert_allclose(weighting(np.array([0.0, 1.0, 100.0, 1e9])), [0.0, 100**-0.75, 1.0, 1.0], rtol=1e-15)
    assert np.isnan(weighting(np.array([np.nan])))[0]


def test_nothing_is_lost_when_the_fit_is_exact(rng):
    (w, w_context, b, b_context), i, j, _ = table(rng)
    x = np.exp(np.sum(w[i] * w_context[j], axis=1) + b[i] + b_context[j])
    assert glove(w, w_context, b, b_context, i, j, x) < 1e-25


@pytest.mark.parametrize("x", [np.nan, -1.0, np.inf])
def test_a_count_that_is_none_shows(rng, x):
    parameters, i, j, counts = table(rng)
    counts[2] = x
    with np.errstate(invalid="ignore"):
        assert not np.isfinite(glove(*parameters, i, j, counts))


def test_a_step_is_adagrad_on_half_the_rows_gradient(rng):
    """The row's gradient (autograd's, too) of one pair, halved, put into torch.optim.Adagrad's formula."""
    parameters, i, j, x = table(rng, n=1)
    tensors = [hg.Tensor(p, requires_grad=True) for p in parameters]
    (hg.glove(*tensors, i, j, x) / 2.0).backward()
    halves = [g / 2 for g in glove_vjp(1.0, None, *parameters, i, j, x)[:4]]
    for tensor, half in zip(tensors, halves, strict=True):
        np.testing.assert_allclose(tensor.grad.numpy(), half, rtol=1e-13, atol=1e-15)
    r, c = int(i[0]), int(j[0])
    at = (parameters[0][r], parameters[1][c], parameters[2][r], parameters[3][c])
    new, squares, cost = glove_step(*at, x[0], tuple(np.full_like(p, 0.3) for p in at), lr=0.05)
    assert cost == pytest.approx(glove(*parameters, i, j, x) / 2, rel=1e-14)
    for k, place in enumerate((r, c, r, c)):
        g = halves[k][place]
        np.testing.assert_allclose(squares[k], 0.3 + g * g, rtol=1e-14)
        np.testing.assert_allclose(new[k], at[k] - 0.05 * g / np.sqrt(0.3 + g * g), rtol=1e-12)


def test_the_authors_program_is_adagrad_with_another_start(rng):
    """s' <- s' + (eta g)^2 from 1, step eta g / sqrt(s')   =   s <- s + g^2 from 1 / eta^2, step g / sqrt(s)."""
    eta, theirs, ours = 0.05, 1.0, 1.0 / 0.05**2
    for g in rng.standard_normal(50):
        theirs, ours = theirs + (eta * g) ** 2, ours + g * g
        assert eta * g / np.sqrt(theirs) == pytest.approx(g / np.sqrt(ours), rel=1e-13)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"x_max": 0.0}, "glove: x_max is 0.0, but it must be positive and finite"),
        ({"alpha": np.inf}, "glove: alpha is inf, but it must be positive and finite"),
        ({"i": np.array([4])}, "glove: i holds 4, but w has 4 words"),
        ({"j": np.array([-1])}, "glove: j holds -1, but w_context has 4 contexts"),
    ],
)
def test_mistakes_are_one_sentence(rng, change, sentence):
    parameters, i, j, x = table(rng, n=1)
    arguments = {"i": i, "j": j, "x": x} | change
    with pytest.raises((ValueError, IndexError), match=sentence):
        hg.glove(*parameters, **arguments)
