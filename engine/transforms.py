"""Derivatives as functions of functions: `hg.grad(f)`, `hg.value_and_grad(f)`. They nest."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ..reference.table import RESHAPE
from .autograd import gradients
from .recording import enable_grad, state
from .tensor import Tensor, apply, wrap


def value_and_grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., tuple[Tensor, Any]]:
    """A function that returns (f(...), its gradient with respect to the arguments `argnums`); f gives a single number.

    argnums: a position, or several; for several the gradient is a tuple. Arguments may be numbers, arrays or Tensors.
    It can be nested: `hg.grad(hg.grad(f))` is the second derivative.
    """
    single = isinstance(argnums, int)
    positions = (argnums,) if isinstance(argnums, int) else tuple(argnums)

    def wrapped(*args: Any, **kwargs: Any) -> tuple[Tensor, Any]:
        if len(args) <= max(positions):
            raise TypeError(f"grad: argnums is {argnums}, but the function got {len(args)} positional arguments")
        arguments = list(args)
        for i in positions:
            arguments[i] = _variable(args[i])
        xs = [arguments[i] for i in positions]
        nested = state.transforms > 0 or any(isinstance(a, Tensor) and a.requires_grad for a in args)
        state.transforms += 1
        try:
            with enable_grad():
                y = f(*arguments, **kwargs)
        finally:
            state.transforms -= 1
        if not isinstance(y, Tensor):
            raise TypeError(f"grad: the function returned a {type(y).__name__}, but it must return a Tensor")
        if y.requires_grad:
            found = gradients(y, xs, create_graph=nested)
        else:  # f does not depend on its arguments
            found = tuple(wrap(np.zeros(x.shape, x.dtype)) for x in xs)
        return (y if nested else y.detach()), (found[0] if single else found)

    return wrapped


def grad(f: Callable[..., Any], argnums: int | tuple[int, ...] = 0) -> Callable[..., Any]:
    """A function that returns the gradient of `f` with respect to the arguments `argnums`; see `value_and_grad`."""
    both = value_and_grad(f, argnums)
    return lambda *args, **kwargs: both(*args, **kwargs)[1]


def _variable(x: Any) -> Tensor:
    """The argument as a variable of its own: where an outer derivative follows it, an identity keeps the two apart."""
    if isinstance(x, Tensor) and x.requires_grad:
        return apply(RESHAPE, x, shape=x.shape)
    return Tensor(x, requires_grad=True)
