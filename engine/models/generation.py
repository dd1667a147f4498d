"""Text from a language model, one token at a time: temperature, top-k, top-p (nucleus, Holtzman et al. 2020)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ..errors import UserError
from ..random import Generator


def check_sampling(temperature: float, top_k: int | None, top_p: float | None) -> None:
    """UserError with one sentence unless the three make sense."""
    if not 0.0 <= temperature < float("inf"):
        raise UserError(f"generate: temperature is {temperature}, but it must be 0 (the likeliest token) or above")
    if top_k is not None and top_k < 1:
        raise UserError(f"generate: top_k is {top_k}, but it must be at least 1")
    if top_p is not None and not 0.0 < top_p <= 1.0:
        raise UserError(f"generate: top_p is {top_p}, but it must be above 0 and at most 1")


def probabilities(logits: np.ndarray, *, temperature: float, top_k: int | None, top_p: float | None) -> np.ndarray:
    """Logits (V,) -> the distribution (V,) to draw from, float64.

    temperature divides the logits (0: all weight on the largest); top_k keeps the k likeliest tokens (ties with the
    k-th too); top_p keeps the fewest likeliest tokens whose probabilities reach p. UserError where no logit is the
    largest: one is NaN, or all are infinite.
    """
    x = logits.astype(np.float64)
    if not np.isfinite(x.max()):
        raise UserError(f"generate: the model's largest logit is {x.max()}, so its weights are of no use")
    if temperature == 0.0:
        return np.eye(1, x.size, int(np.argmax(x)))[0]
    if top_k is not None and top_k < x.size:
        x = np.where(x < np.partition(x, -top_k)[-top_k], -np.inf, x)
    with np.errstate(over="ignore"):  # a tiny temperature: all but the likeliest fall to minus infinity
        x = (x - x.max()) / temperature
    p = np.exp(x)
    p /= p.sum()
    if top_p is not None and top_p < 1.0:
        order = np.argsort(-p, kind="stable")
        before = np.cumsum(p[order]) - p[order]
        p[order[before >= top_p]] = 0.0
        p /= p.sum()
    return p


def reader_of(model: Any, weights: str | None = None) -> Any:
    """What reads a text with the model: its read(ids (T,)) -> logits (V,) goes on from what it read before.

    model: it has reader(weights), or, where nothing can be kept from token to token, next_logits(ids) -> (V,) of the whole
        text; a reader is its own. weights: as in models.GPT.reader. UserError where the model cannot go on with a text, or its
        weights have no other form.
    """
    if hasattr(model, "reader"):
        return model.reader() if weights is None else model.reader(weights)
    if not hasattr(model, "read") and not hasattr(model, "next_logits"):
        raise UserError(f"generate: a {type(model).__name__} cannot go on with a text, it has no reader")
    if weights is not None:
        raise UserError(f"generate: weights is {weights!r}, but a {type(model).__name__} reads its own as they are")
    return model if hasattr(model, "read") else _WholeText(model)


def generate(
    model: Any,
    ids: np.ndarray,
    max_new_tokens: int,
    *,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    generator: Generator | None = None,
    exclude: Sequence[int] = (),
) -> Iterator[int]:
    """Yields max_new_tokens tokens that follow ids (T,), each as soon as it is drawn.

    model: a model, or what `reader_of` makes of one: models.GPT.reader("int8") holds its weights in a quarter of the bytes.
    exclude: tokens that are never drawn. The same generator state gives the same tokens.
    """
    check_sampling(temperature, top_k, top_p)
    if len(ids) == 0:
        raise ValueError("generate: the prompt is empty, but a model needs at least one token to go on from")
    generator = generator or Generator(0)
    new, read = np.asarray(ids), reader_of(model).read
    for _ in range(max_new_tokens):
        logits = read(new)
        if len(exclude):
            logits = logits.copy()
            logits[list(exclude)] = -np.inf
        p = probabilities(logits, temperature=temperature, top_k=top_k, top_p=top_p)
        drawn = float(generator.uniform((), np.float64))
        token = int(np.searchsorted(np.cumsum(p), drawn, side="right"))
        token = min(token, int(np.flatnonzero(p)[-1]))  # rounding may leave the sum just below the draw
        new = np.array([token])
        yield token


class _WholeText:
    """The reader of a model that looks at the whole text anew for every token."""

    def __init__(self, model: Any) -> None:
        self.model, self.ids = model, np.zeros(0, np.int64)

    def read(self, ids: np.ndarray) -> np.ndarray:
        """Logits (V,) of the token that follows all that was read, of which ids (T,) are the last."""
        self.ids = np.append(self.ids, ids)
        return self.model.next_logits(self.ids)
