"""hg.jvp, vjp, hvp, jacobian, hessian: against each other, against matrices known by hand, and their errors."""

import threading

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.recording import state

RNG = np.random.default_rng(0)
X, V, W = (RNG.standard_normal((3, 4)) for _ in range(3))


def scalar(x):
    return (hg.softmax(x * x) * W).sum()


def both(x, z):
    return (hg.tanh(x * z) * W).sum() + (x * x).sum()


def test_jvp_of_a_matrix_product_is_the_product_rule():
    a, b, da, db = (RNG.standard_normal((3, 3)) for _ in range(4))
    y, dy = hg.jvp(hg.matmul, (a, b), (da, db))
    np.testing.assert_allclose(y.numpy(), a @ b)
    np.testing.assert_allclose(dy.numpy(), da @ b + a @ db, rtol=1e-14, atol=1e-14)


def test_what_has_no_direction_stands_still():
    _, dy = hg.jvp(hg.multiply, (X, V), (None, W))
    np.testing.assert_array_equal(dy.numpy(), X * W)
    _, dy = hg.jvp(lambda x, ids: hg.take(x, ids, axis=0), (X, np.array([2, 0])), (V, None))
    np.testing.assert_array_equal(dy.numpy(), V[[2, 0]])


def test_a_function_that_ignores_its_argument_does_not_move():
    y, dy = hg.jvp(lambda x: hg.ones((2,)), X, V)
    assert y.shape == dy.shape == (2,) and not dy.numpy().any()


def test_several_outputs_and_one_that_is_an_input():
    (y, x), (dy, dx) = hg.jvp(lambda x: (x * 2.0, x), X, V)
    np.testing.assert_array_equal(dy.numpy(), 2 * V)
    np.testing.assert_array_equal(dx.numpy(), V)
    assert y.tangent is None and x.tangent is None, "nothing is left behind"


def test_a_detour_through_integers_or_detach_stands_still():
    _, dy = hg.jvp(lambda x: hg.astype(hg.astype(x, np.int64), np.float64) + x.detach(), X, V)
    assert not dy.numpy().any()


def test_vjp_is_the_transpose_of_jvp():
    _, dy = hg.jvp(hg.softmax, X, V)
    _, pull = hg.vjp(hg.softmax, X)
    assert abs((dy.numpy() * W).sum() - (pull(W)[0].numpy() * V).sum()) < 1e-15
    np.testing.assert_array_equal(pull(W)[0].numpy(), pull(hg.Tensor(W))[0].numpy())  # as often as one likes


def test_vjp_of_several_outputs():
    (_, _), pull = hg.vjp(lambda x, z: (x * z, x + z), X, V)
    dx, dz = pull((W, None))
    np.testing.assert_array_equal(dx.numpy(), V * W)
    np.testing.assert_array_equal(dz.numpy(), X * W)
    dx, _ = pull((W, 2 * W))
    np.testing.assert_allclose(dx.numpy(), V * W + 2 * W)
    assert all(not d.numpy().any() for d in pull((None, None)))
    with pytest.raises(ValueError, match="vjp: got 1 cotangents, but the function has 2 outputs"):
        pull((W,))


def test_hvp_three_ways():
    forward_over_reverse = hg.hvp(scalar, X, V)
    reverse_over_reverse = hg.grad(lambda x: (hg.grad(scalar)(x) * V).sum())(X)
    reverse_over_forward = hg.grad(lambda x: hg.jvp(scalar, x, V)[1])(hg.Tensor(X))
    np.testing.assert_allclose(forward_over_reverse.numpy(), reverse_over_reverse.numpy(), atol=1e-15)
    np.testing.assert_allclose(reverse_over_forward.numpy(), reverse_over_reverse.numpy(), atol=1e-15)


def test_mixed_derivatives_of_arguments_that_move_but_are_not_differentiated():
    """d/dz of the gradient in x: the direction of z must reach the walk backwards through what the nodes saved."""
    blocks = hg.hessian(both, (0, 1))(X, V)
    _, moved = hg.jvp(lambda z: hg.grad(both)(X, z), V, W)
    np.testing.assert_allclose(moved.numpy(), np.einsum("abcd,cd->ab", blocks[0][1].numpy(), W), atol=1e-14)
    np.testing.assert_allclose(blocks[0][1].numpy(), blocks[1][0].numpy().transpose(2, 3, 0, 1), atol=1e-14)
    products = hg.hvp(both, (X, V), (W, X))
    for i in range(2):
        want = sum(np.einsum("abcd,cd->ab", blocks[i][j].numpy(), d) for j, d in enumerate((W, X)))
        np.testing.assert_allclose(products[i].numpy(), want, atol=1e-13)


def test_backward_inside_of_a_jvp():
    def gradient(x):
        x = hg.Tensor(x, requires_grad=True) if x.tangent is None else hg.grad(scalar)(x)
        return x

    _, dy = hg.jvp(gradient, X, V)
    np.testing.assert_allclose(dy.numpy(), hg.hvp(scalar, X, V).numpy())


def test_the_value_beside_a_gradient_moves_too():
    (_, _), (dy, dg) = hg.jvp(hg.value_and_grad(scalar), X, V)
    np.testing.assert_allclose(dy.numpy(), (hg.grad(scalar)(X).numpy() * V).sum())
    np.testing.assert_allclose(dg.numpy(), hg.hvp(scalar, X, V).numpy())


@pytest.mark.parametrize("mode", [None, "forward", "reverse"])
def test_jacobian(mode):
    A = RNG.standard_normal((3, 2))
    f = lambda x: hg.matmul(A, x)  # noqa: E731
    x = RNG.standard_normal((2, 4))
    want = np.einsum("ij,lk->iljk", A, np.eye(4)).reshape(3, 4, 2, 4)
    np.testing.assert_allclose(hg.jacobian(f, mode=mode)(x).numpy(), want)
    number = hg.jacobian(lambda x: x.sum(), mode=mode)(x)
    np.testing.assert_array_equal(number.numpy(), np.ones((2, 4)))
    left, right = hg.jacobian(hg.multiply, (0, 1), mode=mode)(x[0], x[1])
    np.testing.assert_array_equal(left.numpy(), np.diag(x[1]))
    np.testing.assert_array_equal(right.numpy(), np.diag(x[0]))
    assert hg.jacobian(lambda x: x[:0], mode=mode)(x[0]).shape == (0, 4)
    assert hg.jacobian(lambda x: x.sum() * hg.ones((2,), dtype=x.dtype), mode=mode)(x[0][:0]).shape == (2, 0)


def test_jacobians_nest():
    third = hg.jacobian(hg.jacobian(hg.jacobian(lambda x: x * x * x)))(np.array([2.0, 3.0])).numpy()
    want = np.zeros((2, 2, 2, 2))
    want[0, 0, 0, 0] = want[1, 1, 1, 1] = 6
    np.testing.assert_array_equal(third, want)


def test_hessian_is_symmetric_and_the_same_both_ways():
    H = hg.hessian(scalar)(X).numpy()
    assert H.shape == (3, 4, 3, 4)
    np.testing.assert_allclose(H, hg.hessian(scalar, mode="reverse")(X).numpy(), atol=1e-15)
    np.testing.assert_allclose(H, H.transpose(2, 3, 0, 1), atol=1e-15)
    _, along = hg.jvp(hg.hessian(scalar, mode="reverse"), X, V)  # a third derivative
    h = 1e-5
    step = (hg.hessian(scalar)(X + h * V).numpy() - hg.hessian(scalar)(X - h * V).numpy()) / (2 * h)
    np.testing.assert_allclose(along.numpy(), step, atol=1e-8)


def test_forward_mode_is_one_level_deep():
    with pytest.raises(RuntimeError, match=r"jvp: forward mode is one level deep.*hg\.grad or hg\.vjp"):
        hg.jvp(lambda x: hg.jvp(scalar, x, V)[1], X, V)
    assert not state.pushing, "an error leaves the switch as it was"
    inside = hg.jvp(lambda x: hg.jacobian(hg.tanh)(x), X[0], V[0])[1]  # chooses the reverse mode by itself
    assert inside.shape == (4, 4)


def test_another_thread_is_not_pushed():
    seen = []

    def f(x):
        thread = threading.Thread(target=lambda: seen.append((x * 2.0).tangent))
        thread.start()
        thread.join()
        return x * 2.0

    hg.jvp(f, X, V)
    assert seen == [None]


def test_arguments_are_not_touched():
    x = hg.Tensor(X)
    hg.jvp(scalar, x, V)
    hg.grad(scalar)(x)
    assert x.tangent is None and not x.requires_grad and x.node is None


@pytest.mark.parametrize(
    "call, kind, sentence",
    [
        (lambda: hg.jvp(scalar, (X,), (V, V)), ValueError, "jvp: got 1 primals and 2 tangents"),
        (lambda: hg.jvp(scalar, X, V[0]), ValueError, r"tangent 0 is float64 \(4,\), but the primal .* \(3, 4\)"),
        (lambda: hg.jvp(scalar, X, V.astype(np.float32)), ValueError, "tangent 0 is float32"),
        (lambda: hg.jvp(hg.sum, np.arange(3), np.arange(3)), TypeError, "primal 0 is int64, but only floating point"),
        (lambda: hg.jvp(lambda x: 3.0, X, V), TypeError, "jvp: the function returned a float"),
        (lambda: hg.vjp(lambda x: [x], X), TypeError, "vjp: the function returned a list"),
        (lambda: hg.vjp(scalar, X)[1](V), ValueError, "the cotangent has shape"),
        (lambda: hg.jacobian(hg.exp, mode="both"), ValueError, "mode is 'both'"),
        (lambda: hg.jacobian(lambda x: (x, x))(X), TypeError, "jacobian: the function returned a tuple"),
        (lambda: hg.jacobian(lambda x: (x, x), mode="forward")(X), TypeError, "jacobian: the function returned a tuple"),
        (lambda: hg.jacobian(hg.exp, 1)(X), TypeError, r"jacobian: argnums is 1, but the function got 1"),
        (lambda: hg.hessian(hg.exp)(X), ValueError, "reduce y to one number"),
    ],
)  # fmt: skip
def test_mistakes_are_one_sentence(call, kind, sentence):
    with pytest.raises(kind, match=sentence) as error:
        call()
    assert "\n" not in str(error.value)
    assert not state.pushing
