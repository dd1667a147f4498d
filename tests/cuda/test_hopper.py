"""What the emulator knows of sm_90a (mbarriers, TMA, wgmma), and what it reports about mistakes."""

import runpy
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda.on_cpu import compiler
from handgrad.kernels.cuda.on_cpu.kernel import KernelError, running
from handgrad.kernels.cuda.on_cpu.tensor_map import TensorMap

KIT = runpy.run_path(str(Path(__file__).with_name("hopper_kit.py")))
launch, integers, box, NUMBERS = (KIT[name] for name in ("launch", "integers", "box", "NUMBERS"))
BFLOAT16 = np.dtype(ml_dtypes.bfloat16)


@pytest.fixture(autouse=True)
def compile_faster(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing here runs long."""
    monkeypatch.setattr(compiler, "OPTIONS", (*compiler.OPTIONS, "-O0"))


# ---- mbarriers and TMA

TILE = """__shared__ Mbarrier there; unsigned short* tile = (unsigned short*)memory;
if (i == 0) mbarrier_init(&there, 1);
__syncthreads();
if (i == 0) { mbarrier_arrive_expecting(&there, 64 * 64 * 2); tma_load_2d(tile, map, X, Y, &there); }
mbarrier_wait(&there, 0);
for (int j = i; j < 64 * 64; j += 64) y[j] = tile[j];"""


def loaded(x: np.ndarray, at: tuple[int, int], body: str = TILE, *, swizzled: bool = True) -> np.ndarray:
    """64 x 64 numbers of x from (column, row) on, as TMA lays them into shared memory."""
    y = np.zeros((64, 64), np.uint16)
    body = body.replace("X", str(at[0])).replace("Y", str(at[1]))
    parameters = "unsigned short* y, const __grid_constant__ TensorMap map"
    launch(body, parameters, (1,), (64,), (y, TensorMap(x, (64, 64), swizzled)))
    return y


@pytest.mark.parametrize("at", [(0, 0), (16, 36), (40, 70), (-8, -3), (80, 100)])
def test_a_tile_is_a_box_of_the_matrix_and_zeros_beyond_it(at):
    assert (loaded(NUMBERS, at, swizzled=False) == box(NUMBERS, at)).all()


def test_the_swizzle_adds_the_row_to_the_place_of_each_16_bytes():
    swizzled = loaded(NUMBERS, (8, 1)).reshape(64, 8, 8)
    plain = box(NUMBERS, (8, 1)).reshape(64, 8, 8)
    for row in range(64):
        for piece in range(8):
            assert (swizzled[row, piece ^ row % 8] == plain[row, piece]).all()


def test_a_load_of_one_of_several_matrices():
    """Rows beyond it are zeros, and not those of the next matrix."""
    x = NUMBERS.reshape(2, 50, 80)
    y, body = np.zeros((64, 64), np.uint16), TILE.replace("2d", "3d").replace("X, Y", "16, 3, 1")
    launch(body, "unsigned short* y, const __grid_constant__ TensorMap map", (1,), (64,), (y, TensorMap(x, (64, 64, 1), False)))
    assert (y == box(x[1], (16, 3))).all()
    launch(body, "unsigned short* y, const __grid_constant__ TensorMap map", (1,), (64,), (y, TensorMap(x, (64, 32, 2), False)))
    assert (y[:32] == box(x[1], (16, 3), (32, 64))).all() and not y[32:].any()


def test_a_load_of_a_vector():
    x, y = np.arange(20, dtype=np.float32), np.full(16, -1, np.float32)
    body = """__shared__ Mbarrier there;
    if (i == 0) { mbarrier_init(&there, 1); mbarrier_arrive_expecting(&there, 64); tma_load_1d(memory, map, 8, &there); }
    __syncthreads(); mbarrier_wait(&there, 0); y[i] = ((float*)memory)[i];"""
    launch(body, "float* y, const __grid_constant__ TensorMap map", (1,), (16,), (y, TensorMap(x, (16,), False)))
    assert (y == [*range(8, 20), 0, 0, 0, 0]).all()


def test_phases_take_turns():
    body = """Mbarrier* ping = (Mbarrier*)memory; Mbarrier* pong = ping + 1; int* box = (int*)(memory + 64);
    if (i == 0) { mbarrier_init(ping, 32); mbarrier_init(pong, 32); }
    __syncthreads();
    for (int t = 0; t < 5; t++)
      if (i < 32) { box[i] = 100 * t + i; mbarrier_arrive(ping); mbarrier_wait(pong, t & 1); }
      else { mbarrier_wait(ping, t & 1); y[32 * t + i - 32] = box[63 - i]; mbarrier_arrive(pong); }"""
    y = np.zeros(160, np.int32)
    launch(body, "int* y", (1,), (64,), (y,))
    assert (y.reshape(5, 32) == 100 * np.arange(5)[:, None] + np.arange(31, -1, -1)).all()


WRONG_LOADS = [
    ("mbarrier_wait(&there, 0);", "", r"a race|the TMA load in line 6 is still under way"),
    ("mbarrier_wait(&there, 0);", "mbarrier_wait(&there, 1);", r"waits in line 7 for phase 1 of an mbarrier, which lacks 1"),
    ("64 * 64 * 2)", "64 * 64 * 2 + 16)", r"waits in line 7 for phase 0 of an mbarrier, which lacks 0 of 1 arrivals and 16 b"),
    ("mbarrier_arrive_expecting(&there, 64 * 64 * 2);", "", r"deadlock: .* lacks 1 of 1 arrivals and -8192 bytes"),
    ("mbarrier_init(&there, 1)", "mbarrier_init(&there, 2)", r"deadlock: .* lacks 1 of 2 arrivals and 0 bytes"),
    ("arrive_expecting(&there, 64 * 64 * 2)", "arrive(&there), mbarrier_arrive(&there)", r"a race|deadlock"),
    ("tma_load", "mbarrier_arrive(&there); tma_load", r"more than 1 arrivals in one phase at the mbarrier in line 6"),
    ("__syncthreads();", "", r"thread .* waits at in line 7 an mbarrier that nobody has initialised yet"),
    ("tma_load_2d(tile,", "tma_load_2d(tile + 64,", r"line 6 writes to a shared address that is no multiple of 1024"),
    ("tma_load_2d(tile,", "tma_load_2d(tile + 29696,", r"line 6 writes 8192 bytes, beyond the end of the shared memory"),
    ("tma_load_2d(tile, map, X, Y,", "tma_load_1d(tile, map, X,", r"line 6 is for 1 dimensions, and its map has 2"),
    ("mbarrier_wait(&there, 0);", "return;", r"its block ends while the TMA load in line 6 is still under way"),
]  # fmt: skip


@pytest.mark.parametrize(("old", "new", "sentence"), WRONG_LOADS)
def test_a_wrong_load_is_reported(old, new, sentence):
    with pytest.raises(KernelError, match=sentence):
        loaded(NUMBERS, (0, 0), TILE.replace(old, new))


def test_a_missing_arrival_is_a_deadlock_in_a_sentence():
    body = """Mbarrier* b = (Mbarrier*)memory; if (i == 0) mbarrier_init(b, 64);
    __syncthreads();
    if (i != 7) mbarrier_arrive(b);
    mbarrier_wait(b, 0);"""
    with pytest.raises(KernelError, match=r"in line 6 for phase 0 of an mbarrier, which lacks 1 of 64 arrivals and 0 bytes"):
        integers(body, 64)


def test_a_buffer_that_is_filled_again_too_early_is_a_race():
    body = """__shared__ Mbarrier there; unsigned short* tile = (unsigned short*)memory;
    if (i == 0) mbarrier_init(&there, 1);
    __syncthreads();
    for (int t = 0; t < 2; t++) {
      if (i == 0) { mbarrier_arrive_expecting(&there, 8192); tma_load_2d(tile, map, 0, t, &there); }
      mbarrier_wait(&there, t);
      for (int j = i; j < 64 * 64; j += 64) y[j] = tile[j];
      BARRIER
    }"""
    with pytest.raises(KernelError, match=r"a race, because y depends|deadlock: "):
        loaded(NUMBERS, (0, 0), body.replace("BARRIER", ""))
    loaded(NUMBERS, (0, 0), body.replace("BARRIER", "__syncthreads();"))


@pytest.mark.parametrize(
    ("array", "shape", "swizzled", "sentence"),
    [
        (np.zeros((4, 20), np.uint16), (64, 64), True, "rows of 40 bytes, but TMA needs a multiple of 16"),
        (np.zeros((4, 64), np.uint16), (64, 257), True, r"a box of \(64, 257\) with 2 bytes a number: sides are 1 to 256"),
        (np.zeros((4, 64), np.uint16), (32, 64), True, "a row of the box has 64 bytes, but it is swizzled in pieces of 128"),
        (np.zeros((4, 64), np.uint16), (4, 64), False, "a row a multiple of 16 bytes"),
        (np.zeros((0, 64), np.uint16), (64, 64), True, r"not empty, .*; got \(0, 64\)"),
        (np.zeros((4, 64), np.uint16).T, (4, 64), True, "of a C-contiguous vector or matrix"),
    ],
)  # fmt: skip
def test_a_map_that_the_driver_would_refuse(array, shape, swizzled, sentence):
    with pytest.raises(ValueError, match=sentence):
        TensorMap(array, shape, swizzled)


def test_a_map_is_passed_where_the_kernel_wants_one():
    x = np.zeros((64, 64), np.uint16)
    with pytest.raises(TypeError, match=r"argument 0 \(map\) is a ndarray, but the kernel wants a tensor map"):
        launch("", "const __grid_constant__ TensorMap map", (1,), (32,), (x,))
    with pytest.raises(TypeError, match=r"argument 0 \(y\) is a TensorMap, but the kernel wants a uint16\*"):
        launch("", "unsigned short* y", (1,), (32,), (TensorMap(x, (64, 64)),))


# ---- wgmma

PRODUCT = """__shared__ Mbarrier there; unsigned char* a = memory; unsigned char* b = memory + 8192; float d[64] = {};
if (i == 0) { mbarrier_init(&there, 1); mbarrier_arrive_expecting(&there, 3 * 8192);
  tma_load_2d(a, of_a, 0, 0, &there);
  tma_load_2d(b, of_b, 0, 0, &there); tma_load_2d(b + 8192, of_b, TB ? 64 : 0, TB ? 0 : 64, &there); }
__syncthreads();
mbarrier_wait(&there, 0);
wgmma_fence(d);
for (int k = 0; k < 4; k++)
  wgmma_m64n128k16<TA, TB>(d, wgmma_descriptor(a + k * (TA ? 2048 : 32), LA, 1024),
                           wgmma_descriptor(b + k * (TB ? 2048 : 32), 8192, 1024));
wgmma_commit();
wgmma_wait<0>(d);
for (int j = 0; j < 64; j++) {
  int row = i / 32 * 16 + i % 32 / 4 + j / 2 % 2 * 8, column = j / 4 * 8 + i % 4 * 2 + j % 2;
  y[row * 128 + column] = d[j];
}"""


def multiplied(body: str = PRODUCT, ta: bool = False, tb: bool = True) -> tuple[np.ndarray, np.ndarray]:
    """(what the kernel makes of random a (64, 64) and b (64, 128), what it should be)."""
    rng = np.random.default_rng(0)
    a, b = (rng.standard_normal(shape).astype(BFLOAT16) for shape in ((64, 64), (64, 128)))
    maps = [TensorMap(np.ascontiguousarray(m.T if t else m), (64, 64)) for m, t in ((a, ta), (b, not tb))]
    y = np.zeros((64, 128), np.float32)
    for name, value in {"TA": int(ta), "TB": int(tb), "LA": 0}.items():
        body = body.replace(name, str(value))
    parameters = "float* y, const __grid_constant__ TensorMap of_a, const __grid_constant__ TensorMap of_b"
    launch(body, parameters, (1,), (128,), (y, *maps))
    return y, a.astype(np.float64) @ b.astype(np.float64)


def near(got: np.ndarray, want: np.ndarray) -> bool:
    """64 products of numbers of size 1 are added up in float32."""
    return bool(np.max(np.abs(got - want)) < 64 * np.finfo(np.float32).eps * 8)


@pytest.mark.parametrize("ta", [False, True])
@pytest.mark.parametrize("tb", [False, True])
def test_wgmma_multiplies_tiles_in_both_directions(ta, tb):
    assert near(*multiplied(PRODUCT, ta, tb))


def test_wgmma_of_256_columns():
    body = PRODUCT.replace("n128", "n256").replace("d[64]", "d[128]").replace("j < 64;", "j < 128;")
    body = body.replace("* 128 + column] =", "* 128 + column % 128] += column < 128 ?").replace("= d[j]", "= d[j]")
    body = body.replace("? d[j];", "? d[j] : 0.0f;").replace(
        "3 * 8192);", "5 * 8192); for (int n = 2; n < 4; n++) tma_load_2d(b + n * 8192, of_b, 64 * n, 0, &there);"
    )
    assert near(*multiplied(body))


def test_wgmma_of_64_columns():
    """Twice: the left half and the right one."""
    start, end = PRODUCT.index("for (int k"), PRODUCT.index("wgmma_commit")
    left = PRODUCT[start:end].replace("n128", "n64").replace("(d,", "(halves[0],")
    right = left.replace("halves[0]", "halves[1]").replace("(b +", "(b + 8192 +")
    body = PRODUCT[:start] + left + right + PRODUCT[end:].replace("= d[j];", "= halves[j / 32][j % 32];")
    body = body.replace("float d[64] = {};", "float d[64] = {}, halves[2][32] = {};")
    assert near(*multiplied(body))


@pytest.mark.parametrize("N", [64, 128])
def test_wgmma_with_a_in_registers(N):
    load = """unsigned ra[4]; unsigned short* whole = (unsigned short*)(memory + 32768);
    for (int j = i; j < 4096; j += 128) whole[j] = ((unsigned short*)a)[j / 64 * 64 + ((j / 8 ^ j / 64) % 8) * 8 + j % 8];
    __syncthreads();
    wgmma_fence(d);
    for (int k = 0; k < 4; k++) {
      for (int j = 0; j < 4; j++) {
        int row = i / 32 * 16 + i % 32 / 4 + j % 2 * 8, column = k * 16 + i % 4 * 2 + j / 2 * 8;
        ra[j] = *(unsigned*)&whole[row * 64 + column];
      }
      wgmma_m64n128k16<TB>(d, ra, wgmma_descriptor(b + k * (TB ? 2048 : 32), 8192, 1024));
    }
    wgmma_commit();"""
    body = PRODUCT[: PRODUCT.index("wgmma_fence")] + load + PRODUCT[PRODUCT.index("wgmma_commit();") + 15 :]
    body = body.replace("n128", f"n{N}").replace("float d[64]", f"float d[{N // 2}]")
    body = body.replace("j < 64; j++) {\n  int", f"j < {N // 2}; j++) {{\n  int")
    got, want = multiplied(body)
    assert near(got[:, :N], want[:, :N])


def test_a_warpgroup_sees_the_same_under_the_sanitizer():
    with running(("greedy",), sanitize=True):
        assert near(*multiplied())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("8192, 1024));", "8192, 2048));"),          # the stride of b
        ("8192, 1024));", "4096, 1024));"),          # the leading distance of b
        ("LA, 1024)", "LA, 512)"),                   # the stride of a
        ("? 2048 : 32), LA", "? 2048 : 16), LA"),    # the step along k
        ("<TA, TB>", "<TA, !TB>"),                   # b read the other way
    ],
)  # fmt: skip
def test_a_wrong_descriptor_gives_wrong_numbers(old, new):
    assert old in PRODUCT
    try:
        assert not near(*multiplied(PRODUCT.replace(old, new)))
    except KernelError as said:
        assert "reaches beyond the shared memory" in str(said) or "a race" in str(said)


@pytest.mark.parametrize("which", ["of_a", "of_b"])
def test_a_tile_without_its_swizzle_gives_wrong_numbers(which, monkeypatch):
    plain = TensorMap.packed

    def without(self: TensorMap, address: int) -> bytes:
        wanted = self.array.shape == ((64, 64) if which == "of_a" else (64, 128))
        return plain(TensorMap(self.array, self.box, False) if wanted else self, address)

    monkeypatch.setattr(TensorMap, "packed", without)
    assert not near(*multiplied())


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        ("mbarrier_wait(&there, 0);", "", r"a race|is still under way"),
        ("wgmma_wait<0>(d);", "", r"a race|nobody has waited for the wgmma in line 11"),
        ("wgmma_wait<0>(d);", "wgmma_wait<1>(d);", r"a race|nobody has waited for the wgmma in line 11"),
        ("wgmma_commit();", "", r"a race|nobody has waited for the wgmma in line 11"),
        ("wgmma_fence(d);", "", r"the wgmma in line 1\d comes without a wgmma_fence since the start"),
        ("wgmma_fence(d);", "wgmma_fence(d); if (i < 96)", r"its first warp executes 4 wgmma, another one 0"),
        ("wgmma_descriptor(a + k", "wgmma_descriptor(a + 128 + k", r"its tile does not begin at a multiple of 1024"),
        ("wgmma_descriptor(a + k", "wgmma_descriptor(a + i / 16 * 1024 + k", r"give different descriptors to the wgmma"),
        ("8192, 1024));", "160000, 1024));", r"a descriptor of the wgmma in line 1\d reaches beyond the shared memory"),
        ("wgmma_commit();", "wgmma_commit(); for (int j = i; j < 4096; j += 128) ((short*)b)[j] = 0;", r"a race"),
    ],
)  # fmt: skip
def test_a_wrong_wgmma_is_reported(old, new, sentence):
    assert old in PRODUCT
    with pytest.raises(KernelError, match=sentence):
        multiplied(PRODUCT.replace(old, new))
