"""Byte-pair encoding: a vocabulary that grows from bytes by joining the pair that stands together most often.

Training (Sennrich, Haddow and Birch 2016, "Neural Machine Translation of Rare Words with Subword Units", section 3.2):
cut the text into words, write each as bytes, and then, until the vocabulary is large enough,

    find the pair of neighbouring tokens with the highest count; make it a token; join it wherever it stands.

Encoding a word joins in the order in which training did: of all pairs in it the earliest merge first.

Words are cut as GPT-2 does (Radford et al. 2019, section 2.2): a space belongs to the word behind it, and letters, digits
and everything else are words of their own, so that "dog", "dog." and "dog!" share their token. Since the tokens below all
others are the 256 bytes, there is no text that cannot be encoded, and decoding gives it back exactly.
"""

from __future__ import annotations

import codecs
import heapq
import json
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import regex
from numpy.typing import ArrayLike

from ..errors import UserError
from ..files import StrPath, read_text, write_text_atomically
from .tokenizer import Ids, checked_ids, read_model

__all__ = ["BytePairTokenizer"]

Pair = tuple[int, int]

_WORDS = r"'(?:s|t|re|ve|m|ll|d)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
"""GPT-2's words: English endings; a run of letters, of numbers, of other signs, each with one space before it; white space,
of which the last space goes to the word that follows."""


class BytePairTokenizer:
    """Byte-level BPE. Laws: decode(encode(text)) == text for every text that UTF-8 can hold, and
    "".join(stream(ids)) == decode(ids).

    vocabulary: the bytes of each token, by id; merges: pairs of token's bytes in the order in which they were learned;
    special_tokens: texts with ids of their own, which are found in a text before words are cut, and never inside of one.
    """

    def __init__(
        self,
        vocabulary: Sequence[bytes],
        merges: Sequence[tuple[bytes, bytes]],
        special_tokens: Sequence[str] = (),
    ) -> None:
        """Raise ValueError unless all 256 bytes and the results of all merges are in vocabulary, each once."""
        self.vocabulary, self.merges, self.special_tokens = list(vocabulary), list(merges), list(special_tokens)
        ids = {token: index for index, token in enumerate(self.vocabulary)}
        if len(ids) != len(self.vocabulary):
            twice = next(token for token, count in Counter(self.vocabulary).items() if count > 1)
            raise ValueError(f"BytePairTokenizer: vocabulary has {twice!r} twice, but every id needs its own token")
        needed = [*_BYTES, *(left + right for left, right in self.merges), *(s.encode() for s in self.special_tokens)]
        if missing := [token for token in needed if token not in ids]:
            raise ValueError(f"BytePairTokenizer: vocabulary lacks {missing[0]!r}")
        self._byte_ids = [ids[bytes([byte])] for byte in range(256)]
        self._ranks: dict[Pair, tuple[int, int]] = {}  # pair -> (place in merges, id of the joined token)
        for place, (left, right) in enumerate(self.merges):
            if left not in ids or right not in ids:
                raise ValueError(
                    f"BytePairTokenizer: merge {place} joins {left!r} and {right!r}, but both must be tokens"
                )
            self._ranks.setdefault((ids[left], ids[right]), (place, ids[left + right]))
        self._special_ids = {text: ids[text.encode()] for text in self.special_tokens}
        self._encode_word = lru_cache(1 << 16)(self._joined)

    @classmethod
    def train(cls, text: str, vocab_size: int, special_tokens: Sequence[str] = ()) -> BytePairTokenizer:
        """Learn merges until there are `vocab_size` tokens, or until no pair is left: special tokens, bytes, then merges.

        Of pairs that stand together equally often the one with the greater bytes comes first (its left token, then its
        right one). UserError where vocab_size has no room for the bytes and the special tokens.
        """
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise UserError(
                f"vocab_size is {vocab_size}, but byte-pair encoding needs at least {least}: one for each byte"
            )
        cut = _splitter(tuple(special_tokens))
        pieces = (piece for part in (cut.split(text) if cut else [text]) if part not in special_tokens
                  for piece in _words(part))  # fmt: skip
        counts = Counter(pieces)
        vocabulary = [*(special.encode() for special in special_tokens), *_BYTES]
        words = [[len(special_tokens) + _BYTE_PLACE[byte] for byte in _utf8(word)] for word in counts]
        merges = [
            (vocabulary[a], vocabulary[b]) for a, b in _learn(words, list(counts.values()), vocabulary, vocab_size)
        ]
        return cls(vocabulary, merges, special_tokens)

    @classmethod
    def from_gpt2_files(cls, encoder: StrPath, merges: StrPath) -> BytePairTokenizer:
        """Read GPT-2's encoder.json and vocab.bpe (or merges.txt); UserError where they are not those."""
        try:
            vocabulary = json.loads(read_text(Path(encoder)))
        except json.JSONDecodeError as error:
            raise UserError(f"{encoder} is not JSON ({error})") from error
        lines = [line for line in read_text(Path(merges)).split("\n") if line and not line.startswith("#version")]
        return _from_printable(encoder, vocabulary, lines, [t for t in vocabulary if t == "<|endoftext|>"])

    def __len__(self) -> int:
        return len(self.vocabulary)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, BytePairTokenizer) and (self.vocabulary, self.merges, self.special_tokens) == (
            other.vocabulary, other.merges, other.special_tokens
        )  # fmt: skip

    def __hash__(self) -> int:
        return hash((tuple(self.vocabulary), tuple(self.merges)))

    def __repr__(self) -> str:
        return f"BytePairTokenizer({len(self)} tokens, {len(self.merges)} merges)"

    @property
    def default_prompt(self) -> str:
        """What a text is begun with where nothing is said."""
        return "\n"

    def encode(self, text: str) -> Ids:
        """Return the ids (T,) of text; UserError where it holds half a surrogate pair, which UTF-8 cannot hold."""
        cut = _splitter(tuple(self.special_tokens))
        ids: list[int] = []
        for part in cut.split(text) if cut else [text]:
            if part in self._special_ids:
                ids.append(self._special_ids[part])
            else:
                for word in _words(part):
                    ids.extend(self._encode_word(word))
        return np.array(ids, np.int64)

    def decode_bytes(self, ids: ArrayLike) -> bytes:
        """Return the bytes of ids (T,); ValueError unless they are integers from 0 to len(self) - 1."""
        return b"".join(map(self.vocabulary.__getitem__, checked_ids(ids, len(self)).tolist()))

    def decode(self, ids: ArrayLike) -> str:
        """Return the text of ids (T,); what is no UTF-8, as half a character is, becomes U+FFFD."""
        return self.decode_bytes(ids).decode("utf-8", "replace")

    def stream(self, ids: Iterable[int], after: ArrayLike = ()) -> Iterator[str]:
        """Yield the text of each id, a character as soon as its last byte has come. `after` may hold the ids in front."""
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        for index in ids:
            yield decoder.decode(self.vocabulary[index])
        yield decoder.decode(b"", final=True)

    def _joined(self, word: str) -> tuple[int, ...]:
        """The ids of a word: its bytes, joined by the earliest merge that applies until none does."""
        ids = [self._byte_ids[byte] for byte in _utf8(word)]
        while len(ids) > 1:
            pair = min(pairwise(ids), key=lambda pair: self._ranks.get(pair, _NEVER)[0])
            if pair not in self._ranks:
                break
            ids = _join(ids, pair, self._ranks[pair][1])
        return tuple(ids)

    def save(self, folder: StrPath) -> None:
        """Write `tokenizer.json`, which Hugging Face's tokenizers read too."""
        write_text_atomically(Path(folder) / "tokenizer.json", json.dumps(_content(self), indent=1) + "\n")

    @classmethod
    def load(cls, folder: StrPath) -> BytePairTokenizer:
        """Read a `tokenizer.json` of byte-level BPE; UserError where it is missing, broken or of another type."""
        path, content = read_model(folder, "BPE")
        model = content["model"]
        added = content.get("added_tokens", [])
        try:
            lines = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
            special = [token["content"] for token in added]
        except (KeyError, TypeError) as error:
            raise UserError(f"{path} is broken: it must have model.merges, and added_tokens with content") from error
        return _from_printable(path, model["vocab"], lines, special)


# ---- training


def _learn(words: list[list[int]], counts: list[int], vocabulary: list[bytes], size: int) -> list[Pair]:
    """The merges that bring `vocabulary` to `size`; joins the words and appends the tokens on the way.

    Counts of pairs are kept, not counted anew: a merge touches only the words that hold its pair. Two merges may give
    the same bytes (a + bc, ab + c): that is one token.
    """
    ids = {token: index for index, token in enumerate(vocabulary)}
    pair_counts: Counter[Pair] = Counter()
    holders: defaultdict[Pair, set[int]] = defaultdict(set)  # the words in which a pair stood at some time
    for index, (word, count) in enumerate(zip(words, counts, strict=True)):
        for pair in pairwise(word):
            pair_counts[pair] += count
            holders[pair].add(index)
    heap = [_Candidate(count, pair, vocabulary) for pair, count in pair_counts.items()]
    heapq.heapify(heap)
    merges: list[Pair] = []
    while heap and len(vocabulary) < size:
        best = heapq.heappop(heap)
        if best.count != pair_counts[best.pair] or not best.count:
            continue  # its count has changed since; the new one is in the heap too
        joined = vocabulary[best.pair[0]] + vocabulary[best.pair[1]]
        token = ids.setdefault(joined, len(vocabulary))
        if token == len(vocabulary):
            vocabulary.append(joined)
        merges.append(best.pair)
        changed: set[Pair] = set()
        for index in holders.pop(best.pair):
            old, count = words[index], counts[index]
            words[index] = new = _join(old, best.pair, token)
            for pair in pairwise(old):
                pair_counts[pair] -= count
                changed.add(pair)
            for pair in pairwise(new):
                pair_counts[pair] += count
                changed.add(pair)
                holders[pair].add(index)
        for pair in changed:
            heapq.heappush(heap, _Candidate(pair_counts[pair], pair, vocabulary))
    return merges


class _Candidate:
    """A pair with its count, in the order of a heap: the highest count first, then the greater bytes."""

    __slots__ = ("count", "pair", "vocabulary")

    def __init__(self, count: int, pair: Pair, vocabulary: list[bytes]) -> None:
        self.count, self.pair, self.vocabulary = count, pair, vocabulary

    def __lt__(self, other: _Candidate) -> bool:
        if self.count != other.count:
            return self.count > other.count
        return self._bytes() > other._bytes()

    def _bytes(self) -> tuple[bytes, bytes]:
        return self.vocabulary[self.pair[0]], self.vocabulary[self.pair[1]]


def _join(ids: list[int], pair: Pair, token: int) -> list[int]:
    """ids with every `pair` in them, from left to right, as `token`."""
    joined: list[int] = []
    place, last = 0, len(ids) - 1
    left, right = pair
    while place <= last:
        if place < last and ids[place] == left and ids[place + 1] == right:
            joined.append(token)
            place += 2
        else:
            joined.append(ids[place])
            place += 1
    return joined


# ---- words and bytes


def _words(text: str) -> list[str]:
    return _pattern().findall(text)


@lru_cache(1)
def _pattern() -> Any:
    return regex.compile(_WORDS)


@lru_cache(16)
def _splitter(special_tokens: tuple[str, ...]) -> Any:
    """A pattern whose split keeps the special tokens as parts; None where there are none. The longest comes first."""
    if not special_tokens:
        return None
    return regex.compile("(" + "|".join(regex.escape(s) for s in sorted(special_tokens, key=len, reverse=True)) + ")")


def _utf8(word: str) -> bytes:
    try:
        return word.encode()
    except UnicodeEncodeError as error:
        half = word[error.start]
        raise UserError(f"the text has {half!r}, half of a surrogate pair, which UTF-8 cannot hold") from None


def _printable() -> dict[int, str]:
    """GPT-2's alphabet: each byte as a character that can be seen; its order is that of the byte tokens.

    Bytes that are visible in Latin-1 stand for themselves, the other 68 are characters from 256 on.
    """
    visible = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    hidden = [byte for byte in range(256) if byte not in set(visible)]
    return {byte: chr(byte) for byte in visible} | {byte: chr(256 + place) for place, byte in enumerate(hidden)}


_PRINTABLE = _printable()
_BYTE_OF = {character: byte for byte, character in _PRINTABLE.items()}
_BYTES = [bytes([byte]) for byte in _PRINTABLE]  # in the order of their ids
_BYTE_PLACE = {byte: place for place, byte in enumerate(_PRINTABLE)}
_NEVER = (1 << 62, -1)


# ---- files


def _shown(token: bytes) -> str:
    return "".join(map(_PRINTABLE.__getitem__, token))


def _content(tokenizer: BytePairTokenizer) -> dict[str, Any]:
    """tokenizer.json."""
    special = set(tokenizer.special_tokens)
    texts = [token.decode("utf-8", "replace") for token in tokenizer.vocabulary]
    shown = [text if text in special else _shown(t) for text, t in zip(texts, tokenizer.vocabulary, strict=True)]
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    byte_level = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": shown.index(text), "content": text, **flags} for text in tokenizer.special_tokens],
        "normalizer": None,
        "pre_tokenizer": byte_level,
        "post_processor": None,
        "decoder": byte_level,
        "model": {
            "type": "BPE",
            "dropout": None,
            "unk_token": None,
            "continuing_subword_prefix": None,
            "end_of_word_suffix": None,
            "fuse_unk": False,
            "byte_fallback": False,
            "vocab": {text: index for index, text in enumerate(shown)},
            "merges": [[_shown(left), _shown(right)] for left, right in tokenizer.merges],
        },
    }


def _from_printable(path: StrPath, vocabulary: Any, lines: list[str], special: list[str]) -> BytePairTokenizer:
    """The tokenizer of a vocabulary and merges in GPT-2's alphabet; UserError, which names path, where they are broken."""
    try:
        by_id = sorted(vocabulary, key=vocabulary.__getitem__)
        by_id += [text for text in special if text not in vocabulary]  # some files keep them apart
        if [vocabulary[token] for token in by_id if token in vocabulary] != list(range(len(vocabulary))):
            raise ValueError("the ids must be 0, 1, 2 ... without gaps")
        tokens = [token.encode() if token in special else _seen(token) for token in by_id]
        merges = [tuple(map(_seen, line.split(" "))) for line in lines]
        if wrong := [line for line, merge in zip(lines, merges, strict=True) if len(merge) != 2]:
            raise ValueError(f"the merge {wrong[0]!r} is not a pair")
        return BytePairTokenizer(tokens, merges, special)  # type: ignore[arg-type]
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{path} has a broken vocabulary: {str(error).removeprefix('BytePairTokenizer: ')}") from error


def _seen(token: str) -> bytes:
    """The bytes of a token in GPT-2's alphabet."""
    if unknown := [character for character in token if character not in _BYTE_OF]:
        raise ValueError(f"the token {token!r} has {unknown[0]!r}, which stands for no byte")
    return bytes(_BYTE_OF[character] for character in token)
