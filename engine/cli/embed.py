"""`handgrad embed ...`: questions to word vectors. Imports nothing that loads NumPy at the top."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from ..text.vectors import WordVectors

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Word vectors. Example: handgrad embed nearest --help"
)
Vectors = Annotated[
    Path, typer.Option(help="A run folder of train glove, or a file: GloVe, word2vec (.txt, .bin), safetensors.")
]

RUN_FILE = "vectors.safetensors"  # what is read of a run folder


@app.command(epilog="Example: handgrad embed nearest king --vectors runs/words")
def nearest(
    word: Annotated[str, typer.Argument(metavar="WORD")],
    vectors: Vectors,
    k: Annotated[int, typer.Option("-k", help="How many.")] = 10,
) -> None:
    """The words whose vectors point nearly the same way, with the cosines."""
    _print(_load(vectors).nearest(word, _positive(k)))


@app.command(epilog="Example: handgrad embed analogy man king woman --vectors runs/words")
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


@app.command(epilog="Example: handgrad embed plot --vectors runs/words --out words.svg --words 150")
def plot(
    vectors: Vectors,
    out: Annotated[Path, typer.Option(help="The file to write: .svg, or .png (needs matplotlib).")],
    words: Annotated[int, typer.Option(help="How many words, from the first (the most frequent) on.")] = 100,
) -> None:
    """A map of the first words: the two directions in which their vectors differ most (principal components)."""
    from ..errors import UserError
    from ..files import write_atomically
    from . import word_map

    suffix = out.suffix.lower()
    if suffix not in (".svg", ".png"):
        raise UserError(f"--out is {out}, but its name must end in .svg or .png")
    count = _positive(words, "--words")
    found = _load(vectors)
    count = min(count, len(found))
    places = word_map.labels(found.words[:count], word_map.principal_components(found.directions[:count]))
    if suffix == ".svg":
        content, complete = word_map.svg(places).encode(), True
    else:
        try:
            content, complete = word_map.png(places)
        except ImportError:
            raise UserError(
                "a map as .png needs matplotlib: pip install 'handgrad[plot]', or say --out with .svg"
            ) from None
    write_atomically(out, lambda file: file.write(content))
    if not complete:
        print("handgrad: the fonts of this machine lack letters of these words, drawn as boxes: install a font that has "
              "them, such as Noto Sans CJK, or say --out with .svg", file=sys.stderr)  # fmt: skip
    print(f"wrote {out}: {count} words")


def _load(path: Path) -> WordVectors:
    """The vectors of a file, or of a run folder of `train glove`."""
    from ..errors import UserError
    from ..text.vectors import WordVectors

    if path.is_dir():
        if not (path / RUN_FILE).is_file():
            raise UserError(f"{path} is a folder without {RUN_FILE}, which train glove writes at its end")
        path = path / RUN_FILE
    return WordVectors.load(path)


def _positive(k: int, option: str = "-k") -> int:
    from ..errors import UserError

    if k < 1:
        raise UserError(f"{option} is {k}, but it must be at least 1")
    return k


def _print(found: list[tuple[str, float]]) -> None:
    for word, score in found:
        print(f"{score:7.4f}  {word}")
