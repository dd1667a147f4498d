"""`handgrad embed ...`: questions to word vectors. Imports nothing that loads NumPy at the top."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from ..text.vectors import WordVectors

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Word vectors. Example: handgrad embed nearest --help"
)
Vectors = Annotated[Path, typer.Option(help="A file of GloVe, word2vec (.txt, .bin) or safetensors.")]
_INK = "#7d8590"  # readable on white and on near black


@app.command(epilog="Example: handgrad embed nearest king --vectors runs/words/vectors.safetensors")
def nearest(
    word: Annotated[str, typer.Argument(metavar="WORD")],
    vectors: Vectors,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
) -> None:
    """The words whose vectors point nearly the same way, with the cosines."""
    _print(_load(vectors).nearest(word, _positive(k)))


@app.command(epilog="Example: handgrad embed analogy man king woman --vectors runs/words/vectors.safetensors")
def analogy(
    a: Annotated[str, typer.Argument(metavar="A")],
    b: Annotated[str, typer.Argument(metavar="B")],
    c: Annotated[str, typer.Argument(metavar="C")],
    vectors: Vectors,
    k: Annotated[int, typer.Option("-k", help="How many answers.")] = 5,
) -> None:
    """A is to B as C is to ...: the words nearest to B - A + C, none of the three."""
    _print(_load(vectors).analogy(a, b, c, _positive(k)))


@app.command(epilog="Example: handgrad embed evaluate --vectors v.txt --analogies questions.txt --similarity ws353.txt")
def evaluate(
    vectors: Vectors,
    analogies: Annotated[list[Path] | None, typer.Option(help="Four words a line; may be repeated.")] = None,
    similarity: Annotated[
        list[Path] | None, typer.Option(help="Two words and a score a line; may be repeated.")
    ] = None,
) -> None:
    """Analogies answered, by section, and Spearman's correlation with people's judgement of similarity."""
    from ..errors import UserError
    from ..text import evaluation as e

    if not analogies and not similarity:
        raise UserError("say --analogies or --similarity with a file of questions")
    found = _load(vectors)
    results = [
        e.analogies(found, section, questions)
        for path in analogies or []
        for section, questions in e.read_analogies(path).items()
    ]
    if len(results) > 1:
        parts = [(r.right, r.asked, r.total) for r in results]
        results.append(e.Analogies("all", *(sum(column) for column in zip(*parts, strict=True))))
    for r in results:
        share = f"{r.right / r.asked:6.1%}" if r.asked else "     -"
        print(f"{r.section:<32} {share}  {r.right} right of {r.asked} whose words are known, of {r.total}")
    for path in similarity or []:
        pairs = e.read_similarities(path)
        rho, known = e.similarity(found, pairs)
        print(f"{path.stem:<32} {rho:6.3f}  Spearman, on {known} pairs whose words are known, of {len(pairs)}")


@app.command(epilog="Example: handgrad embed plot --vectors runs/words/vectors.safetensors --out words.svg --words 150")
def plot(
    vectors: Vectors,
    out: Annotated[Path, typer.Option(help="The SVG file to write.")],
    words: Annotated[int, typer.Option(help="How many words, from the first (the most frequent) on.")] = 100,
) -> None:
    """A map of the first words: the two directions in which their vectors differ most (principal components)."""
    from ..files import write_text_atomically

    found = _load(vectors)
    count = min(_positive(words, "--words"), len(found))
    write_text_atomically(out, map_svg(found.words[:count], principal_components(found.directions[:count])))
    print(f"wrote {out}: {count} words")


def principal_components(rows: Any) -> Any:
    """(V, 2): each row's coordinates along the two directions of largest variance, by the singular value decomposition.

    A sign is arbitrary in the mathematics; here the largest coordinate of each column is positive.
    """
    import numpy as np

    rows = np.asarray(rows, np.float64)
    left, sizes, _ = np.linalg.svd(rows - np.mean(rows, axis=0), full_matrices=False)
    points = np.zeros((len(rows), 2))
    kept = min(2, len(sizes))
    points[:, :kept] = left[:, :kept] * sizes[:kept]
    largest = np.take_along_axis(points, np.argmax(np.abs(points), axis=0, keepdims=True), axis=0)
    return points * np.where(largest < 0, -1.0, 1.0)


def map_svg(words: tuple[str, ...], points: Any, width: int = 1000, height: int = 800) -> str:
    """The words at their points (V, 2), the same scale along both axes."""
    low, high = points.min(axis=0), points.max(axis=0)
    scale = min((width - 120) / ((high - low)[0] or 1.0), (height - 60) / ((high - low)[1] or 1.0))
    middle = (low + high) / 2
    body = []
    for word, (x, y) in zip(words, (points - middle) * scale, strict=True):
        x, y = width / 2 + x, height / 2 - y
        body.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.5" fill="#3b82f6"/>')
        body.append(f'<text x="{x + 5:.1f}" y="{y + 4:.1f}" font-size="12" fill="{_INK}">{escape(word)}</text>')
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" '
        f'role="img" font-family="system-ui, sans-serif"><title>Map of {len(words)} words</title>'
    )
    return "\n".join([head, *body, "</svg>"]) + "\n"


def _load(path: Path) -> WordVectors:
    from ..text.vectors import WordVectors

    return WordVectors.load(path)


def _positive(k: int, option: str = "-k") -> int:
    from ..errors import UserError

    if k < 1:
        raise UserError(f"{option} is {k}, but it must be at least 1")
    return k


def _print(found: list[tuple[str, float]]) -> None:
    for word, score in found:
        print(f"{score:7.4f}  {word}")
