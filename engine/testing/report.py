"""What a check says: a Report of named checks with their worst errors, or a CheckError with one sentence."""

from __future__ import annotations

from dataclasses import dataclass, field


class CheckError(AssertionError):
    """A check failed. `check` names it; the message says operation, check, what was got and wanted, and how to repeat it."""

    def __init__(self, message: str, check: str = "") -> None:
        super().__init__(message)
        self.check = check


class Inconclusive(CheckError):
    """A check could not decide: its own error estimate stayed too large (a kink, a jump, noise). Never counted as a pass."""


@dataclass
class Check:
    """The worst case that one check has met: `error` of `allowed`, in `count` comparisons."""

    name: str
    error: float = 0.0
    allowed: float = 0.0
    count: int = 0

    @property
    def ratio(self) -> float:
        return self.error / self.allowed if self.allowed > 0 else 0.0


@dataclass
class Report:
    """What `check_op` returns when every check passed.

    checks: by name, in the order in which they ran; skipped: name -> why it does not apply; warnings: sentences about
    what is not wrong but could be better (a row that declares more `reads` than its vjp needs); redrawn: why some points
    were given up for others, because a check could not decide there.
    """

    name: str
    seed: int
    checks: dict[str, Check] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    redrawn: list[str] = field(default_factory=list)

    def add(self, name: str, error: float = 0.0, allowed: float = 0.0) -> None:
        """One more comparison that passed."""
        check = self.checks.setdefault(name, Check(name))
        self.skipped.pop(name, None)
        check.count += 1
        if allowed > 0 and (check.allowed == 0 or error / allowed >= check.ratio):
            check.error, check.allowed = float(error), float(allowed)

    def skip(self, name: str, why: str) -> None:
        """A check that does not apply here; nothing is said if it did apply to another sample."""
        if name not in self.checks:
            self.skipped[name] = why

    def __str__(self) -> str:
        lines = [f"{self.name}: {len(self.checks)} checks passed (seed {self.seed})"]
        for check in self.checks.values():
            worst = f"worst error {check.error:.1e} of {check.allowed:.1e} allowed" if check.allowed else "exact"
            lines.append(f"  {check.name:<20} {check.count:>4} x  {worst}")
        lines += [f"  {name:<20}    -    {why}" for name, why in self.skipped.items()]
        lines += [f"  warning: {sentence}" for sentence in self.warnings]
        lines += [f"  drawn again: {sentence}" for sentence in self.redrawn]
        return "\n".join(lines)
