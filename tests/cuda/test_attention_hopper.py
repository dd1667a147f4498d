"""Attention's rungs for sm_90a, run on the CPU under all schedules, against float64; and mistakes planted in their source.

All mistakes of a file are compiled into one library, `planted == k ? wrong : right`, and switched on one after the other. Not
planted, since threads, TMA and wgmma see one memory here: fences. Nor is a __syncwarp after what thread 0 does alone: here the
lanes of a warp come together at wgmma in any case.
"""

import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda.ladders import rung
from handgrad.kernels.cuda.on_cpu.kernel import SCHEDULES, running

planting = runpy.run_path(str(Path(__file__).with_name("planting.py")))
RUNGS = ("04_wgmma", "05_warp_specialised")
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)
EPS, UNIT, LOST = float(np.finfo(np.float32).eps), 2.0**-8, 2.0**-126
"""Of float32, in which everything is added up; what one rounding to bfloat16 may cost; and what a weight may lose where it is
too small for a normal number.
"""
EVERY = tuple(SCHEDULES)
every_rung = pytest.mark.parametrize("name", RUNGS)


def case(*shape: int, mask: tuple[int, ...] | None = None, **params: Any) -> SimpleNamespace:
    """shape: (B, H, G, T, S, D); mask: the shape of a random one, which hides a third."""
    return SimpleNamespace(shape=shape, mask=mask, params={"causal": False, "scale": None, "window": None, **params})


CASES = [
    case(1, 1, 1, 1, 1, 8),
    case(2, 1, 1, 0, 3, 8),
    case(1, 2, 1, 3, 0, 8),
    case(1, 4, 2, 127, 128, 56),
    case(1, 2, 1, 128, 127, 64, causal=True),
    case(1, 2, 1, 129, 65, 72),
    case(1, 1, 1, 65, 129, 120, causal=True, scale=20.0),
    case(1, 1, 1, 63, 300, 128, window=150),
    case(1, 2, 2, 200, 20, 16, causal=True),  # most queries see nothing
    case(1, 2, 1, 130, 65, 136),
    case(1, 1, 1, 127, 129, 256, causal=True),
    case(1, 1, 1, 63, 200, 192, window=70),
    case(3, 2, 1, 1, 1, 8, mask=(3, 1, 1, 1)),  # a query sees its one key or nothing
    case(2, 4, 2, 66, 130, 16, mask=(2, 1, 1, 130)),  # padding
    case(2, 2, 2, 129, 129, 72, mask=(2, 1, 1, 129), causal=True),
    case(2, 2, 1, 65, 64, 64, mask=(2, 2, 65, 64), window=40),
    case(1, 2, 2, 40, 193, 8, mask=(2, 1, 193)),
    case(2, 1, 1, 130, 3, 8, mask=(130, 1)),  # queries that see all or nothing
    case(2, 2, 1, 67, 65, 256, mask=(2, 1, 1, 65)),
]
"""Tails and full tiles on both axes and of head_dim, queries that see nothing, masks with and without each axis."""

SMALL = [
    case(1, 2, 1, 3, 66, 8),
    case(1, 1, 1, 128, 129, 8, causal=True, window=2),  # one key in the last tile of those that 128 queries see
    case(1, 1, 1, 130, 130, 8, causal=True, window=2),  # one query in the last tile of those that see 128 keys
    case(1, 1, 1, 2, 440, 8),
    case(1, 1, 1, 130, 140, 72, causal=True, scale=3.0),
    case(1, 1, 1, 260, 260, 16, window=150),
    case(2, 2, 2, 20, 3, 8, causal=True),  # most queries see nothing
    case(2, 2, 1, 66, 131, 8, mask=(2, 2, 66, 131)),
    case(1, 1, 1, 3, 130, 200),
]
"""For mistakes, which have many trials: more tiles than stages on either way, and stages that are filled a second time."""
MASKED = case(1, 1, 1, 3, 5, 8, mask=(3, 5))
"""A mask of which every row and column ends within a tile."""


def definition(
    dy: Any, q: Any, k: Any, v: Any, *, mask: Any, causal: bool, scale: float | None, window: int | None
) -> list[Any]:
    """(number, size, size of scores) of lse, y, dq, dk, dv, for q (B, H, T, D), k and v (B, G, S, D) in float64.

    size: of what is added up. A score of size a (the sum of its products' sizes) has an error of a eps of float32, which is a
    relative error of its weight; twice, as the sum of weights has the same one. So the third is the second, each weight times
    twice the largest a of its row.
    """
    (B, H, T, D), (G, S) = q.shape, k.shape[1:3]
    q, dy = (a.reshape(B, G, H // G, T, D) for a in (q, dy))
    k, v = k[:, :, None], v[:, :, None]
    c = D**-0.5 if scale is None else scale
    ahead = np.arange(S) - (np.arange(T)[:, None] + S - T)
    seen = np.broadcast_to(mask, (B, H, T, S)).reshape(B, G, H // G, T, S).copy()
    if causal:
        seen &= ahead <= 0
    if window is not None:
        seen &= abs(ahead) < window
    s = np.where(seen, c * np.einsum("bghtd,bgxsd->bghts", q, k), -np.inf)
    e = np.exp(s - np.maximum(s.max(-1, keepdims=True, initial=-np.inf), -1e300))
    p = e / np.maximum(e.sum(-1, keepdims=True), 1e-300)
    lse = (s.max(-1, initial=-np.inf) + np.log(np.maximum(e.sum(-1), 1e-300))) / np.log(2)
    lse = np.where(seen.any(-1), lse, np.inf).reshape(B * H, T)  # in base 2
    y = np.einsum("bghts,bgxsd->bghtd", p, v)
    a = 2 * (c * np.einsum("bghtd,bgxsd->bghts", abs(q), abs(k))).max(-1, keepdims=True, initial=0)
    ds = c * p * (np.einsum("bghtd,bgxsd->bghts", dy, v) - (dy * y).sum(-1, keepdims=True))
    size_dp = np.einsum("bghtd,bgxsd->bghts", abs(dy), abs(v))
    size_ds = c * p * (size_dp + (p * size_dp).sum(-1, keepdims=True))

    def over_keys(weights: Any, values: Any) -> Any:
        return np.einsum("bghts,bgxsd->bghtd", weights, values).reshape(B, H, T, D)

    def over_queries(weights: Any, values: Any) -> Any:
        return np.einsum("bghts,bghtd->bgsd", weights, values)

    return [
        (lse, np.zeros_like(lse), 1 + abs(lse) + a.reshape(B * H, T)),
        (y.reshape(B, H, T, D), over_keys(p, abs(v)), over_keys(a * p, abs(v))),
        (over_keys(ds, k), over_keys(size_ds, abs(k)), over_keys(2 * a * size_ds, abs(k))),
        (over_queries(ds, q), over_queries(size_ds, abs(q)), over_queries(2 * a * size_ds, abs(q))),
        (over_queries(p, dy), over_queries(p, abs(dy)), over_queries(a * p, abs(dy))),
    ]


def trial(
    pair: Any, this: SimpleNamespace, forward: bool = True, back: bool = True, order: Any = EVERY, sanitize: bool = False
) -> None:
    """lse, y and gradients of one random problem, under the schedules `order`; or one way alone. Weights (or ds), y in <dy, y>,
    and results are rounded to bfloat16 once each, but for lse.
    """
    B, H, G, T, S, D = this.shape
    rng = np.random.default_rng(this.shape)
    shapes = (B, H, T, D), (B, H, T, D), (B, G, S, D), (B, G, S, D)
    dy, q, k, v = (rng.standard_normal(shape).astype(BFLOAT16) for shape in shapes)
    masks = () if this.mask is None else (rng.random(this.mask) < 2 / 3,)
    wide = (a.astype(np.float64) for a in (dy, q, k, v))
    want = definition(*wide, mask=masks[0] if masks else True, **this.params)
    params = {**this.params, "grouped": H != G}
    assert pair.accepts(q, k, v, *masks, **params)
    with running(order if forward else order[:1], sanitize=sanitize):
        y, residuals = pair.forward(q, k, v, *masks, **params)
    rest: Any = {"residuals": residuals, "wanted": (True,) * 4, "into": (None,) * 4}
    with running(order, sanitize=sanitize):
        got = residuals[:, :T], y, *(pair.vjp(dy, y, q, k, v, *masks, **rest, **params) if back else ())
    length = max(T * H // G, S, D)
    eps, lost = 8 * EPS * length**0.5, LOST * length * 5 * max(this.params["scale"] or 1, 1)  # 5: the largest other factor
    for what, a, (number, size, of_scores) in zip(("lse", "y", "dq", "dk", "dv"), got, want, strict=False):
        assert a.dtype == (np.float32 if what == "lse" else BFLOAT16) and a.shape == number.shape, what
        with np.errstate(invalid="ignore"):
            error = np.where(a == number, 0, abs(a.astype(np.float64) - number))  # infinities are alike
        wrong = ~(error <= (eps + 3 * UNIT) * size + eps * of_scores + lost)
        assert not wrong.any(), f"{what} at {np.argwhere(wrong)[0]}: error {error[wrong][0]:.1e}"


@every_rung
@pytest.mark.parametrize("this", CASES, ids=lambda this: "x".join(map(str, this.shape)) + " masked" * bool(this.mask))
def test_a_rung_gives_the_numbers_of_float64(name, this):
    trial(rung("attention", name), this)


@every_rung
def test_a_rung_touches_nothing_outside_of_its_arrays(name):
    for this in (*SMALL[:2], MASKED):
        trial(rung("attention", name), this, order=("forward",), sanitize=True)


@every_rung
def test_not_a_number_reaches_only_who_sees_it(name):
    """A tile of one head ends in the next one's rows, if it is asked for wrongly."""
    pair, rng = rung("attention", name), np.random.default_rng(0)
    q, k, v = (rng.standard_normal((2, 2, 40, 8)).astype(BFLOAT16) for _ in range(3))
    k[1, 0, 35] = v[0, 1, 0] = np.nan
    y, _ = pair.forward(q, k, v, causal=True)
    spoilt = np.isnan(y.astype(np.float32)).any(-1)
    assert spoilt[0, 1].all() and spoilt[1, 0, 35:].all()
    assert not spoilt[0, 0].any() and not spoilt[1, 1].any() and not spoilt[1, 0, :35].any()


@every_rung
def test_gradients_that_nobody_wants_are_not_made(name):
    pair = rung("attention", name)
    for shape in ((3, 8), (0, 8)):
        q, k, v, dy = (np.ones(shape, BFLOAT16) for _ in range(4))
        y, residuals = pair.forward(q, k, v, None, None)
        for i in range(3):
            wanted = tuple(n == i for n in range(5))
            made = pair.vjp(dy, y, q, k, v, None, None, residuals=residuals, wanted=wanted, into=(None,) * 5)
            assert [a is not None for a in made] == list(wanted)


@every_rung
def test_what_is_not_taken(name):
    pair = rung("attention", name)

    def zeros(*shape: int, dtype: Any = BFLOAT16) -> np.ndarray:
        return np.zeros(shape, dtype)

    q, k = zeros(2, 4, 3, 8), zeros(2, 2, 5, 8)
    assert pair.accepts(q, k, k, grouped=True) and pair.accepts(q, q, q, None, None, causal=True, window=1)
    assert pair.accepts(*(zeros(3, 256) for _ in range(3)))
    assert not pair.accepts(q, k, k)  # 4 heads and 2
    assert pair.accepts(q, k, k, np.ones((3, 5), bool), grouped=True)
    for mask in (np.ones((3, 4), bool), np.ones((3, 5), np.uint8), np.ones((2, 1, 1, 3, 5), bool)):
        assert not pair.accepts(q, k, k, mask, grouped=True)
    assert not pair.accepts(q, k, k, None, zeros(3, 5), grouped=True)
    assert not pair.accepts(q, k, zeros(2, 2, 5, 16), grouped=True)
    for dtype in (np.float16, np.float32):
        assert not pair.accepts(*(zeros(3, 8, dtype=dtype) for _ in range(3)))
    with pytest.raises(ValueError, match=f"attention_forward_{name}_64 takes bfloat16 .*, but got .* uint8"):
        pair.forward(q, k, k, np.ones((3, 5), np.uint8), grouped=True)
    for D in (0, 4, 12, 264):  # rows that are no multiple of 16 bytes, or too long
        assert not pair.accepts(*(zeros(3, D) for _ in range(3)))


def test_operands_that_are_views():
    pair, rng = rung("attention", RUNGS[0]), np.random.default_rng(0)
    q, k, v = (rng.standard_normal((5, 2, 2, 8)).astype(BFLOAT16).transpose(1, 2, 0, 3) for _ in range(3))
    mask = (rng.random((5, 5)) < 2 / 3).T
    y, _ = pair.forward(q, k, v, mask)
    np.testing.assert_array_equal(y, pair.forward(*map(np.ascontiguousarray, (q, k, v, mask)))[0])


# ---- mistakes


MISTAKES = {
    "barrier": (r"__syncthreads\(\);", ""),
    "wait for a tile": (r"mbarrier_wait\([^;]*?\);", ""),
    "arrival of a warp": (r"if \(lane == 0\) mbarrier_arrive\([^;]*?\);", ""),
    "number of arrivals": (r"(?<=empty\[s\], )THREADS / 32|(?<=_read\[s\], )CONSUMERS \* 4", "1"),
    "bytes": (r"(?<=\], )TILE(?=\);)|(?<=, )(?:2 \* )?OWNED \* HEAD_DIM \* 2(?=\);)", r"\g<0> - 16"),
    "stage": (r"\(?\b(?:n|n - 1|many - 1)\)? % STAGES", "0"),
    "phase": (r"\(?\b(?:n|n - 1|many - 1)\)? / STAGES( \+ 1)? & 1", "0"),
    "turn": (r"(?:wait_for_turn|pass_turn)\([^;]*?\);|named_barrier_arrive\(TURN, [^;]*?\);", ""),
    "last turn": (r"n \+ 1 < many(?=\) named)", "true"),
    "whose turn": (r"TURN \+ 1 - consumer", "TURN + consumer"),
    "commit": (r"wgmma_commit\(\);", ""),
    "fence of wgmma": (r"wgmma_fence\((?:s|p|sum_v)\);", ""),
    "wait for a product": (r"wgmma_wait<\d>\(\w+\);", ""),
    "wait for one product too few": (r"wgmma_wait<1>\((\w+)\);", r"wgmma_wait<2>(\1);"),
    "panel": (r"64 \* p(?=,)|p \* ROWS \* 128|k / 64 \* [AB]_ROWS \* 128", "0"),
    "half of a tile": (r"(?<=128 \+ )r \* 128|(?<=row \+ )r(?=, head)|(?:warpgroup|consumer) \* BOX", "0"),
    "step along k": (r"k % 64 \* 2|\bk \* 128", "0"),
    "tile": (r"(?<=tile_[kq] \+ )TILE(?=\);)|(?<=stage \+ )TILE|(?:stage|stage_v|s) \* (?:2 \* )?TILE(?=[,;)])", "0"),
    "leading distance": (r"ROWS \* 128(?=, 8 \* 128)", "ROWS * 64"),
    "scale": (r"of\.scale \* LOG2_E", "of.scale"),
    "scale of a gradient": (r"of\.scale(?=[,}])", "1.0f"),
    "hidden": (r"column < low \+ below|column > high \+ below|column >= columns", "false"),
    "mask": (r"!mask\[at [^]]*\]", "false"),
    "whose mask": (r"(?<=mask_of\()head(?=\))|head / H(?= \* mask_b)|head % H(?= \* mask_h)", "0"),
    "stride of the mask": (r"of\.mask_[ts](?=[,)])", "0"),
    "row of the mask": (r"row \+ i / 2 % 2 \* 8(?=;)", "row"),
    "column of the mask": (r"(?<=row, )(?:begin \+ n \* \w+|query)(?=, [TS])", "begin"),
    "bound of the mask": (r"\bat < rows|column < columns(?= &&)", "true"),
    "first column": (r"low - group \+ 15 <= column0", "true"),
    "last column": (r"column0 \+ 2 \* n - 1 <= high - group|column0 \+ 2 \* n <= columns", "true"),
    "place": (r"row \+ S - T|row - \(S - T\)", "row"),
    "first": (r"(?<=max\(0, )first(?= [+-])", "64 + first"),
    "end": (r"min\([ST], first \+ OWNED\)", r"\g<0> - 1"),
    "key head": (r"head % H / \(H / G\)|head / H \* G", "0"),
    "share": (r"n / each|n % each", "0"),
    "butterfly": (r"away > 0", "away > 1"),
    "maximum": (r"m\[r\] = larger;", ""),
    "rescaled total": (r"total\[r\] \*= shrink\[r\];", ""),
    "rescaled sums": (r"sums\[i\] \*= shrink\[i / 2 % 2\];", ""),
    "shift": (r"(?<=exp2f\()([sp]\[[^()]*?\]) - [^()]*?(?=\);)", r"\1"),
    "second weight of the total": (r"(?<=\+= )s\[i\] \+ s\[i \+ 1\]", "s[i]"),
    "inner product": (r"\((ds\[[^()]*?\]) - [^()]*?\)(?=;)", r"\1"),
    "logarithm": (r"m\[r\] \+ log2f\(total\[r\]\)", "m[r]"),
    "sum of nothing": (r"total\[r\] == 0\.0f", "false"),
    "bound": (r"row \+ 8 \* r < last|column < D|row < T(?=;)", "true"),
    "stride": (r"\(size_t\)(?:\([^()]*\)|\w+) \* T|(?<=head \* )queries\(of\)|\(size_t\)\w+ \* S", "0"),
}  # fmt: skip
"""Kind -> (what, what instead). Statements end with a semicolon."""

FEW = ("greedy", "greedy reverse", "reverse")
"""Schedules for mistakes: TMA late, wgmma late, and both."""
HARMLESS = {
    ("attention_04_wgmma", "wait for a product", 4): "the next one is for the same products",
    ("attention_04_wgmma", "wait for a product", 5): "the one before is for the same products",
}
"""(stem, mistake, which one): why it cannot be caught."""


STEMS = {f"attention_{name}": name for name in RUNGS}
PLANTED = planting["Planted"]({stem: planting["whole"](stem) for stem in STEMS}, MISTAKES)


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str | None]:
    """fate(stem, number of the mistake): what caught it, or None. Tried is the way that the mistake touches."""

    def of(stem: str, number: int) -> str | None:
        text, found = planting["whole"](stem), PLANTED.sources[stem][1]
        of_forward, of_back = (
            at if at >= 0 else len(text) for at in (text.find(f"void {name}(") for name in ("forward", "gradient_of_keys"))
        )
        kind, _, at = found[number] if number >= 0 else ("", 0, 0)
        forward, back = at < of_back, not of_forward < at < of_back and STEMS[stem] == RUNGS[0]
        pair = rung("attention", STEMS[stem])

        def trials() -> None:
            for this in SMALL:
                trial(pair, this, forward, back, FEW)
            if kind == "bound of the mask":  # what is read beside a mask is not used, but it may be nobody's memory
                trial(pair, MASKED, forward, back, FEW[:1], sanitize=True)

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
