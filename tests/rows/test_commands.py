"""`handgrad check` and `handgrad explain`: what they print, their exit codes, and one sentence for each mistake."""

import pytest

from handgrad.engine.cli import check, explain
from handgrad.engine.errors import UserError
from handgrad.engine.testing.report import Check
from handgrad.reference.table import ROWS


def test_check_prints_a_table_and_a_summary(capsys):
    assert check.run(["exp", "tanh"]) == 0
    out = capsys.readouterr().out
    assert "\x1b" not in out and max(map(len, out.splitlines())) <= 103
    assert "2 operations in 2 versions: all passed; 6 of 6 planted wrong gradients rejected" in out


@pytest.mark.parametrize("columns", [60, 80, 99, 100])
def test_check_fits_the_lines_or_leaves_something_out(columns):
    lines = [
        check.Line(check.find("softmax"), "numba 01_naive", None),
        check.Line(check.find("packed_attention"), "formula", None),
    ]
    for line in lines:
        names = ("definition", "vjp", "float32", "value float64", "gradient float64", "value float32")
        line.report = check.Report("op", 0, {name: Check(name, 1.25e-16, 3e-14) for name in names})
    table = [text.plain for text in check._table(lines, columns)]
    assert max(map(len, table)) <= max(columns, 80)
    assert all(("1e-16 / 3e-14" in row) == (columns >= 98) for row in table[2:])
    assert table[2].startswith("softmax           numba 01_naive  ") and table[2].endswith("pass")


def test_check_counts_false_alarms(capsys):
    assert check.run(["exp"], trials=20) == 0
    assert "0 false alarms in 20 trials" in capsys.readouterr().out


def test_check_fails_with_exit_code_1(capsys, monkeypatch):
    from dataclasses import replace

    exp = check.find("exp")
    broken = replace(exp, vjp=lambda dy, y, x: (dy * y * 1.001,))
    monkeypatch.setitem(check.BY_NAME, "exp", broken)
    assert check.run(["exp"]) == 1
    out = capsys.readouterr().out
    assert "FAIL" in out and "exp: vjp: " in out and "seed=0, only=0" in out


@pytest.mark.parametrize("command", [lambda: check.run(["sofmax"]), lambda: explain.run("sofmax")])
def test_unknown_operation(command):
    with pytest.raises(UserError, match="there is no operation called 'sofmax'; did you mean softmax"):
        command()


def test_negative_trials():
    with pytest.raises(UserError, match="--trials is -1"):
        check.run([], trials=-1)


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


def test_explain_attention_has_rows_that_sum_to_one(capsys):
    explain.run("attention")
    out = capsys.readouterr().out
    table = out.split("weights = softmax(scaled)")[1].split("\n\n")[0].splitlines()[2:]
    assert len(table) == 5 and all(row.endswith("1.0000") for row in table)


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
