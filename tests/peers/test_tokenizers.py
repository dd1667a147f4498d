"""Byte-pair encoding beside Hugging Face's: the same ids from the same files, and our files read by theirs."""

from __future__ import annotations

from pathlib import Path

import pytest

from handgrad.engine.text.bpe import BytePairTokenizer

tokenizers = pytest.importorskip("tokenizers")
DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TEXT = "The cat's 3rd mat, (été) \t\n\n  中文 😀 a  b   c\n" * 40 + Path(__file__).read_text(encoding="utf-8")


def test_what_we_save_is_read_by_tokenizers(tmp_path: Path) -> None:
    ours = BytePairTokenizer.train(TEXT, 400, ["<|end|>"])
    ours.save(tmp_path)
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    for text in (TEXT, "mat<|end|>cat", "zebra 9"):
        assert theirs.encode(text).ids == ours.encode(text).tolist()
    assert theirs.decode(ours.encode(TEXT).tolist(), skip_special_tokens=False) == TEXT


@pytest.mark.skipif(not DATA.is_dir(), reason=f"needs the data in {DATA}")
def test_gpt2_on_real_text() -> None:
    files = DATA / "tokenizers" / "gpt2" / "encoder.json", DATA / "tokenizers" / "gpt2" / "vocab.bpe"
    ours = BytePairTokenizer.from_gpt2_files(*files)
    theirs = tokenizers.ByteLevelBPETokenizer(str(files[0]), str(files[1]))
    texts = (DATA / "text" / "tinyshakespeare.txt", DATA / "text_zh" / "hongloumeng.txt", Path(__file__))
    for path in texts:
        text = path.read_text(encoding="utf-8")[:100_000]
        assert ours.encode(text).tolist() == theirs.encode(text).ids
