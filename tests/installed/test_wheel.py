"""The installed package, used as its users do: run outside the checkout, against the wheel or the editable install."""

import subprocess
import sys
from pathlib import Path

import handgrad as hg

HANDGRAD = Path(sys.executable).with_name("handgrad")


def handgrad(*arguments: str, folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([str(HANDGRAD), *arguments], cwd=folder, capture_output=True, text=True, timeout=300)


def test_first_derivative():
    x = hg.Tensor([1.0, 2.0, 3.0], requires_grad=True)
    hg.softmax(x).backward(hg.Tensor([1.0, 0.0, 0.0]))
    assert x.grad is not None
    assert abs(float(x.grad.sum())) < 1e-6
    assert abs(float(x.grad[0]) - 0.0819) < 1e-4


def test_typed_marker_and_every_room_are_packaged():
    root = Path(hg.__file__).parent
    assert (root / "py.typed").exists()
    for room in ("reference/table.py", "kernels/cpu/softmax.py", "engine/tensor.py", "engine/cli/main.py"):
        assert (root / room).exists(), room


def test_train_then_generate(tmp_path: Path):
    (tmp_path / "text.txt").write_text("the quick brown fox jumps over the lazy dog. " * 60)
    trained = handgrad(
        "train", "gpt", "--text", "text.txt", "--out", "run", "--steps", "20", "--width", "32", "--layers", "1",
        "--context", "16", folder=tmp_path,
    )  # fmt: skip
    assert trained.returncode == 0, trained.stderr
    for name in ("model/config.json", "model/model.safetensors", "model/tokenizer.json", "metrics.jsonl", "loss.svg"):
        assert (tmp_path / "run" / name).stat().st_size > 0
    written = handgrad("generate", "run", "--prompt", "the ", "--tokens", "20", folder=tmp_path)
    assert written.returncode == 0, written.stderr
    assert written.stdout.startswith("the ") and len(written.stdout) == 4 + 20 + 1


def test_explain(tmp_path: Path):
    shown = handgrad("explain", "softmax", "--x", "1 2 3", folder=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "0.0900" in shown.stdout and "0.6652" in shown.stdout
