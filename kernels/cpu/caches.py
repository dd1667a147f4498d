"""How large this machine's caches are."""

from pathlib import Path

LINUX = Path("/sys/devices/system/cpu/cpu0/cache")


def cache_sizes(folder: Path = LINUX) -> dict[str, int]:
    """Bytes of each level ("L1", "L2", ...) that a core can use, as Linux tells them; nothing of others."""
    found = {}
    for index in sorted(folder.glob("index*")):
        try:
            kind, level, size = ((index / name).read_text().strip() for name in ("type", "level", "size"))
            if kind != "Instruction":
                found[f"L{level}"] = int(size.rstrip("KM")) << {"K": 10, "M": 20}.get(size[-1:], 0)
        except (OSError, ValueError):
            continue
    return found
