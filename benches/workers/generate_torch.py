"""PyTorch's side of generate.py: eager, keys and values kept in memory made once, as one writes it by hand."""

from __future__ import annotations

import time
from typing import Any

import generation as g
import numpy as np
import torch
from serve import run_queue_wait, serve
from torch.nn import functional as F
from torch_gpt import TorchGPT


class Side:
    """A model and its cache between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Threads, and a model whose weights come with `load_weights`."""
        torch.set_num_threads(threads)
        self.model = TorchGPT(g.VOCAB, g.BLOCK, g.LAYERS, g.HEADS, g.WIDTH, bias=True).eval()
        size = (1, g.HEADS, g.BLOCK, g.WIDTH // g.HEADS)
        self.caches = [(torch.empty(size), torch.empty(size)) for _ in range(g.LAYERS)]
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def load_weights(self, path: str) -> None:
        """The weights of an npz file that handgrad's side saved."""
        self.model.load_arrays(np.load(path))

    def read(self, ids: torch.Tensor, start: int) -> torch.Tensor:
        """Logits (V,) behind ids (1, T), which stand at `start`."""
        body, end = self.model.transformer, start + ids.shape[1]
        x = body["wte"](ids) + body["wpe"](torch.arange(start, end))
        for block, (keys, values) in zip(body["h"], self.caches, strict=True):
            B, T, C = x.shape
            heads = block.attn.c_attn(block.ln_1(x)).view(B, T, 3, g.HEADS, C // g.HEADS).permute(2, 0, 3, 1, 4)
            keys[:, :, start:end], values[:, :, start:end] = heads[1], heads[2]
            y = F.scaled_dot_product_attention(heads[0], keys[:, :, :end], values[:, :, :end], is_causal=start == 0)
            x = x + block.attn.c_proj(y.transpose(1, 2).reshape(B, T, C))
            x = x + block.mlp(block.ln_2(x))
        return self.model.lm_head(body["ln_f"](x[:, -1]))[0]

    @torch.inference_mode()
    def tokens(self, count: int) -> list[int]:
        """The likeliest tokens after the prompt, and the seconds of each go to self.samples."""
        new, place, found, self.samples = torch.from_numpy(g.PROMPT)[None], 0, [], []
        for _ in range(count):
            waited, began = run_queue_wait(), time.perf_counter()
            token = int(self.read(new, place).argmax())
            self.samples.append((time.perf_counter() - began, max(0.0, run_queue_wait() - waited)))
            place += new.shape[1]
            new = torch.tensor([[token]])
            found.append(token)
        return found

    def block(self, seconds: float) -> list[tuple[float, float]]:
        """Texts for about `seconds`; a sample is one token after the first, which reads the prompt."""
        samples: list[tuple[float, float]] = []
        end = time.perf_counter() + seconds
        while time.perf_counter() < end:
            self.tokens(g.NEW)
            samples += self.samples[2:]
        return samples


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "load_weights", "tokens", "block")})
