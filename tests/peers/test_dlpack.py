"""DLPack: arrays change hands between NumPy, PyTorch and hg.Tensor, without a copy where nobody could write by it."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch", reason="PyTorch is absent: pip install -e '.[peers]'")

import handgrad as hg  # noqa: E402

pytestmark = pytest.mark.peers

DTYPES = ["float32", "float64", "int32", "int64", "uint8", "bool"]
SHAPES = [(), (5,), (2, 3), (2, 0, 3)]


def example(dtype: str, shape: tuple[int, ...]) -> np.ndarray:
    numbers = np.arange(int(np.prod(shape))).reshape(shape)
    return np.asarray(numbers % 2 if dtype == "bool" else numbers).astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_torch_to_tensor_and_back(dtype: str, shape: tuple[int, ...]) -> None:
    theirs = torch.from_numpy(example(dtype, shape).copy())
    ours = hg.from_dlpack(theirs)
    assert isinstance(ours, hg.Tensor)
    assert (ours.shape, ours.dtype) == (shape, np.dtype(dtype))
    back = torch.from_dlpack(ours)
    assert back.dtype == theirs.dtype
    assert torch.equal(back, theirs)


@pytest.mark.parametrize("dtype", DTYPES)
def test_numpy_to_tensor_and_back(dtype: str) -> None:
    array = example(dtype, (2, 3))
    back = np.from_dlpack(hg.from_dlpack(array))
    assert back.dtype == array.dtype
    np.testing.assert_array_equal(back, array)


def test_numpy_and_from_dlpack_share_memory() -> None:
    theirs = torch.arange(6.0)
    ours = hg.from_dlpack(theirs)
    theirs[0] = 42.0
    assert ours.detach().numpy()[0] == 42.0


def test_nobody_can_write_into_a_tensor_by_dlpack() -> None:
    """PyTorch ignores DLPack's read-only flag, so whoever asks gets a copy, unless it refuses one."""
    ours = hg.Tensor([1.0, 2.0, 3.0])
    torch.from_dlpack(ours)[0] = 42.0
    assert ours.numpy().tolist() == [1.0, 2.0, 3.0]
    view: Any = np.from_dlpack(ours)
    if view.flags.writeable:
        view[0] = 42.0
    assert ours.numpy().tolist() == [1.0, 2.0, 3.0]


def test_results_and_strides_survive() -> None:
    ours = hg.Tensor(np.arange(6.0).reshape(2, 3)).mT  # a view with other strides
    assert torch.equal(torch.from_dlpack(ours), torch.arange(6.0, dtype=torch.float64).reshape(2, 3).T)
    strided = torch.arange(12.0).reshape(3, 4)[::2, 1::2]
    np.testing.assert_array_equal(hg.from_dlpack(strided).numpy(), strided.numpy())


def test_what_requires_grad_must_be_detached_first() -> None:
    leaf = hg.Tensor([1.0, 2.0], requires_grad=True)
    with pytest.raises(RuntimeError, match="detach"):
        torch.from_dlpack(leaf)
    assert torch.from_dlpack(leaf.detach()).tolist() == [1.0, 2.0]


def test_torch_from_numpy_and_asarray_of_a_tensor() -> None:
    ours = hg.Tensor([[1.0, 2.0], [3.0, 4.0]])
    np.testing.assert_array_equal(np.asarray(ours), ours.numpy())
    assert torch.equal(torch.tensor(np.array(ours)), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    assert hg.Tensor(torch.arange(3.0).numpy()).numpy().tolist() == [0.0, 1.0, 2.0]
