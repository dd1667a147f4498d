"""What the tests of the CUDA kernels share: float64 definitions, and one trial of a rung against them."""

import importlib
import math
import os
import runpy
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import ml_dtypes
import numpy as np
import pytest

import handgrad
from handgrad.kernels.cuda import launch
from handgrad.kernels.cuda.on_cpu.kernel import Kernel, KernelError

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
whole = runpy.run_path(str(Path(__file__).with_name("planting.py")))["whole"]
EPS = float(np.finfo(np.float32).eps)
LAST_ROUNDING = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}


PLANTED, SHARE = "test_a_planted_mistake_is_caught", 6


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Without g++ nothing here can run. Of the planted mistakes, each of which is compiled, every sixth is tried, always the
    same ones; HANDGRAD_MUTANTS=all tries all of them (`make soak` does).
    """
    if shutil.which("g++") is None:
        for item in items:
            if "tests/cuda" in item.path.as_posix():
                item.add_marker(pytest.mark.skip(reason="g++ is not installed, which runs CUDA kernels on the CPU"))
    if os.environ.get("HANDGRAD_MUTANTS") != "all":
        left = [i for i in items if PLANTED in i.name and "tests/cuda" in i.path.as_posix() and crc32(i.name.encode()) % SHARE]
        config.hook.pytest_deselected(items=left)
        gone = set(left)
        items[:] = [item for item in items if item not in gone]


@pytest.fixture(scope="session")
def benches() -> Any:
    """Files of benches/, which find each other by their bare names."""
    before, folder = sys.path[:], Path(__file__).resolve().parents[2] / "benches"
    sys.path[:0] = [str(folder), str(folder / "workers")]
    try:
        return SimpleNamespace(**{n: importlib.import_module(n) for n in ("cuda_report", "ops_options", "own_cuda")})
    finally:
        sys.path[:] = before


@pytest.fixture(scope="session")
def report(benches: Any) -> Any:
    return benches.cuda_report


# ---- float64 definitions: (y, gradients) of inputs and a cotangent


def matmul(dy: Any, a: Any, b: Any) -> tuple[Any, tuple[Any, ...]]:
    return a @ b, (dy @ b.T, a.T @ dy)


def softmax(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    e = np.exp(x - x.max(-1, keepdims=True, initial=-np.inf))
    y = e / e.sum(-1, keepdims=True)
    return y, (y * (dy - (dy * y).sum(-1, keepdims=True)),)


def log_softmax(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    shifted = x - x.max(-1, keepdims=True, initial=-np.inf)
    y = shifted - np.log(np.exp(shifted).sum(-1, keepdims=True))
    return y, (dy - np.exp(y) * dy.sum(-1, keepdims=True),)


def cross_entropy(dy: Any, logits: Any, targets: Any, *, ignore_index: Any = None, label_smoothing: float = 0.0) -> Any:
    R, V = logits.shape
    log_p = log_softmax(np.zeros(V), logits)[0]
    counts = np.ones(R, bool) if ignore_index is None else targets != ignore_index
    q = np.full((R, V), label_smoothing / V)
    q[counts, targets[counts]] += 1 - label_smoothing
    share = counts[:, None] / max(counts.sum(), 1)
    return -(share * q * log_p).sum(), (dy * share * (np.exp(log_p) - q), None)


def layer_norm(dy: Any, x: Any, weight: Any, bias: Any) -> tuple[Any, tuple[Any, ...]]:
    n = max(x.shape[-1], 1)
    c = x - x.sum(-1, keepdims=True) / n
    r = 1 / np.sqrt((c * c).sum(-1, keepdims=True) / n + 1e-5)
    h, g = c * r, dy * weight
    dx = r * (g - g.sum(-1, keepdims=True) / n - h * (g * h).sum(-1, keepdims=True) / n)
    return h * weight + bias, (dx, (dy * h).sum(0), dy.sum(0))


def rms_norm(dy: Any, x: Any, weight: Any) -> tuple[Any, tuple[Any, ...]]:
    n = max(x.shape[-1], 1)
    r = 1 / np.sqrt((x * x).sum(-1, keepdims=True) / n + 1e-6)
    h, g = x * r, dy * weight
    return h * weight, (r * (g - h * (g * h).sum(-1, keepdims=True) / n), (dy * h).sum(0))


def gelu(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    a, b = np.sqrt(2 / np.pi), 0.044715
    t = np.tanh(a * (x + b * x**3))
    return x * (1 + t) / 2, (dy * ((1 + t) / 2 + x * (1 - t * t) / 2 * a * (1 + 3 * b * x * x)),)


def silu(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    s = 1 / (1 + np.exp(-x))
    return x * s, (dy * (s + x * s * (1 - s)),)


def sigmoid(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    s = 1 / (1 + np.exp(-x))
    return s, (dy * s * (1 - s),)


def relu(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    return np.maximum(x, 0), (dy * (x > 0),)


def gelu_erf(dy: Any, x: Any) -> tuple[Any, tuple[Any, ...]]:
    below = np.vectorize(math.erfc, otypes=[float])(-x / np.sqrt(2)) / 2
    return x * below, (dy * (below + x * np.exp(-x * x / 2) / np.sqrt(2 * np.pi)),)


def swiglu(dy: Any, gate: Any, up: Any) -> tuple[Any, tuple[Any, ...]]:
    gated, (dgate,) = silu(dy * up, gate)
    return gated * up, (dgate, dy * gated)


def bias_gelu(dy: Any, x: Any, bias: Any) -> tuple[Any, tuple[Any, ...]]:
    y, (dx,) = gelu(dy, x + bias)
    return y, (dx, dx.sum(0))


def add(dy: Any, x1: Any, x2: Any) -> tuple[Any, tuple[Any, ...]]:
    return x1 + x2, (dy, dy)


def multiply(dy: Any, x1: Any, x2: Any) -> tuple[Any, tuple[Any, ...]]:
    return x1 * x2, (dy * x2, dy * x1)


DEFINITIONS: dict[str, Callable[..., Any]] = {
    f.__name__: f
    for f in (
        matmul, softmax, log_softmax, cross_entropy, layer_norm, rms_norm, gelu, bias_gelu, silu, sigmoid, relu, gelu_erf,
        swiglu, add, multiply,
    )
}  # fmt: skip

PARAMETERS: dict[str, tuple[dict[str, Any], ...]] = {
    "cross_entropy": ({}, {"ignore_index": 2}, {"ignore_index": -100, "label_smoothing": 0.2})
}
"""With which a trial runs; elsewhere there are none."""


def inputs(operation: str, size: tuple[int, ...], rng: np.random.Generator) -> tuple[np.ndarray, ...]:
    """float32 inputs: size is (M, K, N) of a product, otherwise (rows, length). Scores up to 200: exp needs its shift."""

    def normal(*shape: int) -> np.ndarray:
        return rng.standard_normal(shape).astype(np.float32)

    if operation == "matmul":
        M, K, N = size
        return normal(M, K), normal(K, N)
    x = normal(*size)
    if operation in ("swiglu", "add", "multiply"):
        return x, normal(*size)
    if operation in ("softmax", "log_softmax", "cross_entropy"):
        scores = x * 4 + rng.choice(np.float32([-200, 0, 200]), (size[0], 1))
        return (scores, rng.integers(size[1], size=size[0])) if operation == "cross_entropy" else (scores,)
    vectors = {"layer_norm": 2, "rms_norm": 1, "bias_gelu": 1}.get(operation, 0)
    return (x * 2 + (vectors > 1), *(normal(size[1]) for _ in range(vectors)))


def hold(got: np.ndarray, want: np.ndarray, length: int, terms: float, what: str) -> None:
    """|got - want| is at most 8 eps sqrt(length) of the size of what was added up, which `terms` bounds; eps is float32's,
    in which everything is summed. A result in 16 bits was rounded once more.
    """
    assert got.shape == want.shape, what
    numbers = got.astype(np.float64)
    assert np.isfinite(numbers).all(), f"{what} holds what is not finite"
    error, largest = (float(np.max(np.abs(a), initial=0.0)) for a in (numbers - want, want))
    allowed = 8 * EPS * np.sqrt(length) * (terms + largest) + LAST_ROUNDING[got.dtype.name] * largest
    assert error <= allowed, f"{what}: error {error:.1e}, allowed {allowed:.1e}"


@pytest.fixture(scope="session")
def trial() -> Callable[[str, Any, tuple[int, ...], int], None]:
    """trial(operation, pair, size, seed): value and gradients of one random input against float64, in every type of the
    pair. Tensor cores get numbers of 8 bits, which all of their types hold: so only sums are rounded. Where a launcher
    says that rows are of a MULTIPLE of numbers, K and N are rounded up to it.
    """

    def run(operation: str, pair: Any, size: tuple[int, ...], seed: int = 0) -> None:
        multiple = getattr(pair, "MULTIPLE", 1)
        size = (size[0], *(-(-n // multiple) * multiple for n in size[1:]))
        for dtype in getattr(pair, "PRODUCTS", ("float32",)):
            for params in PARAMETERS.get(operation, ({},)):
                once(operation, pair, size, params, np.dtype(dtype), hasattr(pair, "PRODUCTS"), seed)

    def once(
        operation: str, pair: Any, size: tuple[int, ...], params: dict[str, Any], dtype: Any, short: bool, seed: int
    ) -> None:
        rng = np.random.default_rng([seed, *size])

        def given(a: np.ndarray) -> np.ndarray:
            if a.dtype.kind == "i":
                return a
            return (a.astype(ml_dtypes.bfloat16) if short else a).astype(dtype)

        xs = tuple(map(given, inputs(operation, size, rng)))
        for x in xs:
            if x.dtype.kind == "i" and "ignore_index" in params:
                x[::3] = params["ignore_index"]
        assert pair.accepts(*xs, **params)
        y, residuals = pair.forward(*xs, **params)
        dy = given(np.asarray(rng.standard_normal(y.shape), np.float32))
        nothing = (None,) * len(xs)
        grads = pair.vjp(dy, y, *xs, residuals=residuals, wanted=(True,) * len(xs), into=nothing, **params)
        with np.errstate(all="ignore"):
            wide = (a if a.dtype.kind == "i" else a.astype(np.float64) for a in (dy, *xs))
            want_y, want_grads = DEFINITIONS[operation](*wide, **params)
        length = max(size, default=1) or 1
        divisor = size[0] if operation == "cross_entropy" else 1  # a mean over rows has slopes as small
        assert y.dtype == dtype
        hold(y, np.asarray(want_y), length, 1.0, "y")
        for k, (grad, want) in enumerate(zip(grads, want_grads, strict=True)):
            if want is None:
                assert grad is None
                continue
            assert grad.dtype == dtype
            hold(grad, want, length, 8.0 / divisor, f"the gradient of input {k}")

    return run


@pytest.fixture(scope="session")
def sizes() -> SimpleNamespace:
    """Sizes that meet every edge: nothing, one, tails of 4, 32 and of each tile, and more than one block."""
    products = [(0, 3, 4), (3, 0, 5), (1, 1, 1), (5, 33, 2), (33, 8, 36), (65, 20, 70), (131, 17, 129), (16, 104, 136)]
    rows = [(0, 3), (2, 0), (1, 1), (3, 5), (130, 33), (7, 64), (70, 100), (3, 1031), (2, 516)]
    losses = [(1, 1), (3, 5), (2, 2), (7, 64), (9, 33), (260, 3), (4, 1031)]
    return SimpleNamespace(of=lambda operation: {"matmul": products, "cross_entropy": losses}.get(operation, rows))


@pytest.fixture
def caught(monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str, str, Callable[[], None]], str | None]:
    """caught(stem, old, new, run): what run() says, or None, where `old`, which stands in <stem>.cu once, is `new`."""

    def planted(stem: str, old: str, new: str, run: Callable[[], None]) -> str | None:
        source = FOLDER / f"{stem}.cu"
        text = whole(stem)
        assert text.count(old) == 1, f"{old!r} stands in {source.name} {text.count(old)} times"
        kernels: dict[tuple[Path, str], Kernel] = {}

        def mutated(path: Path, name: str) -> Kernel:
            if (path, name) not in kernels:
                kernels[path, name] = Kernel(path, name, text.replace(old, new) if path == source else None)
            return kernels[path, name]

        monkeypatch.setattr(launch, "on_cpu", mutated)
        try:
            run()
        except (AssertionError, KernelError) as error:
            return str(error) or "an assertion"
        return None

    return planted
