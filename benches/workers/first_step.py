"""For startup.py: settle, build nanoGPT's CPU model, one training step, then print the loss and the seconds of each part.

Not a server: one line on standard output, at the moment when the step is done.
"""

from __future__ import annotations

import time

START = time.perf_counter()

from handgrad.engine import process  # noqa: E402

process.settle()
process.join_pools()

import nanogpt as n  # noqa: E402

import handgrad as hg  # noqa: E402

hg.Tensor  # noqa: B018  the engine loads when it is first touched
IMPORTED = time.perf_counter()
model = hg.models.GPT(
    hg.models.GPTConfig(n.VOCAB, n.BLOCK, n.LAYERS, n.HEADS, n.WIDTH, bias=False), generator=hg.Generator(0)
)
optimizer = hg.optim.AdamW(model.parameter_groups(n.WEIGHT_DECAY), lr=n.LR, betas=n.BETAS, max_norm=n.CLIP)
x, y = n.random_batches(1)[0]
BUILT = time.perf_counter()
loss = model.loss(x, y)
optimizer.zero_grad()
loss.backward()
optimizer.step()
print(repr(loss.item()), IMPORTED - START, BUILT - IMPORTED, time.perf_counter() - BUILT, flush=True)
