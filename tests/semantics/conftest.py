"""What the tests of docs/semantics.md share. Each carries `answers`, the mark with the question that it answers."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

import handgrad as hg
from handgrad import Tensor

Near = Callable[..., None]


@pytest.fixture(params=[np.float32, np.float64], ids=["float32", "float64"])
def dtype(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture(params=["off", "force"])
def kernels(request: pytest.FixtureRequest) -> Iterator[str]:
    """Formulas alone, then kernels wherever there is one; a test that asks for this and reaches no kernel fails."""
    with hg.use_kernels(request.param) as calls:
        yield request.param
    assert request.param == "off" or calls, "no operation of this test has a kernel"


@pytest.fixture(autouse=True)
def quiet() -> Iterator[None]:
    """Semantics live at the edges, where NumPy warns."""
    with np.errstate(all="ignore"):
        yield


@pytest.fixture
def near() -> Near:
    def near(got: Any, want: Any, units: float = 16.0) -> None:
        """The same shape, NaN and infinities as want, and errors within `units` roundings of its largest number."""
        assert type(got) is Tensor
        want = np.asarray(want, np.float64)
        assert got.shape == want.shape
        scale = float(np.max(np.abs(want), initial=1.0, where=np.isfinite(want)))
        bound = units * float(np.finfo(got.dtype).eps) * scale
        np.testing.assert_allclose(got.detach().numpy(), want, rtol=0, atol=bound)

    return near
