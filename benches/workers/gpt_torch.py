"""PyTorch's side of gpt_step.py, memory.py and nanogpt_quality.py: eager or torch.compile, fused AdamW, fused attention.

malloc and spinning are set by the environment in which the parent starts this process; it tries several and takes the best.
"""

from __future__ import annotations

import itertools
import os
import sys
import time
from typing import Any

import gpt_sizes
import nanogpt as n
import numpy as np
import torch
from serve import serve, timed_block
from torch_gpt import TorchGPT, adamw


class Side:
    """A model and its optimizer, between requests."""

    def start(self, threads: int, compile: bool = False, size: str = "nanogpt") -> dict[str, Any]:
        """Threads, a model (its weights come with `load_weights`), its optimizer."""
        torch.set_num_threads(threads)
        self.compile = compile
        self.make(size)
        names = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GOMP_SPINCOUNT")
        environ = {name: os.environ[name] for name in names if name in os.environ}
        return {"threads": torch.get_num_threads(), "torch": torch.__version__, "compile": compile, "environ": environ}

    def make(self, size: str) -> None:
        """A model of this size, its optimizer and its batches."""
        s = gpt_sizes.SIZES[size]
        self.model = TorchGPT(s.vocab, s.context, s.layers, s.heads, s.width, bias=s.bias)
        self.optimizer = adamw(self.model, n.LR, n.BETAS, n.WEIGHT_DECAY)
        self.loss = torch.compile(self.model.loss) if self.compile else self.model.loss
        self.first, *_ = batches = [(torch.from_numpy(x), torch.from_numpy(y)) for x, y in s.batches(64)]
        self.batches = itertools.cycle(batches)

    def load_weights(self, path: str) -> None:
        """The weights of an npz file that handgrad's side saved."""
        self.model.load_arrays(np.load(path))

    def gradients(self, path: str) -> float:
        """Loss on the first random batch; its gradients, under the parameters' names, go into an npz file."""
        loss = self.loss(*self.first)
        loss.backward()
        np.savez(path, **{name: p.grad.numpy() for name, p in self.model.named_parameters() if p.grad is not None})
        self.optimizer.zero_grad(set_to_none=True)
        return loss.item()

    def step(self, x: torch.Tensor, y: torch.Tensor) -> float:
        """One training step, as a user writes it."""
        loss = self.loss(x, y)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), n.CLIP)
        self.optimizer.step()
        return loss.item()

    def block(self, seconds: float) -> list[tuple[float, float]]:
        """Training steps for about `seconds`."""
        return timed_block(lambda: self.step(*next(self.batches)), seconds)

    def grown(self, size: str, steps: int) -> dict[str, float]:
        """How far memory grows at most while a model of this size is made and trained for some steps, in bytes; and then, in as
        many steps more, the page faults of a step.
        """
        del self.model, self.optimizer, self.loss
        before, _ = gpt_sizes.resident()
        self.make(size)
        for _ in range(steps):
            self.step(*next(self.batches))
        peak, faults = gpt_sizes.resident()[1], gpt_sizes.page_faults()
        for _ in range(steps):
            self.step(*next(self.batches))
        return {"before": before, "peak": peak, "faults": (gpt_sizes.page_faults() - faults) / steps}

    def train(self, inputs: str, label: str) -> dict[str, Any]:
        """A whole run of nanogpt_quality.py on the weights and batches of `inputs`: final losses and seconds."""
        given = np.load(inputs)
        self.model.load_arrays({name[8:]: given[name] for name in given.files if name.startswith("weights.")})
        train, starts = given["train"], given["starts"]
        losses: list[float] = []
        began = time.perf_counter()
        for step in range(len(starts)):
            for group in self.optimizer.param_groups:
                group["lr"] = n.learning_rate(step)
            x, y = n.batch_at(train, starts[step])
            losses.append(self.step(torch.from_numpy(x), torch.from_numpy(y)))
            if step % 50 == 49:
                print(
                    f"\r  {label}: {step + 1} of {len(starts)}, loss {losses[-1]:.3f} ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        seconds = time.perf_counter() - began
        total = rows = 0.0
        with torch.no_grad():
            for x, y in n.evaluation_batches(given["validation"]):
                total += self.loss(torch.from_numpy(x), torch.from_numpy(y)).item() * len(x)
                rows += len(x)
        print(f"\r  {label}: validation loss {total / rows:.4f} after {seconds:.0f} s" + " " * 20, file=sys.stderr)
        return {
            "validation_loss": total / rows,
            "train_loss_last_100": float(np.mean(losses[-100:])),
            "first_loss": losses[0],
            "training_seconds": round(seconds, 1),
        }


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "load_weights", "gradients", "block", "grown", "train")})
