"""Beam search: of all the ways to go on, the few best so far are kept, instead of only the best one (greedy).

Source: Graves 2012, "Sequence Transduction with Recurrent Neural Networks", section 2.5; length penalty: Wu et al. 2016,
"Google's Neural Machine Translation System", section 7.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

State = TypeVar("State")


@dataclass(frozen=True)
class Hypothesis:
    """One way to write it: the tokens in front of the end, their log probability (the end's too), and its score."""

    tokens: tuple[int, ...]
    log_probability: float
    score: float


def beam_search(
    step: Callable[[np.ndarray, State], tuple[np.ndarray, State]],
    rows: Callable[[State, np.ndarray], State],
    state: State,
    *,
    begin: int,
    end: int,
    width: int,
    length_penalty: float = 0.6,
    most: int = 100,
) -> list[Hypothesis]:
    """Return at most `width` hypotheses, the highest score first.

    step(tokens (K,), state) -> (log probabilities (K, V) of what follows, the next state), of K hypotheses at once;
    rows(state, index (K,)) -> the state of those. state: of one hypothesis, in front of `begin`.

    At every step the `width` best continuations of all are kept; one that ends leaves the beam, which is a place narrower
    from then on. So width 1 is greedy search, and a beam wider than there are texts finds the best of all.
    score = log probability / ((5 + n) / 6)^length_penalty with n tokens, the end among them: 0 prefers short texts, since
    every further token costs. After `most` tokens what has not ended is taken as it is. ValueError unless width and most
    are at least 1.
    """
    if width < 1 or most < 1:
        raise ValueError(f"beam_search: width is {width} and most {most}, but both must be at least 1")

    def hypothesis(tokens: tuple[int, ...], log_probability: float, count: int) -> Hypothesis:
        return Hypothesis(tokens, log_probability, log_probability / ((5 + count) / 6) ** length_penalty)

    finished: list[Hypothesis] = []
    texts: list[tuple[int, ...]] = [()]
    scores: Any = np.zeros(1)  # (K,) log probabilities of the texts
    tokens = np.array([begin])
    for count in range(1, most + 1):
        found, state = step(tokens, state)
        totals = scores[:, None] + found.astype(np.float64)  # (K, V)
        places = np.argsort(-totals, axis=None, kind="stable")[: width - len(finished)]
        places = places[np.isfinite(totals.reshape(-1)[places])]
        parents, chosen = np.divmod(places, totals.shape[1])
        ends = chosen == end
        finished += [hypothesis(texts[k], float(totals[k, end]), count) for k in parents[ends]]
        parents, tokens = parents[~ends], chosen[~ends]
        texts = [(*texts[k], int(token)) for k, token in zip(parents, tokens, strict=True)]
        scores = totals[parents, tokens]
        if not len(texts):
            break
        state = rows(state, parents)
    finished += [hypothesis(text, float(score), most) for text, score in zip(texts, scores, strict=True)]
    return sorted(finished, key=lambda h: -h.score)
