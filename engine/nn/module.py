"""Module: parameters with names. A layer is a class whose attributes are Tensors and other Modules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, TypeVar

import numpy as np

from ..device import checked_device, host, is_array
from ..moving import move_leaf
from ..tensor import Tensor

M = TypeVar("M", bound="Module")


def Parameter(data: Any, *, requires_grad: bool = True) -> Tensor:
    """A Tensor that training changes. Any Tensor that is an attribute of a Module is one of its parameters."""
    return Tensor(data, requires_grad=requires_grad)


class Module:
    """Base of all layers. Write `__init__` that sets attributes, and `forward`; calling the Module calls `forward`."""

    training: bool = True

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(f"{type(self).__name__}: define forward(...)")

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self.forward(*args, **kwargs)

    def named_children(self) -> Iterator[tuple[str, Module]]:
        """(name, Module) of the attributes that are Modules, in the order in which they were set."""
        for name, value in vars(self).items():
            if isinstance(value, Module):
                yield name, value

    def _named_tensors(self, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
        for name, value in vars(self).items():
            if isinstance(value, Tensor):
                yield prefix + name, value
        for name, child in self.named_children():
            yield from child._named_tensors(f"{prefix}{name}.")

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """(dotted name, Tensor), each Tensor once, under its first name, also where two layers share it."""
        seen: set[int] = set()
        for name, tensor in self._named_tensors():
            if id(tensor) not in seen:
                seen.add(id(tensor))
                yield name, tensor

    def parameters(self) -> Iterator[Tensor]:
        """The Tensors of `named_parameters`."""
        return (tensor for _, tensor in self.named_parameters())

    def modules(self) -> Iterator[Module]:
        """This Module and all below it, each once, also where it stands in two places."""
        seen: set[int] = set()
        stack: list[Module] = [self]
        while stack:
            module = stack.pop()
            if id(module) not in seen:
                seen.add(id(module))
                yield module
                stack += reversed([child for _, child in module.named_children()])

    def num_parameters(self) -> int:
        """How many numbers training changes."""
        return sum(p.size for p in self.parameters())

    def state_dict(self) -> dict[str, np.ndarray]:
        """Dotted name -> a copy as a NumPy array, wherever it is; shared Tensors under each of their names, as in PyTorch."""
        return {name: np.array(host(tensor.data)) for name, tensor in self._named_tensors()}

    def load_state_dict(self, state: Mapping[str, Any], *, strict: bool = True) -> None:
        """Copies arrays into the parameters, in place and where they are; nothing is changed unless everything fits.

        Raises KeyError naming missing and unexpected keys (unless `strict` is False), ValueError for another shape and
        TypeError for another kind of dtype. Among floats the parameter's dtype decides: float64 is rounded to float32.
        """
        own = dict(self._named_tensors())
        arrays = {name: value.data if isinstance(value, Tensor) else _array(value) for name, value in state.items()}
        missing = [name for name in own if name not in arrays]
        unexpected = [name for name in arrays if name not in own]
        if strict and (missing or unexpected):
            parts = [
                f"{what}: {', '.join(names)}"
                for what, names in (("missing", missing), ("unexpected", unexpected))
                if names
            ]
            raise KeyError(f"load_state_dict: the keys do not fit {type(self).__name__}; {'; '.join(parts)}")
        for name, tensor in own.items():
            if name in arrays and arrays[name].shape != tensor.shape:
                raise ValueError(f"load_state_dict: {name} has shape {arrays[name].shape}, but it needs {tensor.shape}")
            if name in arrays and not np.can_cast(arrays[name].dtype, tensor.dtype, "same_kind"):
                raise TypeError(f"load_state_dict: {name} is {arrays[name].dtype}, but it needs {tensor.dtype}")
        for name, tensor in own.items():
            if name in arrays:
                tensor.copy_(arrays[name])

    def train(self: M, mode: bool = True) -> M:
        """Switches dropout on (or off) in this Module and all below it."""
        for module in self.modules():
            module.training = mode
        return self

    def eval(self: M) -> M:
        """`train(False)`."""
        return self.train(False)

    def zero_grad(self) -> None:
        """Forgets all gradients: `.grad` becomes None."""
        for parameter in self.parameters():
            parameter.grad = None

    def astype(self: M, dtype: Any) -> M:
        """Casts the parameters, in place of the old ones; make the optimizer afterwards."""
        cast: dict[Tensor, Tensor] = {}  # by identity: where two layers share one, they share the new one too
        for module in self.modules():
            for name, value in list(vars(module).items()):
                if isinstance(value, Tensor) and value.dtype.kind == "f":
                    if value not in cast:
                        cast[value] = Tensor(value, dtype=dtype, requires_grad=value.requires_grad)
                    setattr(module, name, cast[value])
        return self

    @property
    def device(self) -> str:
        """Where the parameters are: "cpu" or "cuda", by the first one; "cpu" where there is none."""
        return next((p.device for p in self.parameters()), "cpu")

    def to(self: M, device: str) -> M:
        """Moves the parameters themselves, and their gradients, to "cpu" or "cuda"; an optimizer of theirs needs `to` too."""
        checked_device("to", device)
        for parameter in self.parameters():
            move_leaf(parameter, device)
        return self

    def extra_repr(self) -> str:
        """What the constructor was given, for `repr`."""
        return ""

    def __repr__(self) -> str:
        children = [f"  {name}: " + repr(child).replace("\n", "\n  ") for name, child in self.named_children()]
        head = f"{type(self).__name__}({self.extra_repr()}"
        return head + ")" if not children else "\n".join([head, *children, ")"])


def _array(value: Any) -> Any:
    return value if is_array(value) else np.asarray(value)


class ModuleList(Module):
    """Modules in a row, named 0, 1, 2 ...; it does not run by itself."""

    def __init__(self, modules: Iterable[Module] = ()) -> None:
        self._n = 0
        for module in modules:
            self.append(module)

    def append(self, module: Module) -> ModuleList:
        if not isinstance(module, Module):
            raise TypeError(f"{type(self).__name__}: got a {type(module).__name__}, but it holds Modules")
        setattr(self, str(self._n), module)
        self._n += 1
        return self

    def __len__(self) -> int:
        return self._n

    def __iter__(self) -> Iterator[Module]:
        return (child for _, child in self.named_children())

    def __getitem__(self, i: int) -> Module:
        if not -self._n <= i < self._n:
            raise IndexError(f"{type(self).__name__}: index {i}, but it has {self._n} Modules")
        return getattr(self, str(i % self._n))


class Sequential(ModuleList):
    """Modules in a row, each run on what the one before it gave."""

    def __init__(self, *modules: Module) -> None:
        super().__init__(modules)

    def forward(self, x: Any) -> Any:
        for module in self:
            x = module(x)
        return x
