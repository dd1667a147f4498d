"""What the optimizers share: parameters, gradients and state lie one after the other in flat arrays, and a step is one pass.

An optimizer is a FlatOptimizer with the names of its state arrays, the legal values of its settings, and `_update`: the
formula of its page in reference/, on neighbours that are updated alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from numbers import Real
from typing import Any, ClassVar, TypeVar

import numpy as np

from ..device import checked_device, device_of, host, library, moved
from ..door import lock
from ..moving import move_leaf
from ..tensor import Tensor
from .clip import clip_scale

BLOCK = 1 << 14
"""Elements that a pass in plain NumPy takes at a time: its temporaries stay in the cache."""

O = TypeVar("O", bound="FlatOptimizer")

Span = tuple[dict[str, Any], int, int, int]
"""(group, step, start, stop) of neighbours that are updated alike."""


class FlatOptimizer:
    """Base of the optimizers.

    params: Tensors, or a list of groups {"params": Tensors, "lr": ...} with the settings that differ. ValueError where a
    setting is unknown or has no legal value, TypeError where a parameter cannot be one.
    max_norm: clip the gradients' global norm to this inside the step.

    The Tensors' numbers move into one array, and their gradients will lie in another: a `.grad` that you want to keep
    beyond `zero_grad()` must be copied. A parameter without a gradient is left alone, and counts its own steps.
    """

    STATE: ClassVar[tuple[str, ...]]  # the attributes that hold a number for each parameter's number, zero at first

    def __init__(self, params: Iterable[Any], defaults: dict[str, Any], max_norm: float | None) -> None:
        given, name = list(params), type(self).__name__
        groups = given if any(isinstance(g, Mapping) for g in given) else [{"params": given}]
        for group in groups:
            if not isinstance(group, Mapping) or "params" not in group:
                raise TypeError(f'{name}: a group must be a dict with "params", where one of them is a dict')
            if unknown := sorted(set(group) - {"params", *defaults}):
                raise ValueError(f"{name}: a group sets {', '.join(unknown)}, but it can set {', '.join(defaults)}")
        self.param_groups: list[dict[str, Any]] = [{**defaults, **g, "params": list(g["params"])} for g in groups]
        self.max_norm = max_norm
        for group in self.param_groups:
            self._check(group)
        self.params: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        if not self.params:
            raise ValueError(f"{name}: got no parameters")
        if len({id(p) for p in self.params}) < len(self.params):
            raise ValueError(f"{name}: a parameter is listed twice")
        if any(not isinstance(p, Tensor) or p.node is not None or p.version is None for p in self.params):
            raise TypeError(
                f"{name}: a parameter must be a Tensor that you made, not an array or an operation's result"
            )
        dtypes = {p.dtype for p in self.params}
        if len(dtypes) > 1 or next(iter(dtypes)).kind != "f":
            raise TypeError(
                f"{name}: parameters are {', '.join(sorted(map(str, dtypes)))}, but all must be one float dtype"
            )
        if len({p.device for p in self.params}) > 1:
            raise ValueError(f"{name}: some parameters are on cpu and some on cuda, but all must be on one device")
        self.steps = [0] * len(self.params)
        self._lay_flat()
        for state in self.STATE:
            setattr(self, state, library(self.flat).zeros_like(self.flat))

    # ---- what an optimizer says

    def _limits(self, group: Mapping[str, Any]) -> Iterator[tuple[str, bool, str]]:
        """(setting, whether its value is legal, what it must be); more of them where an optimizer has more."""
        yield from not_negative(group, "lr", "weight_decay")

    def _update(self, group: Mapping[str, Any], step: int, scale: float, start: int, stop: int) -> None:
        """Update number `step` of the elements start to stop of the flat arrays; gradients count `scale` times."""
        raise NotImplementedError(f"{type(self).__name__}: define _update(...)")

    def _squared_norm(self, grad: np.ndarray) -> float:
        """The sum of squares of a flat array, in float64."""
        xp = library(grad)
        return float(sum(xp.sum(xp.square(grad[i:j], dtype=np.float64)) for i, j in self._blocks(0, grad.size)))

    def _blocks(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """(first, last) of what a pass takes at a time; all at once on a GPU, which has no such cache to stay in."""
        return blocks(start, stop) if self.device == "cpu" else iter([(start, stop)])

    # ---- what all share

    def _check(self, group: Mapping[str, Any]) -> None:
        values, norm = {**group, "max_norm": self.max_norm}, self.max_norm
        allowed = norm is None or (isinstance(norm, Real) and norm > 0)
        for name, good, wanted in chain(self._limits(group), [("max_norm", allowed, "positive or None")]):
            if not good:
                raise ValueError(f"{type(self).__name__}: {name} is {values[name]!r}, but it must be {wanted}")

    def _lay_flat(self) -> None:
        self.offsets = np.cumsum([0, *[p.size for p in self.params]]).tolist()
        xp = library(self.params[0].data)
        flat, grad = (xp.zeros(self.offsets[-1], self.params[0].dtype) for _ in range(2))
        self.flat, self.flat_grad = flat, grad
        for p, start, stop in zip(self.params, self.offsets, self.offsets[1:], strict=False):
            flat[start:stop] = p.data.reshape(-1)
            p.data = lock(flat[start:stop].reshape(p.shape))
            p.grad_home = grad[start:stop].reshape(p.shape)
        self._views = [p.data for p in self.params]

    @property
    def device(self) -> str:
        """Where parameters, gradients and state are: "cpu" or "cuda"."""
        return device_of(self.flat)

    def to(self: O, device: str) -> O:
        """Moves the parameters and the state to "cpu" or "cuda"; a model that was moved before must be followed so."""
        checked_device("to", device)
        for p in self.params:
            move_leaf(p, device)
        self._lay_flat()
        for name in self.STATE:
            setattr(self, name, moved(getattr(self, name), device))
        return self

    def zero_grad(self) -> None:
        """Forgets all gradients: `.grad` becomes None; nothing is written."""
        for p in self.params:
            p.grad = None

    def step(self) -> float:
        """One update in place. Returns the gradients' global norm before clipping, or NaN where max_norm is None.

        Raises, before anything is changed: RuntimeError where somebody replaced a parameter's array or another optimizer
        took it over, ValueError where a `.grad` set by hand has another shape than its parameter.
        """
        name = type(self).__name__
        for p, view in zip(self.params, self._views, strict=True):
            if p.data is not view:
                raise RuntimeError(
                    f"{name}: a parameter's array was replaced since; make the optimizer after casting it, and call its "
                    "to(device) after moving it"
                )
            if p.grad is not None and p.grad.shape != p.shape:
                raise ValueError(f"{name}: a .grad has shape {p.grad.shape}, but its parameter has shape {p.shape}")
        spans = self._spans()
        norm, scale = float("nan"), 1.0
        if self.max_norm is not None:
            norm = float(np.sqrt(sum(self._squared_norm(self.flat_grad[a:b]) for _, _, a, b in _joined(spans))))
            scale = clip_scale(norm, self.max_norm)
        for group, step, start, stop in spans:
            self._update(group, step, scale, start, stop)
        return norm

    def _spans(self) -> list[Span]:
        """The parameters that have a gradient; it lies in the flat array afterwards."""
        spans: list[Span] = []
        i = 0
        for group in self.param_groups:
            for p in group["params"]:
                start, stop = self.offsets[i], self.offsets[i + 1]
                if p.grad is not None:
                    made = p.accumulator
                    if made is None or made[0] is not p.grad or made[1] is not p.grad_home:
                        # It was set by hand, or is older than this optimizer.
                        self.flat_grad[start:stop] = p.grad.data.reshape(-1)
                    self.steps[i] += 1
                    p.version[0] += 1  # type: ignore[index]
                    if spans and spans[-1][0] is group and spans[-1][1] == self.steps[i] and spans[-1][3] == start:
                        spans[-1] = (*spans[-1][:3], stop)
                    else:
                        spans.append((group, self.steps[i], start, stop))
                i += 1
        return spans

    def state_dict(self) -> dict[str, np.ndarray]:
        """The state arrays and the number of updates of each parameter: what a resumed run needs, as NumPy arrays.

        Settings such as lr are not in it: they are what the optimizer is made with.
        """
        arrays = {name: np.array(host(getattr(self, name))) for name in self.STATE}
        return {**arrays, "steps": np.array(self.steps, np.int64)}

    def load_state_dict(self, state: Mapping[str, np.ndarray]) -> None:
        """Goes on where `state_dict` was taken, for the same parameters in the same order.

        ValueError, before anything is changed, where the number of parameters or of all their entries is another.
        """
        arrays = {name: np.asarray(host(values)) for name, values in state.items()}
        wanted = {**dict.fromkeys(self.STATE, self.flat.shape), "steps": (len(self.params),)}
        for name, shape in wanted.items():
            if name not in arrays or arrays[name].shape != shape:
                got = f"has shape {arrays[name].shape}" if name in arrays else "is missing"
                raise ValueError(f"{type(self).__name__}: state {name} {got}, but these parameters need shape {shape}")
        for name in self.STATE:
            getattr(self, name)[:] = moved(arrays[name], self.device)
        self.steps = [int(n) for n in arrays["steps"]]


def not_negative(group: Mapping[str, Any], *names: str) -> Iterator[tuple[str, bool, str]]:
    """What `_limits` says about settings that are numbers from 0 on."""
    for name in names:
        yield name, isinstance(group[name], Real) and group[name] >= 0, "a number that is at least 0"


def _joined(spans: list[Span]) -> list[Span]:
    """Neighbours as one span, whatever their group: for the norm."""
    out: list[Span] = []
    for span in spans:
        if out and out[-1][3] == span[2]:
            out[-1] = (*out[-1][:3], span[3])
        else:
            out.append(span)
    return out


def blocks(start: int, stop: int) -> Iterator[tuple[int, int]]:
    """(first, last) of pieces of at most BLOCK elements, from start to stop."""
    return ((first, min(first + BLOCK, stop)) for first in range(start, stop, BLOCK))
