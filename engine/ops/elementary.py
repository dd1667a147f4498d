"""More functions of one number or two: roots, logarithms, circles. Formulas: reference/trigonometric.py ..."""

from __future__ import annotations

__all__: list[str] = []
