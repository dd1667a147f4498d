"""`handgrad translate DIR TEXT`: what a sequence-to-sequence model makes of it. Imports nothing that loads NumPy at the top."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from .train_options import DEVICE

EXAMPLE = 'Example: handgrad translate runs/dates "march 3, 1999" --attention-map where.svg'


def command(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder of train seq2seq, or a model folder.")],
    text: Annotated[str | None, typer.Argument(metavar="[TEXT]", help="The source.  [each line of stdin]")] = None,
    beam: Annotated[int, typer.Option(help="Hypotheses that are kept; 1: greedy.")] = 1,
    most: Annotated[int, typer.Option(help="Tokens of a translation at most.")] = 100,
    attention_map: Annotated[Path | None, typer.Option(help="Draw where it looked (greedy) as an SVG file.")] = None,
    device: DEVICE = "cpu",
) -> None:
    """Translate a text, or each line of stdin, with a trained model."""
    from ..device import checked_device
    from ..errors import UserError
    from ..models.folder import load_model
    from ..models.seq2seq import Seq2SeqLSTM
    from ..tasks.translate import translate, translate_with_weights
    from ..training.attention_map import attention_map_svg

    for name, value in (("beam", beam), ("most", most)):
        if value < 1:
            raise UserError(f"--{name} is {value}, but it must be at least 1")
    if attention_map is not None and (text is None or beam > 1):
        raise UserError("--attention-map draws the greedy translation of one TEXT: give TEXT, and leave out --beam")
    model, tokenizer = load_model(folder / "model" if (folder / "model").is_dir() else folder)
    if not isinstance(model, Seq2SeqLSTM):
        raise UserError(f"{folder} holds a {type(model).__name__}, but translate needs a model of train seq2seq")
    model.to(checked_device("--device", device))
    for line in [text] if text is not None else sys.stdin:
        source = line.strip()
        if not source:
            if text is not None:
                raise UserError("TEXT is empty, but there must be something to translate")
            print()
            continue
        if attention_map is not None:
            written, weights, asked, answered = translate_with_weights(model, tokenizer, source, most=most)
            attention_map_svg(weights, asked, answered, attention_map)
        else:
            (written,) = translate(model, tokenizer, [source], beam=beam, most=most)
        print(written, flush=True)
