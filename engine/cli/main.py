"""`handgrad VERB ...`: what there is, and how mistakes end (one clear line and exit code 2, no traceback).

This file imports nothing that loads NumPy: thread pools read their settings when they start, so `settle` comes first.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from typer.core import TyperGroup

from .. import process
from ..errors import UserError
from . import embed, train_glove, train_gpt, train_lstm, train_seq2seq, translate
from .train_options import DEVICE


class _Commands(TyperGroup):
    """Says how a command ended that Ctrl-C stopped: typer itself leaves without a word."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            _fail("interrupted", 130)


app = typer.Typer(
    cls=_Commands,
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="A deep-learning engine that can be read from the calculus up to a language model.",
)
train_app = typer.Typer(
    no_args_is_help=True, rich_markup_mode=None, help="Train a model. Example: handgrad train gpt --help"
)
app.add_typer(train_app, name="train")
app.add_typer(embed.app, name="embed")
train_app.command("gpt", epilog=train_gpt.EXAMPLE)(train_gpt.command)
train_app.command("lstm", epilog=train_lstm.EXAMPLE)(train_lstm.command)
train_app.command("seq2seq", epilog=train_seq2seq.EXAMPLE)(train_seq2seq.command)
train_app.command("glove", epilog=train_glove.EXAMPLE)(train_glove.command)
app.command("translate", epilog=translate.EXAMPLE)(translate.command)


@app.command(epilog="Example: handgrad generate runs/demo --prompt 'The ' --tokens 300 --temperature 0.8 --seed 7")
def generate(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="A run folder or a model folder.")],
    prompt: Annotated[str | None, typer.Option(help="The text to go on from.  [a line break]")] = None,
    tokens: Annotated[int, typer.Option(help="How many tokens to add.")] = 300,
    temperature: Annotated[float, typer.Option(help="0: always the likeliest; 1: as the model says.")] = 0.8,
    top_k: Annotated[int | None, typer.Option(help="Choose among the k likeliest tokens.")] = None,
    top_p: Annotated[
        float | None, typer.Option(help="Choose among the likeliest tokens that reach probability p.")
    ] = None,
    seed: Annotated[int, typer.Option(help="The same seed gives the same text.")] = 0,
    weights: Annotated[
        str | None, typer.Option(help="float32, bfloat16, float16 or int8: less memory, faster, less exact.  [float32]")
    ] = None,
    device: DEVICE = "cpu",
) -> None:
    """Write text with a trained model, token by token as it is drawn."""
    from .generate import run

    run(
        folder, prompt, tokens, temperature=temperature, top_k=top_k, top_p=top_p, seed=seed, weights=weights,
        device=device,
    )  # fmt: skip


@app.command(epilog="Example: handgrad check softmax attention")
def check(
    ops: Annotated[
        list[str] | None, typer.Argument(metavar="OP", help="Rows of the table; all where none is named.")
    ] = None,
    trials: Annotated[
        int, typer.Option(help="Random trials that must raise no false alarm, beside the fixed ones.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Other random inputs than those of seed 0.")] = 0,
    details: Annotated[
        bool, typer.Option("--details", help="One line a version, with what its checks allowed.")
    ] = False,
    mutants: Annotated[
        bool, typer.Option("--mutants", help="Also every mechanical mistake in a gradient's source.")
    ] = False,
    isolated: Annotated[
        bool, typer.Option("--isolated", help="Each version in its own process: one that crashes stops nothing.")
    ] = False,
    backend: Annotated[
        str | None, typer.Option(help="cuda-on-cpu: every rung of the CUDA kernels instead, run on this CPU.")
    ] = None,
) -> None:
    """Hold every formula and kernel to its definition, its derivatives and its laws; planted mistakes must be found."""
    from . import check as command

    if backend is not None:
        from . import check_cuda

        others = {"--trials": trials, "--details": details, "--mutants": mutants, "--isolated": isolated}
        _exit(check_cuda.run(ops or [], backend=backend, seed=seed, others=[name for name, on in others.items() if on]))
        return
    _exit(command.run(ops or [], trials=trials, seed=seed, detailed=details, isolated=isolated, mutate=mutants))


@app.command(
    epilog="Example: handgrad bench softmax attention --against torch numpy",
    context_settings={"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []},
)
def bench(ctx: typer.Context) -> None:
    """Check and time operations beside PyTorch, NumPy and JAX; `handgrad bench --help` has the options."""
    from . import bench as command

    _exit(command.run(ctx.args))


@app.command(epilog='Example: handgrad explain softmax --x "1 2 3"')
def explain(
    op: Annotated[str | None, typer.Argument(metavar="OP", help="A row, such as attention; none lists all.")] = None,
    x: Annotated[str | None, typer.Option(help='The input of the example, such as "1 2 3".')] = None,
) -> None:
    """Show an operation: formula, gradient, derivation, where each version lives, an example with every number."""
    from . import explain as command

    command.run(op, x)


@app.command(epilog="Example: handgrad demo --out runs/demo")
def demo(
    out: Annotated[Path, typer.Option(help="Run folder.")] = Path("runs/demo"),
    steps: Annotated[int, typer.Option(help="Updates of the weights.")] = 2400,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the run in --out.")] = False,
) -> None:
    """Train a small GPT on the text that every Python carries, generate with it, and check its gradients."""
    from .demo import run

    _exit(run(out, steps, overwrite=overwrite))


def _version(wanted: bool) -> None:
    if wanted:
        from ... import __version__

        print(f"handgrad {__version__}")
        raise typer.Exit


@app.callback()
def common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


def _exit(code: int) -> None:
    if code:
        raise typer.Exit(code)


def _spread(arguments: list[str]) -> list[str]:
    """`--text a b c` as `--text a --text b --text c`, so that a shell's *.txt works."""
    spread: list[str] = []
    in_text = False
    for argument in arguments:
        if argument.startswith("-"):
            in_text = argument == "--text"
            spread.append(argument)
        elif in_text and spread[-1] != "--text":
            spread += ["--text", argument]
        else:
            spread.append(argument)
    return spread


def run(arguments: list[str] | None = None) -> None:
    """The console script."""
    try:
        process.settle()
        code = app(
            _spread(sys.argv[1:] if arguments is None else arguments), prog_name="handgrad", standalone_mode=False
        )
        sys.stdout.flush()
        sys.exit(code or 0)
    except UserError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:  # the reader went away, as `head` does
        _drop_output()
        sys.exit(1)
    except OSError as error:  # a full disk, a folder that may not be written
        try:
            sys.stdout.flush()
        except OSError:
            _drop_output()
        where = "" if error.filename is None else f" ({error.filename})"
        _fail(f"reading or writing failed: {error.strerror or error}{where}", 2)
    except MemoryError as error:
        _fail(f"there is not enough memory: {error or 'try smaller sizes'}", 2)
    except Exception as error:
        if not hasattr(error, "format_message"):  # not typer's own
            raise
        message = error.format_message()  # type: ignore[attr-defined]
        context = getattr(error, "ctx", None)
        if context is None:
            _fail(message.rstrip("."), 2)
        if message == context.get_help():  # no arguments: the help was wanted
            print(message)
            sys.exit(2)
        _fail(f"{message.rstrip('.')} (see {context.command_path} --help)", 2)


def _drop_output() -> None:
    """What could not be written to stdout shall not be tried again when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _fail(message: str, code: int) -> NoReturn:
    print(f"handgrad: {message}", file=sys.stderr)
    sys.exit(code)


if __name__ == "__main__":
    run()
