"""handgrad's side of scaling.py: what the rows of a training step cost on paper, and how long the step takes."""

from __future__ import annotations

import itertools
from typing import Any

from serve import serve, timed_block

from handgrad.engine import process


class Costs:
    """An observer of operations that adds up what their rows say: floating-point operations, bytes, and how many there were.

    The way back does the products once for each of the two operands, and reads and writes about twice as much.
    """

    def __init__(self, spec: Any) -> None:
        self.spec, self.flops, self.bytes, self.operations = spec, 0.0, 0.0, 0

    def count(self, op: Any, arrays: Any, params: Any, times: float) -> None:
        """One operation forward (times 1) or backward (times 2)."""
        self.operations += 1
        if op.cost is None:
            return
        specs = [self.spec(a.shape, a.dtype) if hasattr(a, "shape") else a for a in arrays]
        flops, numbers = op.cost(*specs, **params)
        if op.name in ("attention", "packed_attention") and params.get("causal", op.name == "packed_attention"):
            flops /= 2  # a row's cost does not credit what the order hides
        self.flops += times * flops
        self.bytes += times * 4 * numbers

    def forward(self, run: Any, op: Any, arrays: list[Any], params: dict[str, Any]) -> Any:
        """Called in the place of run(op, arrays, params)."""
        self.count(op, arrays, params, 1.0)
        return run(op, arrays, params)

    def backward(self, run: Any, node: Any, dys: Any, wanted: Any, lent: Any) -> Any:
        """Called in the place of run(node, dys, wanted, lent)."""
        self.count(node.op, node.saved, node.params, 2.0)
        return run(node, dys, wanted, lent)


class Side:
    """A model at a time."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad."""
        process.settle(threads)
        process.join_pools()
        import gpt_sizes

        import handgrad as hg

        self.hg, self.sizes = hg, gpt_sizes
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def point(self, size: dict[str, Any], seconds: float) -> dict[str, Any]:
        """The costs of a step of a GPT of this size, and samples of its time."""
        from handgrad.engine.tensor import OBSERVER
        from handgrad.reference.op import Spec

        hg, s = self.hg, self.sizes.Size(**size)
        n = self.sizes.n
        config = hg.models.GPTConfig(s.vocab, s.context, s.layers, s.heads, s.width, bias=s.bias)
        model = hg.models.GPT(config, generator=hg.Generator(0))
        optimizer = hg.optim.AdamW(model.parameter_groups(n.WEIGHT_DECAY), lr=n.LR, betas=n.BETAS, max_norm=n.CLIP)
        batches = itertools.cycle(s.batches(16))

        def step() -> None:
            loss = model.loss(*next(batches))
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()

        costs = Costs(Spec)
        OBSERVER.append(costs)
        try:
            step()
        finally:
            OBSERVER.clear()
        parameters = sum(p.size for p in model.parameters())
        costs.flops += (
            14.0 * parameters
        )  # AdamW and the norm: four arrays are read, one of them twice, and three written
        costs.bytes += 4.0 * 8 * parameters
        return {
            "flops": costs.flops,
            "bytes": costs.bytes,
            "operations": costs.operations,
            "parameters": parameters,
            "samples": timed_block(step, seconds),
        }


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "point")})
