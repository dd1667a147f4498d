"""The metrics log and the loss curve drawn from it."""

from __future__ import annotations

import math
import xml.etree.ElementTree as ET
from pathlib import Path

import numpy as np
import pytest

from handgrad.engine.errors import UserError
from handgrad.engine.training.curve import _BOTTOM, _TOP, _ticks, loss_curve_svg
from handgrad.engine.training.metrics import MetricsLog, read_metrics


def test_records_come_back_in_order(tmp_path: Path) -> None:
    log = MetricsLog(tmp_path / "metrics.jsonl")
    log.append(1, loss=np.float32(0.5), lr=1e-3)
    assert read_metrics(tmp_path / "metrics.jsonl") == [{"step": 1, "loss": 0.5, "lr": 1e-3}]  # at once
    log.append(1, validation_loss=np.array([0.25]), note="é")
    log.append(2, loss=math.nan, validation_loss=np.float32("inf"))
    records = read_metrics(tmp_path / "metrics.jsonl")
    assert records[1:] == [
        {"step": 1, "validation_loss": 0.25, "note": "é"},
        {"step": 2, "loss": None, "validation_loss": None},
    ]


def test_resuming_cuts_what_will_be_written_again(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    log = MetricsLog(path)
    for step in range(6):
        log.append(step, loss=step)
    log = MetricsLog(path, resume_step=3)
    assert [record["step"] for record in read_metrics(path)] == [0, 1, 2, 3]
    log.append(4, loss=40)
    assert [record["loss"] for record in read_metrics(path)] == [0, 1, 2, 3, 40]
    MetricsLog(path)
    assert len(read_metrics(path)) == 5


def test_a_torn_last_line_is_ignored_and_not_written_onto(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_text('{"step": 1, "loss": 2.0}\n{"step": 2, "lo')
    assert read_metrics(path) == [{"step": 1, "loss": 2.0}]
    log = MetricsLog(path)
    log.append(2, loss=1.0)
    assert [record["step"] for record in read_metrics(path)] == [1, 2]


@pytest.mark.parametrize("line", ["not json", "[1]", '{"loss": 1}', '{"step": 1.5}', '{"step": true}', "\xff"])
def test_a_file_that_is_no_log(tmp_path: Path, line: str) -> None:
    path = tmp_path / "metrics.jsonl"
    path.write_bytes(b'{"step": 1}\n' + line.encode("latin-1") + b"\n")
    with pytest.raises(UserError, match="line 2, is not a JSON object with an integer step"):
        read_metrics(path)
    with pytest.raises(UserError, match="line 2"):
        MetricsLog(path)
    assert path.read_bytes().startswith(b'{"step": 1}\n' + line.encode("latin-1"))


def test_a_log_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        read_metrics(tmp_path / "metrics.jsonl")


def paths(file: Path) -> dict[str, list[tuple[float, float]]]:
    """The points of each coloured curve, by colour (the last, boldest one of each)."""
    curves = {}
    for element in ET.parse(file).getroot().iter("{http://www.w3.org/2000/svg}path"):
        if element.get("fill") == "none":
            pairs = [pair.split() for pair in element.attrib["d"][1:].split("L")]
            curves[element.attrib["stroke"]] = [(float(x), float(y)) for x, y in pairs]
    return curves


def test_the_curve_is_where_the_axes_say(tmp_path: Path) -> None:
    metrics = [{"step": 0, "loss": 4.0}, {"step": 50, "loss": math.nan}, {"step": 100, "loss": 1.0}]
    metrics += [{"step": 0, "validation_loss": 4.0}, {"step": 50, "validation_loss": 2.5, "loss": None}]
    file = tmp_path / "loss.svg"
    loss_curve_svg(metrics, file, title="a < b & c")
    training, validation = paths(file).values()
    assert training == [(80, 76), (760, 394)]  # the plot's corners: ticks 1 to 4, iterations 0 to 100
    assert validation == [(80, 76), (420, 235)]
    texts = ["".join(e.itertext()) for e in ET.parse(file).getroot().iter("{http://www.w3.org/2000/svg}text")]
    assert texts[0] == "a < b & c"
    assert {"1", "2", "3", "4", "0", "100", "iteration", "loss"} <= {text.removesuffix(".0") for text in texts}
    assert any("training 1.000" in text and "validation 2.500" in text for text in texts)


def test_long_runs_stay_small_and_keep_their_ends(tmp_path: Path) -> None:
    metrics = [{"step": step, "loss": 3.0 + (-1) ** step} for step in range(30_000)]
    loss_curve_svg(metrics, tmp_path / "loss.svg")
    (smooth,) = paths(tmp_path / "loss.svg").values()
    assert len(smooth) == 1000
    assert (tmp_path / "loss.svg").stat().st_size < 40_000
    middle = [y for _, y in smooth]
    assert max(middle) - min(middle) < 20  # the alternation averages out


def test_noise_is_drawn_faint_under_its_moving_average(tmp_path: Path) -> None:
    loss_curve_svg([{"step": step, "loss": 3.0 + (-1) ** step} for step in range(400)], tmp_path / "loss.svg")
    root = ET.parse(tmp_path / "loss.svg").getroot()
    curves = [element for element in root.iter("{http://www.w3.org/2000/svg}path") if element.get("fill") == "none"]
    assert [float(curve.attrib["stroke-opacity"]) for curve in curves] == [0.35, 1.0]
    heights = [float(pair.split()[1]) for pair in curves[1].attrib["d"][1:].split("L")]
    assert max(heights[4:-4]) - min(heights[4:-4]) < 0.2 * (_BOTTOM - _TOP)  # the raw line spans all of it


@pytest.mark.parametrize("metrics", [[], [{"step": 1, "lr": 0.1}], [{"step": 1, "loss": math.inf}]])
def test_nothing_to_draw(tmp_path: Path, metrics: list[dict[str, float]]) -> None:
    with pytest.raises(UserError, match="no finite loss"):
        loss_curve_svg(metrics, tmp_path / "loss.svg")


@pytest.mark.parametrize("low", [-3.7, 0.0, 1e-7, 2.0, 1e6])
@pytest.mark.parametrize("span", [0.0, 1e-7, 0.03, 1.0, 7.5, 1e9])
def test_ticks_are_few_even_and_around_the_data(low: float, span: float) -> None:
    ticks = _ticks(low, low + span, 6)
    assert 2 <= len(ticks) <= 7
    assert ticks[0] <= low + 1e-9 * abs(low)
    assert ticks[-1] >= low + span - 1e-9 * abs(low + span)
    step = ticks[1] - ticks[0]
    assert np.allclose(np.diff(ticks), step, rtol=1e-3)
    assert any(math.isclose(step / 10 ** math.floor(math.log10(step)), f, rel_tol=1e-3) for f in (1, 2, 5, 10))
