"""Tensors on a second device. On a machine with a GPU this is CuPy's; elsewhere the stand-in of fake_cupy.py."""

import importlib.util
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine import device
from handgrad.engine.cli.main import app
from handgrad.engine.errors import UserError
from handgrad.engine.files import load_tensors
from handgrad.engine.models.generation import generate
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.models.lstm import LSTMLanguageModel
from handgrad.engine.models.seq2seq import Seq2SeqLSTM
from handgrad.engine.tensor import apply
from handgrad.engine.training import loop
from handgrad.engine.training.feed import CarriedFeed, RandomFeed
from handgrad.engine.training.metrics import read_metrics
from handgrad.reference.op import Spec
from handgrad.reference.table import ROWS

_spec = importlib.util.spec_from_file_location("fake_cupy", Path(__file__).with_name("fake_cupy.py"))
assert _spec is not None and _spec.loader is not None
fake_cupy = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(fake_cupy)


@pytest.fixture(autouse=True, scope="module")
def cupy():
    """The GPU's CuPy where there is one, else the stand-in."""
    try:
        yield device.cupy()
        return
    except UserError:
        pass
    sys.modules.update(fake_cupy.installed())
    try:
        yield device.cupy()
    finally:
        fake_cupy.forget()


SAMPLES = [
    pytest.param(op, sample, id=f"{op.name}: {sample.why}")
    for op in ROWS
    for sample in op.samples
    if not any(np.asarray(a).dtype == np.longdouble for a in sample.inputs if a is not None)
]


def on_gpu(a):
    return device.moved(a, "cuda") if isinstance(a, np.ndarray) else a


def same(got, want, where):
    """Both alike to a few roundings: a GPU's exp is not NumPy's."""
    if want is None or isinstance(want, Spec):
        return
    if isinstance(want, tuple):
        assert len(got) == len(want)
        for g, w in zip(got, want, strict=True):
            same(g, w, where)
        return
    assert device.device_of(got) == "cuda", where
    got, want = device.host(got), np.asarray(want)
    assert got.dtype == want.dtype and got.shape == want.shape, where
    if want.dtype.kind == "f":
        scale = np.max(np.abs(want[np.isfinite(want)]), initial=1.0)
        np.testing.assert_allclose(got, want, rtol=0, atol=1000 * np.finfo(want.dtype).eps * scale, err_msg=where)
    else:
        np.testing.assert_array_equal(got, want, err_msg=where)


def cotangents(y):
    """Random ones, of the shapes and dtypes of y."""
    rng = np.random.default_rng(0)
    found = [rng.standard_normal(np.shape(a)).astype(np.asarray(a).dtype) for a in (y if isinstance(y, tuple) else (y,))]
    return tuple(found) if isinstance(y, tuple) else found[0]


@pytest.mark.parametrize(("op", "sample"), SAMPLES)
def test_a_formula_runs_on_arrays_of_the_gpu(op, sample):
    inputs, params = tuple(sample.inputs), dict(sample.params)
    theirs = tuple(map(on_gpu, inputs))
    with np.errstate(all="ignore"):
        y, got = op.forward(*inputs, **params), op.forward(*theirs, **params)
        same(got, tuple(map(np.asarray, y)) if isinstance(y, tuple) else np.asarray(y), "forward")
        if (y[0] if isinstance(y, tuple) else np.asarray(y)).dtype.kind != "f":
            return
        dy = cotangents(y)
        asked = {"wanted": tuple(isinstance(a, np.ndarray) for a in inputs)} if op.takes_wanted else {}
        want = op.vjp(dy, y, *inputs, **asked, **params)
        dys = tuple(map(on_gpu, dy)) if isinstance(dy, tuple) else on_gpu(dy)
        found = op.vjp(dys, got, *theirs, **asked, **params)
        same(found, tuple(None if w is None else np.asarray(w) for w in want), "vjp")


@pytest.mark.parametrize(("op", "sample"), SAMPLES)
def test_a_row_on_tensors_of_the_gpu_has_the_gradients_of_the_cpu(op, sample):
    """Kernel or formula, whatever runs; and the backward pass as a computation of its own."""

    def gradients(where, create):
        differentiable = op.differentiable * len(sample.inputs) if op.variadic else op.differentiable
        xs = [
            hg.Tensor(a.astype(np.float32) if a.dtype.kind == "f" else a).to(where) if isinstance(a, np.ndarray) else a
            for a in sample.inputs
        ]
        leaves = [
            x for x, d in zip(xs, differentiable, strict=False) if isinstance(x, hg.Tensor) and d and x.dtype.kind == "f"
        ]
        for leaf in leaves:
            leaf.requires_grad = True
        y = apply(op, *xs, **sample.params)
        y = y[0] if isinstance(y, tuple) else y
        if not y.requires_grad:
            return None
        dy = hg.Tensor(cotangents(np.zeros(y.shape, y.dtype))).to(where)
        found = hg.gradients(y, leaves, dy, create_graph=create)
        return tuple(t.data for t in found)

    if not any(isinstance(a, np.ndarray) and a.ndim for a in sample.inputs):
        return
    with np.errstate(all="ignore"):
        for create in (False, True):
            with hg.use_kernels("off" if create else "auto"):
                want = gradients("cpu", create)
                got = gradients("cuda", create)
            if want is not None:
                same(got, want, f"create_graph={create}")


# ---- Tensors


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


def test_every_random_bit_is_that_of_the_cpu():
    def drawn(where):
        hg.manual_seed(5)
        x = hg.Tensor(np.ones((4, 9), np.float32)).to(where)
        return hg.nn.Dropout(0.4)(x), hg.dropout_add(x, x, p=0.3)

    for ours, theirs in zip(drawn("cpu"), drawn("cuda"), strict=True):
        np.testing.assert_array_equal(theirs.to("cpu").numpy(), ours.numpy())


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


def test_no_cupy_no_driver_no_gpu(monkeypatch):
    device.cupy.cache_clear()
    try:
        for modules, sentence in (
            ({"cupy": None}, 'cuda: CuPy is not installed; pip install "handgrad[cuda12]" or "handgrad[cuda13]"'),
            (fake_cupy.installed(None), "cuda: CuPy finds no GPU that it can use (cudaErrorInsufficientDriver: "),
            (fake_cupy.installed(0), "cuda: CuPy finds no GPU on this machine"),
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


# ---- training


def small(kind, dropout=0.1) -> Any:
    """(model, feed): a model that is trained in milliseconds, with what it is trained on."""
    hg.manual_seed(3)
    ids = np.random.default_rng(0).integers(0, 11, 400)
    if kind == "gpt":
        model = GPT(GPTConfig(11, block_size=8, n_layer=2, n_head=2, n_embd=16, dropout=dropout))
        return model, RandomFeed(ids[:300], ids[300:], 8, 4, seed=1)
    return LSTMLanguageModel(11, 12, 12, 2, dropout=dropout), CarriedFeed(ids[:300], ids[300:], 8, 4)


def trained(kind, where, optimizer, steps=20):
    model, feed = small(kind)
    model.to(where)
    update = optimizer(model.parameters())
    losses = []
    for _ in range(steps):
        loss = feed.loss(model)
        assert loss.device == where
        update.zero_grad()
        loss.backward()
        update.step()
        losses.append(loss.item())
    assert all(p.device == where and p.grad.device == where for p in model.parameters())
    return [*losses, feed.validate(model)]


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
@pytest.mark.parametrize("name", ["AdamW", "Adam", "SGD", "Adagrad"])
def test_twenty_steps_have_the_losses_of_the_cpu(kind, name):
    def optimizer(parameters):
        settings = {"SGD": {"lr": 0.1, "momentum": 0.9}}.get(name, {"lr": 1e-2})
        return getattr(hg.optim, name)(parameters, **settings, weight_decay=0.1, max_norm=1.0)

    here, there = (trained(kind, where, optimizer) for where in ("cpu", "cuda"))
    np.testing.assert_allclose(there, here, rtol=0, atol=1e-4)
    assert abs(here[-2] - here[0]) > 1e-3


def test_a_model_and_its_optimizer_move_in_the_middle():
    def run(move):
        model, feed = small("gpt")
        optimizer = hg.optim.AdamW(model.parameters(), lr=1e-2, max_norm=1.0)
        for step in range(6):
            if move and step in (2, 4):
                model.to("cuda" if step == 2 else "cpu")
                with pytest.raises(RuntimeError, match=r"call its to\(device\) after moving it"):
                    optimizer.step()
                optimizer.to(model.device)
                assert optimizer.device == model.device
            loss = feed.loss(model)
            optimizer.zero_grad()
            loss.backward()
            hg.optim.clip_grad_norm_(model.parameters(), 0.5)
            optimizer.step()
        return {name: p.data for name, p in model.named_parameters()}

    here, there = run(False), run(True)
    assert all(isinstance(a, np.ndarray) and not a.flags.writeable for a in there.values())
    for name in here:
        np.testing.assert_allclose(there[name], here[name], rtol=0, atol=1e-4, err_msg=name)


def test_tied_weights_stay_tied_and_state_dicts_are_numpys():
    model, _ = small("gpt")
    before = model.state_dict()
    assert model.to("cuda") is model and model.device == "cuda"
    assert model.lm_head.weight is model.transformer.wte.weight
    after = model.state_dict()
    assert all(type(a) is np.ndarray for a in (*after.values(), *model.to_files()[1].values()))
    for name in before:
        np.testing.assert_array_equal(after[name], before[name])
    model.load_state_dict({name: np.zeros_like(a) for name, a in before.items()})
    assert not model.state_dict()["lm_head.weight"].any() and model.device == "cuda"


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_generation_reads_on_the_models_device(kind):
    model, _ = small(kind)
    ids = np.array([1, 5, 2])
    want = [list(generate(m.eval(), ids, 12, generator=hg.Generator(2))) for m in (model, model.to("cuda"))]
    assert want[0] == want[1]
    with pytest.raises(UserError, match="weights is 'int8', but"):
        generate(model.reader("int8"), ids, 1)


def test_seq2seq_runs_there():
    source, lengths, target = np.array([[3, 4, 5], [4, 3, 0]]), [3, 2], np.array([[1, 5, 4, 2], [1, 3, 2, 0]])
    hg.manual_seed(1)
    model = Seq2SeqLSTM(vocab_size=6, embed_size=4, hidden_size=6, num_layers=1, attention="bahdanau")
    here = model.loss(source, lengths, target).item(), model.greedy(source, most=4)[0], model.beam(source[0], 2, most=4)
    model.to("cuda")
    loss = model.loss(source, lengths, target)
    loss.backward()
    assert loss.device == "cuda" and abs(loss.item() - here[0]) < 1e-5
    assert model.greedy(source, most=4)[0] == here[1]
    assert [h.tokens for h in model.beam(source[0], 2, most=4)] == [h.tokens for h in here[2]]


def test_layers_that_make_arrays_of_their_own():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3, 8)).astype(np.float32)
    mask = np.array([True, True, False])[None, None, None, :]
    for make, call in (
        (lambda: hg.nn.MultiheadAttention(8, 2, dropout=0.2), lambda m, t: m(t, mask=mask)),
        (lambda: hg.nn.SelfAttention(8, 2), lambda m, t: m(t, mask)),
        (lambda: hg.nn.GRU(8, 5, bias=False, bidirectional=True), lambda m, t: m(t, lengths=[2, 1, 2])[0]),
        (lambda: hg.nn.LSTMCell(8, 5), lambda m, t: m(t[0])[0]),
        (lambda: hg.nn.RNN(8, 5), lambda m, t: m(t)[0]),
    ):
        hg.manual_seed(4)
        layer = make()
        hg.manual_seed(4)
        here = call(layer, hg.Tensor(x))
        hg.manual_seed(4)
        there = call(layer.to("cuda"), hg.Tensor(x).to("cuda"))
        np.testing.assert_allclose(there.detach().to("cpu").numpy(), here.detach().numpy(), rtol=0, atol=1e-5)


# ---- the command line


TEXT = "the cat sat on the mat and the dog sat on the log. " * 40


def command(capsys, *arguments):
    """(exit code, stdout, stderr) of a command in this process, where the second device is."""
    code = app(list(map(str, arguments)), standalone_mode=False)
    return code or 0, *capsys.readouterr()


@pytest.mark.parametrize("kind", ["gpt", "lstm"])
def test_a_run_is_resumed_on_another_device(tmp_path, capsys, kind):
    """Three runs of 6 steps: on the CPU, on the GPU, and one that an interruption moves from there to the CPU."""
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    size = ["--layers", 1, "--heads", 2, "--width", 16] if kind == "gpt" else ["--layers", 1, "--hidden", 12]
    given = ["--text", text, "--steps", 6, "--context", 8, "--batch", 2, "--eval-every", 3, *size]
    losses = {}
    for where in ("cpu", "cuda"):
        assert command(capsys, "train", kind, "--out", tmp_path / where, "--device", where, *given)[0] == 0
        losses[where] = read_metrics(tmp_path / where / "metrics.jsonl")

    def interrupted(run, step):
        if step == 2:
            signal.raise_signal(signal.SIGINT)
        return whole_step(run, step)

    whole_step = loop._Run.step
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop._Run, "step", interrupted)
        assert command(capsys, "train", kind, "--out", tmp_path / "moved", "--device", "cuda", *given)[0] == 130
    arrays, _ = load_tensors(tmp_path / "moved" / "checkpoint.safetensors")
    assert all(type(a) is np.ndarray for a in arrays.values())
    assert command(capsys, "train", kind, "--out", tmp_path / "moved", "--resume", "--device", "cpu")[0] == 0
    losses["moved"] = read_metrics(tmp_path / "moved" / "metrics.jsonl")
    for where in ("cuda", "moved"):
        for ours, theirs in zip(losses["cpu"], losses[where], strict=True):
            assert ours["step"] == theirs["step"]
            for key in ("loss", "validation_loss"):
                assert abs(ours.get(key, 0.0) - theirs.get(key, 0.0)) < 1e-4
    written = [
        command(capsys, "generate", tmp_path / "cuda", "--tokens", 20, "--device", where)[1] for where in ("cpu", "cuda")
    ]
    assert written[0] == written[1]


def test_a_device_that_is_not_there_is_one_line(tmp_path, capsys):
    (tmp_path / "text.txt").write_text(TEXT)
    for verb in (["train", "gpt", "--text", tmp_path / "text.txt", "--out", tmp_path / "run"], ["generate", tmp_path]):
        with pytest.raises(UserError, match=r"^--device: device is 'tpu', but it must be 'cpu' or 'cuda'$"):
            app(list(map(str, [*verb, "--device", "tpu"])), standalone_mode=False)
    assert not (tmp_path / "run").exists()
