"""Sequence to sequence: attention by its page, padding that never leaks, beam search by exhaustion, and the commands."""

from __future__ import annotations

import itertools
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor, nn
from handgrad.engine.cli.main import run as cli_run
from handgrad.engine.errors import UserError
from handgrad.engine.models import Seq2SeqLSTM, load_model, save_model
from handgrad.engine.models.beam import beam_search
from handgrad.engine.models.seq2seq import ATTENTIONS
from handgrad.engine.tasks.translate import PairsFeed, exact_matches, translate
from handgrad.engine.text.pairs import padded, read_pairs, split_pairs
from handgrad.engine.text.tokenizer import CharacterTokenizer
from handgrad.engine.training.attention_map import attention_map_svg
from handgrad.reference.additive_attention import (
    additive_attention,
    additive_attention_vjp,
    multiplicative_attention,
    multiplicative_attention_vjp,
)

RNG = np.random.default_rng
B, T, S, H, D, V = 3, 4, 6, 5, 8, 7
MASK = np.arange(S) < np.array([6, 3, 1])[:, None]
both = pytest.mark.parametrize("attention", ATTENTIONS)


def example(*shape: int) -> np.ndarray:
    return RNG(shape).standard_normal(shape)


PAGES: dict[str, Any] = {
    "bahdanau": (
        additive_attention, additive_attention_vjp, (example(B, T, H), example(B, S, H), example(H), example(B, S, D))
    ),
    "luong": (multiplicative_attention, multiplicative_attention_vjp, (example(B, T, D), example(B, S, D))),
}  # fmt: skip


# ---- the page


@both
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_the_page_against_finite_differences(attention: str, mask: Any) -> None:
    """Along random directions, with a random cotangent for both outputs."""
    forward, vjp, inputs = PAGES[attention]
    y = forward(*inputs, mask)
    assert np.allclose(y[1].sum(axis=-1), 1.0) and (
        mask is None or not y[1][~np.broadcast_to(mask[:, None], y[1].shape)].any()
    )
    dy = tuple(RNG(1).standard_normal(part.shape) for part in y)
    grads = vjp(dy, y, *inputs, mask)
    step = 1e-6
    for k, (x, dx) in enumerate(zip(inputs, grads, strict=True)):
        direction = RNG(k).standard_normal(x.shape)
        ends = [forward(*inputs[:k], x + sign * step * direction, *inputs[k + 1 :], mask) for sign in (1, -1)]
        slope = sum(float(np.sum(d * (up - down))) for d, up, down in zip(dy, *ends, strict=True)) / (2 * step)
        assert dx.shape == x.shape and float(np.sum(dx * direction)) == pytest.approx(slope, rel=1e-7, abs=1e-8)


@both
@pytest.mark.parametrize("mask", [None, MASK], ids=["all", "masked"])
def test_the_module_is_the_page(attention: str, mask: Any) -> None:
    forward, vjp, _ = PAGES[attention]
    module = nn.AdditiveAttention(H, D, H) if attention == "bahdanau" else nn.MultiplicativeAttention(H, D)
    module.astype(np.float64)
    query, states = (Tensor(example(*shape), requires_grad=True) for shape in ((B, T, H), (B, S, D)))
    y = module(query, module.keys(states), states, mask)
    q = query.data @ module.query.weight.data.T
    page = (
        (q, states.data @ module.key.weight.data.T, module.v.data, states.data)
        if attention == "bahdanau"
        else (q, states.data)
    )
    want = forward(*page, mask)
    for got, wanted in zip(y, want, strict=True):
        np.testing.assert_allclose(got.detach().numpy(), wanted, rtol=1e-12, atol=1e-14)
    dy = tuple(RNG(2).standard_normal(part.shape) for part in want)
    (hg.sum(y[0] * dy[0]) + hg.sum(y[1] * dy[1])).backward()
    dq, *rest = vjp(dy, want, *page, mask)
    np.testing.assert_allclose(query.grad.numpy(), dq @ module.query.weight.data, rtol=1e-10, atol=1e-12)
    dstates = rest[-1] + (rest[0] @ module.key.weight.data if attention == "bahdanau" else 0.0)
    np.testing.assert_allclose(states.grad.numpy(), dstates, rtol=1e-10, atol=1e-12)


# ---- the model


def model(attention: str, **options: Any) -> Seq2SeqLSTM:
    hg.manual_seed(0)
    made = Seq2SeqLSTM(V, 5, 6, attention=attention, **options).astype(np.float64)
    for p in made.parameters():  # so that what it writes depends on what it reads
        p.copy_(3.0 * p.data)
    return made.eval()


SOURCE = RNG(0).integers(0, V, (B, S))
LENGTHS = np.array([6, 3, 1])


def target_of(m: Seq2SeqLSTM) -> np.ndarray:
    return padded([[m.begin, 1, 2, 3, m.end], [m.begin, 4, m.end], [m.begin, m.end]], m.pad)[0]


@both
def test_padding_never_leaks(attention: str) -> None:
    """Other numbers in the padding, and more of it, change nothing; nor does who else is in the batch."""
    m = model(attention, num_layers=2)
    target = target_of(m)
    loss = m.loss(SOURCE, LENGTHS, target).item()
    other = np.where(MASK, SOURCE, (SOURCE + 1) % V)
    longer = np.hstack([other, RNG(4).integers(0, V, (B, 3))])
    more = np.hstack([target, np.full((B, 2), m.pad)])
    for source, wanted in ((other, target), (longer, target), (SOURCE, more)):
        assert m.loss(source, LENGTHS, wanted).item() == pytest.approx(loss, rel=1e-12)
    together, weights = m.greedy(SOURCE, LENGTHS, most=5)
    for b, length in enumerate(LENGTHS):
        (alone,), looks = m.greedy(SOURCE[b : b + 1, :length], most=5)
        assert alone == together[b]
        np.testing.assert_allclose(looks[0], weights[b, : len(looks[0]), :length], rtol=1e-10, atol=1e-13)
    memory, state = m.encode(SOURCE, LENGTHS)
    first = m.decode(np.full((B, 1), m.begin), state, memory)[0].detach().numpy()
    assert np.ptp(first, axis=0).max() > 0.1  # a model that ignores its source would pass all of this


@both
def test_teacher_forcing_is_decoding_step_by_step(attention: str) -> None:
    m = model(attention)
    memory, state = m.encode(SOURCE, LENGTHS)
    target = target_of(m)[:, :-1]
    whole, _, _ = m.decode(target, state, memory)
    for t in range(target.shape[1]):
        step, state, _ = m.decode(target[:, t : t + 1], state, memory)
        np.testing.assert_allclose(step[:, 0].detach().numpy(), whole[:, t].detach().numpy(), rtol=1e-11, atol=1e-13)


@both
def test_a_beam_of_one_is_greedy_and_scores_are_log_probabilities(attention: str) -> None:
    m = model(attention)
    (greedy,), _ = m.greedy(SOURCE[:1], most=6)
    (narrow,) = m.beam(SOURCE[0], 1, most=6)
    assert list(narrow.tokens) == greedy
    best = m.beam(SOURCE[0], 4, most=6, length_penalty=0.0)
    assert [h.score for h in best] == sorted((h.score for h in best), reverse=True)
    for h in best:
        tokens = [m.begin, *h.tokens] + [m.end] * (len(h.tokens) < 6)
        memory, state = m.encode(SOURCE[:1])
        logits = m.decode(np.array([tokens[:-1]]), state, memory)[0][0].detach().numpy().copy()
        logits[:, [m.pad, m.begin]] = -np.inf
        p = logits - np.log(np.exp(logits).sum(axis=-1, keepdims=True))
        assert h.log_probability == pytest.approx(sum(p[t, token] for t, token in enumerate(tokens[1:])), rel=1e-9)


@pytest.mark.parametrize("penalty", [0.0, 0.6, 2.0])
def test_a_beam_wider_than_all_texts_finds_the_best_of_all(penalty: float) -> None:
    """A table of random probabilities that depend on the last two tokens; every text of up to 4 tokens is tried."""
    count, end, most = 4, 3, 4
    table = RNG(7).standard_normal((count + 1, count + 1, count))
    table -= np.log(np.exp(table).sum(axis=-1, keepdims=True))

    def step(tokens: np.ndarray, before: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return table[before, tokens], tokens

    found = beam_search(
        step,
        lambda s, i: s[i],
        np.array([count]),
        begin=count,
        end=end,
        width=count**most,
        length_penalty=penalty,
        most=most,
    )
    scores = {}
    for length in range(most + 1):
        for text in itertools.product(range(end), repeat=length):
            path = [count, count, *text] + [end] * (length < most)
            total = sum(table[path[i], path[i + 1], path[i + 2]] for i in range(len(path) - 2))
            scores[text] = total / ((5 + min(length + 1, most)) / 6) ** penalty
    assert {h.tokens for h in found} == set(scores)
    assert found[0].tokens == max(scores, key=scores.__getitem__)
    assert all(h.score == pytest.approx(scores[h.tokens]) for h in found)


@both
def test_files(attention: str, tmp_path: Path) -> None:
    tokenizer = CharacterTokenizer("abcdefg")
    first = model(attention).astype(np.float32)
    save_model(tmp_path, first, tokenizer)
    second, _ = load_model(tmp_path)
    assert second.config == first.config
    assert translate(second, tokenizer, ["abc"], most=5) == translate(first, tokenizer, ["abc"], most=5)


def test_it_learns_to_turn_words_round() -> None:
    """A task that needs attention, or the whole text in one state."""
    words = ["".join(letters) for letters in itertools.product("abc", repeat=3)]
    tokenizer = CharacterTokenizer("abc")
    hg.manual_seed(1)
    m = Seq2SeqLSTM(3, 8, 16, attention="luong")
    feed = PairsFeed(m, tokenizer, [(w, w[::-1]) for w in words], [(words[0], words[0])], 27, 0)
    optimizer = hg.optim.Adam(m.parameters(), lr=0.02)
    for _ in range(150):
        optimizer.zero_grad()
        feed.loss(m).backward()
        optimizer.step()
    assert all(exact_matches(m, tokenizer, [(w, w[::-1]) for w in words]))
    assert translate(m, tokenizer, words, beam=3) == translate(m, tokenizer, words)


# ---- pairs, pictures, commands


def test_pairs(tmp_path: Path) -> None:
    path = tmp_path / "pairs.txt"
    path.write_text("a b \tc\tignored\n\nd\te\n")
    assert read_pairs(path) == [("a b", "c"), ("d", "e")]
    path.write_text("3/4/99   _1999-03-04\n")
    assert read_pairs(path, "_") == [("3/4/99", "1999-03-04")]
    for content, sentence in {
        "a\tb\nno tab\n": r"line 2: there is no '\\t' between a source and a target",
        "a\t \n": "line 1: the target is empty",
        "\tb\n": "line 1: the source is empty",
    }.items():
        path.write_text(content)
        with pytest.raises(UserError, match=sentence):
            read_pairs(path)
    pairs = [(str(i), str(i)) for i in range(10)]
    train, held = split_pairs(pairs, 3, seed=1)
    assert len(train) == 7 and sorted(train + held) == pairs and split_pairs(pairs, 3, seed=1) == (train, held)
    assert split_pairs(pairs, 3, seed=2) != (train, held)
    with pytest.raises(UserError, match="held_back is 10, but it must be from 1 to 9: there are 10 pairs"):
        split_pairs(pairs, 10, seed=1)


def test_the_picture_shows_each_weight(tmp_path: Path) -> None:
    weights = np.array([[0.25, 0.75], [1.0, 0.0], [0.5, 0.5]])
    attention_map_svg(weights, ["<", " "], ["x", "&", "end"], tmp_path / "map.svg")
    drawn = (tmp_path / "map.svg").read_text()
    shown = [float(o) for o in re.findall(r'fill-opacity="([\d.]+)"', drawn)]
    np.testing.assert_allclose(shown, 0.06 + 0.94 * weights.reshape(-1), atol=1e-3)
    assert "&amp; looks at \u00b7: 0.00" in drawn and ">&lt;</text>" in drawn
    with pytest.raises(ValueError, match=r"weights has shape \(3, 2\), but there are 1 target and 2 source tokens"):
        attention_map_svg(weights, ["a", "b"], ["x"], tmp_path / "no.svg")


def cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as left:
        cli_run([str(argument) for argument in arguments])
    return int(left.value.code or 0)


@pytest.fixture
def pairs(tmp_path: Path) -> Path:
    (tmp_path / "pairs.txt").write_text("".join(f"{i}\t{9 - i}\n" for i in range(10)) * 4)
    return tmp_path / "pairs.txt"


@both
def test_train_resume_and_translate(
    attention: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out, tiny = tmp_path / "run", ["--hidden", 4, "--embed", 4, "--steps", 5, "--held-back", 4, "--batch", 3]
    assert cli("train", "seq2seq", "--pairs", pairs, "--out", out, *tiny, "--attention", attention) == 0
    assert re.search(r"\d of 4 held-back pairs come out exactly right", capsys.readouterr().out)
    assert len((out / "matches.txt").read_text().splitlines()) == 5 and (out / "attention.svg").exists()
    model_bytes = (out / "model" / "model.safetensors").read_bytes()
    assert cli("train", "seq2seq", "--resume", "--out", out) == 0
    assert (out / "model" / "model.safetensors").read_bytes() == model_bytes
    assert capsys.readouterr().out == (
        f"{out} is finished: all its 5 steps are done; to train longer, begin again with more --steps\n"
    )
    (out / "matches.txt").unlink()  # the run ended before it could say how it did
    assert cli("train", "seq2seq", "--resume", "--out", out) == 0
    assert "held-back pairs" in capsys.readouterr().out and (out / "matches.txt").exists()
    assert cli("translate", out, "12", "--attention-map", tmp_path / "map.svg", "--most", 4) == 0
    greedy = capsys.readouterr().out
    assert (tmp_path / "map.svg").exists()
    monkeypatch.setattr("sys.stdin", iter(["12\n", "\n", "3\n"]))
    assert cli("translate", out, "--most", 4) == 0
    assert capsys.readouterr().out.startswith(greedy + "\n")
    assert cli("translate", out, "12", "--beam", 3, "--most", 4) == 0


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["train", "seq2seq", "--out", "OUT"], "--pairs is missing"),
        (["train", "seq2seq", "--pairs", "PAIRS", "--out", "OUT"], "--held-back is 1000, but it must be from 1 to 39"),
        (["train", "seq2seq", "--pairs", "PAIRS", "--out", "OUT", "--separator", "_"], "line 1: there is no '_' between"),
        (["train", "seq2seq", "--pairs", "PAIRS", "--out", "OUT", "--held-back", "3", "--attention", "self"],
         "--attention is 'self', but it must be bahdanau or luong"),
        (["train", "seq2seq", "--resume", "--out", "OUT"], "holds no checkpoint"),
        (["translate", "OUT", "a"], "is not a model folder"),
        (["translate", "OUT", "a", "--beam", "0"], "--beam is 0, but it must be at least 1"),
        (["translate", "OUT", "--attention-map", "x.svg"], "give TEXT"),
    ],
    ids=lambda a: " ".join(a)[-40:] if isinstance(a, list) else "",
)  # fmt: skip
def test_mistakes_are_one_sentence(
    arguments: list[str], sentence: str, pairs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    places = {"OUT": tmp_path / "run", "PAIRS": pairs}
    assert cli(*(places.get(a, a) for a in arguments)) == 2
    assert re.search(re.escape(sentence), capsys.readouterr().err)
    assert not (tmp_path / "run").exists()


def test_lengths_beyond_the_batch() -> None:
    with pytest.raises(ValueError, match=r"lengths \[7, 3, 1\], but lengths must be one for each source, from 1 to"):
        model("luong").encode(SOURCE, np.array([7, 3, 1]))
