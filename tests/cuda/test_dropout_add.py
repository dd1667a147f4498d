"""dropout_add's CUDA rungs and the generator give the bits of the kernels for the CPU; and mistakes that must be caught."""


import numpy as np
import pytest

from handgrad.engine.random import Generator
from handgrad.kernels.cpu import dropout_add, philox
from handgrad.kernels.cuda.ladders import LADDERS, NO_ROWS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

SIZES = [0, 1, 3, 4, 5, 255, 1023, 1024, 1025, 2050]
DRAWS = [(1, 0, 0), (2**64 - 1, 2**63 + 5, 2**32 - 3), (3, 2**32, 2**64 - 2)]
"""All 64 bits, a carry into the counter's upper half, and a counter that wraps around."""
P = 0.3


def numbers(n: int) -> tuple[np.ndarray, ...]:
    rng = np.random.default_rng(n)
    return tuple(rng.standard_normal(n).astype(np.float32) for _ in range(3))


def same(ours: np.ndarray, theirs: np.ndarray) -> bool:
    return ours.dtype == theirs.dtype and ours.tobytes() == theirs.tobytes()


def gradients(pair, dy, inputs, residuals, p: float = P) -> tuple:
    k = len(inputs)
    return pair.vjp(dy, None, *inputs, residuals=residuals, wanted=(True,) * k, into=(None,) * k, p=p)


def dropout_add_trial(pair, n: int) -> None:
    x, residual, dy = numbers(n)
    x[::5] = np.nan
    for draw in DRAWS:
        inputs = x, residual, np.array(draw, np.uint64)
        words = [int(w) for w in philox.philox_uint32(*draw, n)[-1:]]
        for p in (P, *(1.0 - (w + more) / 2**32 for w in words for more in (0, 1))):  # a word beside the limit
            assert pair.accepts(*inputs, p=p)
            (y, kept), (want_y, bits) = (each.forward(*inputs, p=p) for each in (pair, dropout_add))
            assert same(y, want_y)
            dx, dresidual, nothing = gradients(pair, dy, inputs, kept, p)
            assert dresidual is dy and nothing is None and same(dx, gradients(dropout_add, dy, inputs, bits, p)[0])


def philox_trial(module, n: int) -> None:
    like = np.zeros(0)
    for draw in DRAWS:
        words = philox.philox_uint32(*draw, n)
        assert same(module.philox_uint32(*draw, n, like=like), words)
        at_a_word = int(words[-1]) / 2**32 if n else 0.5
        for p_keep in (0.0, at_a_word, 1.0):
            assert same(module.bernoulli_mask(*draw, n, p_keep, like=like), philox.bernoulli_mask(*draw, n, p_keep))


TRIALS = {"dropout_add": dropout_add_trial, "philox": philox_trial}
RUNGS = [(o, name) for o in TRIALS for name in {**LADDERS, **NO_ROWS}[o]]


def trials(operation: str, name: str) -> None:
    for n in SIZES:
        TRIALS[operation](rung(operation, name), n)
    with running(("forward",), sanitize=True):
        TRIALS[operation](rung(operation, name), 5)


@pytest.mark.parametrize(("operation", "name"), RUNGS)
def test_the_bits_of_the_cpu(operation, name):
    trials(operation, name)


@pytest.mark.parametrize("name", LADDERS["dropout_add"])
def test_integers_below_zero_count_by_their_bits(name):
    x, residual, _ = numbers(70)
    draw, same_draw = np.array([-1, 2, -3], np.int32), np.array([2**64 - 1, 2, 2**64 - 3], np.uint64)
    assert same(*(rung("dropout_add", name).forward(x, residual, d, p=P)[0] for d in (draw, same_draw)))


@pytest.mark.parametrize("name", LADDERS["dropout_add"])
def test_what_is_not_accepted(name):
    pair, x, draw = rung("dropout_add", name), np.zeros((2, 3), np.float32), np.zeros(3, int)
    assert pair.accepts(x, x, draw, p=0.0) and not pair.accepts(x, x, draw, p=1.0)
    assert not pair.accepts(x.astype(float), x, draw, p=P) and not pair.accepts(x, x[0], draw, p=P)
    assert not pair.accepts(x, x, draw[:2], p=P) and not pair.accepts(x, x, draw * 1.0, p=P)
    assert not pair.accepts(x, x, draw, p=1 - 2.0**-40)  # no word keeps
    nothing = pair.vjp(x, x, x, x, draw, residuals=None, wanted=(False,) * 3, into=(None,) * 3, p=P)
    assert nothing == (None, None, None)


@pytest.mark.parametrize("shape", [(), (3,), (100, 7), (200, 100)])  # the last one the CPU draws by its kernel
def test_the_engine_draws_the_same_mask(shape):
    philox_01, n = rung("philox", "01_block_per_thread"), int(np.prod(shape))
    for seed, stream, counter in DRAWS:
        generator = Generator(seed, stream)
        generator.set_state({**generator.state(), "counter": counter})
        mask = philox_01.bernoulli_mask(seed, stream, counter, n, 1 - P, like=np.zeros(0))
        assert same(mask.reshape(shape), generator.bernoulli(shape, 1 - P))


def test_what_the_generator_refuses():
    philox_01, like = rung("philox", "01_block_per_thread"), np.zeros(0)
    with pytest.raises(ValueError, match=r"^bernoulli_mask: p_keep is 1.5, but a probability lies between 0 and 1$"):
        philox_01.bernoulli_mask(0, 0, 0, 4, 1.5, like=like)
    with pytest.raises(ValueError, match=r"^bernoulli_mask: n is 2147483648, but at most 2147418112 are drawn at once$"):
        philox_01.bernoulli_mask(0, 0, 0, 2**31, 0.5, like=like)
    with pytest.raises(ValueError, match=r"^philox_uint32: n is 2147483648, but at most"):
        philox_01.philox_uint32(0, 0, 0, 2**31, like=like)


ROUND = [
    ("round < 10", "round < 9"),
    ("high1 ^ b ^ k0", "high1 ^ k0"),
    ("high0 ^ d ^ k1", "high0 ^ d"),
    ("k0 += 0x9E3779B9u", "k0 += 0x9E3779B8u"),
    ("b = counter >> 32", "b = 0"),
    ("d = stream >> 32", "d = 0"),
    ("k1 = seed >> 32", "k1 = 0"),
]
MISTAKES = [
    *(("dropout_add", "01_word_per_thread", old, new) for old, new in ROUND),
    ("dropout_add", "01_word_per_thread", "if (i >= n) return;\n  y", "y"),
    ("dropout_add", "01_word_per_thread", "if (i >= n) return;\n  dx", "dx"),
    ("dropout_add", "01_word_per_thread", "word <= last_kept ? __fmul_rn(x, scale) : 0.0f", "(word <= last_kept) * x * scale"),
    ("dropout_add", "01_word_per_thread", "word <= last_kept ?", "word < last_kept ?"),
    ("dropout_add", "01_word_per_thread", "draw[2] + i / 4", "draw[2] + i"),
    ("dropout_add", "01_word_per_thread", "i % 4 == 2 ? four.z", "i % 4 == 2 ? four.w"),
    ("dropout_add", "02_block_per_thread", "if (i + 4 <= n) {\n    const float4 v", "if (i < n) {\n    const float4 v"),
    ("dropout_add", "02_block_per_thread", "if (i + 4 <= n) {\n    const float4 d", "if (i < n) {\n    const float4 d"),
    ("dropout_add", "02_block_per_thread", "words[j - i], last_kept, scale));", "words[0], last_kept, scale));"),
    ("dropout_add", "02_block_per_thread", "words[j - i], last_kept, scale);\n", "words[0], last_kept, scale);\n"),
    ("philox", "01_block_per_thread", "i + k < n; k++) words", "i < n; k++) words"),
    ("philox", "01_block_per_thread", "i + k < n; k++) keep", "i < n; k++) keep"),
    ("philox", "01_block_per_thread", "all[k] < limit", "all[k] <= limit"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "name", "old", "new"), MISTAKES)
def test_a_planted_mistake_is_caught(operation, name, old, new, caught):
    said = caught(f"{operation}_{name}", old, new, lambda: trials(operation, name))
    assert said is not None, "it survived"
