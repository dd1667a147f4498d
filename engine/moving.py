"""A copy from one device to another, as an operation: it is the identity, so its cotangent is carried back as it is.

It is no row of reference/, because it computes nothing and an array cannot be where a formula's other arrays are not.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from ..reference.op import Op, Sample
from . import device as d
from .recording import state
from .tensor import Tensor, apply


def to(t: Tensor, device: str) -> Tensor:
    """t on `device`: itself where it is there, else a copy. Gradients flow back through the copy to where t is.

    UserError for an unknown device, and where there is no GPU or no CuPy.
    """
    target = d.checked_device("to", device)
    if t.device == target:
        return t
    if (t.requires_grad and state.record) or t.tangent is not None:
        return apply(MOVE, t, source=t.device, target=target)
    return Tensor(d.moved(t.data, target), copy=False)


def beside(t: Tensor, other: Any) -> Tensor:
    """Data without a gradient (ids, masks, lengths) on the device of `other`, an array or a Tensor."""
    return to(t, d.device_of(other.data if isinstance(other, Tensor) else other))


def move_leaf(leaf: Tensor, device: str) -> None:
    """Moves a leaf itself, and its gradient; whoever holds it sees it there. A graph that read it before is of no use then."""
    if leaf.device == device:
        return
    leaf.data = Tensor(d.moved(leaf.data, device), copy=False).data
    leaf.grad = None if leaf.grad is None else to(leaf.grad.detach(), device)
    leaf.accumulator = leaf.grad_home = None
    leaf.version = [0] if leaf.version is None else leaf.version
    leaf.version[0] += 1


def _carried(x: Any, target: str) -> Any:
    return to(x, target) if isinstance(x, Tensor) else d.moved(x, target)


def _forward(x: Any, *, source: str, target: str) -> Any:
    """y = x. Shapes: (...) -> (...)."""
    return _carried(x, target)


def _vjp(dy: Any, y: Any, x: Any, *, source: str, target: str) -> tuple[Any]:
    """dx = dy."""
    return (_carried(dy, source),)


def _jvp(dinputs: tuple[Any, ...], y: Any, inputs: tuple[Any, ...], *, source: str, target: str) -> Any:
    """dy = dx."""
    return _carried(dinputs[0], target)


MOVE = Op(
    "to",
    _forward,
    _vjp,
    _jvp,
    inputs=("x",),
    definition=lambda x, *, source, target: np.array(x),
    signature="(...)->(...)",
    formula="y = x",
    gradient=r"\bar x = \bar y",
    samples=(Sample((np.array([1.0, 2.0]),), {"source": "cpu", "target": "cpu"}, "a copy"),),
    wrong={"forgets it": lambda dy, y, x, *, source, target: (0.0 * dy,)},
    cost=lambda x, *, source, target: (0, 2 * x.size),
    source="the identity",
)
