"""The textbook: every operation as mathematics. Start with `op.py`, then `softmax.py`; `table.py` lists every row."""

if __name__ == "reference":
    raise ImportError("import this package as handgrad.reference (the checkout itself is the package handgrad)")
