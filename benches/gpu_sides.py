"""Who runs a case: the rungs of its ladder, and PyTorch with the library behind it. A side makes passes over given arrays.

A pass returns what it computed: [y], or one gradient for each input that has one, or the arrays after an update.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from gpu_cases import UPDATES, Case
from gpu_device import Machine, Pass

Start = Callable[[Case, list[Any], Any, str], Pass]
"""start(case, arrays, dy, direction): a pass; a backward one has run forward already."""


@dataclass(frozen=True)
class Side:
    """kind: the arithmetic whose peak bounds it and whose rounding it may have: float32, tf32 or bfloat16."""

    name: str
    kind: str
    start: Start
    is_vendor: bool = False
    results: Callable[[Any], list[Any]] = list


def rungs(case: Case, ladders: Any, arrays: list[Any]) -> list[Side]:
    """The rungs that accept these arrays, in story order."""
    found = []
    for name in stems(ladders)[case.op]:
        pair = ladders.rung(case.op, name)
        if case.op in UPDATES or pair.accepts(*arrays, **case.params):
            short = case.dtype == "float32" and hasattr(pair, "CHECKED")  # such a launcher promises tf32's bits only
            found.append(Side(name, "tf32" if short else case.dtype, partial(_rung, pair)))
    return found


def stems(ladders: Any) -> dict[str, tuple[str, ...]]:
    """operation -> rungs, with the ladders of what is no row."""
    return {**ladders.LADDERS, **getattr(ladders, "NO_ROWS", {})}


def _rung(pair: Any, case: Case, arrays: list[Any], dy: Any, direction: str) -> Pass:
    if case.op in UPDATES:

        def update() -> list[Any]:
            pair.adamw_update(*arrays, **case.params)
            return [arrays[0], *arrays[2:]]

        return update
    if direction == "forward":
        return lambda: [_first(pair.forward(*arrays, **case.params)[0])]
    y, residuals = pair.forward(*arrays, **case.params)
    if isinstance(y, tuple):
        dy = (dy, *(other * 0 for other in y[1:]))
    wanted = tuple(a.dtype.kind not in "iub" for a in arrays)
    into = (None,) * len(arrays)

    def backward() -> list[Any]:
        grads = pair.vjp(dy, y, *arrays, residuals=residuals, wanted=wanted, into=into, **case.params)
        return [grad for grad, is_wanted in zip(grads, wanted, strict=False) if is_wanted]

    return backward


def _first(y: Any) -> Any:
    return y[0] if isinstance(y, tuple) else y


# ---- PyTorch


def vendors(case: Case, machine: Machine) -> list[Side]:
    """PyTorch's ways to compute this case; none where it has none for the same inputs."""

    def side(name: str, compute: Callable[..., Any], kind: str = case.dtype) -> Side:
        start = partial(_torch, machine, compute, kind == "tf32")
        return Side(name, kind, start, True, lambda found: [machine.array_of(t) for t in found])

    if case.op in ("lstm", "adamw"):
        start = {"lstm": _torch_lstm, "adamw": _torch_adamw}[case.op]
        name = {"lstm": "torch.nn.LSTM", "adamw": "torch fused AdamW"}[case.op]
        return [Side(name, "float32", partial(start, machine), True, lambda found: [machine.array_of(t) for t in found])]
    if case.op == "matmul":
        import torch

        plain = side(f"cuBLAS {'fp32' if case.dtype == 'float32' else 'bf16'}", torch.matmul)
        return [plain, side("cuBLAS tf32", torch.matmul, "tf32")] if case.dtype == "float32" and machine.is_gpu else [plain]
    if case.op == "attention":
        return [side(name, compute) for name, compute in _attentions(case, machine)]
    compute = _functions().get(case.op)
    return [side(f"torch {case.op}", compute)] if compute else []


def _functions() -> dict[str, Callable[..., Any]]:
    import torch
    from torch.nn import functional as F

    return {
        "softmax": partial(torch.softmax, dim=-1),
        "log_softmax": partial(torch.log_softmax, dim=-1),
        "layer_norm": lambda x, weight, bias: F.layer_norm(x, x.shape[-1:], weight, bias, 1e-5),
        "rms_norm": lambda x, weight: F.rms_norm(x, x.shape[-1:], weight, 1e-6),
        "gelu": partial(F.gelu, approximate="tanh"),
        "silu": F.silu,
        "cross_entropy": F.cross_entropy,
        "linear_cross_entropy": lambda x, weight, targets: F.cross_entropy(x @ weight, targets),
        "embedding": lambda weight, ids: F.embedding(ids, weight),
    }


def _attentions(case: Case, machine: Machine) -> list[tuple[str, Callable[..., Any]]]:
    """float32 has no flash and no cuDNN kernel: the memory-efficient one stands in. Without a GPU, PyTorch chooses."""
    from torch.nn import functional as F
    from torch.nn.attention import SDPBackend, sdpa_kernel

    plain = partial(F.scaled_dot_product_attention, is_causal=case.params["causal"])
    if not machine.is_gpu:
        return [("torch SDPA", plain)]

    def by(backend: Any, *inputs: Any) -> Any:
        with sdpa_kernel(backend):
            return plain(*inputs)

    if case.dtype == "float32":
        return [("torch SDPA efficient", partial(by, SDPBackend.EFFICIENT_ATTENTION))]
    return [
        ("torch SDPA flash", partial(by, SDPBackend.FLASH_ATTENTION)),
        ("torch SDPA cuDNN", partial(by, SDPBackend.CUDNN_ATTENTION)),
    ]


def _tf32(allowed: bool) -> None:
    import torch

    torch.backends.cuda.matmul.allow_tf32 = allowed
    torch.backends.cudnn.allow_tf32 = allowed


def _torch(
    machine: Machine, compute: Callable[..., Any], tf32: bool, case: Case, arrays: list[Any], dy: Any, direction: str
) -> Pass:
    import torch

    tensors = [machine.tensor(a) for a in arrays]
    if direction == "forward":

        def forward() -> list[Any]:
            _tf32(tf32)
            with torch.no_grad():
                return [compute(*tensors)]

        return forward
    inputs = [t.detach().requires_grad_(t.is_floating_point()) for t in tensors]
    return _gradients(compute(*inputs), [t for t in inputs if t.requires_grad], machine.tensor(dy), tf32)


def _gradients(y: Any, inputs: list[Any], dy: Any, tf32: bool = False) -> Pass:
    import torch

    def backward() -> list[Any]:
        _tf32(tf32)
        return list(torch.autograd.grad(y, inputs, dy, retain_graph=True))

    return backward


def _torch_lstm(machine: Machine, case: Case, arrays: list[Any], dy: Any, direction: str) -> Pass:
    """The module with our weights, transposed; its second bias is zero. Gradients come back in our layout."""
    import torch

    x, h, c, w, u, b = (machine.tensor(a) for a in arrays)
    module = torch.nn.LSTM(w.shape[0], u.shape[0], device=x.device)
    with torch.no_grad():
        for name, value in (("weight_ih_l0", w.T), ("weight_hh_l0", u.T), ("bias_ih_l0", b), ("bias_hh_l0", b * 0)):
            getattr(module, name).copy_(value)
    module.flatten_parameters()
    if direction == "forward":

        def forward() -> list[Any]:
            _tf32(False)
            with torch.no_grad():
                return [module(x, (h[None], c[None]))[0]]

        return forward
    x, h, c = (t.detach().requires_grad_() for t in (x, h, c))
    _tf32(False)
    inputs = [x, h, c, module.weight_ih_l0, module.weight_hh_l0, module.bias_ih_l0]
    run = _gradients(module(x, (h[None], c[None]))[0], inputs, machine.tensor(dy))

    def backward() -> list[Any]:
        dx, dh, dc, dw, du, db = run()
        return [dx, dh, dc, dw.T, du.T, db]

    return backward


def _torch_adamw(machine: Machine, case: Case, arrays: list[Any], dy: Any, direction: str) -> Pass:
    import torch

    param, grad, m, v = (machine.tensor(a) for a in arrays)
    param.grad = grad
    rates = dict(case.params)
    betas, step = (rates.pop("beta1"), rates.pop("beta2")), rates.pop("step")
    optimizer = torch.optim.AdamW([param], betas=betas, fused=True, **rates)
    count = torch.tensor(float(step - 1), device=param.device)
    optimizer.state[param] = {"step": count, "exp_avg": m, "exp_avg_sq": v}

    def update() -> list[Any]:
        optimizer.step()
        return [param, m, v]

    return update


def copy_of(machine: Machine) -> Side:
    """The anchor of what memory allows: the first input is copied."""

    def start(case: Case, arrays: list[Any], dy: Any, direction: str) -> Pass:
        source = arrays[0]
        target = machine.xp.empty_like(source)

        def copy() -> list[Any]:
            machine.xp.copyto(target, source)
            return [target]

        return copy

    return Side("device copy", "float32", start, True)


def inputs_of(case: Case, machine: Machine, which: tuple[Any, ...], copy: int = 0) -> list[Any]:
    """Fresh inputs. Second moments are squares; matrices of products have entries of variance 1/rows."""
    import zlib

    seed = zlib.crc32(case.name.encode())
    arrays = []
    for place, shape in enumerate(which):
        weight = case.op in ("linear_cross_entropy", "lstm") and place and len(shape) == 2
        array = machine.array(shape, "float32" if weight else case.dtype, (seed, copy, place))
        if case.op in UPDATES and place == 3:
            array = array * array
        if weight:
            array = machine.rounded(array * np.float32(shape[0] ** -0.5), case.dtype)
        arrays.append(array)
    return arrays
