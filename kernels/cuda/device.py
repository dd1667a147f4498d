"""The GPU, as far as kernels ask about it: CuPy, the architecture to compile for, and in a sentence why there is none."""

from importlib import import_module
from typing import Any

OLDEST = 80
"""sm_80, Ampere: cp.async, bfloat16 and the mma.sync shapes of the ladders begin there."""


def cupy() -> Any:
    """CuPy. Raises OSError with a sentence that says what to install."""
    try:
        return import_module("cupy")
    except ImportError as error:
        if error.name == "cupy":
            raise OSError(
                "CuPy is not installed, without which nothing runs on a GPU: pip install 'handgrad[cuda13]' for drivers of "
                "CUDA 13, 'handgrad[cuda12]' for those of CUDA 12 (nvidia-smi says which)"
            ) from None
        said = [line.strip() for line in str(error).splitlines() if "Error:" in line] or [str(error).strip()]
        raise OSError(f"CuPy is installed but cannot be imported: {said[-1]}") from error


def architecture(number: int | None = None) -> str:
    """What to compile for on GPU `number`, or on the current one: sm_80, sm_90a (Hopper, with what only Hopper has) ...

    Raises OSError with a sentence where CuPy, a driver or a GPU is missing, or where the GPU is older than sm_80.
    """
    runtime = cupy().cuda
    try:
        count = runtime.runtime.getDeviceCount()
    except RuntimeError as error:
        raise OSError(
            f"there is no GPU to run on ({str(error).split(':')[0]}): install NVIDIA's driver so that nvidia-smi lists the "
            "GPU; NumPy arrays run on the CPU"
        ) from error
    if count == 0:
        raise OSError("there is no GPU to run on: nvidia-smi must list one; NumPy arrays run on the CPU")
    device = runtime.Device() if number is None else runtime.Device(number)
    capability = int(device.compute_capability)
    if capability < OLDEST:
        raise OSError(
            f"GPU {device.id} is of sm_{capability}, but these kernels need sm_{OLDEST} (A100) or newer; NumPy arrays run on "
            "the CPU"
        )
    return "sm_90a" if capability == 90 else f"sm_{capability}"
