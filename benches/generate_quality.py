"""What fewer bits a weight cost: the perplexity of a trained model on a text, its weights as each form of models.GPT.reader.

    python benches/generate_quality.py RUN [--text FILE] [--tokens N]

RUN: a run or model folder of a GPT, such as `handgrad demo` leaves. The text (without --text the demo's own, whose last tenth
the demo holds back) is read from its last N tokens on, in windows of the model's context, one token after the other as
generation does: the perplexity is e to the mean cross entropy of each next token. Published beside it: how far the logits are
from those of float32, the root of the mean square in units of their own spread, and how often the likeliest token is another.
"""

from __future__ import annotations

import argparse
import math
from pathlib import Path
from typing import Any

import harness
import numpy as np

from handgrad.engine.models import load_model
from handgrad.engine.models.matrix import FORMS
from handgrad.engine.text.corpora import python_topics


def main() -> None:
    arguments = parse()
    folder = arguments.run / "model" if (arguments.run / "model").is_dir() else arguments.run
    model, tokenizer = load_model(folder)
    text = arguments.text.read_text("utf-8") if arguments.text else python_topics()
    ids = tokenizer.encode(text)[-arguments.tokens :]
    logits = {form: all_logits(model.reader(form), ids, model.config.block_size) for form in FORMS}
    found = {form: compared(logits[form], logits["float32"], ids) for form in FORMS}
    for form in FORMS:
        found[form]["bytes"] = model.reader(form).nbytes
    rows = [
        [form, f"{f['bytes'] / 1e6:.2f}", f"{f['perplexity']:.4f}", f"{f['change']:+.3%}", f"{f['distance']:.2e}",
         f"{f['other_choices']:.2%}"]
        for form, f in found.items()
    ]  # fmt: skip
    harness.print_table(["weights", "MB", "perplexity", "change", "logits off by", "other likeliest token"], rows)
    result = harness.record(
        "generate_quality",
        model=model.config.to_dict(),
        parameters=model.num_parameters(),
        tokens=len(ids),
        forms=found,
    )
    harness.write_result(arguments.out, result)


def all_logits(reader: Any, ids: np.ndarray, window: int) -> np.ndarray:
    """The logits behind each token but those at the end of a window: (windows, window - 1, V)."""
    found = []
    for start in range(0, len(ids) - window + 1, window):
        reader.forget()
        found.append([reader.read(ids[i : i + 1]) for i in range(start, start + window - 1)])
    return np.array(found, np.float64)


def compared(logits: np.ndarray, exact: np.ndarray, ids: np.ndarray) -> dict[str, float]:
    """The figures of one form."""
    windows, steps, _ = logits.shape
    targets = ids[: windows * (steps + 1)].reshape(windows, steps + 1)[:, 1:]

    def loss(x: np.ndarray) -> float:
        top = x.max(-1, keepdims=True)
        lse = top[..., 0] + np.log(np.exp(x - top).sum(-1))
        return float((lse - np.take_along_axis(x, targets[..., None], -1)[..., 0]).mean())

    def centred(x: np.ndarray) -> np.ndarray:  # a constant on all logits changes nothing
        return x - x.mean(-1, keepdims=True)

    difference, spread = centred(logits) - centred(exact), centred(exact)
    return {
        "perplexity": math.exp(loss(logits)),
        "change": math.exp(loss(logits) - loss(exact)) - 1,
        "distance": float(np.sqrt((difference**2).mean() / (spread**2).mean())),
        "other_choices": float((logits.argmax(-1) != exact.argmax(-1)).mean()),
    }


def parse() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="a run folder or a model folder")
    parser.add_argument("--text", type=Path, help="a text that the model did not learn from (default: the demo's)")
    parser.add_argument("--tokens", type=harness.positive_int, default=16384, help="of the text (default 16384)")
    parser.add_argument("--out", type=Path, default=harness.RESULTS / "generate_quality.json", help="result file")
    return parser.parse_args()


if __name__ == "__main__":
    harness.run(main)
