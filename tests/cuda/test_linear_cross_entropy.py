"""linear_cross_entropy's CUDA rungs against float64: every edge, every cut, both layouts; and mistakes to be caught."""

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad.kernels.cuda import launch, linear_losses
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

planting, kit = (runpy.run_path(str(Path(__file__).with_name(name))) for name in ("planting.py", "linear_losses_kit.py"))
UNIT, case, hold, inputs, trial, types = (kit[name] for name in ("UNIT", "case", "hold", "inputs", "trial", "types"))
definition = kit["definition"]
OPERATION = "linear_cross_entropy"
every_rung = pytest.mark.parametrize("name", LADDERS[OPERATION])


CASES = [
    case((1,), 1, 1),
    case((), 3, 5, transposed=True, bias=0.0),
    case((3,), 0, 5, bias=0.0),
    case((2, 3), 5, 7, label_smoothing=0.3),
    case((127,), 9, 129, bias=-150.0, label_smoothing=0.1),
    case((128,), 8, 128, transposed=True, ignore_index=2),
    case((129,), 7, 127, transposed=True, bias=150.0, ignore_index=-100, label_smoothing=0.2),
    case((5,), 33, 300, blocks=1, label_smoothing=0.1),
    case((257, 1), 32, 260, transposed=True, bias=1.0, blocks=6),
    case((4,), 129, 264, blocks=2, bias=0.0, chunk=256, ignore_index=1),
    case((3,), 130, 400, blocks=1, transposed=True),
    case((3,), 128, 31, transposed=True),
    case((2,), 127, 32, bias=0.0, label_smoothing=1.0),
]
"""Tails and full tiles of rows, features and classes; one slice and many, one chunk and many; logits that need their shift."""

SMALL = [
    case((3,), 4, 5, transposed=True, bias=-150.0, ignore_index=2, label_smoothing=0.3),
    case((5,), 33, 300, bias=150.0, label_smoothing=0.1),
    case((131,), 9, 133, transposed=True, blocks=1, bias=0.0, label_smoothing=0.2),
    case((2,), 130, 265, blocks=1, bias=0.0, ignore_index=1),
    case((2,), 131, 3, transposed=True),
    case((230,), 2, 3),
    case((2,), 1, 390, bias=0.0, peak=383, chunk=512, label_smoothing=0.2),  # of the last thread, in the third slice
]
"""For mistakes, which have many trials."""


@every_rung
@pytest.mark.parametrize("this", CASES, ids=lambda this: f"{this.rows}x{this.C}x{this.V}")
def test_a_rung_gives_the_numbers_of_float64(name, this):
    if this.C == 0 and rung(OPERATION, name).production.maps:
        pytest.skip("a tensor map is of something")
    trial(rung(OPERATION, name), this)


@every_rung
def test_a_rung_touches_nothing_outside_of_its_arrays(name):
    with running(("forward",), sanitize=True):
        for this in (SMALL[0], SMALL[2], SMALL[3]):
            trial(rung(OPERATION, name), this)


# ---- what a loss is asked besides


def slopes(name: str, dtype: str, x: Any, weight: Any, targets: Any, *bias: Any, dy: float = 1.0, **params: Any) -> Any:
    """(loss, dx, dweight, dbias or None)."""
    pair = rung(OPERATION, name)
    xs = (*(np.asarray(a, dtype) for a in (x, weight)), np.asarray(targets), *(np.asarray(b, dtype) for b in bias))
    assert pair.accepts(*xs, **params)
    loss, residuals = pair.forward(*xs, **params)
    rest = {"residuals": residuals, "wanted": (True,) * 4, "into": (None,) * 4, **params}
    dx, dweight, _, *dbias = pair.vjp(np.array(dy, dtype), loss, *xs, **rest)
    return loss, dx, dweight, dbias[0] if dbias else None


every_type = pytest.mark.parametrize(
    ("name", "dtype"), [(name, dtype) for name in LADDERS[OPERATION] for dtype in types(rung(OPERATION, name))]
)


@every_type
def test_rows_that_do_not_count(name, dtype):
    x, eye = [[0, 2], [np.nan, 1], [1, 1]], np.eye(2)
    loss, dx, _, _ = slopes(name, dtype, x, eye, [0, -100, 1], ignore_index=-100)
    assert float(loss) == pytest.approx((np.log(1 + np.exp(2)) + np.log(2)) / 2, rel=1e-6 + 2 * UNIT[dtype])
    assert (dx[1] == 0).all() and np.isfinite(dx.astype(float)).all()
    loss, *gradients = slopes(name, dtype, np.ones((3, 2)), eye, [7, 7, 7], [1, 2], ignore_index=7)
    assert loss == 0 and all((d == 0).all() for d in gradients)
    _, *gradients = slopes(name, dtype, np.ones((3, 2)), eye, [7, 7, 7], [1, 2], ignore_index=7, dy=np.nan)
    assert all(np.isnan(d.astype(float)).all() for d in gradients)


@every_type
def test_classes_ruled_out_and_nan(name, dtype):
    x, eye, out = [[0.5, 0, 1.5]], np.eye(3), [0, -np.inf, 0]
    loss, dx, _, dbias = slopes(name, dtype, x, eye, [2], out)
    assert float(loss) == pytest.approx(np.log1p(np.exp(-1.0)), rel=1e-6 + 2 * UNIT[dtype])
    assert dx[0, 1] == 0 == dbias[1] and dx[0, 2] == dbias[2] < 0
    loss, dx, *_ = slopes(name, dtype, x, eye, [2], out, label_smoothing=0.3)
    assert loss == np.inf and np.isfinite(dx.astype(float)).all()
    assert slopes(name, dtype, x, eye, [1], out)[0] == np.inf
    assert slopes(name, dtype, x, eye, [1], out, label_smoothing=1.0)[0] == np.inf
    for row in ([0, np.nan, 1], [-np.inf] * 3, [0, np.inf, 1]):
        loss, dx, _, dbias = slopes(name, dtype, np.zeros((1, 3)), eye, [0], row)
        assert np.isnan(loss) and np.isnan(dx.astype(float)).all() and np.isnan(dbias.astype(float)).all()


@pytest.mark.parametrize(("name", "dtype"), [("01_tiles", "float32"), ("02_mma", "bfloat16"), ("03_wgmma", "bfloat16")])
def test_logits_so_large_that_their_distance_to_the_lowest_number_overflows(name, dtype):
    """A thread that met none yet has the lowest number for its maximum."""
    x, weight = [[2.0**60, 1.0]], [[2.0**60, -(2.0**58), 2.0**59], [0, 0, 0]]
    loss, *_ = slopes(name, dtype, x, weight, [2], label_smoothing=0.5)
    assert float(loss) == pytest.approx(2.0**120 * (0.5 * 0.5 + 0.5 / 3 * (1.25 + 0.5)), rel=2.0**-8)


@pytest.mark.parametrize(("name", "V"), [("01_tiles", 50257), ("02_mma", 6007), ("03_wgmma", 6007)])
def test_a_vocabulary_that_is_no_multiple_of_anything(name, V):
    """Logits that grow along the row; several tiles a slice, and as many chunks as there would be."""
    dtype = types(rung(OPERATION, name))[-1]
    rng = np.random.default_rng(0)
    x = rng.standard_normal((2, 3)).astype(dtype)
    x[:, 0] = 1
    weight = rng.standard_normal((3, V)).astype(dtype)
    weight[0] = (10 * np.arange(V) / V).astype(dtype)
    targets = np.array([V - 1, 3])
    with running(("forward",)), pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_losses, "BLOCKS", 7)
        loss, dx, dweight, _ = slopes(name, dtype, x, weight, targets, label_smoothing=0.1)
    found = definition(1.0, x.astype(np.float64), weight.astype(np.float64), targets, label_smoothing=0.1)
    for what, got, expected in zip(("loss", "dx", "dweight"), (loss, dx, dweight), found, strict=False):
        hold(got, *expected, V, what)


# ---- the contract


@every_rung
def test_the_logits_are_never_stored(name, monkeypatch):
    """No array has more numbers than the weight, or than the rows times a chunk."""
    made = []

    def noting(shape: Any, like: Any, dtype: Any = None) -> Any:
        made.append(int(np.prod(shape)))
        return launch.empty(shape, like, dtype)

    monkeypatch.setattr(linear_losses, "empty", noting)
    trial(rung(OPERATION, name), case((40,), 2, 900))
    assert max(made) == 40 * 128 < 40 * 900


@every_rung
def test_gradients_that_nobody_wants_are_not_made(name, monkeypatch):
    pair = rung(OPERATION, name)
    x, weight, targets, bias = inputs(case((3,), 4, 5, bias=0.0), types(pair)[0])
    loss, residuals = pair.forward(x, weight, targets, bias)
    dy, names = np.ones_like(loss), []
    call = launch.Kernel.__call__
    monkeypatch.setattr(launch.Kernel, "__call__", lambda self, *a, **more: (names.append(self.name), call(self, *a, **more)))
    for k, what in ((0, "dx"), (1, "dweight"), (3, "dbias"), (2, "")):
        wanted, names[:] = tuple(n == k for n in range(4)), []
        made = pair.vjp(dy, loss, x, weight, targets, bias, residuals=residuals, wanted=wanted, into=(None,) * 4)
        assert [grad is not None for grad in made] == [n == k and k != 2 for n in range(4)]
        assert len(names) == (2 if what else 0) and (not what or what in names[1])
    none = pair.vjp(dy, loss, x, weight, targets, None, residuals=residuals, wanted=(True,) * 4, into=(None,) * 4)
    assert [grad is None for grad in none] == [False, False, True, True]


@every_rung
def test_arrays_that_lie_otherwise(name):
    """Slices with strides, and a weight that is the transpose of another."""
    pair = rung(OPERATION, name)
    dtype, rng = types(pair)[0], np.random.default_rng(0)
    x = rng.standard_normal((8, 6, 2)).astype(dtype)[::2, :, 1]
    weight = rng.standard_normal((9, 6)).astype(dtype)
    targets = np.array([0, 8, 3, 3], np.uint8)
    ours, theirs = (slopes(name, dtype, x, w, targets) for w in (weight.T, weight.T.copy()))
    assert all(np.array_equal(a, b) for a, b in zip(ours[:3], theirs[:3], strict=True))
    loss, dx, dweight, _ = slopes(name, dtype, x, weight, targets, transposed=True)
    assert loss == ours[0] and np.array_equal(dx, ours[1]) and np.array_equal(dweight.T, ours[2])


@every_rung
def test_what_is_refused(name):
    pair = rung(OPERATION, name)
    x, weight, targets, bias = inputs(case((2,), 4, 3, bias=0.0), types(pair)[0])
    assert pair.accepts(x, weight, targets.astype(np.uint8)) and pair.accepts(x, weight.T, targets, None, transposed=True)
    other = np.dtype(np.float64 if types(pair)[0] == "float16" else np.float16 if name == "01_tiles" else np.float32)
    for bad in [
        (x.astype(other), weight.astype(other), targets), (x, weight.astype(other), targets),
        (x, weight, targets.astype(np.float32)), (x, weight, targets[:1]), (x, weight[:3], targets),
        (x, weight[:, :0], targets), (x, weight[0], targets),
        (x, weight, targets, bias[:2]), (x, weight, targets, bias.astype(other)), (np.array(0, x.dtype), weight, targets),
        (x, weight.T, targets),
    ]:  # fmt: skip
        assert not pair.accepts(*bad)
    with pytest.raises(ValueError, match=rf"^linear_cross_entropy_forward_{name}\w* takes .*, but got "):
        pair.forward(x, weight[:3], targets)
    for wrong in (3, -1):
        said = f"^linear_cross_entropy: targets holds {wrong}, but there are 3 classes, 0 to 2$"
        with pytest.raises(IndexError, match=said):
            pair.forward(x, weight, np.array([0, wrong]), ignore_index=7)
    if pair.production.maps:
        assert not pair.accepts(x[:0], weight, targets[:0]) and not pair.accepts(x[:, :0], weight[:0], targets)
        return
    loss, dx, dweight, dbias = slopes(name, x.dtype.name, x[:0], weight, targets[:0], bias)
    assert np.isnan(loss) and dx.shape == (0, 4) and (dweight == 0).all() and (dbias == 0).all()


# ---- mistakes


MISTAKES = {
    "barrier": (r"__syncthreads\(\);", ""),
    "wait for a copy": (r"cp_async_wait<1>\(\);", ""),
    "stage": (r"\(t \+ 1\) % STAGES", "0"),
    "edge of a factor": (r"first \+ i < from\.length|k0 \+ k < K|(?:row|column) < \(ALONG_K \? \w+ : \w+\)", "true"),
    "zeros beyond the edge": (r"there \? 16 : 0", "16"),
    "beyond": (
        r"row >= R|column(?:0 \+ column_of\([^)]*\))? >= (?:V|C|width|first \+ \w+)|part > 0|threadIdx\.x >= SIDE",
        "false",
    ),
    "inside": (
        r"row < R(?= \?)|threadIdx\.x == 0(?=\) loss)|row < (?:down\.length|height)"
        r"|column < (?:(?:across\.)?length|first \+ width|width(?=\)))",
        "true",
    ),
    "matrix": (r"DOWN_FIRST(?= \?)|ALONG_K(?=\)\n)", r"!\g<0>"),
    "layout": (r"\btransposed(?= \?)|(?<=if \()transposed(?=\))", r"!\g<0>"),
    "stride": (r"\(size_t\)row \* (in_memory\(width\)|\w+)", r"(size_t)row * (\1 - 1)"),
    "slice": (r"blockIdx\.y \* slice|\(size_t\)blockIdx\.y \* R|\(size_t\)\(start / slice\) \* R", "0"),
    "end of a slice": (r"min\(slice, V - start\)", "slice"),
    "end of a walk": (r"min\(V, start \+ slice\)", "V"),
    "bias": (r"(?:Type<T>::number|__bfloat162float)\(bias\[column\]\)|(?<!\()bias\[column\]", "0.0f"),
    "target": (r"column == target", "false"),
    "ignored row": (r"target(?:s\[row\])? == IGNORED", "false"),
    "row that counts": (r"target != IGNORED", "true"),
    "maximum": (r"larger = fmaxf\(larger, [^;]*\);", ""),
    "raised": (r"(kept\[i\]|\bs) = raised\(\1, larger\);", r"\1.m = larger;"),
    "raised share": (r"raised\((of_row\[t\]|kept\[r\]), larger\)", r"\1"),
    "raised total": (r"s\.total \* expf\(s\.m - larger\)", "s.total"),
    "raised below": (r"s\.below \+ s\.n \* \(larger - s\.m\)", "s.below"),
    "nothing met": (r"s\.n > 0", "true"),
    "shift": (r"expf\((z\[[^()]*?\]) - larger\)", r"expf(\1)"),
    "distance": (r"larger - z\[[^()]*?\](?=;)", "larger"),
    "count": (r"(?:kept\[i\]|\bs)\.n\+\+;", ""),
    "sum of slices": (r"s\.(?:total|below|n) \+ (more\.\w+)", r"\1"),
    "sum of shares": (r"\b(?:total|below) \+= s\.\w+;", ""),
    "last share": (r"[twp] < (?:shares|WARPS|PARTS)\b", r"\g<0> - 1"),
    "butterfly": (r"away > 0", "away > 1"),
    "parts": (r"(?<=row = )part\b", "0"),
    "shift of a slope": (r"(?<=m = )maxima\[row\]", "0.0f"),
    "total of a slope": (r"1\.0f / totals\[row\]", "1.0f"),
    "weight of the target": (r"1\.0f - smoothing", "1.0f"),
    "weight of a class": (r"smoothing / V", "smoothing"),
    "no weight": (r"smoothing < 1\.0f|smoothing > 0\.0f", "true"),
    "mean": (r"(sum|(?<=share = )dy\[0\]|(?<=\] = )dy\[0\]|(?:Type<T>::number|__bfloat162float)\(dy\[0\]\)) / count", r"\1"),
    "scale of dz": (r"slope \* SCALE<T>", "slope"),
    "factor of a gradient": (r"\b(?:share|factor)(?= \* sum)", "1.0f"),
    "first chunk": (r"first > 0(?= \?)", "true"),
    "later chunk": (r"(?<=\()first > 0(?= \?)", "false"),
    "last chunk": (r"first \+ width < V", "false"),
    "place of a chunk": (
        r"\(size_t\)first \* (?:C|in_memory\(C\))|(?<=: )first(?=;)|(?<=weight \+ )first(?=,)|(?<=, 1, )first(?=, w)", "0",
    ),
    "place in a chunk": (r"(?<=\[)first \+ column", "column"),
    "wait for a stage": (r"mbarrier_wait\(&(?:full|empty)\[s\], [^;]*\);", ""),
    "arrival": (r"if \(threadIdx\.x % 32 == 0\) mbarrier_arrive\(&empty\[s\]\);", ""),
    "number of arrivals": (r"(?<=, )THREADS / 32(?=\))", "THREADS / 32 + 1"),
    "bytes of a stage": (r"(?<=\[s\], )STAGE(?=\))", "STAGE - 16"),
    "parity": (r"(?<=\[s\], )t / STAGES(?: \+ 1)? & 1", "0"),
    "commit, or fence": (r"wgmma_commit\(\);|wgmma_fence\(sums\);|mbarrier_init_fence\(\);", ""),
    "wait for a product": (r"wgmma_wait<0>\(sums\);", "wgmma_wait<1>(sums);"),
    "direction": (r"(wgmma_m64n128k16)<!A_ALONG_K, !B_ALONG_K>([^;]*;)", r"\1<!A_ALONG_K, B_ALONG_K>\2"),
    "step of a descriptor": (r"ALONG_K \? 2 : 128", "ALONG_K ? 2 : 64"),
    "place of a panel": (r"ALONG_K \? (?:k0 : i\b|i : k0)", "k0"),
    "panel of a warpgroup": (r"threadIdx\.x / 128 \* PANEL", "0"),
    "alignment": (r"aligned_1024\(memory\)", "memory"),
    "next tile": (r"t / steps \* SIDE", "0"),
    "new sums": (r"t % steps == 0", "t == 0"),
    "end of a tile": (r"t % steps == steps - 1", "true"),
}
"""Kind -> (what, what instead)."""

FEW = ("greedy", "greedy reverse", "reverse")
"""Schedules for mistakes: copies at once, late, and the last thread first."""
BESIDE = ("inside", "beyond")
"""Mistakes that may read beside an array and throw away what is found there: AddressSanitizer looks, too."""
HARMLESS = {("linear_cross_entropy_03_wgmma", "commit, or fence", 0): "the emulator's threads and TMA see one memory"}
"""(stem, mistake, which one): why it cannot be caught."""

STEMS = {f"{OPERATION}_{name}": name for name in LADDERS[OPERATION]}
PLANTED = planting["Planted"]({stem: planting["whole"](stem) for stem in STEMS}, MISTAKES)


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, int], str | None]:
    """fate(stem, number of the mistake): what caught it, or None."""

    def of(stem: str, number: int) -> str | None:
        name, pair = STEMS[stem], rung(OPERATION, STEMS[stem])
        beside = number >= 0 and PLANTED.sources[stem][1][number][0] in BESIDE

        def trials() -> None:
            with running(FEW), np.errstate(all="ignore"):
                for this in SMALL:
                    trial(pair, this, types(pair)[-1:])
                test_classes_ruled_out_and_nan(name, types(pair)[-1])
                test_logits_so_large_that_their_distance_to_the_lowest_number_overflows(name, types(pair)[0])
            if beside:
                with running(("forward",), sanitize=True):
                    trial(pair, SMALL[0], types(pair)[-1:])

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
