"""What is read of the caches of a machine."""

from handgrad.kernels.cpu.caches import cache_sizes


def test_sizes_are_what_linux_says(tmp_path):
    told = [
        ("Data", 1, "48K\n"), ("Instruction", 1, "32K"), ("Unified", 2, "2M"), ("Unified", 3, "1024"), ("Unified", 4, "much"),
    ]  # fmt: skip
    for n, (kind, level, size) in enumerate(told):
        folder = tmp_path / f"index{n}"
        folder.mkdir()
        for name, text in (("type", kind), ("level", level), ("size", size)):
            (folder / name).write_text(str(text))
    (tmp_path / "index9").mkdir()
    assert cache_sizes(tmp_path) == {"L1": 48 << 10, "L2": 2 << 20, "L3": 1024}
    assert cache_sizes(tmp_path / "absent") == {}


def test_sizes_of_this_machine():
    assert all(1 << 12 <= size <= 1 << 32 for size in cache_sizes().values())
