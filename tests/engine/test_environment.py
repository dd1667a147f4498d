"""HANDGRAD_* variables."""

from __future__ import annotations

import pytest

from handgrad.engine.environment import Environment, read


def test_nothing_set_gives_the_defaults() -> None:
    assert read({}) == read({"HANDGRAD_DEBUG": "", "HANDGRAD_THREADS": " "}) == Environment(0, "auto", None)


def test_every_variable_is_read() -> None:
    environ = {"HANDGRAD_DEBUG": "4", "HANDGRAD_KERNELS": "force", "HANDGRAD_THREADS": "12"}
    assert read(environ) == Environment(debug=4, kernels="force", threads=12)


@pytest.mark.parametrize(
    ("name", "value", "wanted"),
    [
        ("HANDGRAD_DEBUG", "5", "0, 1, 2, 3 or 4"),
        ("HANDGRAD_DEBUG", "-1", "0, 1, 2, 3 or 4"),
        ("HANDGRAD_DEBUG", "yes", "0, 1, 2, 3 or 4"),
        ("HANDGRAD_KERNELS", "on", "auto, off or force"),
        ("HANDGRAD_THREADS", "0", "positive whole number"),
        ("HANDGRAD_THREADS", "2.5", "positive whole number"),
        ("HANDGRAD_THREADS", "²", "positive whole number"),
    ],
)
def test_a_wrong_value_is_a_sentence(name: str, value: str, wanted: str) -> None:
    with pytest.raises(ValueError, match=f"^{name} is '{value}', but it must be .*{wanted}"):
        read({name: value})
