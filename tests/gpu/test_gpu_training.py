"""Models, optimizers, runs and commands on the second device, beside the same ones on the CPU."""

import signal
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.cli.main import app
from handgrad.engine.errors import UserError
from handgrad.engine.files import load_tensors
from handgrad.engine.models.generation import generate
from handgrad.engine.models.gpt import GPT, GPTConfig
from handgrad.engine.models.lstm import LSTMLanguageModel
from handgrad.engine.models.seq2seq import Seq2SeqLSTM
from handgrad.engine.training import loop
from handgrad.engine.training.feed import CarriedFeed, RandomFeed
from handgrad.engine.training.metrics import read_metrics


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
