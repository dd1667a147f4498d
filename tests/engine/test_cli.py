"""The command line's manners: a mistake is one line on stderr and exit code 2, and nobody's files are touched."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from handgrad import __version__
from handgrad.engine import process, random
from handgrad.engine.cli.main import run
from handgrad.engine.training.loop import TrainingConfig

TEXT = "the cat sat on the mat. " * 60
TINY = ["--steps", "2", "--layers", "1", "--heads", "1", "--width", "8", "--context", "8", "--batch", "2"]


@pytest.fixture(autouse=True)
def _this_process_keeps_its_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "settle", lambda *_: ())


@pytest.fixture(autouse=True)
def _default_generator_is_as_it_was() -> object:
    before = random.default.state()
    yield
    random.default.set_state(before)


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text(TEXT)
    return path


def cli(*arguments: object) -> int:
    with pytest.raises(SystemExit) as caught:
        run([str(a) for a in arguments])
    return int(caught.value.code or 0)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "settle", lambda *_: ())
        assert cli("train", "gpt", "--text", folder / "text.txt", "--out", folder / "run", *TINY) == 0
    return folder / "run"


def snapshot(folder: Path) -> dict[str, tuple[bytes, int]]:
    return {str(p): (p.read_bytes(), p.stat().st_mtime_ns) for p in sorted(folder.rglob("*")) if p.is_file()}


def refused(capsys: pytest.CaptureFixture[str], *arguments: object) -> str:
    """The one line that a mistake is answered with."""
    capsys.readouterr()
    assert cli(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.endswith("\n")
    err = re.sub("^handgrad: compiling CPU kernels .*\n", "", err)  # where this is the first test to need one
    assert err.count("\n") == 1, err
    assert err.startswith("handgrad: ")
    return err.removeprefix("handgrad: ").rstrip("\n")


# ---- texts


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (None, "does not exist"),
        (b"", "is empty"),
        (b"x", "has 1 character"),
        ("é".encode(), "has 1 character"),
        ("café au lait".encode("latin-1") * 99, "is not UTF-8"),
        (TEXT.encode("utf-16"), "is UTF-16, but it must be UTF-8"),
        (np.random.default_rng(0).bytes(5000), "is a binary file"),
        (b"\x7fELF\x00\x00" + b"a" * 999, "is a binary file"),
        (b"xy", "the training part of the text has 1 token, but a context of 64 needs at least 65"),
        (b"a" * 2000, "has no other token than 'a', but at least 2 are needed"),
        (b"abcdefgh" * 8, "a context of 64 needs at least 65"),
        (b"ab" * 250, "the validation part of the text has 50 tokens, but a context of 64 needs at least 65"),
    ],
)
def test_bad_texts(content: bytes | None, sentence: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "bad.txt"
    if content is not None:
        path.write_bytes(content)
    assert re.search(sentence, refused(capsys, "train", "gpt", "--text", path, "--out", tmp_path / "run"))
    assert not (tmp_path / "run").exists()


def test_a_folder_and_no_text(tmp_path: Path, text: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "is a folder" in refused(capsys, "train", "gpt", "--text", tmp_path, "--out", tmp_path / "run")
    assert "--text is missing" in refused(capsys, "train", "gpt", "--out", tmp_path / "run")
    assert "--out" in refused(capsys, "train", "gpt", "--text", text)
    assert "does not exist" in refused(
        capsys, "train", "gpt", "--text", text, tmp_path / "no", "--out", tmp_path / "run"
    )


# ---- options

OPTIONS = ("steps", "layers", "heads", "width", "context", "batch", "lr", "clip", "min-lr", "warmup", "weight-decay", "seed",
           "eval-every", "dropout")  # fmt: skip


@pytest.mark.parametrize("option", OPTIONS)
def test_negative_and_non_numeric_options(
    option: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for value in ("-1", "many", "", "1e"):
        said = refused(capsys, "train", "gpt", "--text", text, "--out", tmp_path / "run", f"--{option}", value)
        assert f"--{option}" in said, said
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--lr", "nan"], ["--lr", "inf"], ["--lr", "0"], ["--steps", "0"], ["--steps", "2.5"], ["--heads", "3"],
        ["--dropout", "1"], ["--context", "0"], ["--warmup", "5000"], ["--min-lr", "1"], ["--seed", str(2**64)],
        ["--steps", "9" * 400],
        ["--resume", "--overwrite"], ["--frobnicate"], ["--steps"], ["stray"],
    ],
    ids=lambda o: " ".join(o)[:30],
)  # fmt: skip
def test_senseless_options_change_nothing(
    options: list[str], text: Path, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(trained)
    for out in (tmp_path / "run", trained):
        more = ["--overwrite"] if out == trained and "--resume" not in options else []
        refused(capsys, "train", "gpt", "--text", text, "--out", out, *more, *options)
    assert not (tmp_path / "run").exists()
    assert snapshot(trained) == before


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (["frobnicate"], "frobnicate"),
        (["train", "frobnicate"], "frobnicate"),
        (["--frobnicate"], "--frobnicate"),
        (["explain", "frobnicate"], "frobnicate"),
        (["check", "frobnicate"], "frobnicate"),
        (["check", "softmax", "frobnicate"], "frobnicate"),
        (["check", "softmax", "--trials", "-1"], "trials"),
        (["explain", "softmax", "--x", "a b"], "--x"),
        (["explain", "--x", "1 2"], "--x"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_unknown_verbs_operations_and_options(
    arguments: list[str], part: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, *arguments)


# ---- generate


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--prompt", "the @#"], "unknown characters '#', '@'"),
        (["--prompt", ""], "--prompt is empty"),
        (["--tokens", "-1"], "--tokens is -1"),
        (["--tokens", "many"], "--tokens"),
        (["--temperature", "-1"], "--temperature is -1"),
        (["--temperature", "nan"], "--temperature is nan"),
        (["--temperature", "hot"], "--temperature"),
        (["--top-k", "0"], "--top-k is 0"),
        (["--top-k", "1.5"], "--top-k"),
        (["--top-p", "0"], "--top-p is 0"),
        (["--top-p", "2"], "--top-p is 2"),
        (["--seed", "-1"], "--seed is -1"),
        (["--seed", str(2**64)], "--seed is 18446744073709551616"),
        (["--weights", "int4"], "--weights is 'int4', but it must be one of float32, bfloat16, float16, int8"),
    ],
    ids=lambda a: " ".join(a) if isinstance(a, list) else "",
)
def test_generate_with_senseless_options(
    options: list[str], part: str, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert part in refused(capsys, "generate", trained, "--prompt", "the ", *options)


def test_generate_without_a_model(tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert "there is no such folder" in refused(capsys, "generate", tmp_path / "nowhere", "--prompt", "a")
    assert "has no config.json" in refused(capsys, "generate", tmp_path, "--prompt", "a")
    broken = tmp_path / "broken"
    broken.mkdir()
    kinds = ('{"model_type": "gpt2"}', '{"model_type": "llama"}', '{"model_type": []}')
    for content in ("", "{", "{}", "[1, 2]", *kinds, "\0\0"):
        (broken / "config.json").write_text(content)
        said = refused(capsys, "generate", broken, "--prompt", "a")
        assert "config.json" in said or "model.safetensors does not exist" in said
    for name, value in (("n_embd", "x"), ("n_layer", -1), ("n_layer", None), ("resid_pdrop", "x"), ("vocab_size", 1e9)):
        config = json.loads((trained / "model" / "config.json").read_text())
        (broken / "config.json").write_text(json.dumps({**config, name: value}))
        for other in ("model.safetensors", "tokenizer.json"):
            (broken / other).write_bytes((trained / "model" / other).read_bytes())
        refused(capsys, "generate", broken, "--prompt", "a")


def test_generate_reproduces_and_streams_the_prompt_first(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for folder, seed in ((trained, 7), (trained / "model", 7), (trained, 8)):
        capsys.readouterr()
        assert cli("generate", folder, "--prompt", "the ", "--tokens", 40, "--seed", seed, "--temperature", 1) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1] != said[2]
    assert said[0].startswith("the ")
    assert len(said[0]) == len("the ") + 40 + 1
    cli("generate", trained, "--tokens", 0)
    assert capsys.readouterr().out == " \n"  # no prompt, and a model that knows no line break: its first character
    cli("generate", trained, "--prompt", "the ", "--tokens", 0)
    assert capsys.readouterr().out == "the \n"


# ---- folders


def test_another_run_is_never_overwritten_unless_told(
    text: Path, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(trained)
    said = refused(capsys, "train", "gpt", "--text", text, "--out", trained, *TINY)
    assert "holds another run; say --resume to go on with it or --overwrite to replace it" in said
    assert cli("demo", "--out", trained, "--steps", 2) == 2
    out, err = capsys.readouterr()
    assert (out, err.count("\n")) == ("", 1)
    assert "holds another run; say --overwrite to replace it, or name another folder with --out" in err
    bad = tmp_path / "bad.txt"
    bad.write_bytes(b"")
    assert "is empty" in refused(capsys, "train", "gpt", "--text", bad, "--out", trained, "--overwrite")
    assert snapshot(trained) == before


def test_overwrite_replaces_the_run(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "run"
    for seed, more in ((1, []), (2, ["--overwrite"])):
        assert cli("train", "gpt", "--text", text, "--out", out, *TINY, "--seed", seed, *more) == 0
        assert json.loads((out / "run.json").read_text())["training"]["seed"] == seed
    assert "validation loss" in capsys.readouterr().out


def test_folders_that_hold_other_things(text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "thesis.txt").write_text("years of work")
    for more in ([], ["--overwrite"]):
        said = refused(capsys, "train", "gpt", "--text", text, "--out", mine, *TINY, *more)
        assert "holds files that are no run of handgrad" in said
    assert [p.name for p in mine.iterdir()] == ["thesis.txt"]
    assert "is a file, but it must be a folder" in refused(capsys, "train", "gpt", "--text", text, "--out", text, *TINY)
    said = refused(capsys, "train", "gpt", "--text", text, "--out", text / "below" / "it", *TINY)
    assert said == f"--out: {text} is a file, but it must be a folder"
    assert text.read_text() == TEXT


def test_resume_says_what_is_missing(
    text: Path, tmp_path: Path, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = snapshot(trained)
    assert "holds no checkpoint" in refused(capsys, "train", "gpt", "--resume", "--out", tmp_path)
    said = refused(capsys, "train", "gpt", "--resume", "--out", trained, "--lr", "0.1", "--layers", "3")
    assert "--resume goes on with the run's own settings, so leave out --layers, --lr" in said
    other = tmp_path / "other.txt"
    other.write_text(TEXT + "!")
    assert "is not the one" in refused(capsys, "train", "gpt", "--resume", "--out", trained, "--text", other)
    assert snapshot(trained) == before
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "checkpoint.safetensors").write_bytes(b"x")
    senseless = '{"text": ["a"], "training": {"steps": "x"}, "model": {}, "sha256": ""}'
    for content in (None, "{", "[]", '{"text": []}', senseless):
        if content is not None:
            (broken / "run.json").write_text(content)
        assert "run.json" in refused(capsys, "train", "gpt", "--resume", "--out", broken)


def test_resume_of_a_finished_run_says_so_and_changes_no_weight(
    trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = {name: content for name, (content, _) in snapshot(trained).items()}
    capsys.readouterr()
    assert cli("train", "gpt", "--resume", "--out", trained) == 0
    out, err = capsys.readouterr()
    assert out == f"{trained} is finished: all its 2 steps are done; to train longer, begin again with more --steps\n"
    assert err == ""
    assert {name: content for name, (content, _) in snapshot(trained).items()} == before


def test_a_run_of_the_demo_can_be_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from handgrad.engine.cli import train

    monkeypatch.setattr(train, "python_topics", lambda: TEXT)
    config = TrainingConfig(steps=2, warmup=0, batch_size=2)
    model = {"n_layer": 1, "n_embd": 8, "block_size": 8}
    train.run(train.GPT_KIND, tmp_path / "run", TEXT, model, config, overwrite=False, paths=[])
    assert cli("train", "gpt", "--resume", "--out", tmp_path / "run") == 0
    assert "is finished" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch", "0"], "--batch is 0, but it must be positive"),
        (["--context", "0"], "--context is 0, but it must be a positive integer"),
        (["--width", "30"], "--width is 30, which --heads 4 does not divide"),
        (["--warmup", "9", "--steps", "5"], "--warmup is 9, but it must be below --steps, which is 5"),
        (["--lr", "1e-5", "--min-lr", "1"], "--min-lr is 1.0, but it must be at most --lr, which is 1e-05"),
        (["--layers", "9" * 400], "--layers 9999.*make more than 2.*40 parameters, too many for one machine"),
    ],
    ids=lambda a: " ".join(a)[:30] if isinstance(a, list) else "",
)
def test_messages_name_the_options(
    options: list[str], said: str, text: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert re.search(said, refused(capsys, "train", "gpt", "--text", text, "--out", tmp_path / "run", *options))


def test_too_little_memory_is_one_sentence(trained: Path, capsys: pytest.CaptureFixture[str], monkeypatch: Any) -> None:
    from handgrad.engine.cli import generate

    def fail(*_: object) -> None:
        raise MemoryError("Unable to allocate 4 PiB")

    monkeypatch.setattr(generate, "load_model", fail)
    assert refused(capsys, "generate", trained) == "there is not enough memory: Unable to allocate 4 PiB"


# ---- help, and the real process


@pytest.mark.parametrize(
    "verb", [["train", "gpt"], ["train"], ["generate"], ["check"], ["explain"], ["demo"]], ids=" ".join
)
def test_every_help_has_an_example(verb: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert cli(*verb, "--help") == 0
    out = capsys.readouterr().out
    assert f"Example: handgrad {' '.join(verb)}" in " ".join(out.split())


def test_help_version_and_nothing_at_all(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli("--version") == 0
    assert capsys.readouterr().out == f"handgrad {__version__}\n"
    assert cli("--help") == 0
    out = capsys.readouterr().out
    assert all(verb in out for verb in ("train", "generate", "check", "explain", "demo"))
    for arguments in ([], ["train"]):
        cli(*arguments)
        out, err = capsys.readouterr()
        assert "Usage" in out
        assert err == ""


def real(*arguments: object, stdout: Any = subprocess.PIPE, **environ: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "handgrad", *map(str, arguments)]
    streams = {"stdout": stdout, "stderr": subprocess.PIPE, "text": True}
    return subprocess.run(command, **streams, check=False, env=os.environ | environ, timeout=120)


def test_where_nobody_can_write(trained: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        done = real("generate", trained, "--prompt", "the ", stdout=full)
    assert (done.returncode, done.stderr) == (2, "handgrad: reading or writing failed: No space left on device\n")


def test_in_a_process_of_its_own(tmp_path: Path, trained: Path) -> None:
    for arguments, environ in (
        (["train", "gpt", "--text", tmp_path / "no", "--out", tmp_path / "run"], {}),
        (["generate", trained, "--prompt", "%"], {}),
        (["frobnicate"], {}),
        (["generate", trained], {"HANDGRAD_KERNELS": "fast"}),
        (["generate", trained], {"HANDGRAD_THREADS": "-1"}),
    ):
        done = real(*arguments, **environ)
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
        assert done.stderr.startswith("handgrad: ")
    done = real("generate", trained, "--prompt", "the ", "--tokens", 20)
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout) == 25
