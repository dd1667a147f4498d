"""Worked examples for `handgrad explain`: operations on a few numbers, with everything that happens in between.

Each is example(op, sample, title, say). `sample` holds the numbers that the user gave, or is None.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from ...reference.attention_weights import attention_weights
from ...reference.op import Op, Sample
from ..errors import UserError
from ..testing import random_sample
from ..testing.arrays import is_float

Say = Callable[..., None]
_SEED = 5


def given(op: Op, text: str) -> Sample:
    """The sample that `--x` describes. Raises UserError with one sentence where it describes none."""
    if len(op.inputs) != 1 or op.variadic:
        raise UserError(f"--x gives one input, but {op.name} has several: {', '.join(op.inputs)}; leave it out")
    rows = [_numbers(row) for row in text.split(";")]
    if not all(rows):
        raise UserError(f'--x is {text!r}, but it must hold numbers with spaces between them, such as "1 2 3"')
    if len({len(row) for row in rows}) > 1:
        raise UserError(
            f"--x has rows of {' and '.join(str(len(row)) for row in rows)} numbers; they must be equally long"
        )
    x = np.array(rows if len(rows) > 1 else rows[0])
    reason: Exception | None = None
    for params in ({}, *(dict(sample.params) for sample in op.samples)):
        try:
            op.validate(x, **params)
            with np.errstate(all="ignore"):
                y = op.forward(x, **params)
        except (TypeError, ValueError, IndexError) as error:
            if params or reason is None:
                reason = error
            continue
        if not np.all(np.isfinite(y)):
            raise UserError(f"--x is {text!r}, where {op.name}'s result is not finite; choose numbers where it is")
        return Sample((x,), params, "given")
    raise UserError(f"--x has shape {x.shape}, which does not fit: {reason}")


def _numbers(row: str) -> list[float]:
    found = []
    for word in row.replace(",", " ").split():
        try:
            found.append(float(word))
        except ValueError:
            raise UserError(
                f'--x: {word!r} is not a number; write numbers with spaces between them, such as "1 2 3"'
            ) from None
    return found


def show(say: Say, name: str, a: Any, note: str = "") -> None:
    """One line, or one line a row, with the name in front and a note behind."""
    a = np.asarray(a)
    if not a.size:
        return say(f"{name:<12} no numbers, in the shape {a.shape}")
    text = np.array2string(a, precision=6, suppress_small=bool(a.size and np.max(np.abs(a)) < 1e6), max_line_width=84,
                           separator=" ", threshold=120)  # fmt: skip
    head, *rest = [line for line in text.split("\n") if line.strip()]
    say(f"{name:<12} {head}{'' if rest or not note else '   ' + note}")
    for line in rest:
        say(f"{'':<12} {line}")
    if rest and note:
        say(f"{'':<12} {note}")


def grid(say: Say, rows: list[str], columns: list[str], a: np.ndarray, last: str = "", values: Any = None) -> None:
    """A matrix with words at its sides, and one more column where there is one to tell."""
    width = max(9, *(len(c) + 1 for c in columns))
    say(f"{'':<8}" + "".join(f"{c:>{width}}" for c in columns) + (f"{last:>10}" if last else ""))
    for i, row in enumerate(rows):
        numbers = "".join(f"{v:>{width}.4f}" for v in a[i])
        say(f"{row:<8}{numbers}" + (f"{values[i]:>10.4f}" if last else ""))


def softmax(op: Op, sample: Sample | None, title: Say, say: Say) -> None:
    """x, maximum, shifted, exponentials, their sum, y; then a cotangent and the gradient."""
    x = np.array([1.0, 2.0, 3.0]) if sample is None else sample.inputs[0]
    title("Example, forward")
    show(say, "x", x)
    largest = np.max(x, axis=-1, keepdims=True)
    show(say, "max x", largest)
    show(say, "x - max x", x - largest, "shifted: nothing can overflow")
    e = np.exp(x - largest)
    show(say, "exp", e)
    total = np.sum(e, axis=-1, keepdims=True)
    show(say, "sum", total)
    y = e / total
    show(say, "y = exp/sum", y, f"sums to {np.array2string(np.sum(y, axis=-1))}")
    title("Example, backward")
    dy = _cotangent(y)
    show(say, "dy", dy, "a random cotangent")
    inner = np.sum(dy * y, axis=-1, keepdims=True)
    show(say, "<dy, y>", inner)
    show(say, "dy - <dy,y>", dy - inner)
    dx = y * (dy - inner)
    show(
        say, "dx", dx, f"sums to {np.array2string(np.abs(np.sum(dx, axis=-1)).round(12))}: a shift of x changes nothing"
    )
    _differences(op, (x,), {}, (dy,), (dx,), say)


def attention(op: Op, sample: Sample | None, title: Say, say: Say) -> None:
    """Five tokens of dimension 3: scores, scaled scores, weights, output; then every cotangent on the way back."""
    words, axes = ["the", "cat", "sat", "on", "it"], ["0", "1", "2"]
    rng = np.random.default_rng(_SEED)
    q, k, v = (np.round(rng.standard_normal((5, 3)), 1) for _ in range(3))
    title("Example, forward: five tokens of dimension 3")
    verbs = {"q": "asks for", "k": "offers", "v": "passes on"}
    for name, a in (("q", q), ("k", k), ("v", v)):
        say(f"{name} (5, 3): what each token {verbs[name]}")
        grid(say, words, axes, a)
    scores = q @ k.T
    say("\nscores = q k^T (5, 5): a row for each query, a column for each key")
    grid(say, words, words, scores)
    say("\nscaled = scores / sqrt(3)")
    scaled = scores / np.sqrt(3)
    grid(say, words, words, scaled)
    p = attention_weights(q, k)
    say("\nweights = softmax(scaled), row by row")
    grid(say, words, words, p, "row sum", p.sum(axis=1))
    y = op.forward(q, k, v)
    say("\ny = weights v (5, 3): the average of the values under these weights")
    grid(say, words, axes, y)
    title("Example, backward")
    dy = np.round(_cotangent(y), 1)
    say("dy (5, 3): a random cotangent")
    grid(say, words, axes, dy)
    say("\ndv = weights^T dy (5, 3)")
    grid(say, words, axes, p.T @ dy)
    dp = dy @ v.T
    say("\ndweights = dy v^T (5, 5)")
    grid(say, words, words, dp)
    inner = np.sum(dy * y, axis=1, keepdims=True)
    ds = p * (dp - inner)
    say("\ndscaled = weights * (dweights - <dy, y>): every row sums to 0")
    grid(say, words, words, ds, "row sum", ds.sum(axis=1) + 0.0)
    dq, dk, dv = op.vjp(dy, y, q, k, v)
    say("\ndq = dscaled k / sqrt(3)")
    grid(say, words, axes, dq)
    say("\ndk = dscaled^T q / sqrt(3)")
    grid(say, words, axes, dk)
    say()
    _differences(op, (q, k, v), {}, (dy,), (dq, dk, dv), say)
    say("\nWith causal=True a token sees itself and what came before; the weights are then")
    causal = attention_weights(q, k, causal=True)
    grid(say, words, words, causal, "row sum", causal.sum(axis=1))


def generic(op: Op, sample: Sample | None, title: Say, say: Say) -> None:
    """Inputs, outputs, a random cotangent, each gradient, and finite differences beside one entry."""
    sample = sample or _small(op)
    title("Example, forward")
    variadic = op.variadic
    names = [f"{op.inputs[0][1:]}[{i}]" for i in range(len(sample.inputs))] if variadic else list(op.inputs)
    for name, x in zip(names, sample.inputs, strict=False):
        show(say, name, x)
    for name in names[len(sample.inputs) :]:
        say(f"{name:<12} left out")
    for name, value in sample.params.items():
        say(f"{name:<12} {value}")
    result = op.forward(*sample.inputs, **sample.params)
    ys = result if isinstance(result, tuple) else (result,)
    for name, y in zip(map(op.output_name, range(len(ys))), ys, strict=True):
        show(say, name, y)
    title("Example, backward")
    dys = tuple(_cotangent(y, k) for k, y in enumerate(ys))
    for name, dy in zip(map(op.output_name, range(len(dys))), dys, strict=True):
        show(say, f"d{name}", dy, "a random cotangent")
    extra: dict[str, Any] = {}
    if op.takes_wanted:
        flags = op.differentiable * len(sample.inputs) if variadic else op.differentiable
        extra["wanted"] = tuple(
            isinstance(x, np.ndarray) and flag for x, flag in zip(sample.inputs, flags, strict=False)
        )
    back = (dys, result) if isinstance(result, tuple) else (dys[0], result)
    dxs = op.vjp(*back, *sample.inputs, **sample.params, **extra)
    for name, dx in zip(names, dxs, strict=False):
        if dx is None:
            say(f"{'d' + name:<12} none: {name} has no gradient")
        else:
            show(say, f"d{name}", dx)
    _differences(op, sample.inputs, dict(sample.params), dys, dxs, say)


def _small(op: Op) -> Sample:
    """A random sample of a few numbers, rounded to two digits."""
    drawn = [random_sample(op, np.random.default_rng(seed)) for seed in range(40)]
    arrays = [sample for sample in drawn if all(isinstance(x, np.ndarray) and x.size for x in sample.inputs)]
    best = min(arrays or drawn, key=lambda sample: abs(sum(np.size(x) for x in sample.inputs) - 8))
    inputs = tuple(np.asarray(np.round(x, 2)) if is_float(x) else x for x in best.inputs)
    return Sample(inputs, best.params, best.why)


def _cotangent(y: Any, seed: int = 0) -> np.ndarray:
    return np.round(np.asarray(np.random.default_rng(_SEED + 2 + seed).uniform(-1.5, 1.5, np.shape(y))), 2)


def _differences(op: Op, inputs: Any, params: Any, dys: Any, dxs: Any, say: Say) -> None:
    """One entry of the first gradient, by moving that entry of the input up and down a little."""
    for i, dx in enumerate(dxs):
        if dx is None or np.size(dx) == 0:
            continue
        at = np.unravel_index(int(np.argmax(np.abs(dx))), np.shape(dx))
        h = 1e-5 * max(1.0, float(np.abs(inputs[i][at])))
        values = []
        for step in (h, -h):
            x = np.array(inputs[i], dtype=np.float64)
            x[at] += step
            result = op.forward(*(x if j == i else a for j, a in enumerate(inputs)), **params)
            ys = result if isinstance(result, tuple) else (result,)
            values.append(sum(float(np.sum(dy * y)) for dy, y in zip(dys, ys, strict=True)))
        name = op.inputs[min(i, len(op.inputs) - 1)].lstrip("*")
        entry = f"{name}[{', '.join(str(int(n)) for n in at)}]" if at else name
        say(
            f"\nCheck: moving {entry} by +-{h:.0e} changes <dy, y> at a rate of {(values[0] - values[1]) / (2 * h):.8f}; "
            f"the gradient says {float(dx[at]):.8f}"
        )
        return


EXAMPLES: dict[str, Callable[[Op, Sample | None, Say, Say], None]] = {"softmax": softmax, "attention": attention}
