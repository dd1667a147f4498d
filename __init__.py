"""handgrad: a deep-learning engine that can be read from the calculus up to a language model that was trained with it.

    import handgrad as hg

    x = hg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    y = hg.softmax(x)
    y.backward(hg.Tensor([1.0, 0.0, 0.0]))
    x.grad                                     # Tensor([ 0.0819, -0.022 , -0.0599])

Names are loaded when they are first used, so importing the package costs next to nothing.
"""

from importlib import import_module as _import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .engine import models, nn, optim, testing, text, training
    from .engine.autograd import backward, gradients
    from .engine.debug import debug
    from .engine.kernel_table import use_kernels
    from .engine.ops import *
    from .engine.random import Generator, manual_seed
    from .engine.recording import enable_grad, is_grad_enabled, no_grad
    from .engine.tensor import Tensor, apply
    from .engine.testing import check_op
    from .engine.transforms import grad, hessian, hvp, jacobian, jvp, value_and_grad, vjp
    from .reference.op import Op, Sample
    from .reference.table import ROWS

__version__ = "0.1.0"

_WHERE = {
    **dict.fromkeys(("models", "nn", "optim", "testing", "text", "training"), "engine"),
    **dict.fromkeys(("backward", "gradients"), "engine.autograd"),
    "debug": "engine.debug",
    "use_kernels": "engine.kernel_table",
    **dict.fromkeys(("Generator", "manual_seed"), "engine.random"),
    **dict.fromkeys(("enable_grad", "is_grad_enabled", "no_grad"), "engine.recording"),
    **dict.fromkeys(("Tensor", "apply"), "engine.tensor"),
    "check_op": "engine.testing",
    **dict.fromkeys(("grad", "hessian", "hvp", "jacobian", "jvp", "value_and_grad", "vjp"), "engine.transforms"),
    **dict.fromkeys(("Op", "Sample"), "reference.op"),
    "ROWS": "reference.table",
}
_FLOORS = frozenset(("models", "nn", "optim", "testing", "text", "training"))


def __getattr__(name: str) -> Any:
    if name.startswith("__") or __name__ != "handgrad":  # pytest meets this file under the checkout's own name
        raise AttributeError(name)
    from .engine import process

    process.settle_late()
    from .engine import debug, kernel_table, ops

    if name in _FLOORS:
        value = _import_module(f".engine.{name}", __name__)
    elif name in _WHERE:
        value = getattr(_import_module(f".{_WHERE[name]}", __name__), name)
    else:
        try:
            value = getattr(ops.NUMPY, name)
        except AttributeError:
            raise AttributeError(f"handgrad has no {name!r}") from None
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    from .engine import ops

    return sorted({*globals(), *_WHERE, *dir(ops.NUMPY)} - {"TYPE_CHECKING", "Any"})
