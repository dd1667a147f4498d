"""Files that users own: written so that a kill at any moment leaves the old file or the new one, never half of one."""

from __future__ import annotations

import errno
import json
import os
import secrets
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import ml_dtypes  # noqa: F401  (makes bfloat16 a dtype that safetensors can name)
import numpy as np
import safetensors
import safetensors.numpy

from .errors import UserError

__all__ = ["load_tensors", "read_text", "save_tensors", "write_atomically", "write_text_atomically"]

Array = np.ndarray[Any, np.dtype[Any]]
StrPath = str | os.PathLike[str]

_DTYPES = (
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("bfloat16", "float16", "float32", "float64", "complex64"),
)


def write_atomically(path: StrPath, write: Callable[[BinaryIO], object]) -> None:
    """Give `write` a new file and, when it returns, let that file take `path`'s place; a link's target is replaced.

    The new file lies beside `path` as `.<name>.<random>.tmp` and is on the disk before it is renamed, the folder's
    entry after that. If anything fails, Ctrl-C included, the new file is removed and `path` is as it was.
    Raises UserError if the folder does not exist or `path` is a folder; OSError such as a full disk goes through.
    """
    target = Path(os.path.realpath(path))
    if not target.parent.is_dir():
        raise UserError(f"cannot write {path}: the folder {target.parent} does not exist")
    if target.is_dir():
        raise UserError(f"cannot write {path}: it is a folder, but it must name a file")
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}.tmp")
    try:
        with open(temporary, "xb") as file:
            if target.exists():
                shutil.copymode(target, temporary)
            write(file)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync_folder(target.parent)


def write_text_atomically(path: StrPath, text: str) -> None:
    """Write `text` as UTF-8 with its newlines as they are; see `write_atomically`."""
    data = text.encode("utf-8")
    write_atomically(path, lambda file: file.write(data))


def save_tensors(path: StrPath, arrays: Mapping[str, Array], metadata: Mapping[str, str] | None = None) -> None:
    """Write named arrays of any shape and strides as safetensors; the same content always gives the same bytes.

    Raises UserError naming the array whose dtype safetensors does not know, and as `write_atomically` does.
    """
    # safetensors writes shape[0] * ... bytes from the first element on, whatever the strides: C order is our duty
    dense = {name: np.asarray(array, order="C") for name, array in arrays.items()}
    for name, array in dense.items():
        if array.dtype.name not in _DTYPES:
            known = ", ".join(_DTYPES)
            raise UserError(
                f"cannot save {name!r} to {path}: its dtype is {array.dtype}, but it must be one of {known}"
            )
    data = safetensors.numpy.save(dense, dict(metadata) if metadata else None)
    end = 8 + int.from_bytes(data[:8], "little")
    header = _sorted_metadata(data[8:end])

    def write(file: BinaryIO) -> None:
        file.write(len(header).to_bytes(8, "little") + header)
        file.write(memoryview(data)[end:])

    write_atomically(path, write)


def load_tensors(path: StrPath) -> tuple[dict[str, Array], dict[str, str]]:
    """Return (arrays by name, metadata) of a safetensors file; the arrays are the caller's own and writable.

    Raises UserError if the file is missing, a folder, unreadable or broken.
    """
    _check_readable(path)
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            names = file.keys()
            return {name: file.get_tensor(name) for name in names}, file.metadata() or {}
    except safetensors.SafetensorError as error:
        raise UserError(f"{path} is not a whole safetensors file ({error}): write or download it again") from error


def read_text(path: StrPath) -> str:
    """Return the UTF-8 text of a file a user gave us, with its newlines (and a byte order mark) as they are.

    Raises UserError if it is missing, a folder, unreadable, binary, not UTF-8, or shorter than two characters.
    """
    _check_readable(path)
    data = Path(path).read_bytes()
    if not data:
        raise UserError(f"{path} is empty, but a text of at least 2 characters is needed")
    if data.startswith((b"\xff\xfe", b"\xfe\xff")):
        raise UserError(f"{path} is UTF-16, but it must be UTF-8: convert it with `iconv -f UTF-16 -t UTF-8`")
    if (zero := data.find(0)) >= 0:
        raise UserError(f"{path} is a binary file (a NUL byte at offset {zero}), but it must be UTF-8 text")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        found = f"byte 0x{data[error.start]:02x} at offset {error.start}"
        raise UserError(f"{path} is not UTF-8 ({found}, {error.reason}), but it must be UTF-8 text") from None
    if len(text) == 1:
        raise UserError(f"{path} has 1 character, but a text of at least 2 characters is needed")
    return text


def _check_readable(path: StrPath) -> None:
    if not os.path.exists(path):
        raise UserError(f"{path} does not exist")
    if os.path.isdir(path):
        raise UserError(f"{path} is a folder, but it must be a file")
    if not os.access(path, os.R_OK):
        raise UserError(f"{path} cannot be read: its permissions forbid it")


def _sorted_metadata(header: bytes) -> bytes:
    """The header with its metadata in sorted order: safetensors writes them in the order of a random hash."""
    fields = json.loads(header)
    if "__metadata__" in fields:
        fields["__metadata__"] = dict(sorted(fields["__metadata__"].items()))
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False).encode("utf-8")
    return text + b" " * (-len(text) % 8)  # tensors begin at a multiple of 8


def _sync_folder(folder: Path) -> None:
    """Make a rename in `folder` last through a power cut; where folders cannot be synced, do nothing."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:  # Windows, or a folder that may be written but not listed
        return
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.EBADF):
            raise
    finally:
        os.close(descriptor)
