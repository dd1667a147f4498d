"""handgrad's side of gpt_step.py, memory.py and nanogpt_quality.py: kernels, and AdamW that clips in its pass."""

from __future__ import annotations

import itertools
import sys
import time
from typing import Any

from serve import serve, timed_block

from handgrad.engine import process


class Side:
    """A model and its optimizer, between requests."""

    def start(self, threads: int, seed: int = 0, size: str = "nanogpt", settled: bool = True) -> dict[str, Any]:
        """Load NumPy and handgrad, and make a model whose weights come from `seed`.

        settled: as the command line does it, before NumPy; otherwise as `import handgrad` in somebody's program does.
        """
        if settled:
            process.settle(threads)
            process.join_pools()
        import gpt_sizes
        import nanogpt as n

        import handgrad as hg

        self.hg, self.n, self.sizes = hg, n, gpt_sizes
        self.make(size, seed)
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def make(self, size: str, seed: int = 0) -> None:
        """A model of this size, its optimizer and its batches."""
        hg, n, s = self.hg, self.n, self.sizes.SIZES[size]
        config = hg.models.GPTConfig(s.vocab, s.context, s.layers, s.heads, s.width, bias=s.bias)
        self.model = hg.models.GPT(config, generator=hg.Generator(seed))
        self.optimizer = hg.optim.AdamW(
            self.model.parameter_groups(n.WEIGHT_DECAY), lr=n.LR, betas=n.BETAS, max_norm=n.CLIP
        )
        self.first = s.batches(1)[0]
        self.batches = itertools.cycle(s.batches(64))

    def save_weights(self, path: str) -> None:
        """The state dict as an npz file."""
        import numpy as np

        arrays: dict[str, Any] = self.model.state_dict()
        np.savez(path, **arrays)

    def gradients(self, path: str) -> float:
        """Loss on the first random batch; its gradients, under the parameters' names, go into an npz file."""
        import numpy as np

        loss = self.model.loss(*self.first)
        loss.backward()
        arrays: dict[str, Any] = {
            name: p.grad.numpy() for name, p in self.model.named_parameters() if p.grad is not None
        }
        np.savez(path, **arrays)
        self.optimizer.zero_grad()
        return loss.item()

    def step(self, x: Any, y: Any) -> float:
        """One training step, as a user writes it."""
        loss = self.model.loss(x, y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def block(self, seconds: float) -> list[tuple[float, float]]:
        """Training steps for about `seconds`."""
        return timed_block(lambda: self.step(*next(self.batches)), seconds)

    def profile(self, steps: int) -> dict[str, Any]:
        """Where the time of a step goes; see step_clock.py."""
        import step_clock

        return step_clock.profile(lambda: self.step(*next(self.batches)), self.optimizer, steps)

    def grown(self, size: str, steps: int) -> dict[str, float]:
        """How far memory grows at most while a model of this size is made and trained for some steps, in bytes; and then, in as
        many steps more, the page faults of a step.
        """
        del self.model, self.optimizer
        before, _ = self.sizes.resident()
        self.make(size)
        for _ in range(steps):
            self.step(*next(self.batches))
        peak, faults = self.sizes.resident()[1], self.sizes.page_faults()
        for _ in range(steps):
            self.step(*next(self.batches))
        return {"before": before, "peak": peak, "faults": (self.sizes.page_faults() - faults) / steps}

    # ---- for nanogpt_quality.py

    def inputs(self, text: str, seed: int, iterations: int, path: str) -> dict[str, Any]:
        """What both sides start from: initial weights, the text's ids, and where each batch's blocks begin."""
        import numpy as np

        from handgrad.engine.text.corpora import describe_text, train_validation_split
        from handgrad.engine.text.tokenizer import CharacterTokenizer

        n = self.n
        with open(text, encoding="utf-8", newline="") as file:
            characters = file.read()
        tokenizer = CharacterTokenizer.train(characters)
        if len(tokenizer) != n.VOCAB:
            raise ValueError(f"{text} has {len(tokenizer)} different characters, but tinyshakespeare has {n.VOCAB}")
        train, validation = train_validation_split(np.asarray(tokenizer.encode(characters)))
        draws = self.hg.Generator(seed, stream=1)
        starts = np.stack([draws.integers(0, len(train) - n.BLOCK, (n.BATCH,)) for _ in range(iterations)])
        arrays: dict[str, Any] = {f"weights.{name}": a for name, a in self.model.state_dict().items()}
        np.savez(path, train=train, validation=validation, starts=starts, **arrays)
        corpus = describe_text(characters)
        return {"characters": corpus.characters, "sha256": corpus.sha256, "validation_tokens": len(validation)}

    def train(self, inputs: str, label: str) -> dict[str, Any]:
        """A whole run on the weights and batches of `inputs`: final losses and seconds."""
        import numpy as np

        from handgrad.engine.training.schedule import warmup_cosine

        n = self.n
        given = np.load(inputs)
        self.model.load_state_dict({name[8:]: given[name] for name in given.files if name.startswith("weights.")})
        train, starts = given["train"], given["starts"]
        losses: list[float] = []
        began = time.perf_counter()
        for step in range(len(starts)):
            lr = warmup_cosine(step, lr=n.LR, min_lr=n.MIN_LR, warmup=n.WARMUP, total=n.ITERATIONS)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            losses.append(self.step(*n.batch_at(train, starts[step])))
            if step % 50 == 49:
                print(
                    f"\r  {label}: {step + 1} of {len(starts)}, loss {losses[-1]:.3f} ",
                    end="",
                    file=sys.stderr,
                    flush=True,
                )
        seconds = time.perf_counter() - began
        total = rows = 0.0
        with self.hg.no_grad():
            for x, y in n.evaluation_batches(given["validation"]):
                total += self.model.loss(x, y).item() * len(x)
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
    serve(
        {
            name: getattr(side, name)
            for name in ("start", "save_weights", "gradients", "block", "profile", "grown", "inputs", "train")
        }
    )
