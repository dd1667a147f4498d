"""PyTorch's side of generate.py: eager or compiled, keys and values kept in memory made once, as one writes it by hand."""

from __future__ import annotations

from typing import Any

import generation as g
import numpy as np
import torch
from serve import serve
from torch.nn import functional as F
from torch_gpt import TorchGPT


class Side:
    """A model and its cache between requests."""

    def start(self, threads: int, weights: str, path: str, compile: bool) -> dict[str, Any]:
        """Threads, and a model with the weights of the npz file `path`, all in the dtype `weights`."""
        torch.set_num_threads(threads)
        dtype = getattr(torch, weights)
        model = TorchGPT(g.VOCAB, g.BLOCK, g.LAYERS, g.HEADS, g.WIDTH, bias=True).load_arrays(np.load(path))
        self.model = model.eval().to(dtype)
        size = (1, g.HEADS, g.BLOCK, g.WIDTH // g.HEADS)
        self.caches = [(torch.empty(size, dtype=dtype), torch.empty(size, dtype=dtype)) for _ in range(g.LAYERS)]
        self.step = torch.compile(self.logits, dynamic=True) if compile else self.logits
        size = sum(p.numel() * p.element_size() for p in self.model.parameters())
        return {"threads": torch.get_num_threads(), "torch": torch.__version__, "compile": compile, "bytes": size}

    def logits(self, ids: torch.Tensor, start: int) -> torch.Tensor:
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
    def read(self, ids: Any, start: int) -> int:
        """The likeliest token behind ids, which stand at `start`."""
        return int(self.step(torch.from_numpy(ids)[None], start).argmax())

    def tokens(self, count: int) -> list[int]:
        """The likeliest tokens after the prompt."""
        return g.write(self.read, count)[0]

    def block(self, seconds: float, what: str) -> list[Any]:
        """Samples of about `seconds`, of a "token" or a "prompt"."""
        return g.block(self.read, seconds, what)


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "tokens", "block")})
