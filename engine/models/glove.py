"""GloVe: word vectors fitted to a table of co-occurrences.

The mathematics: reference/glove.py; the loop over pairs: kernels/cpu/glove.py.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from .. import process, random
from ..errors import UserError
from ..files import StrPath, load_tensors, save_tensors
from ..kernel_table import announce_compilation

Array = np.ndarray[Any, np.dtype[Any]]

_SHUFFLED, _ROUNDS = 1 << 32, 2 << 32  # streams of random numbers; the initial vectors have stream 0
_PART_BYTES = (
    1 << 18
)  # parameters of one part of the words: those of a block, words and contexts, stay in a core's cache
_FEWEST_PARTS, _MOST_PARTS = 32, 255  # so many threads find work; so many squared still fit 16 bits
_CHUNK = 1 << 13  # pairs of a chunk of hogwild's
_NAMES = ("w", "w_context", "b", "b_context")


@dataclass(frozen=True)
class GloVeConfig:
    """How to fit. lr and initial_accumulator are AdaGrad's, as in torch.optim.Adagrad.

    mode: "deterministic" gives the same bits for any number of threads; "hogwild" lets threads race for shared words.
    The authors' program behaves like lr=1 and initial_accumulator=400 (1 / its own lr^2; see reference/glove.py).
    """

    lr: float = 0.05
    x_max: float = 100.0
    alpha: float = 0.75
    initial_accumulator: float = 0.1
    mode: Literal["deterministic", "hogwild"] = "deterministic"

    def __post_init__(self) -> None:
        for name in ("lr", "x_max", "alpha", "initial_accumulator"):
            value = getattr(self, name)
            least = "0 or above" if name == "initial_accumulator" else "positive"
            if not 0 <= value < math.inf or (value == 0 and least == "positive"):
                raise UserError(f"{name} is {value}, but it must be finite and {least}")
        if self.mode not in ("deterministic", "hogwild"):
            raise UserError(f"mode is {self.mode!r}, but it must be 'deterministic' or 'hogwild'")


class GloVe:
    """Vectors w and biases b of words, and of the same words as contexts (w_context, b_context); each float32 (V, d), (V,).

    All start uniform in +-1 / (2 d), as in the authors' program. `fit` trains them; `vectors` is what one uses.
    """

    def __init__(self, words: Sequence[str], vector_size: int = 50, *, seed: int = 1, dtype: Any = np.float32) -> None:
        """words: in the order of their ids, or a Vocabulary. dtype: float64 is for checking."""
        self.words = tuple(getattr(words, "words", words))
        if vector_size < 1:
            raise UserError(f"vector_size is {vector_size}, but it must be at least 1")
        if not self.words:
            raise UserError("there are no words to find vectors for")
        self.vector_size, self.seed = vector_size, seed
        generator, V = random.Generator(seed), len(self.words)
        self.parameters: dict[str, Array] = {
            name: ((generator.uniform(shape, np.float64) - 0.5) / vector_size).astype(dtype)
            for name, shape in zip(_NAMES, ((V, vector_size), (V, vector_size), (V,), (V,)), strict=True)
        }
        self.squares: dict[str, Array] = {}  # AdaGrad's; made by the first `fit`
        self.epoch, self.round, self._cost = 0, 0, 0.0  # where training stands, and the cost of this epoch's rounds
        self.costs: list[float] = []
        self.config: GloVeConfig | None = None
        self._pairs: dict[str, float] = {}  # what the pairs trained on so far are recognized by

    @property
    def vectors(self) -> Array:
        """w + w_context (V, d): the table is symmetric, so both are estimates of the same (the paper's section 4.2)."""
        return self.parameters["w"] + self.parameters["w_context"]

    def fit(
        self,
        cooccurrences: Any,
        epochs: int = 15,
        config: GloVeConfig | None = None,
        *,
        threads: int | None = None,
        progress: Callable[[GloVe, float], object] | None = None,
        stop: Callable[[], bool] | None = None,
        checkpoint: StrPath | None = None,
    ) -> list[float]:
        """Train until `epochs` epochs are done, those of earlier calls included. Returns `costs`, one an epoch: the mean
        over the pairs of f e^2 / 2, each from before its own step.

        cooccurrences: with i, j and values(), as Cooccurrences; or a tuple (i, j, x), all (N,), x > 0.
        progress(model, share): called after each round, share of the epoch done. stop(): asked after each round; where it
        says True, fit returns. checkpoint: written after each epoch and before returning; after `load_checkpoint` the
        same call goes on as if it had never been interrupted, bit for bit in the deterministic mode.
        Raises UserError for pairs and settings that cannot be, and where training diverges, naming the pair.
        """
        config = config or self.config or GloVeConfig()
        if epochs < 1:
            raise UserError(f"epochs is {epochs}, but it must be at least 1")
        training = _Training(self, cooccurrences, config, threads or _usable_threads())
        self._remember(config, training.fingerprint)
        stopped = False
        while self.epoch < epochs and not stopped:
            for done, cost in training.rounds():
                self.round, self._cost = done, self._cost + cost
                if progress is not None:
                    progress(self, done / training.number_of_rounds)
                stopped = stop is not None and stop()
                if stopped:
                    break
            training.store()
            if self.round == training.number_of_rounds:
                self.costs.append(self._cost / training.size)
                self.epoch, self.round, self._cost = self.epoch + 1, 0, 0.0
            if checkpoint is not None:
                self.save_checkpoint(checkpoint)
        return self.costs

    def _remember(self, config: GloVeConfig, fingerprint: dict[str, float]) -> None:
        """Settings and pairs of the first fit hold for all that follow: the squares belong to them."""
        if self.config not in (None, config):
            raise UserError(f"this model was trained with {self.config}, so it cannot go on with {config}")
        if self._pairs not in ({}, fingerprint):
            raise UserError(
                f"this model was trained on other co-occurrences ({self._pairs}, but these are {fingerprint})"
            )
        self.config, self._pairs = config, fingerprint

    def save_checkpoint(self, path: StrPath) -> None:
        """Everything that `load_checkpoint` needs to go on, as one safetensors file, atomically; not the words."""
        arrays = self.parameters | {f"squares.{n}": a for n, a in self.squares.items()}
        state = {
            "vector_size": self.vector_size, "seed": self.seed, "epoch": self.epoch, "round": self.round,
            "cost": self._cost, "costs": self.costs, "pairs": self._pairs,
            "config": None if self.config is None else asdict(self.config),
        }  # fmt: skip
        save_tensors(path, arrays, {"state": json.dumps(state)})

    @classmethod
    def load_checkpoint(cls, path: StrPath, words: Sequence[str]) -> GloVe:
        """The model as `save_checkpoint` left it. UserError where the file is broken or made for other words."""
        arrays, metadata = load_tensors(path)
        try:
            state = json.loads(metadata["state"])
            model = cls(words, state["vector_size"], seed=state["seed"], dtype=arrays["w"].dtype)
            for name, own in model.parameters.items():
                if arrays[name].shape != own.shape:
                    raise ValueError(f"{name} has shape {arrays[name].shape}, but these words need {own.shape}")
            model.parameters = {name: arrays[name] for name in _NAMES}
            model.squares = {n.removeprefix("squares."): a for n, a in arrays.items() if n.startswith("squares.")}
            model.epoch, model.round, model._cost = state["epoch"], state["round"], state["cost"]
            model.costs, model._pairs = state["costs"], state["pairs"]
            model.config = None if state["config"] is None else GloVeConfig(**state["config"])
        except (KeyError, TypeError, ValueError) as error:
            raise UserError(f"{path} is no checkpoint of GloVe for these words: {error}") from error
        return model

    def __repr__(self) -> str:
        return f"<GloVe of {len(self.words)} words, size {self.vector_size}, {self.epoch} epochs>"


def _usable_threads() -> int:
    """The threads that this process may use."""
    return int(process.settings()["threads"])  # type: ignore[arg-type]


class _Training:
    """Pairs and parameters laid out for the kernel, and which chunks of pairs make a round.

    Deterministic: word id k belongs to part k mod P, so that frequent and rare words are spread evenly, and a block is the
    pairs of one part of the words with one part of the contexts. Round r takes the P blocks (p, p + r mod P): no two share
    a word or a context, so they are trained on at once and nobody waits (Gemulla et al. 2011). P depends on the sizes of
    the model alone. A block's parameters fit into a core's cache, which makes this the faster mode, too.
    Hogwild: one shuffle of all pairs, cut into chunks that may share anything.
    """

    def __init__(self, model: GloVe, cooccurrences: Any, config: GloVeConfig, threads: int) -> None:
        announce_compilation()
        self.model, self.config, self.threads = model, config, threads
        i, j, x = _checked(cooccurrences, len(model.words))
        self.fingerprint: dict[str, float] = {"pairs": len(x), "sum": float(np.sum(x))}
        self.size, V = len(x), len(model.words)
        dtype = model.parameters["w"].dtype
        row_bytes = 2 * (model.vector_size + 2) * dtype.itemsize
        parts = min(max(_FEWEST_PARTS, -(-V * row_bytes // _PART_BYTES)), _MOST_PARTS, V)
        ids = np.arange(V)
        if config.mode == "hogwild":
            self.places = ids
            turn = self._shuffled(self.size)
            self.starts = np.append(np.arange(0, self.size, _CHUNK), self.size)
            groups = min(_FEWEST_PARTS, len(self.starts) - 1)
            self.groups = np.array_split(np.arange(len(self.starts) - 1), groups)
        else:
            self.places = (ids % parts) * -(-V // parts) + ids // parts  # the words of a part side by side
            block = ((i % parts) * parts + j % parts).astype(np.uint16)
            turn = np.argsort(block, kind="stable")
            self.starts = np.append(0, np.cumsum(np.bincount(block, minlength=parts**2)))
            self.groups = [np.arange(parts) * parts + (np.arange(parts) + r) % parts for r in range(parts)]
        i, j, x = i[turn], j[turn], x[turn]
        weights = np.minimum((x / config.x_max) ** config.alpha, 1.0)
        self.pairs = (
            self.places[i].astype(np.int32),
            self.places[j].astype(np.int32),
            np.log(x).astype(dtype),
            weights.astype(dtype),
        )
        self.order = np.empty(self.size, np.int64)
        self.number_of_rounds = len(self.groups)
        self._pack()

    def _shuffled(self, n: int) -> Array:
        from ...kernels.cpu.glove import shuffle

        order = np.arange(n)
        shuffle(order, np.uint64(self.model.seed), np.uint64(_SHUFFLED - 1), np.uint64(0))
        return order

    def _pack(self) -> None:
        from ...kernels.cpu.glove import pack

        model, rows = self.model, int(self.places.max()) + 1
        if not model.squares:
            model.squares = {n: np.full_like(a, self.config.initial_accumulator) for n, a in model.parameters.items()}
        placed: dict[str, Array] = {}
        for kind, arrays in (("", model.parameters), ("s", model.squares)):
            for name, array in arrays.items():
                placed[kind + name] = np.zeros((rows, *array.shape[1:]), array.dtype)  # some places stay empty
                placed[kind + name][self.places] = array
        self.words = pack(placed["w"], placed["b"], placed["sw"], placed["sb"], context=False)
        self.contexts = pack(*(placed[n] for n in ("w_context", "b_context", "sw_context", "sb_context")), context=True)

    def rounds(self) -> Iterator[tuple[int, float]]:
        """(rounds done, cost of the last) for what is left of the epoch, in an order that seed and epoch decide."""
        from ...kernels.cpu.glove import glove_round

        model = self.model
        order = random.Generator(model.seed, _ROUNDS + model.epoch).words(len(self.groups))
        turn = np.argsort(order, kind="stable")
        for done in range(model.round, len(self.groups)):
            cost, bad = glove_round(
                self.words, self.contexts, self.pairs, self.order, self.starts, self.groups[turn[done]],
                lr=self.config.lr, seed=model.seed, stream=_SHUFFLED + model.epoch, threads=self.threads,
            )  # fmt: skip
            if bad >= 0:
                self._diverged(bad)
            yield done + 1, cost

    def _diverged(self, k: int) -> None:
        """UserError that names pair number k as it lies here."""
        i, j = (int(np.flatnonzero(self.places == ids[k])[0]) for ids in self.pairs[:2])
        raise UserError(
            f"training diverged in epoch {self.model.epoch + 1}: the error of the pair ({i}, {j}), "
            f"{self.model.words[i]!r} and {self.model.words[j]!r}, is not a number or above 10^6: try a lower lr"
        )

    def store(self) -> None:
        """Parameters and squares back into the model."""
        from ...kernels.cpu.glove import unpack

        model, d = self.model, self.model.vector_size
        for packed, ends, context in ((self.words, "", False), (self.contexts, "_context", True)):
            w, b, sw, sb = (a[self.places] for a in unpack(packed, d, context=context))
            model.parameters |= {f"w{ends}": w, f"b{ends}": b}
            model.squares |= {f"w{ends}": sw, f"b{ends}": sb}


def _checked(cooccurrences: Any, words: int) -> tuple[Array, Array, Array]:
    """i, j and x (N,) as arrays; UserError unless they are ids of words and positive finite counts."""
    if isinstance(cooccurrences, tuple):
        i, j, x = (np.asarray(a) for a in cooccurrences)
    else:
        i, j, x = np.asarray(cooccurrences.i), np.asarray(cooccurrences.j), np.asarray(cooccurrences.values())
    if not (i.ndim == 1 and i.shape == j.shape == x.shape):
        raise UserError(
            f"i, j and x have the shapes {i.shape}, {j.shape} and {x.shape}, but need one axis of one length"
        )
    if not len(x):
        raise UserError("there are no co-occurrences to fit: the text is too short, or its words too rare")
    for name, ids in (("i", i), ("j", j)):
        if ids.dtype.kind not in "iu":
            raise UserError(f"{name} is {ids.dtype}, but ids are integers")
        low, high = int(ids.min()), int(ids.max())
        if low < 0 or high >= words:
            raise UserError(f"{name} holds {low if low < 0 else high}, but there are {words} words")
    x = x.astype(np.float64)
    wrong = ~((x > 0) & np.isfinite(x))
    if wrong.any():
        k = int(np.argmax(wrong))
        raise UserError(f"x of the pair ({i[k]}, {j[k]}) is {x[k]}, but a count must be positive and finite")
    return i, j, x
