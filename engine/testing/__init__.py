"""Testing for everyone's operations: `check_op` and what it is made of.

    from handgrad.engine.testing import check_op, CheckError

Start reading with check.py (what is checked), then differences.py and first_order.py (why it can be trusted).
"""

from .. import ops  # gives Tensor its namespace: formulas run on Tensors too
from .check import check_op
from .draw import random_sample
from .laws import LAWS
from .report import CheckError, Inconclusive, Report
from .wrongs import false_alarms, generated, rejects

__all__ = [
    "LAWS", "CheckError", "Inconclusive", "Report", "check_op", "false_alarms", "generated", "random_sample", "rejects",
]  # fmt: skip
