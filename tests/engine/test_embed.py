"""`handgrad train glove` and `handgrad embed`: from a text to answers, interrupted on the way, and mistakes in one line."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from handgrad.engine import process
from handgrad.engine.cli.embed import principal_components
from handgrad.engine.cli.main import run
from handgrad.engine.models.glove import GloVe
from handgrad.engine.text.vectors import WordVectors

TEXT = "The cat sat on the mat. The dog sat on the rug. A cat and a dog, on a mat and a rug! " * 40
TINY = ["--vector-size", "4", "--window", "3", "--min-count", "2"]


@pytest.fixture(autouse=True)
def _this_process_keeps_its_settings(monkeypatch):
    monkeypatch.setattr(process, "settle", lambda *_: ())


def cli(*arguments):
    with pytest.raises(SystemExit) as caught:
        run([str(a) for a in arguments])
    return int(caught.value.code or 0)


def refused(capsys, *arguments):
    capsys.readouterr()
    assert cli(*arguments) == 2
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("handgrad: ") and err.count("\n") == 1, err
    return err.removeprefix("handgrad: ").rstrip("\n")


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    folder = tmp_path_factory.mktemp("glove")
    (folder / "text.txt").write_text(TEXT)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(process, "settle", lambda *_: ())
        assert (
            cli("train", "glove", "--text", folder / "text.txt", "--out", folder / "run", "--epochs", "4", *TINY) == 0
        )
    return folder / "run"


def test_the_run_folder(trained):
    files = {path.name for path in trained.iterdir()}
    assert files == {
        "vocabulary.txt", "cooccurrences.bin", "vectors.safetensors", "vectors.txt", "metrics.jsonl", "loss.svg",
        "run.json", "checkpoint.safetensors",
    }  # fmt: skip
    vectors, text = (WordVectors.load(trained / f"vectors.{end}") for end in ("safetensors", "txt"))
    np.testing.assert_array_equal(vectors.array, text.array)
    assert (
        set(vectors.words) == {"the", "cat", "sat", "on", "mat", "dog", "rug", "a", "and"}
        and vectors.words[0] in "thea"
    )
    records = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in records] == [1, 2, 3, 4] and records[-1]["loss"] < records[0]["loss"]
    ET.parse(trained / "loss.svg")


def test_interrupted_and_resumed_gives_the_same_vectors(trained, tmp_path, monkeypatch, capsys):
    folder, fit = tmp_path / "run", GloVe.fit

    def interrupted(self, *arguments, stop, **options):
        asked = iter(range(100))
        return fit(self, *arguments, stop=lambda: next(asked) == 12, **options)

    monkeypatch.setattr(GloVe, "fit", interrupted)
    text = trained.parent / "text.txt"
    assert cli("train", "glove", "--text", text, "--out", folder, "--epochs", "4", *TINY) == 130
    assert "go on with: " in capsys.readouterr().err
    monkeypatch.setattr(GloVe, "fit", fit)
    assert cli("train", "glove", "--resume", "--out", folder) == 0
    for name in ("vectors.txt", "checkpoint.safetensors"):
        assert (folder / name).read_bytes() == (trained / name).read_bytes()
    assert cli("train", "glove", "--resume", "--out", folder) == 0
    assert "is finished" in capsys.readouterr().out


def test_questions(trained, capsys):
    vectors = ["--vectors", trained / "vectors.safetensors"]
    assert cli("embed", "nearest", "cat", *vectors, "-k", "3") == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 3 and not any(line.endswith(" cat") for line in lines)
    assert cli("embed", "analogy", "cat", "mat", "dog", *vectors, "-k", "1") == 0
    assert capsys.readouterr().out.split()[1] in ("rug", "the", "a", "and", "on", "sat")


def test_evaluate(trained, tmp_path, capsys):
    (tmp_path / "pets.txt").write_text("cat mat dog rug\ncat mat lion rug\n")
    (tmp_path / "people.txt").write_text("cat dog 9\ncat on 1\nlion tiger 8\nmat rug 9\n")
    questions = ["--analogies", tmp_path / "pets.txt", "--similarity", tmp_path / "people.txt"]
    assert cli("embed", "evaluate", "--vectors", trained / "vectors.txt", *questions) == 0
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("pets ") and first.endswith("of 1 whose words are known, of 2")
    assert second.startswith("people ") and second.endswith("on 3 pairs whose words are known, of 4")


def test_plot(trained, tmp_path):
    assert (
        cli("embed", "plot", "--vectors", trained / "vectors.txt", "--out", tmp_path / "map.svg", "--words", "5") == 0
    )
    texts = [e.text for e in ET.parse(tmp_path / "map.svg").iter("{http://www.w3.org/2000/svg}text")]
    assert texts == list(WordVectors.load(trained / "vectors.txt").words[:5])


def test_principal_components():
    """Points on a line through space lie on the first axis, in their distances."""
    line = np.arange(5.0)[:, None] * np.array([2.0, 1.0, 2.0]) + [1.0, 0.0, 7.0]
    points = principal_components(line)
    np.testing.assert_allclose(np.abs(np.diff(points[:, 0])), 3.0)
    np.testing.assert_allclose(points[:, 1], 0.0, atol=1e-12)
    assert principal_components(np.ones((1, 3))).tolist() == [[0.0, 0.0]]


def test_mistakes_are_one_line(trained, tmp_path, capsys):
    vectors = ["--vectors", str(trained / "vectors.txt")]
    text = trained.parent / "text.txt"
    assert refused(capsys, "embed", "nearest", "Cat", *vectors).endswith("'cat' has one")
    assert refused(capsys, "embed", "nearest", "cat", *vectors, "-k", "0") == "-k is 0, but it must be at least 1"
    assert "does not exist" in refused(capsys, "embed", "nearest", "cat", "--vectors", tmp_path / "none")
    assert refused(capsys, "embed", "evaluate", *vectors).startswith("say --analogies or --similarity")
    train = ["train", "glove", "--out"]
    assert refused(capsys, *train, tmp_path / "new").startswith("--text is missing")
    assert "holds another run" in refused(capsys, *train, trained, "--text", text)
    assert refused(capsys, *train, trained, "--resume", "--lr", "1").endswith("so leave out --lr")
    assert "mode is 'fast'" in refused(capsys, *train, tmp_path / "new", "--text", text, "--mode", "fast")
    assert "no word occurs 5000 times" in refused(
        capsys, *train, tmp_path / "new", "--text", text, "--min-count", "5000"
    )
    assert (
        refused(capsys, *train, tmp_path / "new", "--text", text, "--epochs", "0")
        == "--epochs is 0, but it must be at least 1"
    )
    assert not (tmp_path / "new").exists()
