"""NVRTC makes a cubin of a `.cu` for one architecture; results are kept under the user's cache folder. It needs no GPU.

What is compiled is named after the hash of all that it depends on: the source, every header that it includes, directly or
through others, the architecture, the options and the exact build of the compiler. It is written under another name and
renamed: a kill at any moment leaves the old state or the new one, and several processes may compile the same.
"""

import functools
import hashlib
import os
import re
import tempfile
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from .device import OLDEST
from .on_cpu.compiler import CompileError, folder

HERE = Path(__file__).parent
OPTIONS = ("-std=c++17", "-fmad=true", "-ftz=false", "-prec-div=true", "-prec-sqrt=true", "-Xptxas=-v")
"""NVRTC's defaults but for the last, said aloud because numbers depend on them:

-fmad=true         a * b + c is rounded once where the compiler sees it: half the instructions of a product and a smaller
                   error, but other last bits than on the CPU, where on_cpu rounds twice
-ftz=false         numbers below 1.2e-38 stay what they are, as in NumPy (CuPy by itself would pass -ftz=true)
-prec-div=true     / and sqrtf are rounded correctly; a kernel that wants less writes __fdividef or __expf where it wants
-prec-sqrt=true    it. No -use_fast_math: it would be all of the opposites at once
-Xptxas=-v         registers, shared memory and spills of each kernel go into the log
"""
MISSING = "compiling CUDA kernels needs NVRTC: pip install 'handgrad[cuda-compile]', or the CUDA toolkit beside CuPy"


class Nvrtc(NamedTuple):
    """NVRTC through one of its bindings. program(text, name, options, wanted) -> (cubin or PTX, log); without a result
    where the source does not compile.
    """

    version: tuple[int, int]
    architectures: frozenset[str]
    program: Any


def _bindings() -> Nvrtc:
    """Through cuda-bindings, which finds the library of the package nvidia-cuda-nvrtc."""
    nvrtc: Any = import_module("cuda.bindings.nvrtc")
    success = nvrtc.nvrtcResult.NVRTC_SUCCESS

    def done(answer: tuple[Any, ...]) -> Any:
        if answer[0] != success:
            raise RuntimeError(f"NVRTC failed: {nvrtc.nvrtcGetErrorString(answer[0])[1].decode()}")
        return answer[1] if len(answer) > 1 else None

    def program(text: str, name: str, options: tuple[str, ...], wanted: str) -> tuple[bytes | None, str]:
        made = done(nvrtc.nvrtcCreateProgram(text.encode(), name.encode(), 0, None, None))
        (code,) = nvrtc.nvrtcCompileProgram(made, len(options), [option.encode() for option in options])
        log = bytearray(done(nvrtc.nvrtcGetProgramLogSize(made)))
        done(nvrtc.nvrtcGetProgramLog(made, log))
        result = None
        if code == success:
            result = bytearray(done(getattr(nvrtc, f"nvrtcGet{wanted}Size")(made)))
            done(getattr(nvrtc, f"nvrtcGet{wanted}")(made, result))
        elif code != nvrtc.nvrtcResult.NVRTC_ERROR_COMPILATION:
            done((code,))
        done(nvrtc.nvrtcDestroyProgram(made))
        return None if result is None else bytes(result), _words(log)

    _, major, minor = nvrtc.nvrtcVersion()
    numbers = done(nvrtc.nvrtcGetSupportedArchs())
    return Nvrtc((major, minor), _named(numbers), program)


def _cupy() -> Nvrtc:
    """Through CuPy, which looks for the library of a toolkit."""
    nvrtc: Any = import_module("cupy.cuda").nvrtc

    def program(text: str, name: str, options: tuple[str, ...], wanted: str) -> tuple[bytes | None, str]:
        made = nvrtc.createProgram(text, name, (), ())
        try:
            nvrtc.compileProgram(made, options)
            result = {"CUBIN": nvrtc.getCUBIN, "PTX": nvrtc.getPTX}[wanted](made)
        except nvrtc.NVRTCError as error:
            if "COMPILATION" not in str(error):
                raise
            result = None
        log = nvrtc.getProgramLog(made)
        nvrtc.destroyProgram(made)
        return result.encode() if isinstance(result, str) else result, _words(log.encode())

    return Nvrtc(tuple(nvrtc.getVersion()), _named(nvrtc.getSupportedArchs()), program)


def _words(log: bytes | bytearray) -> str:
    return log.decode("utf-8", "replace").rstrip("\0 \n")


def _named(numbers: Any) -> frozenset[str]:
    """Of 75, 80, 90 ...: sm_80, sm_90, sm_90a ..., without what is too old for the kernels."""
    return frozenset(f"sm_{n}{suffix}" for n in numbers if n >= OLDEST for suffix in (("", "a") if n >= 90 else ("",)))


@functools.cache
def nvrtc() -> Nvrtc:
    """Through cuda-bindings, or where these are missing through CuPy. Raises OSError with what to install."""
    for bound in (_bindings, _cupy):
        try:
            return bound()
        except (ImportError, RuntimeError):  # not installed, or installed without the library
            continue
    raise OSError(MISSING)


@functools.cache
def build() -> str:
    """The exact build, such as "13.0, V13.0.88": NVRTC tells it only in what it makes."""
    ptx, _ = nvrtc().program("", "nothing.cu", (), "PTX")
    found = re.search(rb"release ([\d.]+, V[\d.]+)", ptx or b"")
    return found[1].decode() if found else ".".join(map(str, nvrtc().version))


@functools.cache
def headers() -> Path | None:
    """The folder of cuda_fp16.h and kin: that of NVIDIA's packages, of a toolkit or of CuPy; None where there is none."""
    major = nvrtc().version[0]
    packages, cupy = find_spec("nvidia"), find_spec("cupy")
    places: list[Path] = []
    for base in (packages.submodule_search_locations or ()) if packages else ():
        places += [Path(base, f"cu{major}", "include"), Path(base, "cuda_runtime", "include")]
    places += [Path(os.environ[name], "include") for name in ("CUDA_HOME", "CUDA_PATH") if os.environ.get(name)]
    places.append(Path("/usr/local/cuda/include"))
    for base in (cupy.submodule_search_locations or ()) if cupy else ():
        places.append(Path(base, "_core", "include", "cupy", "_cuda", f"cuda-{major}"))
    return next((place for place in places if (place / "cuda_fp16.h").is_file()), None)


def _folders(path: Path) -> list[Path]:
    cuda = headers()
    return [path.parent, HERE, *([cuda] if cuda else [])]


_INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*[<"]([^>"\n]+)[>"]', re.MULTILINE)


def included(text: str, folders: list[Path]) -> dict[Path, bytes]:
    """What `text` includes, directly or through others, as far as it lies in `folders`, the first of which is its own.
    Conditions are not evaluated: rather a header too many than one too few.
    """
    found: dict[Path, bytes] = {}
    waiting = [(text, folders[0])]
    while waiting:
        source, beside = waiting.pop()
        for name in _INCLUDE.findall(source):
            header = next((p for f in (beside, *folders) if (p := Path(os.path.normpath(f / name))).is_file()), None)
            if header is not None and header not in found:
                found[header] = header.read_bytes()
                waiting.append((found[header].decode("utf-8", "replace"), header.parent))
    return found


def architectures(text: str) -> tuple[str, ...]:
    """What a source is meant for: A100 and H100, or H100 alone where it includes hopper.cuh."""
    return ("sm_90a",) if "hopper.cuh" in _INCLUDE.findall(text) else ("sm_80", "sm_90a")


def _digest(path: Path, text: str, architecture: str) -> str:
    digest = hashlib.sha256("\0".join((path.name, text, architecture, build(), *OPTIONS)).encode())
    for header, content in sorted(included(text, _folders(path)).items(), key=lambda item: (item[0].name, item[1])):
        digest.update(header.name.encode() + b"\0" + content)
    return digest.hexdigest()[:20]


def made(path: Path, architecture: str, *, text: str | None = None, wanted: str = "CUBIN") -> tuple[bytes, str]:
    """(cubin or PTX, log) of the source at `path`, or of `text`, which could lie there; architecture: such as sm_80.

    Raises CompileError where the source is wrong, OSError where NVRTC or its headers are missing or too old.
    """
    compiler = nvrtc()
    if architecture not in compiler.architectures:
        version = ".".join(map(str, compiler.version))
        there = ", ".join(sorted(compiler.architectures, key=lambda name: (len(name.rstrip("a")), name)))
        raise OSError(f"NVRTC {version} cannot compile for {architecture}, only for {there}: install another version")
    text = path.read_text(encoding="utf-8") if text is None else text
    options = (f"-arch={architecture}", *OPTIONS, *(f"-I{place}" for place in _folders(path)))
    result, log = compiler.program(text, path.name, options, wanted)
    if result is None:
        raise _refusal(path, log)
    return result, log


def compiled(path: Path, architecture: str, *, text: str | None = None) -> Path:
    """The file of the cubin. Raises as `made` does."""
    text = path.read_text(encoding="utf-8") if text is None else text
    place = folder("cuda")
    target = place / f"{path.stem}-{architecture}-{_digest(path, text, architecture)}.cubin"
    if target.exists():
        return target
    cubin, _ = made(path, architecture, text=text)
    with tempfile.NamedTemporaryFile(dir=place, delete=False) as scratch:
        try:
            scratch.write(cubin)
            scratch.flush()
            os.fsync(scratch.fileno())
            os.replace(scratch.name, target)
        except BaseException:
            os.unlink(scratch.name)
            raise
    return target


def _refusal(path: Path, log: str) -> Exception:
    """`softmax.cu does not compile: line 12: identifier "foo" is undefined`."""
    found = re.search(r"^(.*?)\((\d+)\): (?:catastrophic )?error(?: #\S+)?: (.*)$", log, re.MULTILINE)
    if found is None:
        return CompileError(f"{path.name} does not compile: {log.strip().splitlines()[0] if log else 'NVRTC says nothing'}")
    missing = re.search(r'open source file "(.*?)"', found[3])
    if missing and headers() is None:
        return OSError(
            f"{path.name} includes {missing[1]}, but no headers of CUDA are there: pip install 'handgrad[cuda-compile]', or "
            "set CUDA_HOME to a toolkit"
        )
    where = "line" if Path(found[1]).name == path.name else f"{Path(found[1]).name} line"
    return CompileError(f"{path.name} does not compile: {where} {found[2]}: {found[3]}")
