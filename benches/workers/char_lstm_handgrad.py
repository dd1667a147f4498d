"""handgrad's side of lstm_quality.py: models.LSTMLanguageModel, the feed of `handgrad train lstm`, AdamW."""

from __future__ import annotations

import sys
import time
from typing import Any

from serve import serve

from handgrad.engine import process


class Side:
    """A model and its optimizer, between requests."""

    def start(self, threads: int, seed: int = 0) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad; the model's weights come from `seed`."""
        process.settle(threads)
        process.join_pools()
        import char_lstm as c

        import handgrad as hg

        self.hg, self.c = hg, c
        hg.manual_seed(seed)
        self.model = hg.models.LSTMLanguageModel(c.VOCAB, c.WIDTH, c.WIDTH, c.LAYERS)
        self.optimizer = hg.optim.AdamW(
            self.model.parameter_groups(c.WEIGHT_DECAY), lr=c.LR, betas=c.BETAS, max_norm=c.CLIP
        )
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def inputs(self, text: str, seed: int, iterations: int, path: str) -> None:
        """What both sides start from: initial weights, the text's ids, how many steps."""
        import numpy as np

        from handgrad.engine.text.corpora import train_validation_split
        from handgrad.engine.text.tokenizer import CharacterTokenizer

        with open(text, encoding="utf-8", newline="") as file:
            characters = file.read()
        tokenizer = CharacterTokenizer.train(characters)
        if len(tokenizer) != self.c.VOCAB:
            raise ValueError(
                f"{text} has {len(tokenizer)} different characters, but tinyshakespeare has {self.c.VOCAB}"
            )
        train, validation = train_validation_split(np.asarray(tokenizer.encode(characters)))
        arrays: dict[str, Any] = {f"weights.{name}": a for name, a in self.model.state_dict().items()}
        np.savez(path, train=train, validation=validation, iterations=iterations, **arrays)

    def train(self, inputs: str, label: str) -> dict[str, Any]:
        """A whole run on the weights and the text of `inputs`: losses and seconds."""
        import numpy as np

        from handgrad.engine.training.feed import CarriedFeed
        from handgrad.engine.training.schedule import warmup_cosine

        c, given = self.c, np.load(inputs)
        self.model.load_state_dict({name[8:]: given[name] for name in given.files if name.startswith("weights.")})
        feed = CarriedFeed(given["train"], given["validation"], c.STEPS, c.STREAMS)
        iterations, losses = int(given["iterations"]), []
        began = time.perf_counter()
        for step in range(iterations):
            lr = warmup_cosine(step, lr=c.LR, min_lr=c.MIN_LR, warmup=c.WARMUP, total=c.ITERATIONS)
            for group in self.optimizer.param_groups:
                group["lr"] = lr
            loss = feed.loss(self.model)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            losses.append(loss.item())
            if step % 50 == 49:
                said = f"\r  {label}: {step + 1} of {iterations}, loss {losses[-1]:.3f} "
                print(said, end="", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - began
        validation = feed.validate(self.model)
        print(f"\r  {label}: validation loss {validation:.4f} after {seconds:.0f} s" + " " * 20, file=sys.stderr)
        return {
            "validation_loss": validation,
            "train_loss_last_100": float(np.mean(losses[-100:])),
            "first_losses": losses[: c.FIRST],
            "training_seconds": round(seconds, 1),
        }


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "inputs", "train")})
