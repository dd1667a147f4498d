"""A user's kernel as a pair of the engine's: two plain functions, checked once by hand before the engine calls them.

forward(*inputs, **params) -> y                     a tuple where the row has several outputs
vjp(dy, y, *inputs, **params) -> gradients          one an input, None for ids and masks; the array itself where there is one
"""

from __future__ import annotations

import importlib.util
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from serve import Refusal


class Pair:
    """forward and vjp of kernels/README.md around a user's functions. Refusal, with a sentence, where they are of no use."""

    def __init__(self, path: str, forward: str, vjp: tuple[str, str] | None, op: Any) -> None:
        self.op, self.path, self.name = op, path, forward
        self.of_user = function(path, forward)
        self.vjp_of_user = function(*vjp) if vjp else None
        self.vjp_name = vjp[1] if vjp else ""

    def accepts(self, *arrays: Any, **params: Any) -> bool:
        return True

    def forward(self, *arrays: Any, **params: Any) -> tuple[Any, Any]:
        """What the user's function returns. The vjp of a user sees all inputs, not only what the row reads."""
        y = self.of_user(*arrays, **params)
        return y, (y, arrays)

    def vjp(
        self, dy: Any, y: Any, *arrays: Any, residuals: Any, wanted: Any, into: Any, **params: Any
    ) -> tuple[Any, ...]:
        """What the user's vjp returns, as a tuple."""
        assert self.vjp_of_user is not None
        found = self.vjp_of_user(dy, residuals[0], *residuals[1], **params)
        return found if isinstance(found, tuple) else (found,)

    def try_once(
        self,
        arrays: list[np.ndarray],
        params: dict[str, Any],
        shape: Any,
        cotangent: Callable[..., Any],
        direction: str,
    ) -> None:
        """Call the functions by hand: what they raise, and what cannot be a result, in a sentence."""
        for a in arrays:
            a.flags.writeable = False  # as the engine hands them over
        y = self.called(self.of_user, self.path, self.name, *arrays, **params)
        outputs = y if isinstance(y, tuple) else (y,)
        if len(outputs) != len(self.op.outputs) or isinstance(y, tuple) == (len(self.op.outputs) == 1):
            wanted = "an array" if len(self.op.outputs) == 1 else f"a tuple of {len(self.op.outputs)} arrays"
            raise Refusal(f"{self.name} returned {described(y)}, but {self.op.name} is {wanted}")
        agreed(f"{self.name}: the result", outputs[0], tuple(shape), arrays)
        if direction == "forward":
            return
        assert self.vjp_of_user is not None
        dy: Any = cotangent(shape)
        if len(outputs) > 1:
            dy = (dy, *(np.zeros_like(o) for o in outputs[1:]))
        found = self.called(self.vjp_of_user, self.path, self.vjp_name, dy, y, *arrays, **params)
        found = found if isinstance(found, tuple) else (found,)
        if len(found) != len(arrays):
            raise Refusal(
                f"{self.vjp_name} returned {len(found)} gradients, but {self.op.name} has {len(arrays)} inputs"
            )
        for name, gradient, a in zip(self.op.inputs, found, arrays, strict=False):
            if a.dtype.kind == "f":
                agreed(f"{self.vjp_name}: the gradient of {name}", gradient, a.shape, arrays)

    def called(self, theirs: Callable[..., Any], path: str, name: str, *arrays: Any, **params: Any) -> Any:
        """What a function returns; what it raises becomes a sentence with the user's own line."""
        before = [a.copy() for a in arrays if isinstance(a, np.ndarray)]
        try:
            found = theirs(*arrays, **params)
        except Exception as error:
            raise Refusal(f"{name} failed: {said(error)}{where(error, path)}") from error
        now = (a for a in arrays if isinstance(a, np.ndarray))
        if not all(np.array_equal(a, b, equal_nan=a.dtype.kind == "f") for a, b in zip(before, now, strict=True)):
            raise Refusal(f"{name} wrote into its inputs, but it must leave them as they were")
        return found


def function(path: str, name: str) -> Callable[..., Any]:
    """The function of a file; Refusal where the file cannot be imported or defines none of that name."""
    module = sys.modules.get(f"own_kernel {path}")
    if module is None:
        spec = importlib.util.spec_from_file_location(f"own_kernel {path}", path)
        if spec is None or spec.loader is None:
            raise Refusal(f"{path} is no Python file")
        module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
        sys.path.insert(0, str(Path(path).parent))  # for what lies beside it
        try:
            spec.loader.exec_module(module)
        except Exception as error:
            raise Refusal(f"{path} cannot be imported: {said(error)}{where(error, path)}") from error
    found = getattr(module, name, None)
    if not callable(found):
        raise Refusal(f"{path} defines no function called {name}")
    return found


def agreed(what: str, array: Any, shape: tuple[int, ...], inputs: list[np.ndarray]) -> None:
    """Refusal unless this is a NumPy array of that shape and of the inputs' floating point type."""
    if not isinstance(array, (np.ndarray, np.generic)):
        raise Refusal(f"{what} is {described(array)}, but it must be a NumPy array")
    if array.shape != shape:
        raise Refusal(f"{what} has shape {array.shape}, but it must have {shape}")
    dtype = next(a.dtype for a in inputs if a.dtype.kind == "f")
    if array.dtype != dtype:
        raise Refusal(f"{what} is {array.dtype}, but it must be {dtype} as the inputs are")


def described(found: Any) -> str:
    """What something is, for a sentence."""
    if isinstance(found, np.ndarray):
        return f"an array of shape {found.shape}"
    return (
        "None"
        if found is None
        else f"a {type(found).__name__}" + (f" of {len(found)}" if isinstance(found, tuple) else "")
    )


def said(error: Exception) -> str:
    """An error in one line: a compiler's many lines are cut to the one that says what is wrong."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    if len(lines) > 1 and lines[0].startswith("Failed in nopython mode"):
        lines = [line for line in lines[1:] if not line.startswith(("-", ">", "*"))] or lines
        return f"Numba cannot compile it: {lines[0]}"
    return f"{type(error).__name__}: {lines[0] if lines else 'no message'}"


def where(error: Exception, path: str) -> str:
    """The line of the user's file that raised, where it can be told."""
    if isinstance(error, SyntaxError):
        return ""  # its message has the line
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == path]
    return f" ({Path(path).name}, line {lines[-1]})" if lines else ""
