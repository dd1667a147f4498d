"""What else the array API standard names: searching, sorting, sets, and compositions of rows."""

from __future__ import annotations

__all__: list[str] = []
