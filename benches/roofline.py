"""The roofline of this machine (Williams, Waterman and Patterson 2009): measured, and as a limit for each kernel.

A kernel that needs F operations and M bytes takes at least F / peak and M / bandwidth seconds; which of the two is larger says
what bounds it. Bandwidth depends on where the bytes lie: those of warm arrays as near as they fit, of cold inputs in memory.
"""

from __future__ import annotations

from typing import Any

import harness

from handgrad.kernels.cpu.caches import cache_sizes

MARGIN = 1.1
"""More than this share of a limit is an error: ours, or the limit's, whose measurement is as noisy as any other."""

USUAL = {"L1": 32 << 10, "L2": 1 << 20, "L3": 16 << 20}


def caches() -> dict[str, int]:
    """Bytes of each level that a core can use; what is usual where the machine does not tell."""
    return cache_sizes() or USUAL


def measure(threads: int) -> dict[str, Any]:
    """Peak in GFLOP/s, and for each level of memory how much fits in (for all threads) and how fast it is, in GB/s."""
    with harness.Worker("limits.py") as worker:
        return Ceiling(worker, threads).limits


class Ceiling:
    """What a machine can do at most, by a worker that stays. Measured when it is first asked for, so that a side that is wrong
    is said before that takes its seconds; in short beside each row, since processors become faster and slower; and anew where
    a figure is beyond it. The best of all counts: what else runs can only make a measurement lower.

    A level is as fast as the fastest of the sizes that fit into it and not into the one before: a last cache that is shared
    with other machines, as in a cloud, keeps less of a large array than its size promises.
    """

    def __init__(self, worker: harness.Worker, threads: int, again: int = 0) -> None:
        self.worker, self.threads, self.left = worker, threads, again
        self.found: dict[str, Any] = {}
        self.fastest: dict[str, int] = {}
        """The size, in bytes for each thread, at which a cache was fastest."""

    @property
    def limits(self) -> dict[str, Any]:
        """As `measure` returns them."""
        if not self.found:
            self.worker.ask("start", threads=self.threads)
            self.found = self._measured()
            show(self.found)
        return self.found

    def beside(self) -> None:
        """Peak and caches once more, in a tenth of a second each."""
        peak = round(self.worker.ask("peak", seconds=0.1), 1)
        levels = {name: {"bandwidth": self._bandwidth(size, 0.1)} for name, size in self.fastest.items()}
        self.found = higher(self.found, {"peak": peak, "levels": levels})

    def again(self) -> bool:
        """Whether all was measured once more."""
        if not self.left:
            return False
        self.left -= 1
        self.found = higher(self.found, self._measured())
        print("\nmeasured again, because figures were beyond it:")
        show(self.found)
        return True

    def _measured(self) -> dict[str, Any]:
        sizes, threads = caches(), self.threads
        last = max(sizes.values())
        peak = round(self.worker.ask("peak", seconds=1.0), 1)
        found: dict[str, Any] = {"threads": threads, "peak": peak, "last_cache": last, "levels": {}}
        smaller = 4096
        for name, size in sizes.items():
            shared = size == last
            each = size // threads if shared else size
            inside = [each >> halvings for halvings in range(1, 16, 2) if each >> halvings > smaller] or [each // 2]
            speeds = {bytes_each: self._bandwidth(bytes_each) for bytes_each in inside}
            self.fastest[name] = max(speeds, key=speeds.__getitem__)
            found["levels"][name] = {"holds": size if shared else threads * size, "bandwidth": max(speeds.values())}
            smaller = each
        outside = max(self._bandwidth(times * last // threads) for times in (2, 4))
        found["levels"]["memory"] = {"holds": None, "bandwidth": outside}
        return found

    def _bandwidth(self, size: int, seconds: float = 0.3) -> float:
        return round(self.worker.ask("bandwidth", size=size, seconds=seconds), 1)


def show(limits: dict[str, Any]) -> None:
    """One line."""
    levels = ", ".join(f"{name} {level['bandwidth']:.0f}" for name, level in limits["levels"].items())
    print(f"at most {limits['peak']:.0f} GFLOP/s (float32); GB/s from {levels}; {limits['threads']} threads")


def limit(limits: dict[str, Any], flops: float, moved: float, *, far: float = 0.0) -> dict[str, Any]:
    """The fewest seconds in which `flops` operations and `moved` bytes can be done, and what they are bound by.

    far: so many of the bytes are known to lie in memory. The others lie as near as they can: as many as the first cache
    holds in it, as many as the second holds more in that, and so on.
    """
    memory = limits["levels"]["memory"]["bandwidth"]
    far = min(far, moved)
    left, inside, moving, name = moved - far, 0.0, far / memory, "memory"
    for level, found in limits["levels"].items():
        part = left if found["holds"] is None else min(left, found["holds"] - inside)
        moving, left, inside = moving + part / found["bandwidth"], left - part, inside + part
        if not left:
            name = "memory" if far else level
            break
    computing, moving = flops / limits["peak"] * 1e-9, moving * 1e-9
    return {"seconds": max(computing, moving), "bound": "peak" if computing > moving else name}


def higher(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The better of two measurements, figure by figure; `after` may lack levels."""
    levels = {
        name: level | {"bandwidth": max(level["bandwidth"], after["levels"].get(name, level)["bandwidth"])}
        for name, level in before["levels"].items()
    }
    return before | {"peak": max(before["peak"], after["peak"]), "levels": levels}
