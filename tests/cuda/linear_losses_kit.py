"""One trial of linear_cross_entropy's CUDA rungs against float64, for test_linear_cross_entropy.py."""

from types import SimpleNamespace
from typing import Any

import ml_dtypes
import numpy as np
import pytest

from handgrad.kernels.cuda import linear_losses

EPS = float(np.finfo(np.float32).eps)
UNIT = {"float32": 0.0, "float16": 2.0**-11, "bfloat16": 2.0**-8}
"""What one rounding to 16 bits may cost."""
LOST = {"float32": 2.0**-120, "float16": 2.0**-24, "bfloat16": 2.0**-120}
"""What a result may lose where it is too small for a normal number."""


def types(pair: Any) -> tuple[str, ...]:
    return tuple(pair.production.kernels)


def case(
    rows: tuple[int, ...], C: int, V: int, *, bias: float | None = None, peak: int | None = None,
    blocks: int = 512, chunk: int = 128, **params: Any,
) -> SimpleNamespace:  # fmt: skip
    """bias: what is added to random ones, None for none. peak: a class that gets 200 more. blocks, chunk: what linear_losses
    cuts the vocabulary by.
    """
    return SimpleNamespace(rows=rows, C=C, V=V, bias=bias, peak=peak, blocks=blocks, chunk=chunk, params=params)


def definition(
    dy: Any, x: Any, weight: Any, targets: Any, bias: Any = 0.0, *,
    ignore_index: int | None = None, label_smoothing: float = 0.0, transposed: bool = False,
) -> list[tuple[Any, Any, Any]]:  # fmt: skip
    """loss, dx, dweight, dbias of x (R, C) and targets (R,), each with the size of what was added up in float32, and of what
    is rounded to 16 bits.

    A logit of size a (the sum of its products' sizes) has an error of a eps, which is a relative error of e^(z - m). So what is
    made of a row's probabilities is `worse` by its largest a; twice, as m and the total have the same error.
    """
    matrix = weight.T if transposed else weight
    z, size_z = x @ matrix + bias, abs(x) @ abs(matrix) + abs(bias)
    R, V = z.shape
    log_p = z - z.max(1, keepdims=True)
    log_p -= np.log(np.exp(log_p).sum(1, keepdims=True))
    counts = np.ones(R, bool) if ignore_index is None else targets != ignore_index
    q = np.full((R, V), label_smoothing / V)
    q[counts, targets[counts]] += 1 - label_smoothing
    share = counts[:, None] / max(counts.sum(), 1)
    worse, p = 1 + 2 * size_z.max(1, keepdims=True), np.exp(log_p)

    def all_of(loss: Any, dz: Any, x: Any, matrix: Any) -> list[Any]:
        dweight = x.T @ dz
        return [loss, dz @ matrix.T, dweight.T if transposed else dweight, dz.sum(0)]

    loss = -(share * q * log_p).sum()
    values = all_of(loss, dy * share * (p - q), x, matrix)
    sizes = all_of(loss + (share * worse).sum(), abs(dy) * share * (p * worse + q), abs(x), abs(matrix))
    rounded = all_of(loss, abs(dy) * share * abs(p - q), abs(x), abs(matrix))
    return list(zip(values, sizes, rounded, strict=True))


def inputs(this: SimpleNamespace, dtype: str) -> list[Any]:
    """x, weight, targets[, bias]: numbers of 8 bits, which all types hold."""
    rng = np.random.default_rng([*this.rows, this.C, this.V])
    shape = (this.V, this.C) if this.params.get("transposed") else (this.C, this.V)
    x, weight = rng.standard_normal((*this.rows, this.C)), 3 * rng.standard_normal(shape) / np.sqrt(max(this.C, 1))
    targets = np.asarray(rng.integers(this.V, size=this.rows))
    if "ignore_index" in this.params and targets.ndim:
        targets[::3] = this.params["ignore_index"]
    floats = [x, weight] if this.bias is None else [x, weight, rng.standard_normal(this.V) + this.bias]
    if this.peak is not None:
        floats[2][this.peak] += 200
    floats = [a.astype(ml_dtypes.bfloat16).astype(dtype) for a in floats]
    return [*floats[:2], targets, *floats[2:]]


def trial(pair: Any, this: SimpleNamespace, only: tuple[str, ...] = ()) -> None:
    """Loss and gradients of one random problem, in these types, or all of the pair's. In 16 bits dz and results are rounded."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(linear_losses, "BLOCKS", this.blocks)
        patch.setattr(linear_losses, "CHUNK", this.chunk)
        for dtype in only or types(pair):
            xs = inputs(this, dtype)
            assert pair.accepts(*xs, **this.params)
            dy = np.array(-1.25, dtype)
            loss, residuals = pair.forward(*xs, **this.params)
            rest = {"residuals": residuals, "wanted": (True, True, False, True), "into": (None,) * 4, **this.params}
            dx, dweight, nothing, *dbias = pair.vjp(dy, loss, *xs, **rest)
            assert nothing is None and len(dbias) == len(xs) - 3
            x, weight, targets, *bias = xs
            flat = x.astype(np.float64).reshape(targets.size, this.C), weight.astype(np.float64), targets.reshape(-1)
            want = definition(float(dy), *flat, *(b.astype(np.float64) for b in bias), **this.params)
            length = max(targets.size, this.C, this.V)
            shapes = (), x.shape, weight.shape, (this.V,)
            for what, got, shape, expected in zip(
                ("loss", "dx", "dweight", "dbias"), (loss, dx, dweight, *dbias), shapes, want, strict=False
            ):
                assert got.dtype == dtype and got.shape == shape, what
                hold(got, *expected, length, f"{what} in {dtype}")


def hold(got: Any, number: Any, size: Any, rounded: Any, length: int, what: str) -> None:
    """Sums of up to `length` numbers in float32; in 16 bits dz and the result are rounded, once each."""
    error = abs(got.astype(np.float64).reshape(np.shape(number)) - number)
    allowed = 8 * EPS * length**0.5 * size + 2 * UNIT[got.dtype.name] * rounded + LOST[got.dtype.name]
    wrong = np.atleast_1d(~(error <= allowed))
    assert not wrong.any(), f"{what} at {np.argwhere(wrong)[0]}: error {np.atleast_1d(error)[wrong][0]:.1e}"
