"""Tensor, and the forward half of automatic differentiation: `apply` runs an operation and writes down what it did.

The graph that `apply` leaves behind is made of Nodes, one for each operation that somebody will want a gradient through.
A Node holds arrays and edges (node, output index) and never the Tensors of its results: there are no cycles, and memory
goes by reference count as soon as the last user lets go. autograd.py walks it backwards.

Every NumPy array in a Tensor is read-only (CuPy's have no such flag). So no in-place change goes unnoticed: a kernel, a
formula or a user that writes into one gets NumPy's error, and the writers that may (copy_, optimizers) count up its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import count
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from ..reference.op import Op, Spec
from ..reference.table import ADD, DIVIDE, MULTIPLY, POWER, REMAINDER, SUBTRACT
from .device import ARRAYS, device_of, host, is_array, own
from .door import SCALARS, operand, taken, validate, written
from .recording import state
from .show import shown

ndarray = np.ndarray

KERNELS: dict[Op, Any] = {}  # the kernel pair (forward, vjp, accepts) of each row that has one; see kernel_table.py
CUDA: dict[Op, Any] = {}  # the same for CuPy arrays
OBSERVER: list[Any] = []  # what HANDGRAD_DEBUG puts around each operation, if anything; see debug.py
PUSH: list[Any] = []  # what carries directions through each operation while hg.jvp runs; see forward.py

_orders = count()  # numbers operations, in all threads: sorting by it is a topological order


class Node:
    """One recorded operation. `saved` is None once the node was used and freed."""

    __slots__ = (
        "edges", "kernel", "op", "order", "params", "residuals", "saved", "tangents", "versions", "wanted", "y",
    )  # fmt: skip

    kernel: Any  # the pair that ran, or None: then the formula did
    residuals: Any  # the kernel's own
    edges: list[tuple[Node | Tensor, int] | None]  # where each input came from; a leaf is its own Tensor
    wanted: tuple[bool, ...]  # which inputs need a cotangent
    saved: Any  # a list: an input's array where the row reads it, its Spec where not
    y: Any  # the outputs, likewise
    tangents: Any  # while hg.jvp runs: (those of the inputs, those of the outputs)
    versions: list[tuple[list[int], int, str]]  # (counter, its value then, name) of inputs that can be written


def _operator(op: Op) -> tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]:
    return (lambda self, other: apply(op, self, other)), (lambda self, other: apply(op, other, self))


def _plain_operator(function: Callable[..., Any]) -> tuple[Callable[[Any, Any], Any], Callable[[Any, Any], Any]]:
    return (lambda self, other: plain(function, self, other)), (lambda self, other: plain(function, other, self))


def _method(name: str) -> Callable[..., Any]:
    return lambda self, *args, **params: getattr(self.namespace, name)(self, *args, **params)


class Tensor:
    """An n-dimensional array that remembers how it was computed.

    Operators, methods and the namespace follow the array API standard; `requires_grad`, `grad`, `backward`, `detach`,
    `item` and `numpy` mean what they mean in PyTorch.

    data: numbers, nested sequences, an array or a Tensor; copied unless `copy=False`, where a NumPy array is shared
        read-only (a write through the array's other names then goes unseen). Python floats become float32, integers int64.
    requires_grad: whether `backward` should leave the gradient in `.grad`; floating point only.
    """

    __slots__ = (
        "__weakref__", "accumulator", "data", "grad", "grad_home", "index", "node", "requires_grad", "tangent", "version",
    )  # fmt: skip
    __array_ufunc__ = None  # ndarray * Tensor must come to us
    namespace: ClassVar[Any] = None  # the array API namespace on the CPU; engine/ops sets it
    walk: ClassVar[Any] = None  # autograd.backward, once it was needed

    data: ndarray  # read-only
    grad: Tensor | None
    grad_home: ndarray | None  # where an optimizer wants this leaf's gradient to lie
    accumulator: tuple[Tensor, ndarray] | None  # the .grad that we made ourselves, and its writable array
    version: list[int] | None  # counts writes; shared with views; None for results, which nobody may write
    tangent: Tensor | None  # the direction in which this moves, while hg.jvp runs
    node: Node | None
    index: int

    def __init__(self, data: Any, *, dtype: Any = None, requires_grad: bool = False, copy: bool = True) -> None:
        self.version = [0]
        if isinstance(data, Tensor):
            if not copy and (dtype is None or data.dtype == dtype):
                self.version = data.version  # the same memory
            data = data.data
        self.data = taken(data, dtype, copy)
        self.node = self.grad = self.grad_home = self.accumulator = self.tangent = None
        self.index = 0
        if requires_grad and self.data.dtype.kind != "f":
            raise TypeError(f"Tensor: only floating point can require grad, but this is {self.data.dtype}")
        self.requires_grad = requires_grad

    # ---- what it is
    shape: tuple[int, ...] = property(attrgetter("data.shape"))  # type: ignore[assignment]
    dtype: Any = property(attrgetter("data.dtype"))
    ndim: int = property(attrgetter("data.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("data.size"))  # type: ignore[assignment]
    device: str = property(lambda self: device_of(self.data))  # type: ignore[assignment]  # "cpu" or "cuda"
    is_leaf: bool = property(lambda self: self.node is None)  # type: ignore[assignment]
    mT: Tensor = property(_method("matrix_transpose"))  # type: ignore[assignment]  # the last two axes exchanged

    @property
    def T(self) -> Tensor:
        if self.ndim != 2:
            raise ValueError(f"T: this Tensor has shape {self.shape}, but T is for two axes; use mT or permute_dims")
        return self.mT

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.namespace if type(self.data) is ndarray else self.namespace.on("cuda")

    def __repr__(self) -> str:
        return shown(self)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len: this Tensor has no axes")
        return self.shape[0]

    def __iter__(self) -> Iterator[Tensor]:
        return (self[i] for i in range(len(self)))

    def __bool__(self) -> bool:
        return bool(self.item())

    def __float__(self) -> float:
        return float(self.item())

    def __int__(self) -> int:
        return int(self.item())

    def __index__(self) -> int:
        return host(self.data).__index__()

    __hash__ = object.__hash__  # by identity, although == compares numbers

    # ---- in and out
    def item(self) -> Any:
        """The only element, as a Python number."""
        if self.size != 1:
            raise ValueError(f"item: this Tensor has shape {self.shape}, but only a single element is a Python number")
        return self.data.item()

    def detach(self) -> Tensor:
        """The same numbers without the history."""
        t = wrap(self.data)
        t.version = self.version
        return t

    def numpy(self) -> ndarray:
        """A read-only view of the numbers, not a copy."""
        if self.requires_grad:
            raise RuntimeError("numpy: this Tensor requires grad, which NumPy cannot follow; use t.detach().numpy()")
        if self.device != "cpu":
            raise TypeError(f"numpy: this Tensor is on {self.device}; use t.to('cpu').numpy()")
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(
        self, *, stream: Any = None, max_version: Any = None, dl_device: Any = None, copy: bool | None = None
    ) -> Any:
        # DLPack can say "read-only", but not every consumer listens: it gets a copy, unless it refuses one.
        array = self.data if self.device != "cpu" and not self.requires_grad else self.numpy()
        if copy is not False:
            array = array.copy()
        return array.__dlpack__(stream=stream, max_version=max_version, dl_device=dl_device)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def to(self, device: str, /, *, stream: Any = None) -> Tensor:
        """On "cpu" or "cuda": itself where it is there, else a copy, through which gradients flow; see moving.py."""
        from .moving import to

        return to(self, device)

    to_device = to

    def copy_(self, values: Any) -> Tensor:
        """Overwrites a leaf's numbers in place; its version counts up, so that an old graph notices."""
        array = values.data if isinstance(values, Tensor) else values if is_array(values) else np.asarray(values)
        if array.shape != self.shape:
            raise ValueError(f"copy_: got shape {array.shape}, but this Tensor has shape {self.shape}")
        written(self, array)
        return self

    def __deepcopy__(self, memo: Any) -> Tensor:
        return Tensor(self, requires_grad=self.requires_grad)

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("a Tensor cannot be written in place: build a new one with hg.where, or use t.copy_(values)")

    def backward(self, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Adds d self / d leaf, times the cotangent `gradient`, to the `.grad` of every leaf; see autograd.backward."""
        if Tensor.walk is None:
            from .autograd import backward

            Tensor.walk = staticmethod(backward)
        Tensor.walk(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    # ---- operators
    __add__, __radd__ = _operator(ADD)
    __sub__, __rsub__ = _operator(SUBTRACT)
    __mul__, __rmul__ = _operator(MULTIPLY)
    __truediv__, __rtruediv__ = _operator(DIVIDE)
    __pow__, __rpow__ = _operator(POWER)
    __eq__ = _plain_operator(np.equal)[0]  # no gradient, no graph
    __ne__ = _plain_operator(np.not_equal)[0]
    __lt__, __gt__ = _plain_operator(np.less)
    __le__, __ge__ = _plain_operator(np.less_equal)
    __and__, __rand__ = _plain_operator(np.bitwise_and)
    __or__, __ror__ = _plain_operator(np.bitwise_or)
    __xor__, __rxor__ = _plain_operator(np.bitwise_xor)
    __lshift__, __rlshift__ = _plain_operator(np.bitwise_left_shift)
    __rshift__, __rrshift__ = _plain_operator(np.bitwise_right_shift)
    __floordiv__, __rfloordiv__ = _plain_operator(np.floor_divide)
    __mod__, __rmod__ = _operator(REMAINDER)
    __invert__, __neg__, __abs__ = _method("bitwise_invert"), _method("negative"), _method("abs")
    __pos__ = _method("positive")
    __matmul__, __getitem__ = _method("matmul"), _method("getitem")

    def __rmatmul__(self, other: Any) -> Tensor:
        return self.namespace.matmul(other, self)

    # ---- methods that read better behind a dot than in the namespace
    sum, mean, max, argmax = _method("sum"), _method("mean"), _method("max"), _method("argmax")
    min, prod, var, std = _method("min"), _method("prod"), _method("var"), _method("std")
    exp, log, sqrt, tanh = _method("exp"), _method("log"), _method("sqrt"), _method("tanh")
    permute_dims, astype = _method("permute_dims"), _method("astype")

    def reshape(self, *shape: Any) -> Tensor:
        return self.namespace.reshape(self, shape[0] if len(shape) == 1 else shape)


def wrap(array: Any) -> Tensor:
    """A Tensor around an array that nobody else will write; the one place where NumPy's scalars become 0-d arrays."""
    if type(array) is ndarray:
        array.setflags(write=False)
    elif type(array) not in ARRAYS:
        array = np.asarray(array)
        array.setflags(write=False)
    t = object.__new__(Tensor)
    t.data = array
    t.node = t.grad = t.grad_home = t.accumulator = t.version = t.tangent = None
    t.index = 0
    t.requires_grad = False
    return t


def plain(function: Callable[..., Any], *xs: Any, **params: Any) -> Tensor:
    """An operation without a derivative: runs on the arrays, records nothing."""
    arrays = [x.data if isinstance(x, Tensor) else operand(function.__name__, x) for x in xs]
    return wrap(own(function, arrays)(*arrays, **params))


def apply(op: Op, *xs: Any, **params: Any) -> Any:
    """Runs `op` on Tensors: the kernel pair where there is one that accepts the arrays, the formula where not.

    Returns a Tensor, or a tuple of them for several outputs. Records a Node if an input requires grad.
    """
    arrays = []
    track = False
    for x in xs:
        if type(x) is Tensor:
            arrays.append(x.data)
            if x.requires_grad:
                track = True
        else:
            arrays.append(x if type(x) in SCALARS else operand(op.name, x))
    if type(arrays[0]) is not ndarray and not any(type(a) in ARRAYS for a in arrays):
        return apply(op, Tensor(xs[0]), *xs[1:], **params)  # numbers alone: the first one says the dtype
    validate(op, arrays, params)
    y, residuals, kernel = OBSERVER[0].forward(run, op, arrays, params) if OBSERVER else run(op, arrays, params)
    single = op.single
    outputs = (wrap(y),) if single else tuple([wrap(a) for a in y])
    if track and state.record:
        node = _record(op, xs, arrays, params, outputs, residuals, kernel)
        if any(node.wanted):
            for index, t in enumerate(outputs):
                if t.data.dtype.kind == "f":  # a cast to integers cuts the graph
                    t.node, t.index, t.requires_grad = node, index, True
    if state.pushing:
        PUSH[0](op, xs, params, outputs)
    for t in outputs:
        a = t.data
        if a.base is not None or a is arrays[0]:
            _share_version(t, xs)
    return outputs[0] if single else outputs


def run(op: Op, arrays: list[Any], params: dict[str, Any]) -> tuple[Any, Any, Any]:
    """(y, residuals, kernel) of one operation on arrays; kernel is None where the formula ran."""
    kernel = (KERNELS if type(arrays[0]) is ndarray else CUDA).get(op)
    if kernel is not None and kernel.accepts(*arrays, **params):
        y, residuals = kernel.forward(*arrays, **params)
        return y, residuals, kernel
    return op.forward(*arrays, **params), None, None


def _record(op: Op, xs: Any, arrays: list[Any], params: Any, outputs: Any, residuals: Any, kernel: Any) -> Node:
    node = Node()
    node.order, node.op, node.params, node.residuals, node.kernel = next(_orders), op, params, residuals, kernel
    node.edges, node.saved, node.versions = edges, saved, versions = [], [], []
    node.tangents = None
    wanted = []
    differentiable, reads = op.differentiable, op.read_inputs
    j = 0
    for x, a in zip(xs, arrays, strict=True):
        if type(x) is Tensor and x.requires_grad and differentiable[j]:
            wanted.append(True)
            edges.append((x.node or x, x.index))
        else:
            wanted.append(False)
            edges.append(None)
        if type(a) is not ndarray and type(a) not in ARRAYS:
            saved.append(a)
        elif reads[j]:
            saved.append(a)
            if type(x) is Tensor and x.version is not None:
                versions.append((x.version, x.version[0], op.inputs[j]))
        else:
            saved.append(Spec(a.shape, a.dtype))
        if not op.variadic:
            j += 1
    node.wanted = tuple(wanted)
    ys = [t.data if op.reads_y else Spec(t.data.shape, t.data.dtype) for t in outputs]
    node.y = ys[0] if op.single else tuple(ys)
    return node


def _share_version(t: Tensor, xs: Any) -> None:
    """A view of a leaf's memory changes with the leaf, so it shares the leaf's version counter."""
    base = t.data.base
    for x in xs:
        if type(x) is Tensor and x.version is not None:
            a = x.data
            if t.data is a or base is a or (base is not None and base is a.base):
                t.version = x.version
