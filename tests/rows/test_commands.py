"""`handgrad check` and `handgrad explain`: what they print, their exit codes, and one sentence for each mistake."""

import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from handgrad.engine.cli import check, coverage, examples, explain, operations
from handgrad.engine.errors import UserError
from handgrad.engine.kernel_table import versions
from handgrad.engine.testing import Report
from handgrad.engine.testing.report import Check
from handgrad.reference.op import Sample
from handgrad.reference.table import ROWS

README = Path(operations.__file__).parents[2] / "README.md"


def cells(out, name):
    """The cells of an operation's line."""
    return next(line for line in out.splitlines() if line.startswith(f"{name} ")).split()[1:]


# ---- check: the table


def test_check_prints_a_table_and_a_summary(capsys):
    assert check.run(["exp", "tanh"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 103
    assert out.splitlines()[0].split() == ["formula", "numba", "cuda"]
    assert out.splitlines()[1].split() == ["operation", *["value", "vjp", "jvp", "2nd"] * 3]
    assert "2 operations in 2 versions: all passed; 6 of 6 planted wrong gradients rejected" in out


def test_a_hole_is_seen(capsys):
    """exp has no kernel; softmax has one, whose jvp and second order are the formula's; nothing has a CUDA kernel."""
    assert check.run(["exp", "softmax"]) == 0
    out = capsys.readouterr().out
    assert cells(out, "exp")[4:] == ["-"] * 8
    assert cells(out, "softmax")[6:] == ["·", "·", *["-"] * 4]
    for error in cells(out, "softmax")[:6]:
        assert error == "exact" or 0 < float(error) < 1e-9


def lines(*found):
    """Lines with made-up errors."""
    names = (
        "definition",
        "vjp",
        "jvp",
        "second order",
        "float32",
        "value float64",
        "gradient float64",
        "value float32",
    )
    checks = {name: Check(name, 1.25e-16, 3e-14) for name in names}
    return [coverage.Line(check.find(name), version, Report("op", 0, checks)) for name, version in found]


@pytest.mark.parametrize("columns, expected", [(40, 1), (60, 2), (80, 3), (100, 3), (200, 3)])
def test_the_table_fits_the_terminal_or_says_what_is_left_out(columns, expected):
    found = lines(("softmax", "formula"), ("softmax", "numba"), ("packed_attention", "formula"))
    table = [text.plain for text in coverage.coverage(found, columns)]
    assert sum(backend in table[0] for backend in coverage.BACKENDS) == expected
    assert max(map(len, table[:5])) <= max(columns, 45)
    assert ("no room for" in table[-1]) == (expected < 3)
    assert table[1].count("2nd") == (3 if columns >= 100 else 1)
    assert table[3].startswith("softmax") and table[4].startswith("packed_attention")


def test_the_table_of_all_operations_fits_100_columns():
    found = lines(*((op.name, version) for op in ROWS for version in ("formula", "numba", "cuda")))
    assert max(len(text.plain) for text in coverage.coverage(found, 100)) <= 100


@pytest.mark.parametrize("columns", [60, 80, 99, 100])
def test_details_fit_the_lines_or_leave_something_out(columns):
    table = [
        text.plain
        for text in coverage.details(lines(("softmax", "numba 01_naive"), ("packed_attention", "formula")), columns)
    ]
    assert max(map(len, table)) <= max(columns, 80)
    assert all(("1e-16 / 3e-14" in row) == (columns >= 98) for row in table[2:])
    assert table[2].startswith("softmax           numba 01_naive  ") and table[2].endswith("pass")


def test_check_with_details_shows_every_rung(capsys):
    assert check.run(["softmax"], detailed=True) == 0
    out = capsys.readouterr().out
    assert "numba 01_naive" in out and "float32" in out and out.count("pass") >= 3


def test_check_counts_false_alarms(capsys):
    assert check.run(["exp"], trials=20) == 0
    assert "0 false alarms in 20 trials" in capsys.readouterr().out


def test_check_counts_mutants(capsys):
    assert check.run(["softmax"], mutate=True) == 0
    out = capsys.readouterr().out
    made, rejected = [int(word) for word in out.split("mutants: ")[1].split()[:3:2]]
    assert made == rejected > 10 and "survived: " not in out


@pytest.mark.parametrize("names, code", [(["exp"], 0), ([], 1)])
def test_check_names_survivors(capsys, monkeypatch, names, code):
    """They fail the table of all operations where they are many; one operation may have a large share of equivalent ones."""
    monkeypatch.setattr(check, "fate", lambda mutant: None)
    monkeypatch.setattr(check, "ROWS", (check.find("exp"),))
    assert check.run(names, mutate=True) == code
    out = capsys.readouterr().out
    assert "survived: exp: exp_vjp line " in out and "drops a factor: dy * y -> dy" in out
    assert ("(95% wanted)" in out) == (not names) and "shows a hole" in out


def test_another_seed_draws_other_inputs(capsys):
    tables = []
    for seed in (0, 0, 1):
        assert check.run(["tanh"], seed=seed) == 0
        tables.append(cells(capsys.readouterr().out, "tanh"))
    assert tables[0] == tables[1] != tables[2]


def test_laws_that_nothing_could_be_said_about_are_named():
    """A law whose inputs never come is no law that held."""
    (line,) = lines(("softmax", "formula"))
    assert check._laws([line]) == (
        "laws: 0 of 2 held (the inputs that were drawn say nothing about softmax's rows_sum_to_one, "
        "softmax's shift_invariant)"
    )


# ---- check: what fails


@pytest.mark.parametrize(
    "broken, expected, sentence",
    [
        ({"definition": lambda x: np.exp(x) * 1.001}, ["FAIL", "?", "?", "?"], "exp: definition: "),
        ({"vjp": lambda dy, y, x: (dy * y * 1.001,)}, ["?", "FAIL", "?", "?"], "exp: vjp: "),
        ({"jvp": lambda dxs, y, xs: dxs[0] * y * 1.001}, ["?", "?", "FAIL", "?"], "exp: jvp: "),
        (
            {"vjp": lambda dy, y, x: (dy * (y if isinstance(y, np.ndarray) else y.detach()),)},
            ["?", "?", "?", "FAIL"],
            "second order",
        ),
    ],
    ids=["definition", "vjp", "jvp", "second order"],
)
def test_a_failing_row_is_marked_where_it_fails(capsys, monkeypatch, broken, expected, sentence):
    monkeypatch.setitem(check.BY_NAME, "exp", replace(check.find("exp"), wrong={}, **broken))
    assert check.run(["exp", "tanh"]) == 1
    out = capsys.readouterr().out
    assert cells(out, "exp")[:4] == expected and "FAIL" not in cells(out, "tanh")
    assert "exp [formula] FAILED: " in out and sentence in out and "seed=0, only=" in out
    assert "?: not known" in " ".join(out.split()) and "1 FAILED (exp [formula])" in out


def test_a_planted_wrong_that_passes_is_a_failure(capsys, monkeypatch):
    exp = check.find("exp")
    monkeypatch.setitem(check.BY_NAME, "exp", replace(exp, wrong={"is right": exp.vjp}))
    assert check.run(["exp"]) == 1
    out = capsys.readouterr().out
    assert "the planted wrong gradient that 'is right' describes was not rejected" in out and "0 of 1 planted" in out


def pairs_of(**found):
    """What `versions` gives, with these pairs for softmax."""
    return lambda op: found if op.name == "softmax" else versions(op)


def test_a_kernel_that_raises_takes_nothing_with_it(capsys, monkeypatch):
    def forward(x, **params):
        raise ZeroDivisionError("planted")

    right = versions(check.find("softmax"))["numba"]
    broken = SimpleNamespace(accepts=right.accepts, forward=forward, vjp=right.vjp)
    monkeypatch.setattr(check, "versions", pairs_of(numba=broken, cuda=right))
    assert check.run(["softmax", "exp"]) == 1
    out = capsys.readouterr().out
    found = cells(out, "softmax")
    assert found[4:8] == ["FAIL", "?", "·", "·"] and "FAIL" not in found[:4] + found[8:]
    assert "softmax [numba] FAILED: ZeroDivisionError: planted" in out


CRASHES = """
import ctypes, sys
from types import SimpleNamespace
from handgrad.engine.cli import check
from handgrad.engine.kernel_table import versions

def forward(x, **params):
    ctypes.string_at(0)

def planted(op):
    pairs = versions(op)
    if op.name == "softmax":
        right = pairs["numba"]
        pairs["numba"] = SimpleNamespace(accepts=right.accepts, forward=forward, vjp=right.vjp)
    return pairs

check.versions = planted  # in the child process too, which runs this file up to here
if __name__ == "__main__":
    sys.exit(check.run(["exp", "softmax"], isolated=True))
"""


def test_a_kernel_that_kills_its_process_takes_nothing_with_it(tmp_path):
    (tmp_path / "planted.py").write_text(CRASHES)
    done = subprocess.run([sys.executable, tmp_path / "planted.py"], capture_output=True, text=True, check=False)
    assert done.returncode == 1, done.stderr
    found = cells(done.stdout, "softmax")
    assert found[4:8] == ["CRASHED", "?", "·", "·"] and not set(found[:4]) & {"FAIL", "CRASHED", "?"}
    assert "softmax [numba] FAILED: its process died of signal 11 (SIGSEGV)" in done.stdout
    assert re.search(r"in \d+ versions: 1 FAILED \(softmax \[numba\]\)", done.stdout)


# ---- explain, and what both refuse


@pytest.mark.parametrize("command", [lambda: check.run(["sofmax"]), lambda: explain.run("sofmax")])
def test_unknown_operation(command):
    with pytest.raises(UserError, match="there is no operation called 'sofmax'; did you mean softmax"):
        command()


def test_negative_trials_and_seeds():
    with pytest.raises(UserError, match="--trials is -1"):
        check.run([], trials=-1)
    with pytest.raises(UserError, match="--seed is -2"):
        check.run([], seed=-2)


def test_explain_alone_lists_all_operations(capsys):
    explain.run(None)
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 100 and "\x1b" not in out
    for op in ROWS:
        page, kernel = cells(out, op.name)[-4:-2]
        assert (README.parent / "reference" / f"{page}.py").is_file() and kernel in ("numba", "cuda", "numba+cuda", "-")
    assert cells(out, "softmax")[-4:] == ["softmax", "numba+cuda", "any", "order"]
    assert f"{len(ROWS)} operations" in out


def test_explain_does_not_know_what_x_is_for():
    with pytest.raises(UserError, match="--x needs an operation"):
        explain.run(None, "1 2")


# ---- the README's table


def test_every_operation_is_in_the_table_once():
    rows = [line.split(" | ")[0].removeprefix("| ").split(", ") for line in operations.markdown().splitlines()[2:]]
    assert sorted(name for row in rows for name in row) == sorted(op.name for op in ROWS)
    assert all(line.count(" | ") == 4 for line in operations.markdown().splitlines()[2:])


def test_the_table_is_written_between_its_marks():
    text = f"before\n{operations.BEGIN}\nold\n{operations.END}\nafter\n"
    new = operations.rewritten(text)
    assert new == f"before\n{operations.BEGIN}\n{operations.markdown()}\n{operations.END}\nafter\n"
    assert operations.rewritten(new) == new
    with pytest.raises(ValueError, match="needs the lines"):
        operations.rewritten("no marks")


def test_the_readme_has_the_present_table():
    text = README.read_text(encoding="utf-8")
    if operations.BEGIN not in text:
        pytest.skip("the README has no marks yet between which the table of operations could stand")
    assert operations.rewritten(text) == text, "run python -m handgrad.engine.cli.operations README.md"


@pytest.mark.parametrize(
    "text, sentence",
    [
        ("y = x_0 + ... + x_k along `axis`; more. Shapes: (n)", "y = x_0 + ... + x_k along `axis`; more"),
        ("One line\nand another: (...) -> (...).\n\nMore.", "One line and another: (...) -> (...)"),
        ("y = x^1.5. Next.", "y = x^1.5"),
        (None, ""),
    ],
)
def test_first_sentence(text, sentence):
    assert operations.first_sentence(text) == sentence


@pytest.mark.parametrize("op", ROWS, ids=[op.name for op in ROWS])
def test_explain_works_for_every_row(op, capsys):
    explain.run(op.name)
    out = capsys.readouterr().out
    for part in (
        "Formula",
        "Gradient",
        "Derivation",
        "Source",
        "Where it lives",
        "Example, forward",
        "Example, backward",
    ):
        assert part in out
    assert op.formula in out and "\x1b" not in out
    rate, _, claim = out.split("changes <dy, y> at a rate of ")[1].partition("; the gradient says ")
    assert float(rate) == pytest.approx(float(claim.split()[0]), abs=1e-6)


def test_explain_softmax_shows_every_number(capsys):
    explain.run("softmax", "1 2 3")
    out = capsys.readouterr().out
    for number in ("[-2. -1.  0.]", "[0.135335 0.367879 1.      ]", "1.503215", "0.090031 0.244728 0.665241"):
        assert number in out
    assert "reference/softmax.py:" in out and "kernels/cpu/softmax.py:" in out


@pytest.mark.parametrize(
    "name, pair",
    [
        ("softmax", ["forward, vjp, accepts"]),  # made by a launcher of pairs.py
        ("rnn", ["accepts", "forward, vjp"]),
        ("layer_norm", ["accepts", "forward", "vjp"]),
    ],
)
def test_explain_finds_the_ladder_and_its_pair(name, pair):
    found = dict(explain.places(check.find(name)))
    assert [what.removeprefix("kernel pair, ") for what in found if what.startswith("kernel pair")] == pair
    for what, place in found.items():
        file, line = place.split(":")
        text = (README.parent / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
        if what.startswith("kernel "):
            assert text.startswith((f"def {what.split()[-1]}(", f"{pair[-1]} = "))


def test_explain_leaves_the_kernels_of_another_row_out():
    """gelu_erf.py begins like gelu.py, but belongs to the row gelu_erf; attention_core.py is part of attention's."""
    assert not any("gelu_erf" in place for _, place in explain.places(check.find("gelu")))
    assert any("attention_core.py" in place for _, place in explain.places(check.find("attention")))


def test_explain_attention_has_rows_that_sum_to_one(capsys):
    explain.run("attention")
    out = capsys.readouterr().out
    table = out.split("weights = softmax(scaled)")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 5 and all(row.endswith("1.0000") for row in table)


def test_an_example_says_what_is_left_out_and_what_is_empty():
    said = []
    sample = Sample((np.ones((2, 3)), np.ones((3, 1))), {}, "no bias")
    examples.generic(check.find("linear"), sample, said.append, said.append)
    assert "bias         left out" in said
    said.clear()
    examples.show(said.append, "y", np.zeros((2, 0)))
    examples.show(said.append, "x", np.ones((2, 2, 1)))
    assert said == ["y            no numbers, in the shape (2, 0)", "x            [[[1.]", *[f"{'':<15}[1.]]"],
                    f"{'':<14}[[1.]", f"{'':<15}[1.]]]"]  # fmt: skip


def test_explain_takes_rows_of_numbers(capsys):
    explain.run("sum", "1 2; 3 4")
    assert "10." in capsys.readouterr().out


@pytest.mark.parametrize(
    "name, x, sentence",
    [
        ("softmax", "1 two 3", "'two' is not a number"),
        ("softmax", "", "must hold numbers"),
        ("softmax", "1 2; 3", "must be equally long"),
        ("add", "1 2", "add has several: x1, x2"),
        ("attention", "1 2", "attention has several"),
        ("packed_attention", "1 2 3", "does not fit"),
        ("log", "1 -2", "result is not finite"),
    ],
)
def test_bad_numbers_are_one_sentence(name, x, sentence):
    with pytest.raises(UserError, match=sentence) as error:
        explain.run(name, x)
    assert "\n" not in str(error.value)
