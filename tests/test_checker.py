"""The checker itself: a right gradient passes, and each kind of mistake is caught by the check that is meant for it."""

from dataclasses import replace

import numpy as np
import pytest

import handgrad.engine.ops  # noqa: F401  (gives Tensor its namespace)
from handgrad.engine.testing import CheckError, Inconclusive, check_op, false_alarms
from handgrad.reference.namespace import array_namespace, unbroadcast
from handgrad.reference.op import Sample
from handgrad.reference.table import BY_NAME, ROWS, SOFTMAX

X = np.array([[0.5, -1.0, 2.0], [1.5, 0.3, -0.7]])


# ---- somebody's own operation: y = x tanh(x) + b, b broadcast
def forward(x, b):
    xp = array_namespace(x)
    return x * xp.tanh(x) + b


def vjp(dy, y, x, b):
    xp = array_namespace(x)
    t = xp.tanh(x)
    return dy * (t + x * (1 - t * t)), unbroadcast(dy, b.shape)


def jvp(dinputs, y, inputs):
    (dx, db), (x, _) = dinputs, inputs
    t = np.tanh(x)
    return dx * (t + x * (1 - t * t)) + db


B = np.array([0.1, -0.2, 0.3])


def test_right_functions_pass():
    report = check_op(forward, inputs=(X, B), vjp=vjp, jvp=jvp)
    assert {"vjp", "jvp", "adjoint", "second order", "mutation", "second call", "strides", "float32"} <= set(
        report.checks
    )
    assert "vjp" in str(report) and report.checks["vjp"].allowed < 1e-9


def test_numpy_functions_pass_without_second_order():
    report = check_op(lambda x: np.sinh(x), inputs=(X,), vjp=lambda dy, y, x: (dy * np.cosh(x),), name="sinh")
    assert "second order" in report.skipped and "vjp" in report.checks


def test_functions_of_tensors_pass():
    import handgrad.engine.ops as ops

    report = check_op(lambda x, b: ops.softmax(x * b) + ops.exp(b), inputs=(X, B))
    assert "second order" in report.checks


def _caught(check, f=forward, g=vjp, inputs=(X, B), **more):
    with pytest.raises(CheckError) as error:
        check_op(f, inputs=inputs, vjp=g, name="planted", **more)
    assert error.value.check == check, error.value
    message = str(error.value)
    assert message.startswith(f"planted: {check}: ") and "seed=0, only=" in message and "\n" not in message
    return message


def test_factor_of_1001():
    assert "input 0" in _caught("vjp", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0] * 1.001, vjp(dy, y, x, b)[1]))


def test_sign():
    _caught("vjp", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0], -vjp(dy, y, x, b)[1]))


def test_missing_term():
    _caught("vjp", g=lambda dy, y, x, b: (dy * np.tanh(x), unbroadcast(dy, b.shape)))


def test_missing_unbroadcast():
    assert "shape (2, 3)" in _caught("shapes", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0], dy))


def test_mean_in_place_of_the_sum_over_copies():
    _caught("vjp", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0], np.mean(dy, axis=0)))


def test_missing_entry_and_missing_gradient():
    _caught("shapes", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0],))
    _caught("shapes", g=lambda dy, y, x, b: (vjp(dy, y, x, b)[0], None))


def test_wrong_jvp():
    _caught("jvp", jvp=lambda dinputs, y, inputs: 1.0001 * jvp(dinputs, y, inputs))


def test_nan_in_the_gradient_is_not_ignored():
    def wrong(dy, y, x, b):
        dx, db = vjp(dy, y, x, b)
        dx = np.array(dx)
        dx[0, 0] = np.nan
        return dx, db

    _caught("vjp", g=wrong)


def test_mutation_of_an_input():
    def wrong(dy, y, x, b):
        dxs = vjp(dy, y, x, b)
        x *= 1.0 + 1e-9
        return dxs

    _caught("mutation", g=wrong, skip=("vjp", "second order"))


def test_mutation_of_dy():
    def wrong(dy, y, x, b):
        dxs = vjp(dy.copy(), y, x, b)
        dy[...] = 0
        return dxs

    _caught("mutation", g=wrong, skip=("vjp", "second order"))


def test_wrong_only_on_the_second_call():
    calls = []

    def wrong(dy, y, x, b):
        calls.append(1)
        dx, db = vjp(dy, y, x, b)
        return (dx if len(calls) < 2 else 2 * dx), db

    _caught("second call", g=wrong, skip=("vjp", "second order"))


def test_wrong_only_for_strided_input():
    def wrong(dy, y, x, b):
        flat = np.ndarray(x.shape, x.dtype, buffer=x.base if x.base is not None and x.base.flags.c_contiguous else x)
        return vjp(dy, y, flat if x.base is not None and not x.flags.c_contiguous else x, b)

    _caught("strides", g=wrong, skip=("second order",))


def test_wrong_only_for_a_broadcast_cotangent():
    def wrong(dy, y, x, b):
        return vjp(dy * 2 if 0 in dy.strides else dy, y, x, b)

    _caught("strides", g=wrong, skip=("second order",))


def test_float32_becomes_float64():
    def wrong(dy, y, x, b):
        dx, db = vjp(dy, y, x, b)
        return dx * np.float64(1.0) if dx.dtype == np.float32 else dx, db

    _caught("float32", g=wrong, skip=("second order",))


def test_wrong_second_derivative_only():
    """A residual that forward kept is a constant in the vjp: the gradient is right, its derivative is not."""
    kept = {}

    def keeps(x):
        xp = array_namespace(x)
        e = xp.exp(x)
        total = xp.sum(e, axis=-1, keepdims=True)
        kept[e.shape] = np.array(total if isinstance(total, np.ndarray) else total.detach().numpy())
        return e / total

    def from_residual(dy, y, x):
        xp = array_namespace(x)
        p = xp.exp(x) / kept[x.shape]
        return (p * (dy - xp.sum(dy * p, axis=-1, keepdims=True)),)

    with pytest.raises(CheckError) as error:
        check_op(keeps, inputs=(X,), vjp=from_residual, name="planted")
    assert error.value.check == "second order"


# ---- rows: what only a row can say
def test_wrong_reads_are_caught():
    row = replace(BY_NAME["tanh"], reads=("x",))  # its vjp reads y
    with pytest.raises(CheckError) as error:
        check_op(row)
    assert error.value.check in ("reads", "second order")


def test_another_point_is_drawn_where_one_cannot_decide_and_the_report_says_so():
    """A kink at 0, which half of the draws hit."""

    def draw(rng):
        return Sample((np.array([0.0 if rng.random() < 0.5 else 1.0, 2.0]),), {}, "random")

    def definition(x):
        return np.array([abs(float(v)) for v in x])

    row = replace(
        BY_NAME["exp"], name="abs", forward=np.abs, definition=definition, laws=(), samples=(), draw=draw,
        vjp=lambda dy, y, x: (dy * np.sign(x),), jvp=lambda dxs, y, xs: dxs[0] * np.sign(xs[0]), reads=("x",), analytic=False,
    )  # fmt: skip
    report = check_op(row, samples=10, skip=("second order",))
    assert report.redrawn and "too poor to conclude" in report.redrawn[0]


def test_too_many_reads_are_a_warning():
    report = check_op(replace(SOFTMAX, reads=("x", "y")))
    assert report.warnings == ["softmax declares under `reads` what its vjp never needed here: x"]


def test_gradient_for_ids_is_caught():
    op = BY_NAME["embedding"]
    row = replace(op, vjp=lambda *args, **params: (op.vjp(*args, **params)[0], np.zeros(args[3].shape)))
    with pytest.raises(CheckError) as error:
        check_op(row)
    assert error.value.check == "nondifferentiable"


def test_wrong_definition_is_caught():
    op = BY_NAME["exp"]
    with pytest.raises(CheckError) as error:
        check_op(replace(op, definition=lambda x: op.definition(x) * (1 + 1e-12)))
    assert error.value.check == "definition"


def test_broken_law_is_caught():
    with pytest.raises(CheckError) as error:
        check_op(replace(BY_NAME["exp"], laws=("odd",)))
    assert error.value.check == "law odd"


def test_ignored_wanted_mask_is_caught():
    op = BY_NAME["multiply"]

    def wrong(dy, y, x1, x2, *, wanted):
        dxs = op.vjp(dy, y, x1, x2, wanted=wanted)
        return dxs if all(wanted) else dxs[::-1]

    with pytest.raises(CheckError) as error:
        check_op(op, inputs=(X, X + 1), vjp=wrong)
    assert error.value.check == "wanted"


# ---- what cannot be decided
def test_a_kink_is_inconclusive_not_a_pass():
    x = np.array([0.0, 1e-30])
    with pytest.raises(Inconclusive, match="could not conclude"):
        check_op(np.abs, inputs=(x,), vjp=lambda dy, y, x: (dy * np.sign(x),), name="abs")


def test_a_kink_nearby_is_no_trouble():
    x = np.array([1e-3, -2e-3, 5.0])
    check_op(np.abs, inputs=(x,), vjp=lambda dy, y, x: (dy * np.sign(x),), name="abs")


def test_a_noisy_function_is_not_a_false_alarm():
    """float32 inside: the estimate grows with the noise, and the verdict stays right in both directions."""

    def noisy(x):
        return np.exp(np.asarray(x, np.float32)).astype(x.dtype)

    check_op(noisy, inputs=(X,), vjp=lambda dy, y, x: (dy * y,), name="noisy")
    with pytest.raises(CheckError):
        check_op(noisy, inputs=(X,), vjp=lambda dy, y, x: (dy * y * 1.01,), name="noisy")


def test_misuse_is_one_sentence():
    with pytest.raises(ValueError, match="say at which inputs"):
        check_op(forward, vjp=vjp)
    with pytest.raises(TypeError, match="takes an Op or a function"):
        check_op(3, inputs=(X,))


def test_the_same_seed_repeats_a_failure():
    def fails(**more):
        with pytest.raises(CheckError) as error:
            check_op(BY_NAME["exp"], vjp=lambda dy, y, x: (dy * y * 1.01,), seed=7, **more)
        return str(error.value)

    assert fails() == fails()
    assert fails(only=0) == fails()


def test_no_false_alarm():
    """A tenth of the soak; `handgrad check --trials 3000` runs all of it."""
    assert false_alarms(ROWS, 10 * len(ROWS), seed=3) == []


def test_pytorch_functions():
    torch = pytest.importorskip("torch")

    def gradient(dy, y, x):
        x = x.detach().clone().requires_grad_()
        return torch.autograd.grad(torch.nn.functional.silu(x), x, dy)

    report = check_op(torch.nn.functional.silu, inputs=(X,), vjp=gradient, convert=torch.tensor, skip=("strides",))
    assert report.checks["vjp"].allowed < 1e-9
