"""The rungs for sm_90a on sizes of their own, and mistakes planted in them, one at a time, which must be caught."""

import ctypes
import runpy
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda import softmax_06_cluster, tensor_maps
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.tensor_map import TensorMap

planting = runpy.run_path(str(Path(__file__).with_name("planting.py")))
PRODUCTS = {f"matmul_{name}": rung("matmul", name) for name in LADDERS["matmul"] if name >= "09"}
PAIRS: dict[str, Any] = {**PRODUCTS, "softmax_06_cluster": softmax_06_cluster.production}

SIZES: dict[str, list[tuple[int, ...]]] = {
    "matmul_09_wgmma": [(130, 136, 264)],
    "matmul_10_tma": [(130, 328, 264)],             # more tiles of k than stages
    "matmul_11_warp_specialised": [(130, 328, 520)],  # and more tiles of c than blocks that stay
    "matmul_12_clusters": [(258, 264, 264), (1100, 8, 264)],  # and more pairs of rows than a band
    "softmax_06_cluster": [(2, 33), (1, 4100)],
}  # fmt: skip


@pytest.mark.parametrize("stem", SIZES)
def test_a_rung_on_sizes_of_its_own(stem, trial):
    for size in SIZES[stem]:
        trial(stem.split("_")[0], PAIRS[stem], size)


@pytest.mark.parametrize("stem", PRODUCTS)
def test_what_a_product_accepts(stem):
    def accepts(M: int, K: int, N: int, dtype: Any = ml_dtypes.bfloat16) -> bool:
        return PAIRS[stem].accepts(np.zeros((M, K), dtype), np.zeros((K, N), dtype))

    assert accepts(3, 8, 16) and accepts(0, 8, 8) and accepts(5, 0, 8)
    assert not accepts(8, 4, 8) and not accepts(8, 8, 12)  # rows that are no multiple of 16 bytes
    assert not accepts(8, 8, 8, np.float32) and not accepts(8, 8, 8, np.float16)
    assert not PAIRS[stem].accepts(np.zeros((8, 8), ml_dtypes.bfloat16), np.zeros((16, 8), ml_dtypes.bfloat16))
    assert not PAIRS[stem].accepts(np.zeros((2, 8, 8), ml_dtypes.bfloat16), np.zeros((8, 8), ml_dtypes.bfloat16))


def test_only_the_wanted_gradients_are_made():
    x = np.ones((8, 8), ml_dtypes.bfloat16)
    left, right = PAIRS["matmul_10_tma"].vjp(x, x, x, x, residuals=None, wanted=(False, True), into=(None, None))
    assert left is None and (right == 8).all()


def test_operands_that_are_views():
    x = (np.arange(16 * 24).reshape(16, 24) / 64).astype(ml_dtypes.bfloat16)
    y, _ = PAIRS["matmul_10_tma"].forward(x.T[::-1], x[:, ::-1])
    want = x.T[::-1].astype(np.float64) @ x[:, ::-1].astype(np.float64)
    assert np.max(np.abs(y.astype(np.float64) - want)) <= 2.0**-8 * np.max(np.abs(want))


@pytest.mark.parametrize("length", [softmax_06_cluster.SHORTEST - 1, softmax_06_cluster.SHORTEST, 40002])
def test_rows_that_one_block_cannot_hold(length, trial):
    trial("softmax", softmax_06_cluster, (1, length))


@pytest.mark.parametrize("length", [softmax_06_cluster.LONGEST, softmax_06_cluster.LONGEST + 1])
def test_the_longest_rows(length):
    x = np.random.default_rng(0).standard_normal((1, length)).astype(np.float32)
    y, _ = softmax_06_cluster.forward(x)
    (dx,) = softmax_06_cluster.vjp(x, y, x, residuals=None, wanted=(True,), into=(None,))
    e = np.exp(x.astype(np.float64))
    assert np.max(np.abs(y * e.sum() / e - 1)) < 1e-4 and abs(dx.sum(dtype=np.float64)) < 1e-4


def test_a_long_row_of_infinities_and_nan():
    x = np.zeros((4, 64), np.float32)
    x[0, :60], x[1, 7], x[2], x[3, 9] = -np.inf, np.nan, -np.inf, np.inf
    y, _ = softmax_06_cluster.production.forward(x)
    np.testing.assert_allclose(y[0], [0] * 60 + [0.25] * 4, rtol=1e-6)
    assert np.isnan(y[1:3]).all() and np.isnan(y[3, 9])


def test_what_the_driver_is_asked_for(monkeypatch):
    """The arguments of cuTensorMapEncodeTiled; a driver is not needed for that."""
    asked = []

    def encode(room, *numbers):
        ctypes.memset(room, 0xAB, 128)
        asked.extend([room.value % 64, *(list(n) if isinstance(n, ctypes.Array) else n for n in numbers)])
        return 0

    monkeypatch.setattr(ctypes, "CDLL", lambda name: SimpleNamespace(cuTensorMapEncodeTiled=encode))
    on_gpu = SimpleNamespace(
        shape=(100, 72), strides=(144, 2), ndim=2, size=7200, dtype=np.dtype(ml_dtypes.bfloat16),
        flags=SimpleNamespace(c_contiguous=True), data=SimpleNamespace(ptr=4096),
    )  # fmt: skip
    encoded = tensor_maps.encoded(TensorMap(on_gpu, (64, 32)))
    assert encoded.shape == () and encoded.tobytes() == b"\xab" * 128
    assert asked.pop(3).value == 4096
    assert asked[:5] == [0, 9, 2, [72, 100], [144, 0]]  # a multiple of 64, bfloat16, rank, sizes, bytes from row to row
    assert asked[5:] == [[64, 32], [1, 1], 0, 3, 3, 0]  # box, every number, no interleaving, swizzle, L2, zeros beyond
    on_gpu.dtype = np.dtype(np.uint16)
    with pytest.raises(TypeError, match="of bfloat16 on a GPU, but this matrix is of uint16"):
        tensor_maps.encoded(TensorMap(on_gpu, (64, 32)))


# ---- mistakes

MISTAKES = {
    "no barrier": (r"(?:__syncthreads|cluster_sync)\(\);", ""),
    "no wait for a stage": (r"mbarrier_wait(?:_cluster)?\(&(?:full|empty)\[s\], [^;]*\);", ""),
    "no arrival": (r"if \(lane (?:== 0|< TOGETHER)\) mbarrier_arrive[^;]*;", ""),
    "no commit": (r"wgmma_commit\(\);", ""),
    "no fence of wgmma": (r"wgmma_fence\(sums\);", ""),
    "no fence": (r"(?:fence_async_proxy|mbarrier_init_fence)\(\);", ""),
    "wait for a copy": (r"cp_async_wait<1>\(\);", "cp_async_wait<2>();"),
    "wait for wgmma": (r"wgmma_wait<0>\(sums\);", "wgmma_wait<1>(sums);"),
    "direction": (r"(wgmma_m64n\d+k16)<!A_ALONG_K, !B_ALONG_K>([^;]*;)", r"\1<!A_ALONG_K, B_ALONG_K>\2"),
    "parity": (r"(?<=\[s\], )[tn] / STAGES(?: \+ 1)? & 1", "0"),
    "arrival at one block": (r"lane < TOGETHER", "lane < 1"),
    "more arrivals": (r"(?<=mbarrier_init\(&full\[s\], )1|(?<=mbarrier_init\(&empty\[s\], )[^;]*(?=\);)", r"\g<0> + 1"),
    "fewer arrivals": (r"(?<=mbarrier_init\(&empty\[s\], )[^;]*(?=\);)", r"\g<0> - 1"),
    "bytes": (r"(?<=expecting\(&full\[s\], )STAGE", "STAGE - 16"),
    "swizzle": (r"piece \^ y % 8", "piece"),
    "step along k": (r"ALONG_K \? 2 : 128", "ALONG_K ? 1 : 128"),
    "step across k": (r"ALONG_K \? 2 : 128", "ALONG_K ? 2 : 64"),
    "leading distance": (r"(?<=128\), )PANEL(?=, 8 \* 128)", "PANEL / 2"),
    "stride of 8 rows": (r"(?<=PANEL, )8 \* 128", "4 * 128"),
    "column": (r"ALONG_K \? k0 : i\b", "k0"),
    "row": (r"ALONG_K \? i : k0", "i"),
    "panel of the warpgroup": (r"warpgroup \* PANEL", "0"),
    "alignment of the stages": (r"aligned_1024\(memory\)", "memory"),
    "bound": (r"\brow < (?:rows|M)\b|\bcolumn < (?:columns|N)\b", "true"),
    "stage": (r"\(t \+ 1\) % STAGES", "0"),
    "stride": (r"\(size_t\)(\([^()]*\)|[\w.]+) \* (columns|[A-Z])\b", r"(size_t)\1 * (\2 - 1)"),
    "next tile": (r"(?<=tile \+= )gridDim.x(?: / TOGETHER)?", "gridDim.x + 1"),
    "who gets a panel": (r"\bBOTH\b(?=, &)", "1 << rank"),
    "half of b": (r"\(ROWS \+ rank \* COLUMNS / TOGETHER\)", "(ROWS)"),
    "last band": (r"min\(BAND, down - first\)", "BAND"),
    "band": (r"first \+ inside % height", "inside % height"),
    "rescale": (r"expf\(cluster_map\(mine, b\)->largest - m\)|expf\(own - m\)", "1.0f"),
    "shift": (r"expf\((four\.[xyzw]) - own\)", r"expf(\1)"),
    "butterfly": (r"away > 0(?=;)", "away > 1"),
    "aligned loads": (r"N % 4 == 0", "true"),
    "tail of a part": (r"j \+ [123] < length", "true"),
    "last part": (r"min\(each, N - first\)", "each"),
}  # fmt: skip
"""Kind -> (what, what instead). Statements end with a semicolon."""

HARMLESS = {
    **{(stem, "no fence", 0): "the emulator's threads, TMA and wgmma see one memory" for stem in PRODUCTS},
    ("matmul_09_wgmma", "alignment of the stages", 0): "shared memory of this size begins at a multiple of 1024 here",
}
"""(stem, mistake, which one): why it cannot be caught."""


PLANTED = planting["Planted"]({stem: planting["whole"](stem) for stem in SIZES}, MISTAKES)


@pytest.fixture
def fate(monkeypatch: pytest.MonkeyPatch, trial: Callable[..., None]) -> Callable[[str, int], str | None]:
    """fate(stem, number of the mistake): what caught it, or None."""

    def of(stem: str, number: int) -> str | None:
        def trials() -> None:
            for size in SIZES[stem] if number >= 0 else SIZES[stem][:1]:
                trial(stem.split("_")[0], PAIRS[stem], size)

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
