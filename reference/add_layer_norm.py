r"""Addition and layer normalisation in one step: what stands between two sublayers of a Transformer.

    s = x + residual,   y = layer_norm(s, weight, bias)

A sublayer's output x joins the residual stream, whose sum s goes on; y is what the next sublayer reads. The row is the
composition of the rows add and layer_norm, and exists because a kernel can do both in one visit to memory. Two outputs,
so s has two readers and two cotangents, dy through the norm and ds directly. The chain rule adds them:

    total = ds + J(s)^T dy,      J the Jacobian of layer_norm (reference/layer_norm.py)
    dx = total,   dresidual = total,   dweight and dbias as in layer_norm at s

Addition has the slope one on both sides: x and residual get the same cotangent. The vjp reads s, which is an output, and
so neither x nor residual: their memory is free. Where one of them was broadcast, its cotangent is summed over those places.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from .arithmetic import add_definition, broadcast_size
from .layer_norm import LAYER_NORM, layer_norm, layer_norm_definition, layer_norm_jvp, layer_norm_vjp
from .namespace import Array, array_namespace, unbroadcast
from .op import Op, Sample


def add_layer_norm(
    x: Array, residual: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Array]:
    """s = x + residual, y = layer_norm(s). Shapes: (..., n), (..., n), (n), (n) -> y (..., n), s (..., n)."""
    s = x + residual
    return layer_norm(s, weight, bias, eps=eps), s


def add_layer_norm_vjp(
    dy: tuple[Array, Array],
    y: tuple[Any, Array],
    x: Any,
    residual: Any,
    weight: Array,
    *bias: Any,
    eps: float = 1e-5,
    wanted: tuple[bool, ...] = (True, True, True, True),
) -> tuple[Array | None, ...]:
    """dx = dresidual = ds + the cotangent that layer_norm gives to s; dweight and dbias are layer_norm's.

    One entry for each input that was passed.
    """
    (dy, ds), (_, s) = dy, y
    inner = (wanted[0] or wanted[1], *wanted[2:])
    through, *dparameters = layer_norm_vjp(dy, None, s, weight, *bias, eps=eps, wanted=inner)
    total = None if through is None else ds + through  # (..., n)
    dx = unbroadcast(total, x.shape) if wanted[0] else None
    dresidual = unbroadcast(total, residual.shape) if wanted[1] else None
    return dx, dresidual, *dparameters


def add_layer_norm_jvp(
    dinputs: tuple[Array | None, ...], y: tuple[Any, Array], inputs: tuple[Any, ...], *, eps: float = 1e-5
) -> tuple[Array, Array]:
    """ds = dx + dresidual, dy = layer_norm's at s. None is the direction of an input that stands still."""
    (dx, dresidual, *dparameters), s = dinputs, y[1]
    ds = array_namespace(s).zeros_like(s)  # and its shape, where x or residual was stretched
    for direction in (dx, dresidual):
        ds = ds if direction is None else ds + direction
    return layer_norm_jvp((ds, *dparameters), None, (s, *inputs[2:]), eps=eps), ds


def add_layer_norm_definition(
    x: Array, residual: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5
) -> tuple[Array, Array]:
    """The composition of the two definitions."""
    s = add_definition(x, residual)
    return layer_norm_definition(s, weight, bias, eps=eps), s


def _draw(rng: np.random.Generator) -> Sample:
    """A draw of layer_norm with its x in two parts; sometimes all entries along the first axis share one residual."""
    assert LAYER_NORM.draw is not None
    sample = LAYER_NORM.draw(rng)
    s, *parameters = sample.inputs
    residual = rng.standard_normal(s.shape[1:] if s.ndim > 1 and rng.random() < 0.3 else s.shape)
    return Sample((s - residual, residual, *parameters), sample.params, "random")


def _tolerance(x: Array, residual: Array, weight: Array, bias: Array | None = None, *, eps: float = 1e-5) -> float:
    """That of layer_norm, and one number of a stretched residual is read in many places, whose cotangents are summed.

    In a row of one or two entries layer_norm's gradient cancels to nearly nothing beside ds: the error is in ulps of the
    terms that cancelled, which are as large as weight / sqrt(var + eps).
    """
    s = x + residual
    terms = np.max(np.abs(weight), initial=0.0) * np.max(1.0 / np.sqrt(np.var(s, axis=-1) + eps), initial=0.0)
    tolerance = LAYER_NORM.tolerance(s, weight, bias, eps=eps) * max(1.0, float(terms))
    return tolerance + s.size / max(1, min(x.size, residual.size))


def _cost(x: Any, residual: Any, weight: Any, bias: Any = None, *, eps: float = 1e-5) -> tuple[int, int]:
    """One addition more than layer_norm has; y and s are written."""
    n, given = broadcast_size(x, residual), (x, residual, weight, bias)
    return 9 * n, 2 * n + sum(a.size for a in given if a is not None)


def _wrong(change: Any) -> Any:
    """The right vjp with other cotangents of the two terms: change(dy, y, dx of layer_norm alone) -> (dx, dresidual)."""

    def vjp(
        dy: Any, y: Any, x: Any, residual: Any, weight: Array, *bias: Any, eps: float = 1e-5, wanted: Any = None
    ) -> tuple[Array | None, ...]:
        through, *dparameters = layer_norm_vjp(dy[0], None, y[1], weight, *bias, eps=eps)
        dx, dresidual = change(dy, y, through)
        return unbroadcast(dx, x.shape), unbroadcast(dresidual, residual.shape), *dparameters

    return vjp


def _wrong_dweight(
    dy: Any, y: Any, x: Any, residual: Any, weight: Array, *bias: Any, eps: float = 1e-5, wanted: Any = None
) -> tuple[Array | None, ...]:
    right = add_layer_norm_vjp(dy, y, x, residual, weight, *bias, eps=eps)
    return *right[:2], unbroadcast((dy[0] + dy[1]) * y[1], weight.shape), *right[3:]


_ROW = np.array([1.0, 2.0, 4.0])

ADD_LAYER_NORM = Op(
    "add_layer_norm",
    add_layer_norm,
    add_layer_norm_vjp,
    add_layer_norm_jvp,
    inputs=("x", "residual", "weight", "bias"),
    outputs=("y", "s"),
    reads=("y", "weight"),
    takes_wanted=True,
    definition=add_layer_norm_definition,
    signature="(...,n),(...,n),(n),(n)?->(...,n),(...,n)",
    draw=_draw,
    formula=r"s = x + x_{\mathrm{res}}, \quad y = \operatorname{layer\_norm}(s; w, b)",
    gradient=r"\bar x = \bar x_{\mathrm{res}} = \bar s + r \left(g - \overline{g} - \hat s\, \overline{g \hat s}\right), "
    r"\quad g = \bar y \odot w;\qquad \bar w = \sum \bar y \odot \hat s, \quad \bar b = \sum \bar y",
    samples=(
        Sample(
            (np.stack([_ROW, -_ROW]), np.ones((2, 3)), np.ones(3), np.zeros(3)), {}, "the sum of both is normalised"
        ),
        Sample((_ROW, _ROW[::-1] ** 2, np.array([2.0, 0.0, -1.0])), {}, "without a bias, and without leading axes"),
        Sample((_ROW, -_ROW, np.ones(3), np.ones(3)), {}, "x undoes the residual: only eps keeps the division finite"),
        Sample((np.stack([_ROW, -_ROW]), _ROW**2, np.ones(3)), {}, "one residual for every row"),
        Sample((_ROW, np.stack([_ROW, -_ROW]) ** 3, np.ones(3)), {}, "one x for every row of the residual"),
        Sample((_ROW, np.ones(3), np.ones(3)), {"eps": 1.0}, "an eps that can be seen"),
        Sample(
            (np.zeros((0, 3)), np.zeros((0, 3)), np.ones(3), np.ones(3)), {}, "no rows: the sums over rows are zero"
        ),
    ),
    laws=("shift_invariant", "rows_independent"),
    wrong={
        "forgets the cotangent of the residual stream": _wrong(lambda dy, y, through: (through, through)),
        "lets the residual stream past the norm alone": _wrong(lambda dy, y, through: (dy[1], dy[1])),
        "gives the norm's cotangent to x and the stream's to residual": _wrong(lambda dy, y, through: (through, dy[1])),
        "normalises the stream's cotangent as well": _wrong(lambda dy, y, through: (dy[1] + dy[0], dy[1] + dy[0])),
        "takes s for its normalised form in dweight": _wrong_dweight,
    },
    tolerance=_tolerance,
    cost=_cost,
    source="Ba, Kiros and Hinton 2016, Layer Normalization, section 3; Vaswani et al. 2017, section 3.1",
)
