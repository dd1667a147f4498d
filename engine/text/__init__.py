"""Text: where it comes from, how it becomes numbers, and how the numbers are dealt out in batches or counted in pairs."""

from .cooccurrence import Cooccurrences
from .counting import count_cooccurrences
from .vocabulary import Vocabulary
from .words import WordBlocks, characters, chinese, stop_words, unicode_words, whitespace, without

__all__ = [
    "Cooccurrences", "Vocabulary", "WordBlocks", "characters", "chinese", "count_cooccurrences", "stop_words",
    "unicode_words", "whitespace", "without",
]  # fmt: skip
