"""The learning rate schedule against values worked out by hand."""

from __future__ import annotations

import pytest

from handgrad.engine.training.schedule import warmup_cosine


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (0, 1.0 * 1 / 5),
        (3, 1.0 * 4 / 5),
        (4, 1.0),  # the peak: cos(0)
        (8, 0.1 + 0.9 * (1 + 0.7071067811865476) / 2),  # a quarter of the way: cos(pi / 4)
        (12, 0.55),  # half way
        (20, 0.1),
        (21, 0.1),
        (1000, 0.1),
    ],
)
def test_values(step: int, expected: float) -> None:
    assert warmup_cosine(step, lr=1.0, min_lr=0.1, warmup=4, total=20) == pytest.approx(expected, rel=1e-15)


def test_no_warmup_begins_at_the_peak() -> None:
    assert warmup_cosine(0, lr=0.5, min_lr=0.0, warmup=0, total=1) == 0.5


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("step", -1),
        ("lr", 0.0),
        ("lr", float("nan")),
        ("min_lr", 2.0),
        ("min_lr", -0.1),
        ("warmup", 20),
        ("warmup", -1),
    ],
)
def test_wrong_arguments_are_named(name: str, value: float) -> None:
    arguments = {"step": 0, "lr": 1.0, "min_lr": 0.1, "warmup": 4, "total": 20} | {name: value}
    with pytest.raises(ValueError, match=f"warmup_cosine: {name} is {value}, but"):
        warmup_cosine(arguments.pop("step"), **arguments)  # type: ignore[arg-type]
