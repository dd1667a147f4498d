"""handgrad's side of generate.py: models.GPT's reader, which keeps keys and values."""

from __future__ import annotations

import time
from typing import Any

from serve import run_queue_wait, serve

from handgrad.engine import process


class Side:
    """A model between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad."""
        process.settle(threads)
        process.join_pools()
        import generation as g

        import handgrad as hg

        self.g = g
        config = hg.models.GPTConfig(g.VOCAB, g.BLOCK, g.LAYERS, g.HEADS, g.WIDTH)
        self.model = hg.models.GPT(config, generator=hg.Generator(0)).eval()
        return {"threads": threads, "process": process.describe(), **process.settings()}

    def save_weights(self, path: str) -> None:
        """The state dict as an npz file."""
        import numpy as np

        arrays: dict[str, Any] = self.model.state_dict()
        np.savez(path, **arrays)

    def tokens(self, count: int) -> list[int]:
        """The likeliest tokens after the prompt, and the seconds of each go to self.samples."""
        import numpy as np

        reader, new, found, self.samples = self.model.reader(), self.g.PROMPT, [], []
        for _ in range(count):
            waited, began = run_queue_wait(), time.perf_counter()
            token = int(reader.read(new).argmax())
            self.samples.append((time.perf_counter() - began, max(0.0, run_queue_wait() - waited)))
            new = np.array([token])
            found.append(token)
        return found

    def block(self, seconds: float) -> list[tuple[float, float]]:
        """Texts for about `seconds`; a sample is one token after the first, which reads the prompt."""
        samples: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.tokens(self.g.NEW)
            samples += self.samples[2:]
        return samples


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "save_weights", "tokens", "block")})
