"""The backward half of automatic differentiation: walks the graph that `apply` left, from the result to the leaves.

Each Node turns the cotangent of its outputs into cotangents of its inputs, dx = dy J, by its kernel's vjp or by its row's
formula. With `create_graph=True` the formulas run on Tensors instead of arrays: because a formula is written in the array
API and Tensor implements it, the backward pass is then itself a recorded computation, and gradients of any order cost no
further code.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..reference.namespace import array_namespace
from .device import ARRAYS, library
from .door import cotangent, operand, room
from .recording import state
from .tensor import OBSERVER, Node, Tensor, wrap

Edge = tuple[Any, int]  # (Node, output index), or (leaf Tensor, 0)


def backward(y: Tensor, dy: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
    """Adds the gradient of `y` to `.grad` of every leaf that requires grad and that `y` depends on.

    dy: the cotangent, of y's shape and dtype; where y is a single number it may be a Python number, or left out (1).
    retain_graph: keep what the graph holds, so that it can be walked again.
    create_graph: record the walk itself (and retain the graph), so that the gradients can be differentiated.
    Raises, before any gradient was touched: RuntimeError for a y without history, a graph that was used and freed, or an
    input that was changed since; ValueError or TypeError for a cotangent of another shape or dtype.
    """
    _walk(y, dy, None, retain_graph, create_graph)


def gradients(
    y: Tensor, xs: Sequence[Tensor], dy: Any = None, *, retain_graph: bool = False, create_graph: bool = False
) -> tuple[Tensor, ...]:
    """The gradient of `y` with respect to each of `xs` (leaves or not), touching no `.grad`; zeros where y ignores it."""
    edges = [(x.node or x, x.index) for x in xs]
    found = _walk(y, dy, dict.fromkeys(edges), retain_graph, create_graph)
    return tuple(
        g if isinstance(g, Tensor) else wrap(library(x.data).zeros_like(x.data) if g is None else library(x.data).array(g))
        for x, g in zip(xs, (found[edge] for edge in edges), strict=True)
    )


def _walk(y: Tensor, dy: Any, found: dict[Edge, Any] | None, retain: bool, create: bool) -> dict[Edge, Any]:
    """The one loop. `found` None: add to the leaves' .grad; otherwise fill it with the cotangents of its edges."""
    if not y.requires_grad:
        raise RuntimeError(
            "backward: this Tensor depends on nothing that requires grad; set requires_grad=True on a leaf"
        )
    start: Any = cotangent(y.data, dy.data if isinstance(dy, Tensor) else operand("backward", dy))
    root: Any = y.node or y
    nodes = _nodes(root)
    _validate(nodes)
    needed = set(nodes) if found is None else _leading_to(nodes, found)
    slots: dict[Any, list[Any]] = {}  # node or leaf -> the cotangent of each of its outputs, as far as it is summed up
    owned: set[Edge] = set()  # slots whose array we allocated, by edge: an id() may be reused
    before, state.record = state.record, create
    on_tensors = create or state.pushing
    try:
        if on_tensors:  # a copy, because a gradient may be (a view of) the cotangent
            start = (dy if isinstance(dy, Tensor) else wrap(start)) * 1.0
        _add(slots, owned, (root, y.index), start)
        for node in nodes:
            dys = slots.pop(node, None)
            if dys is None:
                continue
            if found is not None:
                found.update({(node, i): d for i, d in enumerate(dys) if (node, i) in found})
            if node not in needed:
                continue
            wanted = node.wanted if found is None else _wanted(node, needed, found)
            lend = found is None and node.kernel is not None and not on_tensors
            lent = _lend(node, slots, owned) if lend else [None] * len(node.edges)
            if on_tensors:
                dxs = _vjp_on_tensors(node, dys, wanted)
            else:
                dxs = OBSERVER[0].backward(_vjp, node, dys, wanted, lent) if OBSERVER else _vjp(node, dys, wanted, lent)
            edges = node.edges
            if not (retain or create):
                node.saved = node.y = node.residuals = node.tangents = None
                node.edges = []
            for edge, dx, offer in zip(edges, dxs, lent, strict=True):
                if edge is None or dx is None:
                    continue
                written = offer is not None and dx is offer[0]  # "dx is the slot" is not enough: x + x returns dy twice
                if found is None and type(edge[0]) is Tensor:
                    _accumulate(edge[0], dx, offer[0] if offer and written else None)
                elif not written:
                    _add(slots, owned, edge, dx)
        for leaf, dys in slots.items():
            if found is None:
                _accumulate(leaf, dys[0], None)
            elif (leaf, 0) in found:
                found[leaf, 0] = dys[0]
    finally:
        state.record = before
    return found or {}


def _nodes(root: Any) -> list[Node]:
    """All nodes that `root` depends on, latest first: each comes before everything that it was computed from."""
    stack = [root] if type(root) is Node else []
    seen = set(stack)
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and type(edge[0]) is Node and edge[0] not in seen:
                seen.add(edge[0])
                stack.append(edge[0])
    return sorted(seen, key=lambda node: node.order, reverse=True)


def _validate(nodes: list[Node]) -> None:
    for node in nodes:
        if node.saved is None:
            raise RuntimeError(
                f"backward: the graph of {node.op.name} was used and freed; call the first backward with retain_graph=True"
            )
        for counter, value, name in node.versions:
            if counter[0] != value:
                raise RuntimeError(
                    f"backward: {name} of {node.op.name} was changed after the forward pass; compute y again before backward"
                )


def _leading_to(nodes: list[Node], found: dict[Edge, Any]) -> set[Node]:
    """The nodes through which a cotangent must pass to reach one of the edges in `found`."""
    needed: set[Node] = set()
    for node in reversed(nodes):
        if any(_wanted(node, needed, found)):
            needed.add(node)
    return needed


def _wanted(node: Node, needed: set[Node], found: dict[Edge, Any]) -> tuple[bool, ...]:
    return tuple([edge is not None and (edge in found or edge[0] in needed) for edge in node.edges])


def _add(slots: dict[Any, list[Any]], owned: set[Edge], edge: Edge, dx: Any) -> None:
    """slots[edge] += dx, in place only where the array is our own."""
    target, index = edge
    slot = slots.get(target)
    if slot is None:
        slot = slots[target] = [None] * (1 if type(target) is Tensor or target.op.single else len(target.y))
    if slot[index] is None:
        slot[index] = dx
    elif edge in owned:
        slot[index] += dx
    else:
        slot[index] = slot[index] + dx
        if type(slot[index]) in ARRAYS:
            owned.add(edge)


def _vjp(node: Node, dys: list[Any], wanted: tuple[bool, ...], lent: list[Any]) -> tuple[Any, ...]:
    """On arrays, by the kernel that ran forward or by the formula. What a vjp reads is read-only by now."""
    for dy in dys:
        if type(dy) is np.ndarray:
            dy.setflags(write=False)
    if node.kernel is not None:
        d = dys[0] if node.op.single else tuple(dys)
        return node.kernel.vjp(
            d, node.y, *node.saved, residuals=node.residuals, wanted=wanted, into=lent, **node.params
        )
    return _formula(node, _filled(node, dys), node.y, node.saved, wanted)


def _vjp_on_tensors(node: Node, dys: list[Any], wanted: tuple[bool, ...]) -> tuple[Any, ...]:
    """The formula on Tensors that are connected to the graph where their arrays came from."""
    moving, moved = node.tangents or ([None] * len(node.saved), [None] * len(dys))
    saved = [_connected(*parts) for parts in zip(node.saved, node.edges, moving, strict=True)]
    outputs = (node.y,) if node.op.single else node.y
    ys = [_connected(a, (node, i), dy) for i, (a, dy) in enumerate(zip(outputs, moved, strict=True))]
    return _formula(node, _filled(node, dys), ys[0] if node.op.single else tuple(ys), saved, wanted)


def _filled(node: Node, dys: list[Any]) -> Any:
    """What a formula takes as dy: zeros stand for an output that nobody used."""
    if node.op.single:
        return dys[0]
    xp = array_namespace(next(d for d in dys if d is not None))
    return tuple([xp.zeros(s.shape, dtype=s.dtype) if d is None else d for d, s in zip(dys, node.y, strict=True)])


def _formula(node: Node, dy: Any, y: Any, saved: Any, wanted: tuple[bool, ...]) -> tuple[Any, ...]:
    asked = {"wanted": wanted} if node.op.takes_wanted else {}
    return node.op.vjp(dy, y, *saved, **asked, **node.params)


def _connected(a: Any, edge: Edge | None, tangent: Any) -> Any:
    if type(a) not in ARRAYS:
        return a  # a Python number, None, or the Spec of what the row does not read
    if edge is not None and type(edge[0]) is Tensor:
        return edge[0]
    t = wrap(a)
    t.tangent = tangent
    if edge is not None:
        t.node, t.index, t.requires_grad = edge[0], edge[1], True
    return t


def _lend(node: Node, slots: dict[Any, list[Any]], owned: set[Edge]) -> list[Any]:
    """For each input the array where a kernel may write or add its cotangent: (buffer, add), or None; each lent once."""
    lent: list[Any] = [None] * len(node.edges)
    seen: set[Edge] = set()
    for i, edge in enumerate(node.edges):
        if edge is None or edge in seen:
            continue
        seen.add(edge)
        target, index = edge
        if isinstance(target, Node):
            lent[i] = (slots[target][index], True) if edge in owned else None
        elif target.grad is None:
            target.accumulator = None  # a gradient that was dropped goes first: the new one gets its memory
            lent[i] = (room(target), False)
        elif target.accumulator is not None and target.accumulator[0] is target.grad:
            lent[i] = (target.accumulator[1], True)
    return lent


def _accumulate(leaf: Tensor, dx: Any, written: Any) -> None:
    """leaf.grad += dx. A gradient is copied or added, never adopted: dx may be an array that others share.

    written: the buffer that the kernel was lent, where it put or added dx there already.
    """
    if dx.shape != leaf.data.shape:
        raise ValueError(f"backward: a vjp gave a gradient of shape {dx.shape} for a leaf of shape {leaf.shape}")
    if type(dx) is Tensor:
        leaf.grad = dx if leaf.grad is None else leaf.grad + dx
    elif leaf.grad is None:
        home = written
        if home is None:
            home = room(leaf)
            home[...] = dx
        leaf.grad = wrap(home.view())
        leaf.accumulator = (leaf.grad, home)
    elif leaf.accumulator is None or leaf.accumulator[0] is not leaf.grad:
        leaf.grad = wrap(leaf.grad.data + dx)  # somebody else's .grad: leave it as it was
    elif written is None:
        home = leaf.accumulator[1]
        home += dx
