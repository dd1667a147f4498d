"""Tensor, and the forward half of automatic differentiation: `apply` runs an operation and writes down what it did.

The graph that `apply` leaves behind is made of Nodes, one for each operation that somebody will want a gradient through.
A Node holds arrays and edges (node, output index) and never the Tensors of its results: there are no cycles, and memory
goes by reference count as soon as the last user lets go. autograd.py walks it backwards.

Every array in a Tensor is read-only. That is how an in-place change cannot go unnoticed: a kernel, a formula or a user
that writes into one gets NumPy's error, and the few writers that may (copy_, an optimizer) count up its version.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import attrgetter
from typing import Any, ClassVar

import numpy as np

from ..reference.op import Op, Spec
from ..reference.table import ADD, DIVIDE, MULTIPLY, POWER, SUBTRACT
from .door import SCALARS, operand, validate
from .recording import state

ndarray = np.ndarray

KERNELS: dict[Op, Any] = {}
"""The kernel pair (forward, vjp, accepts) of each row that has one; kernel_table.py fills it."""

OBSERVER: list[Any] = []
"""What HANDGRAD_DEBUG puts around each operation, if anything; see debug.py."""


class Node:
    """One recorded operation. `saved` is None once the node was used and freed."""

    __slots__ = ("edges", "kernel", "op", "order", "params", "residuals", "saved", "versions", "wanted", "y")

    kernel: Any  # the pair that ran, or None: then the formula did
    residuals: Any  # the kernel's own
    edges: list[tuple[Node | Tensor, int] | None]  # where each input came from; a leaf is its own Tensor
    wanted: tuple[bool, ...]  # which inputs need a cotangent
    saved: Any  # a list: an input's array where the row reads it, its Spec where not
    y: Any  # the outputs, likewise
    versions: list[tuple[list[int], int, str]]  # (counter, its value then, name) of inputs that can be written


def _operator(op: Op) -> tuple[Callable[[Any, Any], Tensor], Callable[[Any, Any], Tensor]]:
    return (lambda self, other: apply(op, self, other)), (lambda self, other: apply(op, other, self))


def _plain_operator(function: Callable[..., Any]) -> Callable[[Any, Any], Any]:
    return lambda self, other: plain(function, self, other)


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
        "__weakref__", "accumulator", "data", "grad", "grad_home", "index", "node", "requires_grad", "version",
    )  # fmt: skip
    __array_ufunc__ = None  # ndarray * Tensor must come to us
    namespace: ClassVar[Any] = None  # the array API namespace; engine/ops sets it

    data: ndarray  # read-only
    grad: Tensor | None
    grad_home: ndarray | None  # where an optimizer wants this leaf's gradient to lie
    accumulator: tuple[Tensor, ndarray] | None  # the .grad that we made ourselves, and its writable array
    version: list[int] | None  # counts writes; shared with views; None for results, which nobody may write
    node: Node | None
    index: int

    def __init__(self, data: Any, *, dtype: Any = None, requires_grad: bool = False, copy: bool = True) -> None:
        if isinstance(data, Tensor):
            data = data.data
        given = isinstance(data, (ndarray, np.generic))
        array = np.array(data, dtype=dtype, order="C") if copy or not given else np.asarray(data, dtype=dtype).view()
        if dtype is None and not given and array.dtype == np.float64:
            array = array.astype(np.float32)
        if array.dtype.kind not in "fiub":
            raise TypeError(f"Tensor: data of dtype {array.dtype} is neither floating point nor integer nor boolean")
        array.flags.writeable = False
        self.data = array
        self.node = self.grad = self.grad_home = self.accumulator = None
        self.index = 0
        self.version = [0]
        if requires_grad and array.dtype.kind != "f":
            raise TypeError(f"Tensor: only floating point can require grad, but this is {array.dtype}")
        self.requires_grad = requires_grad

    # ---- what it is
    shape: tuple[int, ...] = property(attrgetter("data.shape"))  # type: ignore[assignment]
    dtype: Any = property(attrgetter("data.dtype"))
    ndim: int = property(attrgetter("data.ndim"))  # type: ignore[assignment]
    size: int = property(attrgetter("data.size"))  # type: ignore[assignment]
    device: str = property(lambda self: "cpu")  # type: ignore[assignment]
    is_leaf: bool = property(lambda self: self.node is None)  # type: ignore[assignment]

    @property
    def mT(self) -> Tensor:
        """The last two axes exchanged."""
        return self.namespace.matrix_transpose(self)

    @property
    def T(self) -> Tensor:
        if self.ndim != 2:
            raise ValueError(f"T: this Tensor has shape {self.shape}, but T is for two axes; use mT or permute_dims")
        return self.mT

    def __array_namespace__(self, api_version: str | None = None) -> Any:
        return self.namespace

    def __repr__(self) -> str:
        text = np.array2string(self.data, separator=", ", threshold=100, precision=4, prefix="Tensor(")
        extra = "" if self.dtype == np.float32 else f", dtype={self.dtype.name}"
        if self.node is not None:
            extra += f", op=<{self.node.op.name}>"
        elif self.requires_grad:
            extra += ", requires_grad=True"
        return f"Tensor({text}{extra})"

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
        return self.data.__index__()

    def __hash__(self) -> int:
        return id(self)

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
        return self.data

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> ndarray:
        return np.array(self.numpy(), dtype=dtype, copy=copy)

    def __dlpack__(
        self, *, max_version: tuple[int, int] | None = None, copy: bool | None = None, **options: Any
    ) -> Any:
        array = self.numpy()  # DLPack can say "read-only" since version 1.0; an older consumer gets a copy
        if copy or max_version is None or max_version < (1, 0):
            return array.copy().__dlpack__()
        return array.__dlpack__(max_version=max_version, copy=copy, **options)

    def __dlpack_device__(self) -> Any:
        return self.data.__dlpack_device__()

    def to_device(self, device: str, /, *, stream: Any = None) -> Tensor:
        if device != "cpu":
            raise ValueError(f"to_device: device is {device!r}, but this Tensor can only be on 'cpu'")
        return self

    def copy_(self, values: Any) -> Tensor:
        """Overwrites a leaf's numbers in place; its version counts up, so that an old graph notices."""
        if self.node is not None or self.version is None:
            raise RuntimeError(
                "copy_: this Tensor is the result of an operation; only one that you made can be written"
            )
        array = values.data if isinstance(values, Tensor) else np.asarray(values)
        if array.shape != self.shape:
            raise ValueError(f"copy_: got shape {array.shape}, but this Tensor has shape {self.shape}")
        self.data.flags.writeable = True
        try:
            np.copyto(self.data, array, casting="same_kind")
        finally:
            self.data.flags.writeable = False
        self.version[0] += 1
        return self

    def __setitem__(self, key: Any, value: Any) -> None:
        raise TypeError("a Tensor cannot be written in place: build a new one with hg.where, or use t.copy_(values)")

    def backward(self, gradient: Any = None, *, retain_graph: bool = False, create_graph: bool = False) -> None:
        """Adds d self / d leaf, times the cotangent `gradient`, to the `.grad` of every leaf; see autograd.backward."""
        from .autograd import backward

        backward(self, gradient, retain_graph=retain_graph, create_graph=create_graph)

    # ---- operators
    __add__, __radd__ = _operator(ADD)
    __sub__, __rsub__ = _operator(SUBTRACT)
    __mul__, __rmul__ = _operator(MULTIPLY)
    __truediv__, __rtruediv__ = _operator(DIVIDE)
    __pow__, __rpow__ = _operator(POWER)
    __eq__ = _plain_operator(np.equal)  # no gradient, no graph
    __ne__ = _plain_operator(np.not_equal)
    __lt__ = _plain_operator(np.less)
    __le__ = _plain_operator(np.less_equal)
    __gt__ = _plain_operator(np.greater)
    __ge__ = _plain_operator(np.greater_equal)
    __and__ = _plain_operator(np.bitwise_and)
    __or__ = _plain_operator(np.bitwise_or)
    __invert__, __neg__ = _method("bitwise_invert"), _method("negative")
    __matmul__, __getitem__ = _method("matmul"), _method("getitem")

    def __rmatmul__(self, other: Any) -> Tensor:
        return self.namespace.matmul(other, self)

    def __pos__(self) -> Tensor:
        return self

    # ---- methods that read better behind a dot than in the namespace
    sum, mean, max, argmax = _method("sum"), _method("mean"), _method("max"), _method("argmax")
    exp, log, sqrt, tanh = _method("exp"), _method("log"), _method("sqrt"), _method("tanh")
    permute_dims, astype = _method("permute_dims"), _method("astype")

    def reshape(self, *shape: Any) -> Tensor:
        return self.namespace.reshape(self, shape[0] if isinstance(shape[0], tuple) else shape)


def wrap(array: Any) -> Tensor:
    """A Tensor around an array that nobody else will write; the one place where NumPy's scalars become 0-d arrays."""
    if type(array) is not ndarray:
        array = np.asarray(array)
    array.flags.writeable = False
    t = Tensor.__new__(Tensor)
    t.data = array
    t.node = t.grad = t.grad_home = t.accumulator = t.version = None
    t.index = 0
    t.requires_grad = False
    return t


def plain(function: Callable[..., Any], *xs: Any, **params: Any) -> Tensor:
    """An operation without a derivative: runs on the arrays, records nothing."""
    return wrap(function(*[x.data if isinstance(x, Tensor) else operand(function.__name__, x) for x in xs], **params))


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
    validate(op, arrays, params)
    y, residuals, kernel = OBSERVER[0].forward(run, op, arrays, params) if OBSERVER else run(op, arrays, params)
    single = len(op.outputs) == 1
    outputs = (wrap(y),) if single else tuple([wrap(a) for a in y])
    if track and state.record:
        node = _record(op, xs, arrays, params, outputs, residuals, kernel)
        if any(node.wanted):
            for index, t in enumerate(outputs):
                t.node, t.index, t.requires_grad = node, index, True
    for t in outputs:
        if t.data.base is not None or t.data is arrays[0]:
            _share_version(t, xs)
    return outputs[0] if single else outputs


def run(op: Op, arrays: list[Any], params: dict[str, Any]) -> tuple[Any, Any, Any]:
    """(y, residuals, kernel) of one operation on arrays; kernel is None where the formula ran."""
    kernel = KERNELS.get(op)
    if kernel is not None and kernel.accepts(*arrays, **params):
        y, residuals = kernel.forward(*arrays, **params)
        return y, residuals, kernel
    return op.forward(*arrays, **params), None, None


def _record(op: Op, xs: Any, arrays: list[Any], params: Any, outputs: Any, residuals: Any, kernel: Any) -> Node:
    node = Node()
    state.order += 1
    node.order, node.op, node.params, node.residuals, node.kernel = state.order, op, params, residuals, kernel
    node.edges, node.saved, node.versions = edges, saved, versions = [], [], []
    wanted = []
    for i, (x, a) in enumerate(zip(xs, arrays, strict=True)):
        j = 0 if op.variadic else i
        is_wanted = type(x) is Tensor and x.requires_grad and op.differentiable[j]
        wanted.append(is_wanted)
        edges.append((x.node or x, x.index) if is_wanted else None)
        if type(a) is not ndarray:
            saved.append(a)
        elif op.read_inputs[j]:
            saved.append(a)
            if type(x) is Tensor and x.version is not None:
                versions.append((x.version, x.version[0], op.inputs[j]))
        else:
            saved.append(Spec(a.shape, a.dtype))
    node.wanted = tuple(wanted)
    ys = [t.data if op.reads_y else Spec(t.data.shape, t.data.dtype) for t in outputs]
    node.y = ys[0] if len(ys) == 1 else tuple(ys)
    return node


def _share_version(t: Tensor, xs: Any) -> None:
    """A view of a leaf's memory changes with the leaf, so it shares the leaf's version counter."""
    for x in xs:
        if (
            type(x) is Tensor
            and x.version is not None
            and (t.data is x.data or t.data.base is x.data or (t.data.base is not None and t.data.base is x.data.base))
        ):
            t.version = x.version
