"""`handgrad bench`: the benches of a checkout. They are not part of an installed wheel: figures belong to sources."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ..errors import UserError

BENCHES = Path(__file__).resolve().parents[2] / "benches"


def run(arguments: list[str]) -> int:
    """Runs benches/ops.py with these arguments in a process of its own; returns its exit code."""
    script = BENCHES / "ops.py"
    if not script.is_file():
        raise UserError(
            "bench needs a clone of the repository, in which benches/ops.py lies; an installed wheel has none"
        )
    return subprocess.run([sys.executable, str(script), *arguments], check=False).returncode
