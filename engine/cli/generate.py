"""`handgrad generate DIR`: text from a trained model, streamed."""

from __future__ import annotations

from pathlib import Path

from ..errors import UserError
from ..models.folder import load_model
from ..models.generation import check_sampling, generate
from ..random import Generator


def run(
    folder: Path, prompt: str, tokens: int, *, temperature: float, top_k: int | None, top_p: float | None, seed: int
) -> None:
    """Prints the prompt and what follows it, each token as soon as it is drawn."""
    check_sampling(temperature, top_k, top_p)
    if tokens < 0:
        raise UserError(f"--tokens is {tokens}, but it must be 0 or above")
    if not prompt:
        raise UserError("--prompt is empty, but the model needs at least one character to go on from")
    if seed < 0:
        raise UserError(f"--seed is {seed}, but it must be 0 or above")
    model, tokenizer = load_model(folder / "model" if (folder / "model").is_dir() else folder)
    try:
        ids = tokenizer.encode(prompt)
    except UserError as error:
        raise UserError(f"--prompt: {error}") from None
    print(prompt, end="", flush=True)
    options = {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    for token in generate(model, ids, tokens, generator=Generator(seed), **options):
        print(tokenizer.decode([token]), end="", flush=True)
    print()
