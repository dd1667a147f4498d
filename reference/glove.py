r"""GloVe: word vectors whose inner products are the logarithms of how often words meet.

X_ij counts how often word j stands near word i, w_i is the vector of word i and w~_j that of word j as a context:

    J = sum over pairs of f(X_ij) e_ij^2,    e_ij = w_i . w~_j + b_i + b~_j - log X_ij,    f(x) = min(1, (x / x_max)^alpha)

a weighted least squares fit of log X of rank d. Rare pairs are noise and weigh little, f(0) = 0: pairs that never met do
not count (f(x) log(x)^2 goes to 0 with x); from x_max on all weigh the same, so that "of the" does not rule. With

    g_ij = 2 f(X_ij) e_ij,    dJ = sum of g_ij de_ij,    de_ij = dw_i . w~_j + w_i . dw~_j + db_i + db~_j

every pair pulls its four parameters, and what belongs to one word is added up (scatter_rows):

    dJ/dw_i = sum_j g_ij w~_j,     dJ/dw~_j = sum_i g_ij w_i,     dJ/db_i = sum_j g_ij,     dJ/db~_j = sum_i g_ij.

The step. Training visits one pair after the other and takes AdaGrad's step (adagrad.py) for these 2 d + 2 numbers. For one
of them, with the pair's gradient g of J / 2, which has no factor 2 (the half that the authors' program has, too),

    s <- s + g^2,      p <- p - lr g / sqrt(s)

where s has the entries' own history: rare words keep long steps. s counts g before it is multiplied by lr, and the new g
among the others, as Duchi, Hazan and Singer have it and as `adagrad_update` does. The authors' program divides by the old
s and adds (lr g)^2 to it: then lr drops out in the long run, lr g / sqrt(1 + sum (lr g)^2) = g / sqrt(1 / lr^2 + sum g^2),
which is AdaGrad with lr = 1 whose s starts at 1 / lr^2. `glove_step` does both, as its arguments say.

Source: Pennington, Socher, Manning 2014, GloVe: Global Vectors for Word Representation, equations 8 and 9, section 4.2.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from .adagrad import adagrad_update
from .extension import scatter_rows
from .namespace import Array, array_namespace
from .op import Op, Sample

X_MAX, ALPHA = 100.0, 0.75  # the paper's

# Letters: v words, u context words, d numbers of a vector, n pairs that met.


def weighting(x: Array, *, x_max: float = X_MAX, alpha: float = ALPHA) -> Array:
    """f(x) = min(1, (x / x_max)^alpha). Shapes: (...) -> (...)."""
    xp = array_namespace(x)
    return xp.minimum((x / x_max) ** alpha, xp.ones_like(x))


def _log_count(x: Array) -> Array:
    """log x, and 0 where nothing was counted: f(0) = 0 takes such a pair out anyway."""
    xp = array_namespace(x)
    return xp.log(xp.where(x == 0.0, 1.0, x))


def _errors(w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array) -> Array:
    """e = w_i . w~_j + b_i + b~_j - log x. Shapes: (v, d), (u, d), (v,), (u,), (n,), (n,), (n,) -> (n,)."""
    xp = array_namespace(w)
    products = xp.take(w, i, axis=0) * xp.take(w_context, j, axis=0)  # (n, d)
    logs = xp.astype(_log_count(x), w.dtype)
    return xp.sum(products, axis=-1) + xp.take(b, i, axis=0) + xp.take(b_context, j, axis=0) - logs


def glove(
    w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array,
    *, x_max: float = X_MAX, alpha: float = ALPHA,
) -> Array:  # fmt: skip
    """J = sum f(x) (w_i . w~_j + b_i + b~_j - log x)^2.

    Shapes: w (v, d), w_context (u, d), b (v,), b_context (u,); i, j (n,) of integers and x (n,), the counts, -> ().
    """
    xp = array_namespace(w)
    e = _errors(w, w_context, b, b_context, i, j, x)  # (n,)
    return xp.sum(xp.astype(weighting(x, x_max=x_max, alpha=alpha), w.dtype) * e * e)


def glove_vjp(
    dy: Array, y: Any, w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array,
    *, x_max: float = X_MAX, alpha: float = ALPHA,
) -> tuple[Array | None, ...]:  # fmt: skip
    """g = 2 dy f(x) e; dw_i adds up g w~_j, dw~_j adds up g w_i, db_i and db~_j add up g."""
    xp = array_namespace(w)
    e = _errors(w, w_context, b, b_context, i, j, x)
    g = 2.0 * dy * xp.astype(weighting(x, x_max=x_max, alpha=alpha), w.dtype) * e  # (n,)
    g = xp.expand_dims(g, axis=1)  # (n, 1)
    return (
        scatter_rows(g * xp.take(w_context, j, axis=0), i, n=w.shape[0]),  # (v, d)
        scatter_rows(g * xp.take(w, i, axis=0), j, n=w_context.shape[0]),  # (u, d)
        xp.squeeze(scatter_rows(g, i, n=b.shape[0]), axis=1),  # (v,)
        xp.squeeze(scatter_rows(g, j, n=b_context.shape[0]), axis=1),  # (u,)
        None,
        None,
        None,
    )


def glove_jvp(
    dinputs: tuple[Array, ...], y: Array, inputs: tuple[Array, ...], *, x_max: float = X_MAX, alpha: float = ALPHA
) -> Array:
    """dy = sum 2 f(x) e (dw_i . w~_j + w_i . dw~_j + db_i + db~_j)."""
    w, w_context, b, b_context, i, j, x = inputs
    dw, dw_context, db, db_context = dinputs[:4]
    xp = array_namespace(w)
    e = _errors(w, w_context, b, b_context, i, j, x)
    de = 0.0 * e
    if dw is not None:
        de = de + xp.sum(xp.take(dw, i, axis=0) * xp.take(w_context, j, axis=0), axis=-1)
    if dw_context is not None:
        de = de + xp.sum(xp.take(w, i, axis=0) * xp.take(dw_context, j, axis=0), axis=-1)
    if db is not None:
        de = de + xp.take(db, i, axis=0)
    if db_context is not None:
        de = de + xp.take(db_context, j, axis=0)
    return xp.sum(2.0 * xp.astype(weighting(x, x_max=x_max, alpha=alpha), w.dtype) * e * de)


def glove_definition(
    w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array,
    *, x_max: float = X_MAX, alpha: float = ALPHA,
) -> Array:  # fmt: skip
    """Equation 8, one pair and one number at a time; pairs that never met are left out."""
    terms = []
    for k, met in enumerate(float(count) for count in x):
        if met == 0.0:
            continue
        row, column = int(i[k]), int(j[k])
        product = math.fsum(float(w[row, c]) * float(w_context[column, c]) for c in range(w.shape[1]))
        error = product + float(b[row]) + float(b_context[column]) - math.log(met)
        terms.append((1.0 if met > x_max else (met / x_max) ** alpha) * error**2)
    return np.asarray(math.fsum(terms))


def glove_step(
    w_i: Array, w_j: Array, b_i: Array, b_j: Array, x: Array, squares: tuple[Array, Array, Array, Array],
    *, lr: float, x_max: float = X_MAX, alpha: float = ALPHA,
) -> tuple[tuple[Array, Array, Array, Array], tuple[Array, Array, Array, Array], Array]:  # fmt: skip
    """One pair's AdaGrad step: ((w_i, w~_j, b_i, b~_j), squares, cost), cost = f e^2 / 2 from before the step.

    Shapes: w_i (d,), w_j (d,), b_i (), b_j (), x (); squares in the shapes of the four parameters, zeros or whatever
    they start at. As the authors' program, but for the order: lr = 1 with squares that start at 1 / (its lr)^2.
    """
    xp = array_namespace(w_i)
    e = xp.sum(w_i * w_j) + b_i + b_j - _log_count(x)
    g = weighting(x, x_max=x_max, alpha=alpha) * e
    moved = [
        adagrad_update(p, dp, s, lr=lr, eps=0.0, step=1)
        for p, dp, s in zip((w_i, w_j, b_i, b_j), (g * w_j, g * w_i, g, g), squares, strict=True)
    ]
    (w_i, s0), (w_j, s1), (b_i, s2), (b_j, s3) = moved
    return (w_i, w_j, b_i, b_j), (s0, s1, s2, s3), 0.5 * g * e


# ---- the row


def _draw(rng: np.random.Generator) -> Sample:
    """Few words, so that several pairs share one; counts on both sides of x_max."""
    v, u, d, n = (int(k) for k in rng.integers(1, 5, size=4))
    inputs = (
        *(rng.standard_normal(shape) for shape in ((v, d), (u, d), (v,), (u,))),
        rng.integers(0, v, size=n),
        rng.integers(0, u, size=n),
        rng.uniform(0.2, 6.0, n),
    )
    return Sample(inputs, {"x_max": float(rng.uniform(1.0, 5.0)), "alpha": float(rng.uniform(0.5, 1.0))}, "random")


def _forgets_weights(dy: Array, y: Any, *inputs: Any, x_max: float = X_MAX, alpha: float = ALPHA) -> tuple[Any, ...]:
    return glove_vjp(dy, y, *inputs, x_max=1e-30, alpha=alpha)


def _own_vector(dy: Array, y: Any, w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array,
                **params: Any) -> tuple[Any, ...]:  # fmt: skip
    right = glove_vjp(dy, y, w, w_context, b, b_context, i, j, x, **params)
    g = 2.0 * dy * weighting(x, **params) * _errors(w, w_context, b, b_context, i, j, x)
    return (scatter_rows(g[:, None] * w[i], i, n=w.shape[0]), *right[1:])


def _last_wins(dy: Array, y: Any, w: Array, w_context: Array, b: Array, b_context: Array, i: Array, j: Array, x: Array,
               **params: Any) -> tuple[Any, ...]:  # fmt: skip
    right = glove_vjp(dy, y, w, w_context, b, b_context, i, j, x, **params)
    db = np.zeros(b.shape, w.dtype)
    db[i] = dy * weighting(x, **params) * _errors(w, w_context, b, b_context, i, j, x)  # and half of it
    return (*right[:2], db, *right[3:])


def _example(**changed: Any) -> tuple[Any, ...]:
    """Two words, two contexts, three pairs of which two share a word; with some inputs replaced."""
    inputs = {
        "w": np.array([[0.5, -1.0], [0.25, 2.0]]),
        "w_context": np.array([[1.0, 0.5], [-0.5, 0.75]]),
        "b": np.array([0.1, -0.2]),
        "b_context": np.array([0.3, 0.0]),
        "i": np.array([0, 0, 1]),
        "j": np.array([0, 1, 1]),
        "x": np.array([2.0, 7.0, 1.0]),
    }
    return tuple((inputs | changed).values())


def _check(*specs: Any, x_max: float = X_MAX, alpha: float = ALPHA) -> None:
    for name, value in (("x_max", x_max), ("alpha", alpha)):
        if not 0.0 < value < math.inf:
            raise ValueError(f"glove: {name} is {value}, but it must be positive and finite")


GLOVE = Op(
    "glove",
    glove,
    glove_vjp,
    glove_jvp,
    inputs=("w", "w_context", "b", "b_context", "i", "j", "x"),
    reads=("w", "w_context", "b", "b_context", "i", "j", "x"),
    nondiff=("i", "j", "x"),
    definition=glove_definition,
    signature="(v,d),(u,d),(v),(u),(n):int,(n):int,(n)->()",
    check=_check,
    draw=_draw,
    domain={"i": "id:v", "j": "id:u", "x": "positive"},
    formula=r"J = \sum_{ij} f(X_{ij}) \left(w_i^\top \tilde w_j + b_i + \tilde b_j - \log X_{ij}\right)^2, "
    r"\quad f(x) = \min\left(1, (x / x_{\max})^\alpha\right)",
    gradient=r"g_{ij} = 2 \bar J f(X_{ij}) e_{ij}, \quad \bar w_i = \sum_j g_{ij} \tilde w_j, \quad "
    r"\bar{\tilde w}_j = \sum_i g_{ij} w_i, \quad \bar b_i = \sum_j g_{ij}, \quad \bar{\tilde b}_j = \sum_i g_{ij}",
    samples=(
        Sample(_example(), {"x_max": 4.0}, "a word in two pairs, a context in two, a count above x_max"),
        Sample(_example(x=np.array([4.0, 4.0, 4.0])), {"x_max": 4.0}, "counts at x_max, where f has its kink"),
        Sample(
            _example(x=np.array([2.0, 0.0, 1.0])), {}, "a pair that never met costs nothing, though log 0 is infinite"
        ),
        Sample(_example(x=np.array([1.0, 1e30, 1e-30])), {}, "a huge count weighs 1, a tiny one nearly nothing"),
        Sample(
            _example(i=np.zeros(0, np.int64), j=np.zeros(0, np.int64), x=np.zeros(0)), {}, "no pairs: nothing to fit"
        ),
        Sample(_example(w=np.zeros((2, 0)), w_context=np.zeros((2, 0))), {}, "vectors without entries: biases alone"),
    ),
    laws=("nonnegative", "words_and_contexts_change_places", "same_after_a_rotation"),
    wrong={
        "forgets the 2": lambda dy, y, *inputs, **params: glove_vjp(0.5 * dy, y, *inputs, **params),
        "forgets the weights": _forgets_weights,
        "pulls a word towards itself instead of its context": _own_vector,
        "lets the last pair of a word win": _last_wins,
        "gives the contexts nothing": lambda dy, y, *inputs, **params: tuple(
            None if d is None else d * (k != 1) for k, d in enumerate(glove_vjp(dy, y, *inputs, **params))
        ),
    },
    tolerance=lambda w, w_context, b, b_context, i, j, x, **params: 8.0 + w.shape[1] + x.size,
    cost=lambda w, w_context, b, b_context, i, j, x, **params: (
        x.size * (2 * w.shape[1] + 10),
        x.size * (2 * w.shape[1] + 5) + 1,
    ),
    source="Pennington, Socher, Manning 2014, GloVe: Global Vectors for Word Representation, equations 8 and 9",
)
