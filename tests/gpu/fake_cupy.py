"""A stand-in for CuPy without a GPU: a module `cupy` whose arrays lie in NumPy's memory and will not mix with NumPy's.

What the engine can get wrong about a second device shows here as it would there:

- an array is of another type than np.ndarray, has no `setflags`, no `__index__` and no `__array_namespace__`, and its
  `__array__` raises; a NumPy array beside it is refused by every function but those that copy it over
- a sum is an array without axes, where NumPy gives a number
- there are the functions that CuPy 14.2 has (FUNCTIONS) and no others
- a RawModule's kernels run by kernels/cuda/on_cpu

What it cannot show: anything about time, streams, memory of a GPU, and where CuPy's numbers or keywords differ from NumPy's.
"""

from __future__ import annotations

import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any, ClassVar

import numpy as np

FUNCTIONS = """
abs absolute add all allclose amax amin any append arange arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin
argpartition argsort argwhere array_equal array_split atleast_1d atleast_2d bincount bitwise_and bitwise_count bitwise_or
bitwise_xor broadcast_arrays broadcast_to cbrt ceil choose clip compress concatenate conj conjugate copy copysign copyto cos
cosh count_nonzero cross cumprod cumsum deg2rad diag diagflat diagonal diff digitize divide divmod dot einsum empty empty_like
equal exp exp2 expand_dims expm1 extract eye fabs fill_diagonal flatnonzero flip floor floor_divide fmax fmin fmod frexp full
full_like greater greater_equal heaviside hstack hypot identity imag indices inner interp invert isclose isfinite isin isinf
isnan kron left_shift less less_equal lexsort linspace log log10 log1p log2 logaddexp logaddexp2 logical_and logical_not
logical_or logical_xor logspace matmul matrix_transpose max maximum mean median meshgrid min minimum mod modf moveaxis multiply
nan_to_num nanmax nanmean nanmin nansum negative nextafter nonzero not_equal ones ones_like outer pad partition percentile
positive power prod ptp quantile rad2deg ravel ravel_multi_index real reciprocal remainder repeat reshape right_shift rint roll
rollaxis rot90 round searchsorted sign signbit sin sinc sinh sort split sqrt square squeeze stack std subtract sum swapaxes take
take_along_axis tan tanh tensordot tile trace transpose tri tril triu true_divide trunc unique unravel_index vander var vdot
vstack where zeros zeros_like
""".split()  # noqa: SIM905
"""Of NumPy's and CuPy 14.2's common names, those of arrays."""

SAME = """
broadcast_shapes can_cast isscalar issubdtype promote_types bool_ complex128 complex64 complexfloating dtype finfo float16
float32 float64 floating generic iinfo inexact int16 int32 int64 int8 integer intp number signedinteger uint16 uint32 uint64
uint8 unsignedinteger e euler_gamma inf nan newaxis pi
""".split()  # noqa: SIM905
"""What CuPy takes from NumPy as it is."""

METHODS = """
all any argmax argmin argsort clip conj cumprod cumsum diagonal dot max mean min nonzero prod ptp ravel repeat round
searchsorted squeeze std sum swapaxes take trace transpose var
""".split()  # noqa: SIM905

OPERATORS = "add sub mul truediv floordiv mod pow matmul and or xor lshift rshift".split()  # noqa: SIM905


class ndarray:
    """An array on the other device."""

    __array_priority__ = 100
    __hash__ = None  # type: ignore[assignment]

    def __init__(self, memory: np.ndarray, base: ndarray | None = None) -> None:
        self._memory, self.base = memory, base

    shape = property(lambda self: self._memory.shape)
    dtype = property(lambda self: self._memory.dtype)
    ndim = property(lambda self: self._memory.ndim)
    size = property(lambda self: self._memory.size)
    nbytes = property(lambda self: self._memory.nbytes)
    itemsize = property(lambda self: self._memory.itemsize)
    strides = property(lambda self: self._memory.strides)
    device = property(lambda self: Device(0))
    data = property(lambda self: SimpleNamespace(ptr=self._memory.ctypes.data))
    __cuda_array_interface__ = property(lambda self: {})  # by which libraries know each other's arrays
    T = property(lambda self: _closed(self._memory.T, [self]))
    mT = property(lambda self: _closed(self._memory.mT, [self]))

    @property
    def flags(self) -> Any:
        flags = self._memory.flags
        return SimpleNamespace(
            c_contiguous=flags.c_contiguous, f_contiguous=flags.f_contiguous, owndata=self.base is None
        )

    # ---- out
    def get(self) -> np.ndarray:
        return self._memory.copy()

    def item(self) -> Any:
        return self._memory.item()

    def tolist(self) -> Any:
        return self._memory.tolist()

    def __array__(self, *args: Any, **kwargs: Any) -> Any:
        raise TypeError("Implicit conversion to a NumPy array is not allowed. Please use `.get()` to construct one.")

    def __bool__(self) -> bool:
        return bool(self._memory)

    def __float__(self) -> float:
        return float(self._memory)

    def __int__(self) -> int:
        return int(self._memory)

    def __len__(self) -> int:
        return len(self._memory)

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def __repr__(self) -> str:
        return repr(self._memory)

    # ---- forms
    def astype(self, dtype: Any, order: Any = "K", casting: Any = None, subok: Any = None, copy: bool = True) -> ndarray:
        return _closed(self._memory.astype(dtype, order=order, copy=copy), [self])

    def copy(self, order: Any = "C") -> ndarray:
        return ndarray(self._memory.copy(order))

    def view(self, dtype: Any = None) -> ndarray:
        return ndarray(self._memory.view() if dtype is None else self._memory.view(dtype), _root(self))

    def reshape(self, *shape: Any, order: Any = "C") -> ndarray:
        return _closed(self._memory.reshape(*shape, order=order), [self])

    def fill(self, value: Any) -> None:
        self._memory.fill(_opened(value, []))

    # ---- entries
    def __getitem__(self, key: Any) -> ndarray:
        return _closed(self._memory[_opened(key, [])], [self])

    def __setitem__(self, key: Any, value: Any) -> None:
        self._memory[_opened(key, [])] = _opened(value, [])

    # ---- NumPy's functions on us
    def __array_ufunc__(self, ufunc: Any, method: str, *inputs: Any, **kwargs: Any) -> Any:
        if method != "__call__" or ufunc.__name__ not in FUNCTIONS:
            return NotImplemented
        return _function(ufunc.__name__)(*inputs, **kwargs)

    def __array_function__(self, function: Any, types: Any, args: Any, kwargs: Any) -> Any:
        if not all(issubclass(kind, ndarray) for kind in types) or function.__name__ not in FUNCTIONS:
            return NotImplemented
        return _function(function.__name__)(*args, **kwargs)


def _root(a: ndarray) -> ndarray:
    """The array whose memory a view of `a` is a view of."""
    return a if a.base is None else a.base


def _opened(value: Any, found: list[ndarray]) -> Any:
    """Our arrays in it as NumPy's, noted in `found`; TypeError for NumPy's own, as CuPy says it."""
    if isinstance(value, ndarray):
        found.append(value)
        return value._memory
    if isinstance(value, np.ndarray):
        raise TypeError(f"Unsupported type {type(value)}")
    if type(value) in (list, tuple):
        return type(value)(_opened(v, found) for v in value)
    return value


def _closed(result: Any, inputs: list[ndarray]) -> Any:
    """NumPy's results as our arrays; one that shares an input's memory is a view of it."""
    if isinstance(result, (np.ndarray, np.generic)):
        memory = np.asarray(result)
        for a in inputs:
            if memory is a._memory:
                return a
        for a in inputs:
            if np.may_share_memory(memory, a._memory):
                return ndarray(memory, _root(a))
        return ndarray(memory)
    if isinstance(result, tuple) and hasattr(result, "_fields"):
        return type(result)(*(_closed(r, inputs) for r in result))
    if type(result) in (list, tuple):
        return type(result)(_closed(r, inputs) for r in result)
    return result


def _function(name: str) -> Any:
    ours = getattr(np, name)

    def call(*args: Any, **kwargs: Any) -> Any:
        found: list[ndarray] = []
        result = ours(*_opened(args, found), **{key: _opened(value, found) for key, value in kwargs.items()})
        return _closed(result, found)

    call.__name__ = name
    if name == "unique":  # array-api-compat asks for its parameters
        call.__signature__ = __import__("inspect").signature(ours)  # type: ignore[attr-defined]
    return call


def _method(name: str) -> Any:
    return lambda self, *args, **kwargs: _closed(getattr(self._memory, name)(*args, **kwargs), [self])


def _operator(name: str) -> Any:
    def apply(self: ndarray, other: Any) -> Any:
        found = [self]
        return _closed(getattr(self._memory, name)(_opened(other, found)), found)

    return apply


for _name in METHODS:
    setattr(ndarray, _name, _method(_name) if _name != "ptp" else lambda self, axis=None: _function("ptp")(self, axis))
for _name in OPERATORS:
    for _form in (f"__{_name}__", f"__r{_name}__", f"__i{_name}__"):
        if hasattr(np.ndarray, _form):
            setattr(ndarray, _form, _operator(_form))
for _name in ("eq", "ne", "lt", "le", "gt", "ge"):
    setattr(ndarray, f"__{_name}__", _operator(f"__{_name}__"))
for _name in ("neg", "pos", "abs", "invert"):
    setattr(ndarray, f"__{_name}__", (lambda form: lambda self: _closed(getattr(self._memory, form)(), []))(f"__{_name}__"))
ndarray.__module__ = "cupy"


# ---- what takes NumPy's arrays


def array(
    obj: Any, dtype: Any = None, copy: bool | None = True, order: Any = "K", subok: bool = False, ndmin: int = 0,
    *, blocking: bool = False,
) -> ndarray:  # fmt: skip
    """As cupy.array: the one door through which NumPy's arrays come in."""
    if isinstance(obj, ndarray):
        made = np.array(obj._memory, dtype=dtype, copy=True if copy else None, order=order)
        return _closed(made, [] if copy else [obj])
    if isinstance(obj, (list, tuple)):
        obj = _opened(obj, [])
    return ndarray(np.array(obj, dtype=dtype, order="C" if order == "K" else order))


def asarray(a: Any, dtype: Any = None, order: Any = "K", *, copy: bool | None = None, blocking: bool = False) -> ndarray:
    """As cupy.asarray."""
    return array(a, dtype, copy, order, blocking=blocking)


def ascontiguousarray(a: Any, dtype: Any = None) -> ndarray:
    """As cupy.ascontiguousarray."""
    if isinstance(a, ndarray) and a.flags.c_contiguous and dtype in (None, a.dtype):
        return a
    return array(a, dtype, order="C")


def result_type(*arguments: Any) -> np.dtype[Any]:
    """As cupy.result_type."""
    return np.result_type(*_opened(arguments, []))


def may_share_memory(a: ndarray, b: ndarray, max_work: Any = None) -> bool:
    """As cupy.may_share_memory."""
    return np.may_share_memory(a._memory, b._memory)


# ---- cupy.cuda


class Device:
    """cupy.cuda.Device: there is one."""

    compute_capability = "80"
    attributes: ClassVar = {"MultiProcessorCount": 2}

    def __init__(self, device: int | None = None) -> None:
        self.id = device or 0

    def __enter__(self) -> Device:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Device) and other.id == self.id

    __hash__ = None  # type: ignore[assignment]


class Function:
    """A kernel of a RawModule: run by on_cpu, one schedule, on the memory of our arrays."""

    def __init__(self, kernel: Any) -> None:
        self._kernel = kernel
        self.max_dynamic_shared_size_bytes = kernel.max_dynamic_shared_size_bytes

    def __call__(self, grid: Any, block: Any, args: Any, *, shared_mem: int = 0) -> None:
        from handgrad.kernels.cuda.on_cpu.kernel import running

        LAUNCHES.append(self._kernel.name)
        self._kernel.max_dynamic_shared_size_bytes = self.max_dynamic_shared_size_bytes
        with running(("forward",)):
            self._kernel(grid, block, _opened(tuple(args), []), shared_mem=shared_mem)


LAUNCHES: list[str] = []
"""The names of the kernels that ran, in order."""


class RawModule:
    """cupy.RawModule of a cubin, which here is the `.cu` itself: see `compiled_by_nobody`."""

    def __init__(self, *, path: str) -> None:
        self._path = Path(path)

    def get_function(self, name: str) -> Function:
        from handgrad.kernels.cuda.on_cpu.kernel import Kernel

        return Function(Kernel(self._path, name))


def compiled_by_nobody(monkeypatch: Any) -> None:
    """No NVRTC: a kernel's file stands for its cubin."""
    from handgrad.kernels.cuda import on_gpu

    on_gpu._function.cache_clear()
    monkeypatch.setattr(on_gpu, "compiled", lambda path, architecture: path)
    monkeypatch.setattr(on_gpu, "nvrtc", lambda: SimpleNamespace(version=(13, 0)))


def installed(gpus: int | None = 1) -> dict[str, ModuleType]:
    """The modules to put into sys.modules. gpus: how many cudaGetDeviceCount finds; None: there is no driver."""
    cupy, cuda, device, linalg, fft = (
        ModuleType(name) for name in ("cupy", "cupy.cuda", "cupy.cuda.device", "cupy.linalg", "cupy.fft")
    )
    for name in FUNCTIONS:
        setattr(cupy, name, _function(name))
    for name in SAME:
        setattr(cupy, name, getattr(np, name))
    for thing in (array, asarray, ascontiguousarray, result_type, may_share_memory, ndarray, RawModule):
        setattr(cupy, thing.__name__, thing)
    vars(linalg).update(lstsq=None, norm=None)
    vars(device).update(Device=Device)
    runtime = SimpleNamespace(
        getDeviceCount=lambda: _count(gpus), driverGetVersion=lambda: 13000, memGetInfo=lambda: (1 << 30, 1 << 34)
    )
    vars(cuda).update(Device=Device, device=device, runtime=runtime)
    vars(cupy).update(cuda=cuda, linalg=linalg, fft=fft, __version__="14.2.0")
    return {m.__name__: m for m in (cupy, cuda, device, linalg, fft)}


def _count(gpus: int | None) -> int:
    if gpus is None:
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient for CUDA runtime version")
    return gpus


def forget() -> None:
    """Takes `cupy`, and what was made of it, out of sys.modules and out of the engine."""
    from handgrad.engine import device
    from handgrad.reference import namespace

    for name in [n for n in sys.modules if n.split(".")[0] == "cupy" or n.startswith("array_api_compat.cupy")]:
        del sys.modules[name]
    device.cupy.cache_clear()
    device.ARRAYS.intersection_update({np.ndarray})
    namespace._NAMESPACES.pop(ndarray, None)
