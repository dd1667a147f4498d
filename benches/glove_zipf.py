"""A large text of made-up words for the GloVe benches: as many words of a vocabulary as natural text would have.

    python benches/glove_zipf.py OUT [--words 400000] [--tokens 2500000] [--seed 1]

Word number r occurs with probability proportional to 1 / (r + 2.7), Zipf's law in Mandelbrot's form. Every word is written
twice before that, so that none is lost to a minimum count of 2. A line has 1,000 words; frequent words are short.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any, BinaryIO

import harness
import numpy as np

LINE, BLOCK, SHIFT, LEAST = 1_000, 1_000_000, 2.7, 2


def main() -> None:
    from handgrad.engine.files import write_atomically

    arguments = parse()
    harness.require("handgrad")
    if arguments.tokens < LEAST * arguments.words:
        raise harness.BenchError(f"--tokens is {arguments.tokens}, but {arguments.words} words need {LEAST} each")
    write_atomically(arguments.out, lambda file: write(file, arguments.words, arguments.tokens, arguments.seed))


def write(file: BinaryIO, words: int, tokens: int, seed: int) -> None:
    """`tokens` words of a vocabulary of `words`, in lines."""
    names = np.array([name(rank) for rank in range(words)], dtype="S")
    generator = np.random.default_rng(seed)
    cumulative = np.cumsum(1.0 / (np.arange(words) + SHIFT))
    save(file, names[generator.permutation(np.repeat(np.arange(words), LEAST))])
    for begin in range(LEAST * words, tokens, BLOCK):
        draws = generator.random(min(BLOCK, tokens - begin)) * cumulative[-1]
        save(file, names[np.searchsorted(cumulative, draws, "right")])
        print(f"\r  {begin:,} of {tokens:,} words", end="", file=sys.stderr, flush=True)
    print("\r" + " " * 50 + "\r", end="", file=sys.stderr, flush=True)


def save(file: BinaryIO, words: Any) -> None:
    """Words (N,) as lines of LINE."""
    for first in range(0, len(words), LINE):
        file.write(b" ".join(words[first : first + LINE].tolist()) + b"\n")


def name(rank: int) -> bytes:
    """a, b, ..., z, aa, ab, ...: frequent words are short."""
    letters = b""
    rank += 1
    while rank:
        rank, digit = divmod(rank - 1, 26)
        letters = bytes([97 + digit]) + letters
    return letters


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the file to write")
    parser.add_argument(
        "--words", type=harness.positive_int, default=400_000, help="of the vocabulary (default 400,000)"
    )
    parser.add_argument(
        "--tokens", type=harness.positive_int, default=2_500_000, help="of the text (default 2,500,000)"
    )
    parser.add_argument("--seed", type=int, default=1, help="of the draws (default 1)")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
