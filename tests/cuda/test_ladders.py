"""Every rung of the CUDA ladders by name, run on the CPU under all schedules, against float64."""

import re
from pathlib import Path

import numpy as np
import pytest

import handgrad
from handgrad.kernels.cuda.ladders import LADDERS, NO_ROWS, rung
from handgrad.kernels.cuda.on_cpu.kernel import running

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")
RUNGS = [(operation, name) for operation, names in {**LADDERS, **NO_ROWS}.items() for name in names]
SIMPLE = [r for r in RUNGS if r[0] in LADDERS and not Path(__file__).with_name(f"test_{r[0]}.py").exists()]
"""Arrays of one type and no parameters. The others have a file of tests of their own."""
every_rung = pytest.mark.parametrize(("operation", "name"), RUNGS, ids=["_".join(r) for r in RUNGS])
every_simple_rung = pytest.mark.parametrize(("operation", "name"), SIMPLE, ids=["_".join(r) for r in SIMPLE])


@every_simple_rung
def test_a_rung_gives_the_numbers_of_float64(operation, name, trial, sizes):
    for size in sizes.of(operation):
        trial(operation, rung(operation, name), size)


@every_simple_rung
def test_a_rung_touches_nothing_outside_of_its_arrays(operation, name, trial):
    with running(("forward",), sanitize=True):
        for size in [(131, 17, 129), (33, 8, 36)] if operation == "matmul" else [(70, 33), (3, 516)]:
            trial(operation, rung(operation, name), size)


@pytest.mark.parametrize("operation", ["softmax", "log_softmax"])
def test_rows_longer_than_the_registers_hold(operation, trial):
    for length in (4096, 4097):
        trial(operation, rung(operation, "05_registers"), (2, length))


@pytest.mark.parametrize("name", LADDERS["softmax"])
def test_softmax_of_infinities_and_nan(name):
    x = np.array([[0, -np.inf, 1, 2], [np.nan, 0, 1, 2], [-np.inf] * 4, [0, np.inf, 1, 2]], np.float32)
    y, _ = rung("softmax", name).forward(x)
    e = np.exp(np.float32([0, -np.inf, 1, 2]))
    np.testing.assert_allclose(y[0], e / e.sum(), rtol=1e-6)
    assert np.isnan(y[1]).all() and np.isnan(y[2]).all()
    assert np.isnan(y[3, 1])


@pytest.mark.parametrize("name", LADDERS["relu"])
def test_relu_of_nan_and_an_infinite_cotangent_where_it_is_shut(name):
    x, dy = np.array([-1, np.nan, 2, -1, -3], np.float32), np.array([np.inf, 1, np.inf, 5, np.nan], np.float32)
    y, _ = rung("relu", name).forward(x)
    (dx,) = rung("relu", name).vjp(dy, y, x, residuals=None, wanted=(True,), into=(None,))
    assert np.array_equal(y, [0, np.nan, 2, 0, 0], equal_nan=True) and np.array_equal(dx, [0, 1, np.inf, 0, 0])


@pytest.mark.parametrize("name", LADDERS["log_softmax"])
def test_log_softmax_of_infinities_and_nan(name):
    x = np.array([[0, -np.inf, 1, 2], [np.nan, 0, 1, 2], [-np.inf] * 4, [0, np.inf, 1, 2], [0, 300, 1, 2]], np.float32)
    pair = rung("log_softmax", name)
    y, _ = pair.forward(x)
    np.testing.assert_allclose(y[0], x[0] - np.log(1 + np.exp(1) + np.exp(2)), rtol=1e-6)
    assert np.isnan(y[1:4]).all()
    assert (y[4] == [-300, 0, -299, -298]).all()  # the logarithm of a softmax would have -infinity here
    (dx,) = pair.vjp(np.ones_like(y), y, x, residuals=None, wanted=(True,), into=(None,))
    assert dx[0, 1] == 1 and np.isnan(dx[1:4]).all() and (dx[4] == [1, -3, 1, 1]).all()


@every_rung
def test_a_rung_has_a_launcher_a_kernel_file_and_an_idea(operation, name):
    stem = f"{operation}_{name}"
    text = (FOLDER / f"{stem}.cu").read_text()
    assert re.match(rf"// {operation} {name[:2]}, {name[3:].replace('_', ' ')}: \S", text)
    assert f"{stem}.cu" in rung(operation, name).__doc__.splitlines()[0]
    assert all(len(line) <= 132 for line in text.splitlines())


@pytest.mark.parametrize("header", sorted(FOLDER.glob("*.cuh")), ids=lambda path: path.name)
def test_lines_of_headers_fit(header):
    assert all(len(line) <= 132 for line in header.read_text().splitlines())


def test_every_kernel_file_is_a_rung():
    assert {p.stem for p in FOLDER.glob("*.cu")} == {"_".join(r) for r in RUNGS}
