"""Atomic writes, safetensors and the reading of users' text files."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import BinaryIO

import ml_dtypes
import numpy as np
import pytest
import safetensors.numpy

from handgrad.engine.errors import UserError
from handgrad.engine.files import load_tensors, read_text, save_tensors, write_atomically, write_text_atomically


def test_text_is_written_as_it_is(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a.txt", "é\r\n\n")
    assert (tmp_path / "a.txt").read_bytes() == b"\xc3\xa9\r\n\n"
    assert os.listdir(tmp_path) == ["a.txt"]


@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt(), SystemExit(1)])
def test_a_failure_leaves_the_old_file_and_nothing_else(tmp_path: Path, error: BaseException) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")

    def fail(file: BinaryIO) -> None:
        file.write(b"half of the ne")
        raise error

    with pytest.raises(type(error)):
        write_atomically(path, fail)
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.txt"]


def test_the_file_then_its_rename_then_its_folder_reach_the_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, replace = os.fsync, os.replace

    def log_fsync(descriptor: int) -> None:
        events.append("folder" if stat.S_ISDIR(os.fstat(descriptor).st_mode) else "file")
        fsync(descriptor)

    def log_replace(source: Path, target: Path) -> None:
        assert source.read_bytes() == b"new"
        events.append("rename")
        replace(source, target)

    monkeypatch.setattr(os, "fsync", log_fsync)
    monkeypatch.setattr(os, "replace", log_replace)
    write_text_atomically(tmp_path / "a.txt", "new")
    assert events == ["file", "rename", "folder"]


def test_a_kill_leaves_the_old_file_or_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    code = (
        "import sys\nfrom handgrad.engine.files import write_atomically\n"
        "for i in range(10**9):\n"
        "    write_atomically(sys.argv[1], lambda f: [f.write(bytes([i % 256]) * 65536) for _ in range(16)])\n"
        "    if i == 3: print('ready', flush=True)\n"
    )
    for pause in (0.0, 0.003, 0.011):
        process = subprocess.Popen([sys.executable, "-c", code, str(path)], stdout=subprocess.PIPE)
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(pause)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        data = path.read_bytes()
        assert len(data) == 16 * 65536
        assert len(set(data)) == 1


def test_permissions_and_links_survive(tmp_path: Path) -> None:
    path, link = tmp_path / "a.txt", tmp_path / "link"
    path.write_text("old")
    path.chmod(0o640)
    link.symlink_to("a.txt")
    write_text_atomically(link, "new")
    assert link.is_symlink()
    assert path.read_text() == "new"
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_where_a_file_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"the folder .*missing does not exist"):
        write_text_atomically(tmp_path / "missing" / "a.txt", "x")
    with pytest.raises(UserError, match="it is a folder"):
        write_text_atomically(tmp_path, "x")


def test_tensors_round_trip_whatever_their_layout(tmp_path: Path) -> None:
    base = np.arange(24, dtype=np.float32).reshape(4, 6)
    arrays = {
        "transposed": base.T,
        "strided": base[::2, ::-3],
        "broadcast": np.broadcast_to(np.float64(2.5), (3, 2)),
        "scalar": np.array(7, dtype=np.int64),
        "empty": np.empty((0, 3), dtype=np.float16),
        "big_endian": base.astype(">f4"),
        "mask": base > 3,
    }
    save_tensors(tmp_path / "m.safetensors", arrays, {"step": "3"})
    loaded, metadata = load_tensors(tmp_path / "m.safetensors")
    assert metadata == {"step": "3"}
    assert loaded.keys() == arrays.keys()
    for name, array in arrays.items():
        assert loaded[name].shape == array.shape, name
        assert loaded[name].dtype == array.dtype.newbyteorder("="), name
        assert np.array_equal(loaded[name], array), name
        assert loaded[name].flags.writeable, name


def test_equal_content_gives_equal_bytes_that_safetensors_reads(tmp_path: Path) -> None:
    path, metadata = tmp_path / "m.safetensors", {f"key{i}é": str(i) for i in range(20)}
    written = set()
    for _ in range(5):
        save_tensors(path, {"a": np.arange(3)}, metadata)
        written.add(path.read_bytes())
    assert len(written) == 1
    assert safetensors.numpy.load_file(path)["a"].tolist() == [0, 1, 2]
    assert load_tensors(path)[1] == metadata


def test_tensors_begin_at_a_multiple_of_8(tmp_path: Path) -> None:
    for length in range(1, 9):
        save_tensors(tmp_path / "m.safetensors", {"a" * length: np.arange(3)})
        assert int.from_bytes((tmp_path / "m.safetensors").read_bytes()[:8], "little") % 8 == 0


def test_tensors_without_metadata(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m.safetensors", {})
    assert load_tensors(tmp_path / "m.safetensors") == ({}, {})


def test_a_dtype_that_safetensors_lacks_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"cannot save 'wide' to .*: its dtype is complex128"):
        save_tensors(tmp_path / "m.safetensors", {"ok": np.ones(2), "wide": np.ones(2, np.complex128)})
    assert os.listdir(tmp_path) == []


def test_missing_and_broken_tensor_files(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with pytest.raises(UserError, match=r"does not exist$"):
        load_tensors(path)
    with pytest.raises(UserError, match="is a folder"):
        load_tensors(tmp_path)
    save_tensors(path, {"a": np.arange(3)})
    whole = path.read_bytes()
    for broken in (b"", b"PK\x03\x04 a zip archive", whole[:-1], whole[:20]):
        path.write_bytes(broken)
        with pytest.raises(UserError, match="is not a whole safetensors file"):
            load_tensors(path)


def test_bfloat16_loads_in_a_process_that_knows_it_from_nowhere_else(tmp_path: Path) -> None:
    save_tensors(tmp_path / "m.safetensors", {"a": np.array([1.5, -2.0], ml_dtypes.bfloat16)})
    code = (
        "import sys; from handgrad.engine.files import load_tensors; print(load_tensors(sys.argv[1])[0]['a'].tolist())"
    )
    command = [sys.executable, "-c", code, str(tmp_path / "m.safetensors")]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout == "[1.5, -2.0]\n"


def test_text_keeps_its_newlines(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("\ufeffa\r\nb\rc\n".encode())
    assert read_text(tmp_path / "a.txt") == "\ufeffa\r\nb\rc\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "is empty"),
        ("é".encode(), "has 1 character,"),
        (b"abc\xe9def", r"not UTF-8 \(byte 0xe9 at offset 3"),
        (b"abc\xc3", r"not UTF-8 \(byte 0xc3 at offset 3"),
        (b"\x7fELF\x00\x01", r"binary file \(a NUL byte at offset 4\)"),
        ("hello".encode("utf-16"), "is UTF-16"),
    ],
)
def test_text_that_cannot_be_used(tmp_path: Path, data: bytes, message: str) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    with pytest.raises(UserError, match=message):
        read_text(tmp_path / "a.txt")


def test_text_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"a\.txt does not exist$"):
        read_text(tmp_path / "a.txt")
    with pytest.raises(UserError, match="is a folder, but"):
        read_text(tmp_path)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads everything")
def test_text_that_may_not_be_read(tmp_path: Path) -> None:
    write_text_atomically(tmp_path / "a.txt", "secret")
    (tmp_path / "a.txt").chmod(0)
    with pytest.raises(UserError, match="permissions forbid it"):
        read_text(tmp_path / "a.txt")
