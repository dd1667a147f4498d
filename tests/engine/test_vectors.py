"""Word vectors: what is near, files in every format and back, and broken files in one sentence with the line."""

import numpy as np
import pytest

from handgrad import nn
from handgrad.engine.errors import UserError
from handgrad.engine.text.evaluation import analogies, read_analogies, read_similarities, similarity, spearman
from handgrad.engine.text.vectors import FORMATS, WordVectors

NAMES = {"glove": "v.txt", "word2vec": "v.txt", "word2vec-binary": "v.bin", "safetensors": "v.safetensors"}


@pytest.fixture
def royal():
    """Two numbers that mean royal and female, and one word that is neither."""
    rows = {"man": [0, 0, 1], "woman": [0, 1, 1], "king": [1, 0, 1], "queen": [1, 1, 1], "bread": [0, 0, -1]}
    return WordVectors(list(rows), np.array(list(rows.values())) - [0.5, 0.5, 0])


def test_nearest_and_similarity(royal):
    assert [word for word, _ in royal.nearest("king", 2)] in (["man", "queen"], ["queen", "man"])
    assert len(royal.nearest("king", 99)) == 4 and "king" not in dict(royal.nearest("king", 99))
    a, b = royal["man"].astype(float), royal["queen"].astype(float)
    assert royal.similarity("man", "queen") == pytest.approx(a @ b / np.linalg.norm(a) / np.linalg.norm(b), abs=1e-6)
    assert royal.nearest(royal["bread"], 1)[0] == ("bread", pytest.approx(1.0, abs=1e-6))


def test_analogy_leaves_out_the_words_of_the_question(royal):
    (best, score), *_ = royal.analogy("man", "king", "woman", 2)
    assert best == "queen"
    d = royal.directions
    assert score == pytest.approx(float((d[2] - d[0] + d[1]) @ d[3]), abs=1e-6)
    assert not {"man", "king", "woman"} & set(dict(royal.analogy("man", "king", "woman", 99)))


def test_a_vector_of_zeros_is_near_nothing():
    vectors = WordVectors(["a", "b", "c"], [[0, 0], [3e30, 4e30], [-1, 0]])
    assert vectors.similarity("a", "b") == 0.0 and vectors.similarity("b", "c") == pytest.approx(-0.6)
    assert [word for word, _ in vectors.nearest("b")] == ["a", "c"]


def test_unknown_words(royal):
    with pytest.raises(UserError, match="'King' is none of the 5 words that have a vector; 'king' has one"):
        royal.nearest("King")
    with pytest.raises(UserError, match=r"'the' is none of the 5 words that have a vector$"):
        royal.similarity("man", "the")
    with pytest.raises(UserError, match=r"the vector has shape \(2,\), but these words need \(3,\)"):
        royal.nearest(np.zeros(2))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("shape", [(1, 1), (4, 1), (4, 50)])
def test_files_give_back_every_bit(tmp_path, format, shape):
    words = ["a", "don't", "ĝerbildoj", "汉字", "7"][: shape[0]]
    vectors = WordVectors(words, np.random.default_rng(0).standard_normal(shape) * 1e3)
    vectors.save(tmp_path / NAMES[format], format)
    found = WordVectors.load(tmp_path / NAMES[format])
    assert found.words == vectors.words and found.array.dtype == np.float32
    np.testing.assert_array_equal(found.array, vectors.array)


def test_words_with_spaces_and_blanks_at_the_end(tmp_path):
    """As in files that others published: the size is known from the first line."""
    (tmp_path / "v.txt").write_bytes(b"a 1 2 \r\nat name 3 4\n")
    assert WordVectors.load(tmp_path / "v.txt").words == ("a", "at name")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"a 1 2\nb 1\n", "line 2: it must be a word and 2 numbers, but has 2 parts"),
        (b"a 1 2\nb 1 2 3\n", "line 2: it must be a word and 2 numbers, but has 4 parts"),
        (b"a 1 x\n", "line 1: 'x' is not a number"),
        (b"a\n", "line 1: it must be a word and its numbers, but has 1 parts"),
        (b"", "holds no word vectors: it is empty"),
        (b"a 1 2\n\nb 1 2\n", "line 2: it must be a word and 2 numbers, but has 1 parts"),
        (b"3 2\na 1 2\nb 1 2\n", "line 1: it promises 3 words, but 2 follow"),
        (b"a 1 2\nb\xff 1 2\n", "line 2: it is not UTF-8"),
        (b"a 1 2\na 3 4\n", "the word 'a' stands twice"),
    ],
)
def test_broken_text(tmp_path, content, sentence):
    (tmp_path / "v.txt").write_bytes(content)
    with pytest.raises(UserError) as caught:
        WordVectors.load(tmp_path / "v.txt")
    assert sentence in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"two 3\n", "line 1: it must say how many words and numbers a word there are"),
        (b"2 0\n", "line 1: it must say"),
        (b"99999999999 300\na 1", "promises 99999999999 words of size 300, but ends after 3 bytes"),
        (b"2 1\na \0\0\0\0\nbbbbbbbbbb", "word number 2 of 2 is cut off"),
        (b"1 1\n\xff \0\0\0\0\n", "word number 1 of 1 is not UTF-8"),
    ],
)
def test_broken_binary(tmp_path, content, sentence):
    (tmp_path / "v.bin").write_bytes(content)
    with pytest.raises(UserError) as caught:
        WordVectors.load(tmp_path / "v.bin")
    assert sentence in str(caught.value)


def test_what_cannot_be_written_leaves_the_old_file(tmp_path, royal):
    royal.save(tmp_path / "v.txt")
    before = (tmp_path / "v.txt").read_bytes()
    with pytest.raises(UserError, match="cannot save 'two words'"):
        WordVectors(["two words"], [[1.0]]).save(tmp_path / "v.txt")
    assert (tmp_path / "v.txt").read_bytes() == before
    with pytest.raises(UserError, match="does not exist"):
        WordVectors.load(tmp_path / "none.txt")


# ---- evaluation


def test_spearman_with_ties():
    assert spearman(np.array([1, 2, 3, 4]), np.array([10, 20, 30, 1e9])) == pytest.approx(1.0)
    assert spearman(np.array([1, 2, 3]), np.array([3, 2, 1])) == pytest.approx(-1.0)
    # ranks 1, 2.5, 2.5, 4 and 1, 3, 2, 4: covariance 4.5, lengths sqrt(4.5) and sqrt(5)
    assert spearman(np.array([1, 2, 2, 3]), np.array([1, 3, 2, 4])) == pytest.approx(4.5 / np.sqrt(4.5 * 5.0))
    assert np.isnan(spearman(np.array([1, 1]), np.array([1, 2])))


def test_analogies_by_section(tmp_path, royal):
    (tmp_path / "q.txt").write_text(": family\nman king woman queen\nMan KING woman bread\n: none\nman the woman a\n")
    sections = read_analogies(tmp_path / "q.txt")
    family, none = (analogies(royal, name, questions) for name, questions in sections.items())
    assert (family.section, family.right, family.asked, family.total) == ("family", 1, 2, 2)
    assert (none.right, none.asked, none.total) == (0, 0, 1)
    (tmp_path / "q.txt").write_text("a b c\n")
    with pytest.raises(UserError, match="line 1: it has 3 words, but a question has 4"):
        read_analogies(tmp_path / "q.txt")


def test_similarities(tmp_path, royal):
    (tmp_path / "s.txt").write_text("# people\nking\tqueen\t8\nman,woman,7.5\nking bread 0\nthe a 3\n")
    pairs = read_similarities(tmp_path / "s.txt")
    rho, known = similarity(royal, pairs)
    assert known == 3 and -1.0 <= rho <= 1.0 and len(pairs) == 4
    assert np.isnan(similarity(royal, pairs[:1])[0])
    (tmp_path / "s.txt").write_text("king queen\n")
    with pytest.raises(UserError, match="line 1: it must hold two words and a number"):
        read_similarities(tmp_path / "s.txt")


# ---- nn.Embedding


def test_embedding_from_vectors(royal):
    frozen = nn.Embedding.from_vectors(royal)
    np.testing.assert_array_equal(frozen([2, 3]).numpy(), royal.array[[2, 3]])
    assert not frozen.weight.requires_grad and (frozen.num_embeddings, frozen.embedding_dim) == (5, 3)
    learning = nn.Embedding.from_vectors(royal.array, freeze=False, padding_idx=-1)
    assert learning.weight.requires_grad and learning.padding_idx == 4 and not learning.weight.data[4].any()
    assert royal.array[4].any()  # a copy
    with pytest.raises(ValueError, match="Embedding: vectors are int64 of shape"):
        nn.Embedding.from_vectors(np.ones((2, 2), np.int64))
    with pytest.raises(ValueError, match="Embedding: padding_idx is 5, but there are 5 embeddings"):
        nn.Embedding.from_vectors(royal, padding_idx=5)
