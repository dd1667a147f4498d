"""GloVe: the same bits for any number of threads and through any interruption, and mistakes in one sentence."""

import numpy as np
import pytest

import handgrad as hg
from handgrad.engine.errors import UserError
from handgrad.engine.models.glove import GloVe, GloVeConfig
from handgrad.kernels.cpu import glove as k

V = 50
WORDS = [f"w{n}" for n in range(V)]


@pytest.fixture(scope="module")
def pairs():
    rng = np.random.default_rng(0)
    i, j = np.nonzero(rng.random((V, V)) < 0.5)
    return i, j, rng.uniform(0.1, 200.0, len(i))


def trained(pairs, epochs=6, **options):
    config = GloVeConfig(**options.pop("config", {}))
    model = GloVe(WORDS, 7, seed=options.pop("seed", 3))
    model.fit(pairs, epochs, config, **options)
    return model


def same(a, b):
    return a.costs == b.costs and all(np.array_equal(a.parameters[n], b.parameters[n]) for n in a.parameters)


def test_begins_as_the_authors_program_does():
    model = GloVe(WORDS, 7)
    for array in model.parameters.values():
        assert array.dtype == np.float32 and np.abs(array).max() <= 0.5 / 7 and abs(array.mean()) < 0.03
    assert same(model, GloVe(WORDS, 7)) and not same(model, GloVe(WORDS, 7, seed=2))


def test_deterministic_is_the_same_for_any_number_of_threads(monkeypatch):
    """With enough pairs that a round is worth more threads than one."""
    i, j = np.divmod(np.arange(200 * 200), 200)
    calls, threads = [], k.glove_pairs_03_threads
    monkeypatch.setattr(k, "glove_pairs_03_threads", lambda *arguments: [calls.append(1), threads(*arguments)])
    models = [GloVe([f"w{n}" for n in range(200)], 30, seed=seed) for seed in (3, 3, 4)]
    for model, count in zip(models, (1, 2, 2), strict=True):
        model.fit((i, j, 1.0 + (i * j) % 7), 3, threads=count)
    assert len(calls) == 2 * 3 * 32
    assert same(models[0], models[1]) and not same(models[1], models[2])


def test_hogwild_on_one_thread_is_deterministic_too(pairs):
    config = {"mode": "hogwild"}
    assert same(trained(pairs, config=config, threads=1), trained(pairs, config=config, threads=1))


@pytest.mark.parametrize("mode", ["deterministic", "hogwild"])
def test_the_objective_goes_down_and_both_modes_find_it(pairs, mode):
    model = trained(pairs, 30, config={"mode": mode})
    assert model.costs == sorted(model.costs, reverse=True) and model.costs[-1] < 0.05 * model.costs[0]
    p = model.parameters
    loss = float(
        hg.glove(p["w"], p["w_context"], p["b"], p["b_context"], *pairs[:2], pairs[2].astype(np.float32)).item()
    )
    assert loss / 2 / len(pairs[2]) == pytest.approx(model.costs[-1], rel=0.1)


def test_float32_suffices(pairs):
    """The same run in float64: the difference is far below that between two seeds."""
    wide = GloVe(WORDS, 7, seed=3, dtype=np.float64)
    wide.fit(pairs, 6)
    narrow, other = trained(pairs), trained(pairs, seed=4)
    assert wide.vectors.dtype == np.float64
    assert np.abs(narrow.vectors - wide.vectors).max() < 1e-4 < 1e-2 < np.abs(other.vectors - wide.vectors).max()


@pytest.mark.parametrize("after", [1, 31, 32, 33, 100])
def test_interrupted_and_resumed_is_the_same(pairs, tmp_path, after):
    """In the middle of an epoch, at its end, and more than once."""
    path, asked = tmp_path / "checkpoint.safetensors", iter(range(1, 1000))
    model = GloVe(WORDS, 7, seed=3)
    model.fit(pairs, 6, stop=lambda: next(asked) == after, checkpoint=path)
    assert model.epoch < 6
    again = GloVe.load_checkpoint(path, WORDS)
    assert (again.epoch, again.round) == (model.epoch, model.round) == divmod(after, 32)
    again.fit(pairs, 6, checkpoint=path)
    assert same(again, trained(pairs)) and same(GloVe.load_checkpoint(path, WORDS), again)


def test_training_longer_is_training_once(pairs):
    model = trained(pairs, 2)
    model.fit(pairs, 6)
    assert same(model, trained(pairs))


@pytest.mark.parametrize("words", [1, 2, 33])
def test_few_words(words):
    """Fewer than the blocks of a large vocabulary, and a number that the blocks do not divide."""
    i, j = np.divmod(np.arange(words * words), words)
    model = GloVe(WORDS[:words], 3)
    costs = model.fit((i, j, 1.0 + i + 2.0 * j), 20)
    assert costs[-1] < costs[0] and np.isfinite(model.vectors).all()


def test_divergence_names_the_pair(pairs):
    with pytest.raises(
        UserError, match=r"diverged in epoch 1: the error of the pair \(\d+, \d+\), 'w\d+' and 'w\d+', is"
    ):
        trained(pairs, config={"lr": 1e9})


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda i, j, x: (i, j, np.where(i == 3, 0.0, x)), "x of the pair (3, 0) is 0.0, but a count must be positive"),
        (lambda i, j, x: (i, j + 1, x), "j holds 50, but there are 50 words"),
        (lambda i, j, x: (i - 1, j, x), "i holds -1, but there are 50 words"),
        (lambda i, j, x: (i, j, x[1:]), "need one axis of one length"),
        (lambda i, j, x: (i[:0], j[:0], x[:0]), "there are no co-occurrences to fit"),
        (lambda i, j, x: (i.astype(float), j, x), "i is float64, but ids are integers"),
    ],
)
def test_pairs_that_cannot_be(change, sentence):
    i, j = np.divmod(np.arange(V * V), V)
    with pytest.raises(UserError) as caught:
        trained(change(i, j, np.ones(V * V)))
    assert sentence in str(caught.value)


def test_other_mistakes(pairs, tmp_path):
    for options, sentence in (
        ({"lr": 0.0}, "lr is 0.0"),
        ({"mode": "fast"}, "mode is 'fast', but"),
        ({"alpha": -1.0}, "alpha"),
    ):
        with pytest.raises(UserError, match=sentence):
            GloVeConfig(**options)
    model = trained(pairs, 1)
    with pytest.raises(UserError, match="cannot go on with"):
        model.fit(pairs, 2, GloVeConfig(lr=0.1))
    with pytest.raises(UserError, match="other co-occurrences"):
        model.fit((*pairs[:2], pairs[2] + 1.0), 2)
    model.save_checkpoint(tmp_path / "c")
    with pytest.raises(UserError, match="no checkpoint of GloVe for these words"):
        GloVe.load_checkpoint(tmp_path / "c", WORDS[:-1])
