"""handgrad's side of generate.py: models.GPT's reader, which keeps keys and values, its weights in one of their forms."""

from __future__ import annotations

from typing import Any

from serve import serve

from handgrad.engine import process


class Side:
    """A reader between requests."""

    def start(self, threads: int, weights: str, path: str, save: bool) -> dict[str, Any]:
        """Settle the process, then load NumPy and handgrad; the model's weights go to, or come from, the npz file `path`."""
        process.settle(threads)
        process.join_pools()
        import generation as g
        import numpy as np

        import handgrad as hg

        self.g = g
        config = hg.models.GPTConfig(g.VOCAB, g.BLOCK, g.LAYERS, g.HEADS, g.WIDTH)
        model = hg.models.GPT(config, generator=hg.Generator(0)).eval()
        if save:
            arrays: dict[str, Any] = model.state_dict()
            np.savez(path, **arrays)
        else:
            model.load_state_dict(np.load(path))
        self.reader = model.reader(weights)
        return {"threads": threads, "process": process.describe(), "bytes": self.reader.nbytes, **process.settings()}

    def read(self, ids: Any, start: int) -> int:
        """The likeliest token behind ids, which stand at `start`."""
        if start == 0:
            self.reader.forget()
        return int(self.reader.read(ids).argmax())

    def tokens(self, count: int) -> list[int]:
        """The likeliest tokens after the prompt."""
        return self.g.write(self.read, count)[0]

    def block(self, seconds: float, what: str) -> list[Any]:
        """Samples of about `seconds`, of a "token" or a "prompt"."""
        return self.g.block(self.read, seconds, what)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "tokens", "block")})
