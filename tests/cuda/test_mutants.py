"""Mistakes planted in the kernels' source, one at a time: schedules, sizes and AddressSanitizer must catch them.

Generated for each `.cu`: every barrier removed, every bounds check made true, every row's stride one too small, every shuffle
butterfly one step too short, every rescaling and shift of an exponential dropped. What survives is named, with the reason.
"""

import re
from pathlib import Path

import pytest

import handgrad
from handgrad.kernels.cuda import launch
from handgrad.kernels.cuda.ladders import LADDERS, rung
from handgrad.kernels.cuda.on_cpu.kernel import Kernel, KernelError, running

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")

MISTAKES = {
    "barrier": (r"__syncthreads\(\);", ""),
    "early end": (r"if \([^;{}]*?(?:>=|\|\|)[^;{}]*?\) (?:return|break);", ""),
    "bound": (r"(?<![;(] )\b(?:[a-z]\w*|\w+ \+ \w+(?: \+ \w+)?) < [KMNRCV]\b(?!; )", "true"),
    "last block": (r"min\(R, first \+ SLAB\)", "first + SLAB"),
    "alignment": (r"\b(?:N|columns) % (?:4|EACH) == 0", "true"),
    "tail of four": (r"i \+ 4 <= n", "i < n"),
    "wait for a copy": (r"cp_async_wait<1>", "cp_async_wait<2>"),
    "room of the row": (r"min\(max\(columns - column, 0\), EACH\)", "EACH"),
    "number of the row": (r"j < there \? from\[j\]", "true ? from[j]"),
    "stage": (r"\(t \+ 1\) % STAGES", "0"),
    "stride": (r"\(size_t\)(\([^()]*\)|[\w.]+) \* ([A-Z])\b", r"(size_t)\1 * (\2 - 1)"),
    "butterfly": (r"away > 0;", "away > 1;"),
    "rescale": (r"total \* expf\(m - larger\)|other_total \* expf\(other_m - larger\)", "total"),
    "shift": (r"expf\((x\[j\]|held\[i\]\.[xyzw]) - (?:m|larger)\)", r"expf(\1)"),
    "shift of a logarithm": (r"(x\[j\]|held\[i\]\.[xyzw]) - m(?=\) - |, h|\);\n    total)", r"\1"),
    "logarithm of the sum": (r"- log_total", ""),
    "ignored row": (r"target == IGNORED", "false"),
    "head of a row": (r"\(4 - first % 4\) % 4", "0"),
    "tail of a row": (r"V - \(V - head\) % 4", "V"),
    "last warp": (r"w = 1; w < WARPS;", "w = 1; w < WARPS - 1;"),
    "raise": (r"(s\.total|s\.below) (?:\* expf\(s\.m - larger\)|\+ s\.n \* \(larger - s\.m\))", r"\1"),
    "numbers met": (r"s\.n \+= 4;|a\.n \+ b\.n", ""),
    "shift of a logit": (r"expf\((x(?:\.[xyzw])?) - (?:m|larger)\)", r"expf(\1)"),
    "target": (r"j(?: \+ \d)? == target|(?<=, )t == target|tail \+ t == target", "false"),
    "smoothing": (r"\(1\.0f - smoothing\) \*|smoothing / V \*|- all\b", ""),
    "mean": (r" / count;", ";"),
    "exponential of y": (r"expf\((?:y\[j\]|p\[i\]\.[xyzw])\) \* total", "total"),
}

PLANTED = {"log_softmax": {"barrier", "shift of a logarithm", "logarithm of the sum", "exponential of y"}}
"""Where not every kind is planted: the walks of log_softmax are softmax's, and so are their mistakes."""

HARMLESS = {}
"""(stem, mistake, which one): why it cannot be caught."""


def mutants(stem: str, text: str) -> list[tuple[str, str, int]]:
    code = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    kinds = PLANTED.get(RUNGS[stem][0], set(MISTAKES))
    return [
        (stem, kind, k)
        for kind, (pattern, _) in MISTAKES.items()
        if kind in kinds
        for k, _ in enumerate(re.finditer(pattern, code))
    ]


def planted(text: str, kind: str, which: int) -> str:
    pattern, replacement = MISTAKES[kind]
    code = re.sub(r"//[^\n]*", lambda m: " " * len(m[0]), text)
    found = list(re.finditer(pattern, code))[which]
    return text[: found.start()] + found.expand(replacement) + text[found.end() :]


RUNGS = {
    f"{operation}_{name}": (operation, name)
    for operation, names in LADDERS.items()
    for name in names
    if not Path(__file__).with_name(f"test_{operation}.py").exists()  # that file plants its own
    and "hopper.cuh" not in (FOLDER / f"{operation}_{name}.cu").read_text()  # test_hopper_rungs.py's
}
MUTANTS = [m for stem in RUNGS for m in mutants(stem, (FOLDER / f"{stem}.cu").read_text())]


def fate(trial, sizes, stem: str, monkeypatch: pytest.MonkeyPatch, text: str) -> str | None:
    """What caught the mutant, or None."""
    operation, name = RUNGS[stem]
    kernels: dict[str, Kernel] = {}

    def mutated(path: Path, kernel: str) -> Kernel:
        return kernels.setdefault(kernel, Kernel(path, kernel, text))

    monkeypatch.setattr(launch, "on_cpu", mutated)
    try:
        for size in sizes.of(operation):
            trial(operation, rung(operation, name), size)
        with running(("forward",), sanitize=True):
            for size in [(5, 33, 2), (131, 17, 129)] if operation == "matmul" else [(3, 5), (70, 33)]:
                trial(operation, rung(operation, name), size)
    except (AssertionError, KernelError) as caught:
        return str(caught)
    return None


@pytest.mark.parametrize(("stem", "kind", "which"), MUTANTS, ids=[f"{s}-{k}-{i}" for s, k, i in MUTANTS])
def test_a_planted_mistake_is_caught(stem, kind, which, trial, sizes, monkeypatch):
    text = planted((FOLDER / f"{stem}.cu").read_text(), kind, which)
    caught = fate(trial, sizes, stem, monkeypatch, text)
    assert (caught is None) == ((stem, kind, which) in HARMLESS), caught or "it survived"


@pytest.mark.parametrize("stem", RUNGS)
def test_what_is_not_changed_is_not_caught(stem, trial, sizes, monkeypatch):
    assert fate(trial, sizes, stem, monkeypatch, (FOLDER / f"{stem}.cu").read_text()) is None


def test_every_kind_of_mistake_is_planted_and_few_are_harmless():
    assert {kind for _, kind, _ in MUTANTS} == set(MISTAKES)
    assert len(HARMLESS) <= 0.05 * len(MUTANTS)
    assert set(HARMLESS) <= set(MUTANTS)
