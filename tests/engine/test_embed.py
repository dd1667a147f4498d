"""`handgrad train glove` and `handgrad embed`: from a text to answers, interrupted on the way, and mistakes in one line."""

from __future__ import annotations

import json
import shutil
import sys
import xml.etree.ElementTree as ET

import numpy as np
import pytest

from handgrad.engine import process
from handgrad.engine.cli.main import run
from handgrad.engine.cli.word_map import Label, labels, principal_components, svg
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


def test_a_run_folder_stands_for_its_vectors(trained, tmp_path, capsys):
    answers = []
    for vectors in (trained, trained / "vectors.safetensors"):
        assert cli("embed", "nearest", "cat", "--vectors", vectors) == 0
        answers.append(capsys.readouterr().out)
    assert answers[0] == answers[1]
    assert refused(capsys, "embed", "nearest", "cat", "--vectors", tmp_path).endswith(
        "is a folder without vectors.safetensors, which train glove writes at its end"
    )


def test_unknown_words_are_told_which_are_spelled_nearly_so(trained, capsys):
    vectors = ["--vectors", trained]
    assert refused(capsys, "embed", "analogy", "cat", "mat", "andd", *vectors).endswith("; spelled nearly so: and")
    assert "'sits'" in refused(capsys, "embed", "nearest", "sits", *vectors)
    assert refused(capsys, "embed", "nearest", "zebra", *vectors).endswith("words that have a vector")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        ("cat 1 2\ndog 3\n", "line 2: it must be a word and 2 numbers, but has 2 parts"),
        ("cat 1 2\ndog 3 four\n", "line 2: 'four' is not a number"),
        ("", "it is empty"),
    ],
)
def test_broken_vectors_name_their_line(tmp_path, capsys, content, sentence):
    (tmp_path / "v.txt").write_text(content)
    assert refused(capsys, "embed", "nearest", "cat", "--vectors", tmp_path / "v.txt").endswith(sentence)


def test_a_cut_table_is_refused_on_resume_and_keeps_the_vectors(trained, tmp_path, capsys):
    folder = shutil.copytree(trained, tmp_path / "run")
    table, vectors = folder / "cooccurrences.bin", (folder / "vectors.txt").read_bytes()
    table.write_bytes(table.read_bytes()[:-5])
    assert "records need" in refused(capsys, "train", "glove", "--resume", "--out", folder, "--epochs", "9")
    assert (folder / "vectors.txt").read_bytes() == vectors


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--window", "0"], "--window is 0, but it must be positive"),
        (["--window", "43"], "window is 43, but harmonic weights are exact up to 42 only"),
        (["--initial-accumulator", "-1"], "initial_accumulator is -1.0, but it must be finite and 0 or above"),
        (["--tokenizer", "klingon"], "--tokenizer is 'klingon', but it must be one of words, chinese"),
        (["--seed", "-1"], "--seed is -1, but it must be at least 0 and below 2**64"),
        (["--lr", "nan"], "lr is nan, but it must be finite and positive"),
    ],
)
def test_options_out_of_range_leave_no_folder(trained, tmp_path, capsys, options, sentence):
    text = trained.parent / "text.txt"
    assert sentence in refused(capsys, "train", "glove", "--text", text, "--out", tmp_path / "new", *options)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [(TEXT, ["--memory", "1e-8"], "memory is 10 bytes, but"), ("one", ["--min-count", "1"], "no two words of the")],
)
def test_a_run_is_not_lost_where_another_cannot_be_counted(trained, tmp_path, capsys, text, options, sentence):
    (tmp_path / "text.txt").write_text(text)
    folder = shutil.copytree(trained, tmp_path / "run")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    train = ["train", "glove", "--text", tmp_path / "text.txt", *TINY, *options, "--out"]
    assert sentence in refused(capsys, *train, folder, "--overwrite")
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert sentence in refused(capsys, *train, tmp_path / "new")
    assert list((tmp_path / "new").iterdir()) == []


def test_a_text_without_words(tmp_path, capsys):
    (tmp_path / "text.txt").write_text("... !\n")
    said = refused(capsys, "train", "glove", "--text", tmp_path / "text.txt", "--out", tmp_path / "new")
    assert said == "the text has no words, so there is no vocabulary" and not (tmp_path / "new").exists()


def test_chinese_needs_jieba_or_one_word_a_character(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "jieba", None)
    (tmp_path / "text.txt").write_text("\u4e00\u4e8c\u4e09\u4e00\u4e8c\u3002" * 9)
    train = ["train", "glove", "--text", tmp_path / "text.txt", "--out", tmp_path / "run", "--epochs", "1", *TINY]
    assert refused(capsys, *train, "--tokenizer", "chinese").endswith("needs jieba: pip install 'handgrad[zh]'")
    assert cli(*train, "--tokenizer", "characters") == 0
    assert set(WordVectors.load(tmp_path / "run" / "vectors.txt").words) == {"\u4e00", "\u4e8c", "\u4e09"}
    assert json.loads((tmp_path / "run" / "run.json").read_text())["training"]["tokenizer"] == "characters"


def test_the_initial_accumulator_reaches_adagrad(trained, tmp_path):
    text, out = trained.parent / "text.txt", tmp_path / "run"
    assert (
        cli("train", "glove", "--text", text, "--out", out, *TINY, "--epochs", "1", "--initial-accumulator", "7") == 0
    )
    model = GloVe.load_checkpoint(out / "checkpoint.safetensors", WordVectors.load(out / "vectors.txt").words)
    assert min(float(array.min()) for array in model.squares.values()) >= 7.0


def test_labels_stay_clear_of_each_other_while_there_is_room():
    """Sixteen words at one place: each is written somewhere else, and those far from it have a line."""
    found = labels(["word"] * 16, np.zeros((16, 2)))
    boxes = [(a.left, a.middle - 6, a.left + a.width, a.middle + 6) for a in found]
    for n, a in enumerate(boxes):
        for b in boxes[:n]:
            assert min(a[2], b[2]) <= max(a[0], b[0]) or min(a[3], b[3]) <= max(a[1], b[1])
    assert any(a.leader for a in found) and found[0].leader is None
    assert "&lt;" in svg([Label("<", 0.0, 0.0, 5.0, 0.0, 7.0)])


def test_a_map_as_png(trained, tmp_path, capsys, monkeypatch):
    plot, out = ["embed", "plot", "--vectors", trained, "--out"], tmp_path / "map.png"
    assert refused(capsys, *plot, tmp_path / "map.pdf").endswith("its name must end in .svg or .png")
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "matplotlib.figure", None)
        assert "pip install 'handgrad[plot]'" in refused(capsys, *plot, out) and not out.exists()
    pytest.importorskip("matplotlib", reason="matplotlib is not installed: pip install 'handgrad[plot]'")
    assert cli(*plot, out) == 0
    assert out.read_bytes().startswith(b"\x89PNG")


def test_ctrl_c_is_said(monkeypatch, capsys, tmp_path):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    path = tmp_path / "text.txt"
    path.write_text("a b c " * 50)
    monkeypatch.setattr("handgrad.engine.text.vocabulary.Vocabulary.build", interrupted)
    assert cli("train", "glove", "--text", path, "--out", tmp_path / "run") == 130
    assert capsys.readouterr().err == "handgrad: interrupted\n"
    assert not (tmp_path / "run").exists()
