"""Sums of products over named axes. Formula: reference/einsum.py."""

from __future__ import annotations

__all__: list[str] = []
