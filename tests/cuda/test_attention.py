"""Every rung of attention's ladder, run on the CPU under all schedules, against float64; and mistakes planted in their source.

All mistakes of a file are compiled into one library, `planted == k ? wrong : right`, and switched on one after the other.
"""

import re
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

planting = runpy.run_path(str(Path(__file__).with_name("planting.py")))
whole = planting["whole"]
EPS = float(np.finfo(np.float32).eps)
UNIT = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""What one rounding to 16 bits may cost."""
LOST = {"float32": 2.0**-126, "float16": 2.0**-25, "bfloat16": 2.0**-126}
"""What a weight may lose where it is too small for a normal number."""
RUNGS = [n for n in LADDERS["attention"] if '"hopper.cuh"' not in whole(f"attention_{n}")]
"""Those for sm_90a are tested in test_attention_hopper.py."""
every_rung = pytest.mark.parametrize("name", RUNGS)


def case(shape: tuple[int, ...], mask: tuple[int, ...] | None = None, **params: Any) -> SimpleNamespace:
    """shape: (B, H, G, T, S, D); mask: its shape, which may be left out from the left."""
    return SimpleNamespace(shape=shape, mask=mask, params=params)


CASES = [
    case((1, 1, 1, 1, 1, 1)),
    case((2, 1, 1, 0, 3, 4)),
    case((1, 2, 1, 3, 0, 4), mask=(3, 0)),
    case((2, 4, 2, 31, 64, 3), mask=(2, 1, 1, 64)),
    case((1, 2, 1, 33, 65, 64), causal=True),
    case((1, 2, 2, 65, 33, 20), causal=True, scale=20.0),
    case((1, 3, 1, 64, 97, 12), window=5),
    case((1, 1, 1, 63, 32, 33), mask=(63, 32), causal=True, window=20),
    case((2, 2, 1, 129, 40, 8), mask=(2, 129, 1)),
    case((1, 1, 1, 34, 66, 65), mask=(66,), window=40),
    case((1, 2, 1, 65, 31, 128)),
    case((1, 1, 1, 15, 33, 129), mask=(1,)),
    case((1, 2, 1, 33, 17, 256), causal=True),
]
"""Tails and full tiles on both axes and of head_dim, queries that see nothing, every kind of mask."""

SMALL = [
    case((1, 2, 2, 33, 20, 5), causal=True, scale=20.0),
    case((2, 4, 2, 3, 66, 6), mask=(2, 4, 3, 66)),
    case((2, 2, 1, 67, 34, 8), mask=(2, 1, 1, 34), window=30),
    case((1, 2, 1, 66, 67, 3), causal=True, window=2),  # one key in the last tile of those that 64 queries see
    case((1, 2, 1, 67, 66, 3), causal=True, window=2),  # one query in the last tile of those that see 64 keys
]
"""For mistakes, which have many trials: no full tile of head_dim."""


# ---- float64


def definition(dy: Any, q: Any, k: Any, v: Any, mask: Any, causal: bool, scale: Any, window: Any) -> list[tuple[Any, Any]]:
    """y, dq, dk, dv of q (B, H, T, D), k and v (B, G, S, D), each with the size of what was added up.

    A score of size a (the sum of its products' sizes) has an error of a eps, which is a relative error of e^(s - lse). So what
    is made of weights is `worse` by the row's largest a; twice, as lse has the same error.
    """
    share = q.shape[1] // k.shape[1]
    k, v = (np.repeat(a, share, axis=1) for a in (k, v))
    (T, D), S = q.shape[-2:], k.shape[-2]
    c = D**-0.5 if scale is None else scale

    def t(a: Any) -> Any:
        return np.swapaxes(a, -1, -2)

    ahead = np.arange(S) - (np.arange(T)[:, None] + S - T)
    seen = np.ones((T, S), bool) if mask is None else mask
    if causal:
        seen = seen & (ahead <= 0)
    if window is not None:
        seen = seen & (abs(ahead) < window)
    s = np.where(seen, c * q @ t(k), -np.inf)
    e = np.where(seen, np.exp(s - np.maximum(s.max(-1, keepdims=True, initial=-np.inf), -1e300)), 0)
    p = e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
    y = p @ v
    worse = 1 + 2 * (c * abs(q) @ t(abs(k))).max(-1, keepdims=True, initial=0)
    dp, inner = dy @ t(v), (dy * y).sum(-1, keepdims=True)
    ds = c * p * (dp - inner)
    size_y = worse * (p @ abs(v))
    size_ds = c * p * (worse * (abs(dy) @ t(abs(v))) + (abs(dy) * size_y).sum(-1, keepdims=True))

    def by_group(a: Any) -> Any:
        return a.reshape(a.shape[0], a.shape[1] // share, share, *a.shape[2:]).sum(2)

    return [
        (y, size_y),
        (ds @ k, size_ds @ abs(k)),
        (by_group(t(ds) @ q), by_group(t(size_ds) @ abs(q))),
        (by_group(t(p) @ dy), by_group(t(p * worse) @ abs(dy))),
    ]


def trial(pair: Any, this: SimpleNamespace, types: tuple[str, ...] = ()) -> None:
    """y and gradients of one random problem, in these types, or all of the pair's. In 16 bits, weights (or ds), y in <dy, y>,
    and results are rounded once each.
    """
    B, H, G, T, S, D = this.shape
    params: Any = {"causal": False, "scale": None, "window": None, **this.params}
    for dtype in types or getattr(pair, "TYPES", ("float32",)):
        rng = np.random.default_rng(this.shape)
        shapes = (B, H, T, D), (B, G, S, D), (B, G, S, D), (B, H, T, D)
        q, k, v, dy = (rng.standard_normal(shape).astype(ml_dtypes.bfloat16).astype(dtype) for shape in shapes)
        mask = None if this.mask is None else rng.random(this.mask) < 0.6
        xs = (q, k, v) if mask is None else (q, k, v, mask)
        if mask is not None and mask.size:
            mask.flat[0] = False  # so that a mask of one number hides all
        want = definition(*(a.astype(np.float64) for a in (dy, q, k, v)), mask=mask, **params)
        if mask is not None and mask.ndim != 2 and mask.shape[-1] == S > 1 and mask.shape[-2:-1] in ((), (1,)):
            hidden = ~np.broadcast_to(mask, (B, 1, 1, S))[:, :, 0, :, None]
            k, v = (np.where(hidden, np.array(np.nan, a.dtype), a) for a in (k, v))  # padding may hold anything
            xs = (q, k, v, mask)
        grouped = H != G
        assert pair.accepts(*xs, **params, grouped=grouped)
        y, residuals = pair.forward(*xs, **params, grouped=grouped)
        rest: Any = {"residuals": residuals, "wanted": (True, True, True, False), "into": (None,) * 4}
        got = y, *pair.vjp(dy, y, *xs, **rest, **params, grouped=grouped)[:3]
        length = max(T * H // G, S, D)
        unit = 8 * EPS * length**0.5 + 3 * UNIT[dtype]
        lost = LOST[dtype] * length * 5 * max(params["scale"] or 1, 1)  # 5: the largest of the other factor
        for what, a, (number, size) in zip(("y", "dq", "dk", "dv"), got, want, strict=True):
            assert a.dtype == dtype and a.shape == number.shape, what
            error = abs(a.astype(np.float64) - number)
            wrong = ~(error <= unit * size + lost)
            assert not wrong.any(), f"{what} in {dtype} at {np.argwhere(wrong)[0]}: error {error[wrong][0]:.1e}"


@every_rung
@pytest.mark.parametrize("this", CASES, ids=lambda this: "x".join(map(str, this.shape)))
def test_a_rung_gives_the_numbers_of_float64(name, this):
    trial(rung("attention", name), this)


@every_rung
def test_a_rung_touches_nothing_outside_of_its_arrays(name):
    with running(("forward",), sanitize=True):
        for this in SMALL:
            trial(rung("attention", name), this)


@every_rung
def test_not_a_number_reaches_only_who_sees_it(name):
    pair, rng = rung("attention", name), np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 2, 40, 8)).astype(getattr(pair, "TYPES", ("float32",))[0]) for _ in range(3))
    k[1, 0, 35] = v[0, 1, 39] = np.nan
    y, _ = pair.forward(q, k, v, causal=True)
    spoilt = np.isnan(y).any(-1)
    assert spoilt[1, 0, 35:].all() and spoilt[0, 1, 39].all() and not spoilt[0, 0].any() and not spoilt[1, 1].any()
    assert not spoilt[1, 0, :35].any()


@every_rung
def test_gradients_that_nobody_wants_are_not_made(name):
    pair, rng = rung("attention", name), np.random.default_rng(0)
    dtype = getattr(pair, "TYPES", ("float32",))[0]
    q, k, v, dy = (rng.standard_normal((3, 8)).astype(dtype) for _ in range(4))
    y, residuals = pair.forward(q, k, v, None, None)
    for i in range(3):
        wanted = tuple(n == i for n in range(5))
        made = pair.vjp(dy, y, q, k, v, None, None, residuals=residuals, wanted=wanted, into=(None,) * 5)
        assert [a is not None for a in made] == list(wanted)


@every_rung
def test_what_is_not_taken(name):
    pair = rung("attention", name)
    dtype = getattr(pair, "TYPES", ("float32",))[0]

    def zeros(*shape: int, dtype: Any = dtype) -> np.ndarray:
        return np.zeros(shape, dtype)

    q, k, hidden = zeros(2, 4, 3, 8), zeros(2, 2, 5, 8), zeros(3, 5, dtype=bool)
    assert pair.accepts(q, k, k, hidden, grouped=True) and pair.accepts(q, q, q, None, None, causal=True, window=1)
    assert not pair.accepts(q, k, k)  # 4 heads and 2
    assert not pair.accepts(q, zeros(2, 3, 5, 8), zeros(2, 3, 5, 8), grouped=True)
    assert not pair.accepts(q, zeros(1, 2, 5, 8), zeros(1, 2, 5, 8), grouped=True)  # would have to be stretched
    assert not pair.accepts(q, k, zeros(2, 2, 5, 4), grouped=True)
    assert not pair.accepts(q, k, zeros(2, 2, 5, 8, dtype=np.float64), grouped=True)
    assert not pair.accepts(*(zeros(2, 4, 3, 8, dtype=np.float64) for _ in range(3)))
    assert not pair.accepts(q, k, k, zeros(3, 5), grouped=True)
    assert not pair.accepts(q, k, k, zeros(7, 1, 1, 1, 5, dtype=bool), grouped=True)
    assert not pair.accepts(q, k, k, zeros(4, 5, dtype=bool), grouped=True)
    assert not pair.accepts(q, k, k, None, zeros(3, 5), grouped=True)
    if name != "01_three_kernels":
        assert not pair.accepts(*(zeros(3, 257) for _ in range(3)))


def test_a_mask_for_some_of_several_batch_axes():
    pair, rng = rung("attention", "02_online"), np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 3, 2, 5, 4)).astype(np.float32) for _ in range(3))
    mask = rng.random((3, 1, 1, 5)) < 0.6
    y, _ = pair.forward(q, k, v, mask)
    for b in range(2):
        np.testing.assert_array_equal(pair.forward(q[b], k[b], v[b], mask)[0], y[b])


# ---- mistakes


MISTAKES = {
    "barrier": (r"__sync(?:threads|warp)\(\);", ""),
    "early end": (r"if \((?:at|row|i|j) >= [^;{}]*?\) (?:return|continue);", ""),
    "bound": (r"(?<!bool )(?<![;(] )\b(?:row|d|d \+ \d|i|j) < (?:last|D|(?:of\.)?T|S)\b(?!; )", "true"),
    "visible": (r"(?<!bool )seen\((?:mask|of_head)[^;{}]*?\bj\b[^;()]*?after\)|of\.seen\([^()]*\)", "true"),
    "order": (r"ahead >= -before|ahead <= after|mask\[[^\]]*\]", "1"),
    "place": (r"i \+ S - T\b", "i"),
    "first": (r"first \+ S - T|first - \(S - T\)", "first + 32"),
    "end": (r"last \+ S - T|last - \(S - T\)", "last - 1"),
    "padding": (r"!shown \|\| shown\[row \* stride\]", "true"),
    "wait for a copy": (r"cp_async_wait<1>\(\);", ""),
    "stage": (r"\(t \+ 1\) % STAGES", "0"),
    "room of the row": (r"min\(max\(D - d, 0\), EACH\)", "EACH"),
    "number of the row": (r"j < there(?= \?)", "true"),
    "batch entry of the mask": (r"(?:head / H|\bb) \* mask_b", "0"),
    "head of the mask": (r"(?:head % H|\bh) \* mask_h", "0"),
    "key head": (r"head % H / \(H / G\)", "head % G"),
    "share": (r"\((key_head(?: % G)?) \+ 1\) \* (share|\(H / G\))", r"\1 * \2 + 1"),
    "stride": (r"\(size_t\)(?:\([^()]*\)|[\w.]+(?:\([^()]*\))?) \* (?:of\.T|[TSD]) \* D", "0"),
    "butterfly": (r"away > 0", "away > 1"),
    "rescaled total": (r"total\[r\] \*= shrink;", ""),
    "rescaled sums": (r"sums\[r\]\[n\]\.[xyzw] \*= shrink;|sums\[n\]\[[^\]]*\] \*= shrink;", ""),
    "maximum": (r"m\[r\] = larger(?:\[r\])?;", ""),
    "shift": (r"(?<=expf\()(s\[j\]|s\[r\]\[c\]|s\[n\]\[l\]) - (?:m\b(?:\[l / 2\])?|larger)", r"\1"),
    "logarithm": (r"m\[r\] \+ logf\(total\[r\]\)", "m[r]"),
    "sum of nothing": (r"\btotal(?:\[r\])? == 0\.0f", "false"),
    "inner product": (r"(?<=\()(d[ps]\[[^()]*?) - inner(?:_i|_of\[l / 2\]|\[[^\]]*\])?", r"\1"),
    "scale": (r"(sum|s\[r\]\[c\]|[sp]\[n\]\[l\]) \* (?:of\.)?scale", r"\1"),
    "scale of a gradient": (r"(?<=, )of\.scale(?=, D)", "1.0f"),
}
"""Kind -> (what, what instead). Statements end with a semicolon."""

HARMLESS: dict[tuple[str, str, int], str] = {}
"""(stem, mistake, which one): why it cannot be caught."""


def of_one_type(stem: str) -> str:
    """The source with one instance of each template, which is enough."""
    others = r'extern "C" __global__[^{]*_(?:128|256|float16_64)\(.*?\n}\n'
    return re.sub(others, "", whole(stem), flags=re.DOTALL)


STEMS = {f"attention_{name}": name for name in RUNGS}
PLANTED = planting["Planted"]({stem: of_one_type(stem) for stem in STEMS}, MISTAKES)


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str | None]:
    """fate(stem, number of the mistake): what caught it, or None."""

    def of(stem: str, number: int) -> str | None:
        pair = rung("attention", STEMS[stem])
        one = getattr(pair, "TYPES", ("float32",))[:1]

        def trials() -> None:
            for this in SMALL:
                trial(pair, this, one)
            with running(("forward",), sanitize=True):
                for this in SMALL[-2:]:
                    trial(pair, this, one)

        return PLANTED.caught(monkeypatch, stem, number, trials)

    return of


@PLANTED.each
def test_a_planted_mistake_is_caught(fate, stem, kind, which, number):
    caught = fate(stem, number)
    assert (caught is None) == ((stem, kind, which) in HARMLESS), caught or "it survived"


@pytest.mark.parametrize("stem", PLANTED.sources)
def test_what_is_not_changed_is_not_caught(fate, stem):
    assert fate(stem, -1) is None


def test_every_kind_of_mistake_is_planted_and_few_are_harmless():
    PLANTED.are_of_every_kind(HARMLESS)
