"""JAX's side of ops.py: the same rows through jax.jit, each pass waited for.

backward is backward alone here too: jax.vjp's pullback holds what forward kept, and is itself an argument of a jitted call.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import cases
import jax
import numpy as np
from jax import numpy as jnp
from rotation import Rotation, poison
from serve import serve

VARIABLES = ("NPROC", "XLA_FLAGS", "JAX_PLATFORMS", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")


def _norm(x: Any, w: Any, b: Any, eps: float = 1e-5) -> Any:
    m = x.mean(-1, keepdims=True)
    return (x - m) * jax.lax.rsqrt(x.var(-1, keepdims=True) + eps) * w + b


def _attention(q: Any, k: Any, v: Any, causal: bool) -> Any:
    """(B, H, T, D), where jax.nn wants (B, T, H, D)."""
    q, k, v = (jnp.swapaxes(a, 1, 2) for a in (q, k, v))
    return jnp.swapaxes(jax.nn.dot_product_attention(q, k, v, is_causal=causal), 1, 2)


def _packed_attention(x: Any, n_head: int) -> Any:
    B, T, C3 = x.shape
    q, k, v = (part.reshape(B, T, n_head, -1) for part in jnp.split(x, 3, axis=2))
    return jax.nn.dot_product_attention(q, k, v, is_causal=True).reshape(B, T, C3 // 3)


def _rotary(x: Any) -> Any:
    t, d = x.shape[-2:]
    angle = jnp.arange(t)[:, None] * 10000.0 ** (-jnp.arange(0, d, 2) / d)
    a, b = jnp.split(x, 2, axis=-1)
    return jnp.concatenate([a * jnp.cos(angle) - b * jnp.sin(angle), a * jnp.sin(angle) + b * jnp.cos(angle)], axis=-1)


def _cross_entropy(logits: Any, ids: Any) -> Any:
    picked = jnp.take_along_axis(logits, ids[:, None], axis=-1)[:, 0]
    return (jax.nn.logsumexp(logits, axis=-1) - picked).mean()


OPS: dict[str, Callable[..., Any]] = {
    "matmul": jnp.matmul,
    "linear": lambda x, w, b: x @ w + b,
    "softmax": jax.nn.softmax,
    "log_softmax": jax.nn.log_softmax,
    "logsumexp": jax.nn.logsumexp,
    "layer_norm": _norm,
    "rms_norm": lambda x, w: x * jax.lax.rsqrt((x * x).mean(-1, keepdims=True) + 1e-6) * w,
    "add_layer_norm": lambda x, r, w, b: _norm(x + r, w, b),
    "gelu": jax.nn.gelu,
    "gelu_erf": lambda x: jax.nn.gelu(x, approximate=False),
    "silu": jax.nn.silu,
    "sigmoid": jax.nn.sigmoid,
    "relu": jax.nn.relu,
    "dropout": lambda x, mask, p: jnp.where(mask, x / (1 - p), 0.0),
    "attention": _attention,
    "packed_attention": _packed_attention,
    "rotary_embedding": _rotary,
    "embedding": lambda w, ids: w[ids],
    "cross_entropy": _cross_entropy,
    "linear_cross_entropy": lambda x, w, ids: _cross_entropy(x @ w, ids),
}


class Side(Rotation):
    """A row at one size and its inputs, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """What holds: XLA reads NPROC, as many threads as it says."""
        return {"threads": threads, "environ": {name: os.environ[name] for name in VARIABLES if name in os.environ}}

    def prepare(
        self, case: str, version: str, direction: str, copies: int, shape: list[int] | None, path: str
    ) -> dict[str, Any] | None:
        """Make the inputs, and leave what a pass over poisoned memory gives (y, or the gradients) in an npz file; None for a
        row that has no line above.
        """
        this = cases.case(case)
        if this.op not in OPS:
            return None
        backward = direction == "backward"
        floats = [i for i, a in enumerate(this.arrays()) if a.dtype.kind == "f"]

        def forward(*arrays: Any) -> Any:
            return OPS[this.op](*arrays, **this.params)

        def pullback(*arrays: Any) -> Any:
            def of_floats(*chosen: Any) -> Any:
                given = dict(zip(floats, chosen, strict=True))
                return forward(*(given.get(i, a) for i, a in enumerate(arrays)))

            return jax.vjp(of_floats, *(arrays[i] for i in floats))[1]

        called, kept, pulled = jax.jit(forward), jax.jit(pullback), jax.jit(lambda pull, dy: pull(dy))

        def run(copy: int) -> Callable[[], Any]:
            inputs = [jnp.asarray(a) for a in this.arrays(copy)]
            if not backward:
                return lambda: jax.block_until_ready(called(*inputs))
            pull, dy = kept(*inputs), jnp.asarray(cases.cotangent(shape, copy))
            return lambda: jax.block_until_ready(pulled(pull, dy))

        runs = [run(copy) for copy in range(copies)]
        results = [a.shape for a in _tuple(runs[0]())]
        poisoned = poison(results, lambda shape: jax.block_until_ready(jnp.full(shape, jnp.nan, jnp.float32)))
        found = [np.asarray(a) for a in _tuple(runs[0]())]
        np.savez(path, *found, **({"dy": cases.cotangent(shape)} if backward else {}))
        self.turn_to(runs)
        return {"poisoned": poisoned}


def _tuple(found: Any) -> tuple[Any, ...]:
    return found if isinstance(found, tuple) else (found,)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "prepare", "block")})
