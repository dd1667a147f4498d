"""`handgrad generate DIR`: text from a trained model, streamed."""

from __future__ import annotations

import reprlib
import sys
from pathlib import Path

from ..device import checked_device
from ..errors import UserError
from ..models.folder import load_model
from ..models.generation import check_sampling, generate, reader_of
from ..random import Generator
from ..text.word_tokenizer import WordTokenizer
from .options import from_options


def run(
    folder: Path,
    prompt: str | None,
    tokens: int,
    *,
    temperature: float,
    top_k: int | None,
    top_p: float | None,
    seed: int,
    weights: str | None = None,
    device: str = "cpu",
) -> None:
    """Prints the prompt and what follows it, each token as soon as it is drawn; on stderr what other weights take.

    Without a prompt the text goes on from a line break, or from the first token of a model that knows none. <unk>, which
    stands for the words that a tokenizer of words does not know, is never drawn.
    """
    from_options(check_sampling, temperature=temperature, top_k=top_k, top_p=top_p)
    if tokens < 0:
        raise UserError(f"--tokens is {tokens}, but it must be 0 or above")
    if prompt == "":
        raise UserError("--prompt is empty, but the model needs at least one character to go on from")
    if not 0 <= seed < 1 << 64:
        raise UserError(f"--seed is {reprlib.repr(seed)}, but it must be at least 0 and below 2**64")
    checked_device("--device", device)
    model, tokenizer = load_model(folder / "model" if (folder / "model").is_dir() else folder)
    try:
        ids = tokenizer.encode(tokenizer.default_prompt if prompt is None else prompt)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from None
    if not len(ids):
        raise UserError(f"--prompt {prompt!r} holds no word, but the model needs at least one to go on from")
    reader = from_options(reader_of, model=model.to(device), weights=weights)
    if weights is not None:
        before = sum(p.data.nbytes for p in model.parameters())
        print(
            f"handgrad: weights in {weights}: {_megabytes(reader.nbytes)}, {_megabytes(before)} in the file",
            file=sys.stderr,
        )
    del model  # with other weights its own are not needed any more
    print(tokenizer.decode(ids), end="", flush=True)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    unknown = [tokenizer.unknown_id] if isinstance(tokenizer, WordTokenizer) else []
    drawn = generate(reader, ids, tokens, generator=Generator(seed), exclude=unknown, **options)
    for piece in tokenizer.stream(drawn, after=ids):
        print(piece, end="", flush=True)
    print()


def _megabytes(size: int) -> str:
    return f"{size / 1e6:.3g} MB"
