r"""Einstein summation: every product of arrays that sums over named axes, written as an equation of letters.

    einsum(a, b, equation="ij,jk->ik")        y_ik = sum_j a_ij b_jk

Each array's axes get letters. The result has the letters after the arrow; all the others are summed over; a letter that
stands twice in one array walks along its diagonal. "..." stands for any further axes, which broadcast against each other.
Without an arrow, the result has the axes of "...", then, in alphabetical order, each letter that stands only once.

y is linear in each array. With O the letters of y, and a sum over all others,

    y_O = sum x1_A x2_B ...,   <dy, y> = sum over all letters of dy_O x1_A x2_B ...,   so   dx1_A = sum dy_O x2_B ...

over all letters but those in A: an einsum again, in which y and x1 have changed places. A letter that x1 alone has is
summed over in y, so dx1 is the same at every place along it: it is broadcast. Beside the diagonal that "ii" reads, x1
has no influence: zeros.

Forward works through the arrays from the left, two at a time, as a matrix product. Sorted by where a letter is met,

    batch     in both, and needed later             m    in the first alone
    k         in both, and then never again         n    in the second alone

the pair is (batch, m, k) @ (batch, k, n) -> (batch, m, n). A letter needed by nobody else is summed before.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from .namespace import Array, array_namespace
from .op import Op, Sample

Labels = tuple[str, ...]
"""One name an axis: a letter, or "...1", "...2" for the axes of an ellipsis, counted from its end."""


# ---- the equation


@lru_cache(maxsize=1024)
def parse(equation: str, shapes: tuple[tuple[int, ...], ...]) -> tuple[tuple[Labels, ...], Labels, Mapping[str, int]]:
    """(labels of each array, labels of the result, length of each label). ValueError with one sentence."""
    left, arrow, right = equation.replace(" ", "").partition("->")
    parts = left.split(",")
    if len(parts) != len(shapes):
        raise ValueError(f"einsum: equation {equation!r} is for {len(parts)} arrays, but got {len(shapes)}")
    for part in (*parts, right):
        strange = next((c for c in part.replace("...", "", 1) if not (c.isascii() and c.isalpha())), None)
        if strange is not None:
            raise ValueError(
                f"einsum: equation {equation!r} has {strange!r} in {part!r}, where only letters and one ... can stand"
            )
    terms = tuple(_labels(equation, i, part, shapes[i]) for i, part in enumerate(parts))
    return terms, _result(equation, terms, right if arrow else None), _lengths(equation, terms, shapes)


def _labels(equation: str, i: int, part: str, shape: tuple[int, ...]) -> Labels:
    """One label for each axis of array number i."""
    before, dots, after = part.partition("...")
    more = len(shape) - len(before) - len(after)
    if more < 0 or (more > 0 and not dots):
        raise ValueError(f"einsum: xs[{i}] has shape {shape}, but {part!r} in equation {equation!r} has other axes")
    return (*before, *(f"...{k}" for k in range(more, 0, -1)), *after)


def _result(equation: str, terms: Sequence[Labels], right: str | None) -> Labels:
    """The labels of the result, from what stands right of the arrow; None: there is no arrow."""
    found = [label for term in terms for label in term]
    dots = tuple(sorted({label for label in found if label[0] == "."}, key=lambda label: -int(label[3:])))
    if right is None:
        return (*dots, *sorted(label for label in set(found) if label[0] != "." and found.count(label) == 1))
    if dots and "..." not in right:
        raise ValueError(f"einsum: equation {equation!r} has no ... in its result, but the arrays have axes there")
    before, _, after = right.partition("...")
    output = (*before, *(dots if "..." in right else ()), *after)
    for label in output:
        if output.count(label) > 1:
            raise ValueError(f"einsum: equation {equation!r} has {label!r} twice in its result")
        if label not in found:
            raise ValueError(f"einsum: equation {equation!r} has {label!r} in its result, but in none of the arrays")
    return output


def _lengths(equation: str, terms: Sequence[Labels], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The length of each label, on which all arrays must agree; axes of "..." stretch from length 1."""
    found: dict[str, int] = {}
    origin: dict[str, int] = {}  # the array that gave a label its length
    for i, (labels, shape) in enumerate(zip(terms, shapes, strict=True)):
        for label, n in zip(labels, shape, strict=True):
            known = found.get(label)
            if known is None or (label[0] == "." and known == 1):
                found[label], origin[label] = n, i
            elif n != known and (label[0] != "." or n != 1):
                what = "an axis of ..." if label[0] == "." else repr(label)
                other = (
                    f"xs[{origin[label]}] {shapes[origin[label]]} needs {what} in equation {equation!r} to be {known}"
                )
                raise ValueError(f"einsum: xs[{i}] has shape {shape}, but {other}")
    return found


# ---- forward


def _equal(xp: Any, ndim: int, p: int, q: int, n: int) -> Array:
    """[i_p = i_q], for an array with `ndim` axes: shape (1, .., n, .., n, .., 1)."""
    along_p, along_q = (xp.reshape(xp.arange(n), tuple(n if a == at else 1 for a in range(ndim))) for at in (p, q))
    return along_p == along_q


def _reduced(x: Array, labels: Labels, needed: Collection[str]) -> tuple[Array, Labels]:
    """Diagonals of labels that stand twice; the sum over labels that nobody needs."""
    xp = array_namespace(x)
    for label in dict.fromkeys(labels):
        while labels.count(label) > 1:
            p = labels.index(label)
            q = labels.index(label, p + 1)
            x = xp.sum(xp.where(_equal(xp, x.ndim, p, q, x.shape[p]), x, 0), axis=q, dtype=x.dtype)
            labels = labels[:q] + labels[q + 1 :]
    gone = tuple(a for a, label in enumerate(labels) if label not in needed)
    if gone:
        x = xp.sum(x, axis=gone, dtype=x.dtype)
    return x, tuple(label for label in labels if label in needed)


def _arranged(x: Array, labels: Labels, *groups: list[str]) -> Array:
    """x with its axes in the order of the groups; the last two groups as one axis each. (.., m, k)"""
    xp, size = array_namespace(x), dict(zip(labels, x.shape, strict=True))
    x = xp.permute_dims(x, tuple(labels.index(label) for group in groups for label in group))
    *batch, rows, columns = ([size[label] for label in group] for group in groups)
    return xp.reshape(x, (*(n for group in batch for n in group), math.prod(rows), math.prod(columns)))


def _pair(x1: Array, labels1: Labels, x2: Array, labels2: Labels, needed: set[str]) -> tuple[Array, Labels]:
    """Two arrays as one, with the labels that are needed later."""
    x1, labels1 = _reduced(x1, labels1, needed.union(labels2))
    x2, labels2 = _reduced(x2, labels2, needed.union(labels1))
    batch = [label for label in labels1 if label in labels2 and label in needed]
    k = [label for label in labels1 if label in labels2 and label not in needed]
    m = [label for label in labels1 if label not in labels2]
    n = [label for label in labels2 if label not in labels1]
    a, b = _arranged(x1, labels1, batch, m, k), _arranged(x2, labels2, batch, k, n)  # (.., m, k), (.., k, n)
    xp = array_namespace(a)
    y = xp.matmul(a, b) if k else a * b  # (.., m, n)
    size = dict(zip((*labels1, *labels2), (*x1.shape, *x2.shape), strict=True))
    labels = (*batch, *m, *n)
    return xp.reshape(y, tuple(size[label] for label in labels)), labels


def contract(xs: Sequence[Array], terms: Sequence[Labels], output: Labels) -> Array:
    """The sum over all labels but those of `output`; no axis stretches any more. Shapes by labels: terms -> output."""
    x, labels = xs[0], terms[0]
    for i in range(1, len(xs)):
        x, labels = _pair(x, labels, xs[i], terms[i], set(output).union(*terms[i + 1 :]))
    x, labels = _reduced(x, labels, output)
    return array_namespace(x).permute_dims(x, tuple(labels.index(label) for label in output))


def _shapes(xs: Sequence[Any]) -> tuple[tuple[int, ...], ...]:
    return tuple(tuple(x.shape) for x in xs)


def _unstretched(x: Any, labels: Labels, size: Mapping[str, int]) -> tuple[Any, Labels]:
    """x without the axes of length 1 that "..." stretches: x reads them nowhere."""
    own = tuple(a for a, label in enumerate(labels) if x.shape[a] == size[label])
    if len(own) < len(labels):
        x = array_namespace(x).reshape(x, tuple(x.shape[a] for a in own))
    return x, tuple(labels[a] for a in own)


def _prepared(equation: str, xs: Sequence[Array]) -> tuple[list[Array], list[Labels], Labels, Mapping[str, int]]:
    """(arrays, their labels, those of the result, length of each), ready for `contract`."""
    terms, output, size = parse(equation, _shapes(xs))
    pairs = [_unstretched(x, labels, size) for x, labels in zip(xs, terms, strict=True)]
    return [x for x, _ in pairs], [labels for _, labels in pairs], output, size


def einsum(*xs: Array, equation: str) -> Array:
    """y = sum of the products of xs over the letters that are not in the result. Shapes as `equation` says."""
    arrays, terms, output, _ = _prepared(equation, xs)
    return contract(arrays, terms, output)


def einsum_vjp(
    dy: Array, y: Any, *xs: Array, equation: str, wanted: tuple[bool, ...] | None = None
) -> tuple[Array | None, ...]:
    """dx_A = sum dy_O (product of the other arrays) over all letters but those in A."""
    arrays, terms, output, size = _prepared(equation, xs)
    dxs: list[Array | None] = []
    for i, x in enumerate(xs):
        if wanted is not None and not wanted[i]:
            dxs.append(None)
            continue
        rest, rest_terms = arrays[:i] + arrays[i + 1 :], terms[:i] + terms[i + 1 :]
        elsewhere = set(output).union(*rest_terms)
        target = tuple(label for label in dict.fromkeys(terms[i]) if label in elsewhere)
        dx = contract([dy, *rest], [output, *rest_terms], target)
        dxs.append(array_namespace(dx).reshape(_spread(dx, target, terms[i], size), x.shape))
    return tuple(dxs)


def _spread(dx: Array, target: Labels, labels: Labels, size: Mapping[str, int]) -> Array:
    """Broadcast along labels that `target` lacks, and on the diagonals of those that stand twice, zeros beside them."""
    xp, ndim = array_namespace(dx), len(labels)
    first = [labels.index(label) == a for a, label in enumerate(labels)]
    dx = xp.reshape(dx, tuple(size[v] if new and v in target else 1 for v, new in zip(labels, first, strict=True)))
    dx = xp.broadcast_to(dx, tuple(size[v] if new else 1 for v, new in zip(labels, first, strict=True)))
    for q, label in enumerate(labels):
        if not first[q]:
            dx = xp.where(_equal(xp, ndim, labels.index(label), q, size[label]), dx, 0.0)
    return dx


def einsum_jvp(dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, equation: str) -> Array:
    """dy = sum over the arrays of the same equation with one direction in place of its array: the product rule."""
    dy = array_namespace(y).zeros_like(y)
    for i, dx in enumerate(dinputs):
        if dx is not None:
            dy = dy + einsum(*inputs[:i], dx, *inputs[i + 1 :], equation=equation)
    return dy


def einsum_definition(*xs: Array, equation: str) -> Array:
    """One number at a time: for every value of every letter, the product of the entries that it points to."""
    terms, output, size = parse(equation, _shapes(xs))
    labels = (*output, *(label for label in size if label not in output))
    products: dict[tuple[int, ...], list[float]] = {place: [] for place in np.ndindex(*(size[v] for v in output))}
    for values in np.ndindex(*(size[label] for label in labels)):
        at = dict(zip(labels, values, strict=True))
        entries = [
            float(x[tuple(at[v] if n > 1 else 0 for v, n in zip(term, x.shape, strict=True))])
            for x, term in zip(xs, terms, strict=True)
        ]
        products[values[: len(output)]].append(math.prod(entries))
    y = np.empty(tuple(size[label] for label in output))
    for place, terms_of_sum in products.items():
        y[place] = math.fsum(terms_of_sum)
    return y


# ---- the row


def _tolerance(*xs: Array, equation: str) -> float:
    """Grows with the longest sum: so many of all combinations of letters meet at one entry of the result or of a gradient;
    and with how much larger the result would be if nothing in it cancelled."""
    terms, output, size = parse(equation, _shapes(xs))
    fewest = min(math.prod(size[v] for v in set(labels)) for labels in (*terms, output))
    result, whole = (
        float(np.max(np.abs(y), initial=0.0))
        for y in (einsum(*xs, equation=equation), einsum(*(np.abs(x) for x in xs), equation=equation))
    )
    cancelled = whole / result if 0.0 < result < math.inf else 1.0
    return (8.0 + math.prod(size.values()) / max(1, fewest)) * cancelled


def _cost(*xs: Any, equation: str) -> tuple[int, int]:
    """Of the definition: for every combination of letters the products, and one addition. In pairs it often takes less."""
    _, output, size = parse(equation, _shapes(xs))
    return len(xs) * math.prod(size.values()), sum(x.size for x in xs) + math.prod(size[v] for v in output)


def _check(*xs: Any, equation: str) -> None:
    parse(equation, _shapes(xs))
    for i, x in enumerate(xs):
        if np.dtype(x.dtype).kind not in "fiu":
            raise TypeError(f"einsum: xs[{i}] is {np.dtype(x.dtype).name}, but products are of numbers; use astype")


def _draw(rng: np.random.Generator) -> Sample:
    """One to three arrays of up to three letters out of four, some twice; "..." in a third; an arrow in most."""
    length = dict(zip("ijkl", (int(n) for n in rng.choice((1, 2, 3, 3), size=4)), strict=True))
    batch = tuple(int(n) for n in rng.integers(1, 4, size=rng.integers(1, 3)))
    with_dots = rng.integers(3) == 0
    xs, parts = [], []
    for _ in range(rng.choice((1, 2, 2, 3))):
        letters = "".join(rng.choice(list("ijkl"), size=rng.integers(0, 4)))
        shape = tuple(length[letter] for letter in letters)
        if with_dots and rng.integers(4):
            cut = int(rng.integers(0, len(letters) + 1))
            dots = tuple(1 if rng.integers(4) == 0 else n for n in batch[rng.integers(0, len(batch) + 1) :])
            letters, shape = f"{letters[:cut]}...{letters[cut:]}", (*shape[:cut], *dots, *shape[cut:])
        parts.append(letters)
        xs.append(rng.standard_normal(shape))
    equation = ",".join(parts)
    if rng.integers(4):
        letters = [letter for letter in dict.fromkeys(equation) if letter.isalpha()]
        kept = [letters[i] for i in rng.permutation(len(letters))[: max(rng.integers(0, len(letters) + 1, size=2))]]
        kept.insert(int(rng.integers(0, len(kept) + 1)), "..." if with_dots else "")
        equation += "->" + "".join(kept)
    return Sample(tuple(xs), {"equation": equation}, "random")


def _changed(change: Callable[[Array, Array], Array]) -> Callable[..., tuple[Any, ...]]:
    """A wrong vjp: each right gradient, changed with the cotangent at hand."""

    def vjp(dy: Array, y: Any, *xs: Array, equation: str) -> tuple[Any, ...]:
        return tuple(change(np.asarray(dx), dy) for dx in einsum_vjp(dy, y, *xs, equation=equation))

    return vjp


EINSUM = Op(
    "einsum",
    einsum,
    einsum_vjp,
    einsum_jvp,
    inputs=("*xs",),
    reads=("xs",),
    takes_wanted=True,
    definition=einsum_definition,
    signature=None,  # the equation says it
    check=_check,
    draw=_draw,
    formula=r"y_O = \sum_{\text{letters not in } O} x^{(1)}_A \, x^{(2)}_B \cdots",
    gradient=r"\bar x^{(1)}_A = \sum_{\text{letters not in } A} \bar y_O \, x^{(2)}_B \cdots",
    samples=(
        Sample(
            (np.arange(6.0).reshape(2, 3), np.arange(12.0).reshape(3, 4)), {"equation": "ij,jk->ik"}, "a matrix product"
        ),
        Sample((np.arange(9.0).reshape(3, 3),), {"equation": "ii"}, "the trace: a letter twice, and no arrow"),
        Sample(
            (np.array([[1.0, np.nan], [np.inf, 2.0]]),), {"equation": "ii->i"}, "what is beside a diagonal does no harm"
        ),
        Sample((np.arange(6.0).reshape(2, 3),), {"equation": "ba"}, "without an arrow the letters are sorted"),
        Sample((np.ones((1, 2, 3)), np.ones((4, 1, 3))), {"equation": "...i,...i->..."}, "... broadcasts"),
        Sample((np.array([1.0, 2.0]), np.array([3.0, 4.0, 5.0])), {"equation": "i,j->"}, "each is summed by itself"),
        Sample((np.ones((2, 3)), np.ones((2, 3)), np.ones((2, 3))), {"equation": "ij,ij,ij->j"}, "three arrays"),
        Sample((np.zeros((2, 0)), np.zeros((0, 3))), {"equation": "ij,jk->ik"}, "an empty sum is zero"),
        Sample((np.array(2.0), np.array([3.0, 4.0])), {"equation": ",i->i"}, "an array without axes"),
    ),
    laws=("linear_in_xs[0]",),
    wrong={
        "forgets the other arrays": lambda dy, y, *xs, equation: einsum_vjp(
            dy, y, *(np.ones_like(x) for x in xs), equation=equation
        ),
        "averages where it should sum": _changed(lambda dx, dy: dx * (dx.size / (dy.size + dx.size))),
        "turns the cotangent around": lambda dy, y, *xs, equation: einsum_vjp(np.flip(dy), y, *xs, equation=equation),
        "gives every place the same": _changed(lambda dx, dy: np.broadcast_to(np.mean(dx), dx.shape)),
    },
    tolerance=_tolerance,
    cost=_cost,
    source="numpy.einsum; Einstein 1916: Annalen der Physik 49, section 5; Laue, Mitterreiter, Giesen 2020 (AAAI), section 3",
)
