"""PyTorch's side of lstm_quality.py: torch.nn.LSTM, eager, and its fused AdamW."""

from __future__ import annotations

import sys
import time
from typing import Any

import char_lstm as c
import numpy as np
import torch
from serve import serve
from torch import nn
from torch_gpt import adamw


class CharacterModel(nn.Module):
    """Embedding, LSTM, linear; parameters named as in handgrad."""

    def __init__(self) -> None:
        super().__init__()
        self.embedding = nn.Embedding(c.VOCAB, c.WIDTH)
        self.lstm = nn.LSTM(c.WIDTH, c.WIDTH, c.LAYERS, batch_first=True)
        self.output = nn.Linear(c.WIDTH, c.VOCAB)

    def loss(self, x: Any, y: Any, hidden: Any) -> tuple[Any, Any]:
        """(mean cross entropy in nats, the last state, detached) of x and y (B, T)."""
        states, hidden = self.lstm(self.embedding(x), hidden)
        loss = nn.functional.cross_entropy(self.output(states).reshape(-1, c.VOCAB), y.reshape(-1))
        return loss, tuple(h.detach() for h in hidden)


class Side:
    """A model and its optimizer, between requests."""

    def start(self, threads: int) -> dict[str, Any]:
        """Threads, a model (its weights come with `train`), its optimizer."""
        torch.set_num_threads(threads)
        self.model = CharacterModel()
        self.optimizer = adamw(self.model, c.LR, c.BETAS, c.WEIGHT_DECAY)
        return {"threads": torch.get_num_threads(), "torch": torch.__version__}

    def train(self, inputs: str, label: str) -> dict[str, Any]:
        """A whole run on the weights and the text of `inputs`: losses and seconds."""
        given = np.load(inputs)
        weights = {name[8:]: torch.from_numpy(given[name]) for name in given.files if name.startswith("weights.")}
        self.model.load_state_dict(weights)
        x, y = (torch.from_numpy(part) for part in c.streams(given["train"]))
        iterations, losses, hidden, place = int(given["iterations"]), [], None, 0
        began = time.perf_counter()
        for step in range(iterations):
            for group in self.optimizer.param_groups:
                group["lr"] = c.learning_rate(step)
            if place >= x.shape[1]:
                place, hidden = 0, None
            part = slice(place, place + c.STEPS)
            place += c.STEPS
            loss, hidden = self.model.loss(x[:, part], y[:, part], hidden)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(self.model.parameters(), c.CLIP)
            self.optimizer.step()
            losses.append(loss.item())
            if step % 50 == 49:
                said = f"\r  {label}: {step + 1} of {iterations}, loss {losses[-1]:.3f} "
                print(said, end="", file=sys.stderr, flush=True)
        seconds = time.perf_counter() - began
        validation = self.validate(given["validation"])
        print(f"\r  {label}: validation loss {validation:.4f} after {seconds:.0f} s" + " " * 20, file=sys.stderr)
        return {
            "validation_loss": validation,
            "train_loss_last_100": float(np.mean(losses[-100:])),
            "first_losses": losses[: c.FIRST],
            "training_seconds": round(seconds, 1),
        }

    @torch.no_grad()
    def validate(self, ids: np.ndarray) -> float:
        """The mean loss over the validation part, its streams read in order."""
        x, y = (torch.from_numpy(part) for part in c.streams(ids))
        total, hidden = 0.0, None
        for place in range(0, x.shape[1], c.STEPS):
            part = slice(place, place + c.STEPS)
            loss, hidden = self.model.loss(x[:, part], y[:, part], hidden)
            total += loss.item() * y[:, part].numel()
        return total / y.numel()


if __name__ == "__main__":
    side = Side()
    serve({name: getattr(side, name) for name in ("start", "train")})
