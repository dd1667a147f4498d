"""Tensors on the second device: what moves, what runs there, and what goes wrong in one sentence."""

import subprocess
import sys

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine import device
from handgrad.engine.errors import UserError


def test_a_round_trip_keeps_the_bits_and_says_where_it_is():
    x = hg.Tensor(np.array([[1.5, np.nan, -0.0], [np.inf, 2.0, 3.0]], np.float32))
    there = x.to("cuda")
    assert (x.device, there.device, there.to("cuda") is there, x.to("cpu") is x) == ("cpu", "cuda", True, True)
    assert there.shape == x.shape and there.dtype == x.dtype and "device='cuda'" in repr(there)
    np.testing.assert_array_equal(there.to("cpu").numpy().view(np.uint32), x.numpy().view(np.uint32))
    assert hg.sum(there[1, 1:]).item() == 5.0 and int(hg.Tensor(3).to("cuda")) == 3
    assert [0, 1, 2][hg.Tensor(2).to("cuda")] == 2


def test_gradients_flow_through_the_copy_to_where_the_leaf_is():
    x = hg.Tensor([1.0, 2.0], requires_grad=True)
    y = (x.to("cuda") * hg.Tensor([3.0, 4.0]).to("cuda")).to("cpu") * x
    hg.sum(y).backward()
    np.testing.assert_array_equal(hg.Tensor(x.grad).numpy(), [6.0, 16.0])

    def cube(x):
        there = x.to("cuda")
        return hg.sum(there * there * there)

    np.testing.assert_array_equal(hg.grad(lambda x: hg.sum(hg.grad(cube)(x)))(hg.Tensor([2.0])).numpy(), [12.0])
    np.testing.assert_array_equal(hg.jvp(cube, hg.Tensor([2.0]), hg.Tensor([1.0]))[1].to("cpu").numpy(), 12.0)
    np.testing.assert_array_equal(hg.hessian(cube)(hg.Tensor([2.0]).to("cuda")).to("cpu").numpy(), [[12.0]])


def test_gradients_add_up_on_the_gpu():
    x = hg.Tensor([1.0, 2.0]).to("cuda")
    x.requires_grad = True
    for _ in range(2):
        hg.sum(x * x + x).backward()
    assert x.grad is not None and x.grad.device == "cuda"
    np.testing.assert_array_equal(x.grad.to("cpu").numpy(), [6.0, 10.0])
    x.copy_(np.array([5.0, 6.0], np.float32))
    np.testing.assert_array_equal(x.detach().to("cpu").numpy(), [5.0, 6.0])


def test_a_leaf_that_was_moved_or_written_spoils_the_graph_before():
    layer = hg.nn.Linear(2, 2)
    y = hg.sum(layer(hg.Tensor([[1.0, 2.0]], requires_grad=True)))
    layer.to("cuda")
    with pytest.raises(RuntimeError, match=r"weight of linear was changed after the forward pass"):
        y.backward()


def test_operations_without_a_row_run_there():
    a = np.array([[3.0, 1.0, 2.0], [1.0, 1.0, 0.0]], np.float32)
    x = hg.Tensor(a).to("cuda")
    pairs = {
        "argsort": (hg.argsort(x), np.argsort(a, kind="stable")),
        "descending": (hg.sort(x, axis=0, descending=True), -np.sort(-a, axis=0)),
        "take_along_axis": (hg.take_along_axis(x, np.array([[2], [0]]), axis=1), [[2.0], [1.0]]),
        "argmax": (hg.argmax(x, axis=1), [0, 0]),
        "all": (hg.all(x, axis=1), [True, False]),
        "count_nonzero": (hg.count_nonzero(x, axis=1, keepdims=True), [[3], [2]]),
        "searchsorted": (hg.searchsorted(hg.Tensor([1.0, 2.0]).to("cuda"), x), np.searchsorted([1.0, 2.0], a)),
        "nonzero": (hg.nonzero(x)[1], np.nonzero(a)[1]),
        "unique": (hg.unique_all(x).counts, [1, 3, 1, 1]),
        "tril": (hg.tril(x), np.tril(a)),
        "repeat": (hg.repeat(x, [1, 0, 2], axis=1), np.repeat(a, [1, 0, 2], axis=1)),
        "roll": (hg.roll(x, 1, axis=1), np.roll(a, 1, axis=1)),
        "std": (hg.std(x, axis=0), np.std(a, axis=0)),
        "clip": (hg.clip(x, 1.0, hg.Tensor(2.0).to("cuda")), np.clip(a, 1.0, 2.0)),
        "copysign": (hg.copysign(x, -1.0), -a),
        "sign": (hg.sign(hg.Tensor([np.nan, -2.0]).to("cuda")), [np.nan, -1.0]),
        "comparison": ((x > 1.0) & ~(x == 3.0), (a > 1) & (a != 3)),
        "mse": (hg.mse(x, 1.0 * x), 0.0),
        "zeros_like": (hg.zeros_like(x), np.zeros_like(a)),
        "full": (hg.full((2,), 7.0, device="cuda"), [7.0, 7.0]),
        "dtype": (hg.astype(x, np.int32), a.astype(np.int32)),
    }
    for name, (got, want) in pairs.items():
        assert got.device == "cuda", name
        np.testing.assert_allclose(got.to("cpu").numpy(), want, rtol=1e-6, err_msg=name)
    assert hg.Tensor.namespace.__array_namespace_info__().devices() == ["cpu", "cuda"]
    assert x.__array_namespace__().arange(3).device == "cuda"


def test_arrays_of_cupy_become_tensors_there(cupy):
    x = hg.Tensor(cupy.asarray(np.arange(3.0)))
    assert x.device == "cuda" and x.dtype == np.float64
    assert hg.add(x, cupy.ones(3)).device == "cuda"
    assert hg.asarray(cupy.ones(3)).device == "cuda"
    assert hg.masked_softmax(x, cupy.asarray([True, False, True])).to("cpu").numpy()[1] == 0.0
    assert hg.take(x, cupy.asarray([2])).item() == 2.0
    states = cupy.zeros((1, 2, 2)), cupy.zeros((2, 2)), cupy.zeros((2, 2)), cupy.zeros((2, 2)), cupy.zeros(2)
    assert hg.rnn(*states, cupy.asarray([1, 0]))[1].device == "cuda"


def test_every_random_bit_is_that_of_the_cpu():
    def drawn(where):
        hg.manual_seed(5)
        x = hg.Tensor(np.ones((4, 9), np.float32)).to(where)
        return hg.nn.Dropout(0.4)(x), hg.dropout_add(x, x, p=0.3)

    for ours, theirs in zip(drawn("cpu"), drawn("cuda"), strict=True):
        np.testing.assert_array_equal(theirs.to("cpu").numpy(), ours.numpy())


@pytest.mark.parametrize("n", [0, 1, 5, 1025, 20_000])  # of 20000 on the CPU draws the kernel, of fewer the formula
def test_a_mask_is_drawn_on_the_gpu_with_the_bits_of_the_cpu(n):
    """From any place of any stream, also where the counter wraps around; both generators go on from the same place."""
    like = device.moved(np.zeros(1, np.float32), "cuda")
    for seed, stream, counter in ((5, 0, 0), (2**64 - 1, 2**63 + 5, 2**32 - 3), (3, 2**32, 2**64 - 2)):
        here, there = hg.Generator(seed, stream), hg.Generator(seed, stream)
        for g in (here, there):
            g.set_state({**g.state(), "counter": counter})
        for p in (0.0, 0.3, 1.0) if counter < 2**63 else (0.3,):
            mask = there.bernoulli((n,), p, like=like)
            assert device.device_of(mask) == "cuda" and mask.dtype == bool
            np.testing.assert_array_equal(device.host(mask), here.bernoulli((n,), p))
        assert here.state() == there.state()
    assert type(hg.Generator().bernoulli((n,), 0.3, like=np.zeros(1))) is np.ndarray


def test_dropout_copies_no_mask(monkeypatch):
    """dropout copies nothing and dropout_add three integers, forward and back; both draw what they draw on the CPU."""
    moved, copied = device.moved, []

    def watched(array, where):
        if device.device_of(array) != where:
            copied.append(array.nbytes)
        return moved(array, where)

    x = hg.Tensor(np.random.default_rng(0).standard_normal((30, 41)).astype(np.float32))
    results = {}
    for where in ("cpu", "cuda"):
        leaf = x.to(where)
        leaf.requires_grad = True
        layer = hg.nn.Dropout(0.4, hg.Generator(7))
        for name, call in (("dropout", layer), ("dropout_add", lambda t, layer=layer: layer.add(t, t))):
            with monkeypatch.context() as patch:
                patch.setattr(device, "moved", watched)
                y = call(leaf)
                (dx,) = hg.gradients(y, [leaf], y.detach())
            results[where, name] = [t.detach().to("cpu").numpy() for t in (y, dx)]
            assert copied == ([24] if (where, name) == ("cuda", "dropout_add") else [])
            copied.clear()
    for name in ("dropout", "dropout_add"):
        for ours, theirs in zip(results["cpu", name], results["cuda", name], strict=True):
            np.testing.assert_array_equal(theirs, ours)


# ---- what goes wrong, in one sentence


def test_two_devices_in_one_operation():
    here, there = hg.Tensor([[1.0]]), hg.Tensor([[1.0]]).to("cuda")
    array = np.ones((1, 1), np.float32)
    for operation in (lambda: here + there, lambda: hg.matmul(here, there), lambda: hg.add(there, array)):
        with pytest.raises(ValueError, match=r"^(add|matmul): x1 is on (cpu|cuda) and x2 on (cpu|cuda); move one of"):
            operation()
    with pytest.raises(ValueError, match=r"^less: input 0 is on cpu and input 1 on cuda"):
        _ = here < there
    with pytest.raises(ValueError, match=r"^concat: input 0 is on cuda and input 1 on cpu"):
        hg.concat([there, here])
    with pytest.raises(ValueError, match=r"^backward: y is on cuda and the cotangent on cpu"):
        x = hg.Tensor([1.0]).to("cuda")
        x.requires_grad = True
        (x * x).backward(hg.Tensor([1.0]))
    with pytest.raises(ValueError, match=r"^AdamW: some parameters are on cpu and some on cuda"):
        hg.optim.AdamW([hg.Tensor([1.0]), hg.Tensor([1.0]).to("cuda")])


def test_numpy_does_not_reach_it():
    there = hg.Tensor([1.0]).to("cuda")
    for reach in (there.numpy, lambda: np.asarray(there)):
        with pytest.raises(TypeError, match=r"^numpy: this Tensor is on cuda; use t.to\('cpu'\).numpy\(\)"):
            reach()


@pytest.mark.parametrize("name", ["gpu", "cuda:1", "", None, 0])
def test_an_unknown_device(name):
    with pytest.raises(UserError, match=r"^to: device is .*, but it must be 'cpu' or 'cuda'$"):
        hg.Tensor([1.0]).to(name)
    with pytest.raises(UserError, match=r"^to: device is "):
        hg.nn.Linear(1, 1).to(name)
    if name is not None:
        with pytest.raises(UserError, match=r"^Tensor: device is "):
            hg.zeros(3, device=name)


def test_no_cupy_no_driver_no_gpu(monkeypatch, stand_in):
    device.cupy.cache_clear()
    try:
        for modules, sentence in (
            ({"cupy": None}, "cuda: CuPy is not installed, without which nothing runs"),
            (stand_in.installed(None), "cuda: there is no GPU to run on (cudaErrorInsufficientDriver): "),
            (stand_in.installed(0), "cuda: there is no GPU to run on: nvidia-smi must list one"),
        ):
            with monkeypatch.context() as patch:
                for name, module in modules.items():
                    patch.setitem(sys.modules, name, module)
                with pytest.raises(UserError) as caught:
                    hg.Tensor([1.0]).to("cuda")
                assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)
                assert device.devices() == ["cpu"]
    finally:
        device.cupy.cache_clear()


def test_the_engine_does_not_import_cupy():
    code = (
        "import sys, handgrad as hg; x = hg.Tensor([1.0], requires_grad=True); hg.sum(hg.softmax(x)).backward()\n"
        "hg.nn.Linear(2, 2).to('cpu'); assert not [m for m in sys.modules if m.split('.')[0] == 'cupy']"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# ---- kernels


def test_the_ladders_last_rung_runs_where_it_accepts():
    x = hg.Tensor(np.ones((3, 5), np.float32)).to("cuda")
    with hg.use_kernels("auto") as calls:
        y = hg.softmax(x)
        assert calls == {"softmax forward": 1}
        hg.softmax(hg.astype(x, np.float64))  # no rung for float64: the formula
        hg.softmax(x, axis=0)
        assert calls == {"softmax forward": 1}
    with hg.use_kernels("off") as calls:
        np.testing.assert_allclose(hg.softmax(x).to("cpu").numpy(), y.to("cpu").numpy(), rtol=1e-6)
        assert not calls
    with hg.use_kernels("force"), pytest.raises(RuntimeError, match=r"^softmax: kernels are forced, but there is none"):
        hg.softmax(x, axis=0)


def test_matmul_of_float32_keeps_its_digits():
    """The last rung would round to tf32; the one below it does not."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(np.float32) for shape in ((33, 40), (40, 35)))
    with hg.use_kernels("auto") as calls:
        y = hg.matmul(hg.Tensor(a).to("cuda"), hg.Tensor(b).to("cuda"))
    assert calls == {"matmul forward": 1}
    np.testing.assert_allclose(y.to("cpu").numpy(), a.astype(np.float64) @ b, rtol=0, atol=40 * 6e-8 * 10)


def test_debug_compares_kernels_with_formulas_there(capsys):
    x = hg.Tensor(np.ones((3, 5), np.float32)).to("cuda")
    x.requires_grad = True
    with hg.debug(4):
        hg.sum(hg.softmax(x) * x).backward()
        with pytest.raises(RuntimeError, match=r"log forward made the first NaN"):
            hg.log(-hg.Tensor([1.0]).to("cuda"))
    assert "softmax forward kernel" in capsys.readouterr().err


def test_check_op_takes_functions_that_give_arrays_of_cupy(cupy):
    def swish(x):
        x = cupy.asarray(x)
        return x / (1.0 + cupy.exp(-x))

    def swish_vjp(dy, y, x):
        x, dy = cupy.asarray(x), cupy.asarray(dy)
        s = 1.0 / (1.0 + cupy.exp(-x))
        return (dy * s * (1.0 + x * (1.0 - s)),)

    x = np.random.default_rng(0).standard_normal((3, 4))
    hg.check_op(swish, (x,), vjp=swish_vjp, skip=("second order",))
    with pytest.raises(AssertionError, match="swish: vjp"):
        hg.check_op(swish, (x,), vjp=lambda dy, y, x: (2.0 * swish_vjp(dy, y, x)[0],), skip=("second order",))
