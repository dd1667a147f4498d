"""Models."""

from .folder import load_model, save_model
from .generation import generate
from .glove import GloVe, GloVeConfig
from .gpt import GPT, GPTConfig
from .lstm import LSTMLanguageModel
from .seq2seq import Seq2SeqLSTM

__all__ = [
    "GPT", "GPTConfig", "GloVe", "GloVeConfig", "LSTMLanguageModel", "Seq2SeqLSTM", "generate", "load_model", "save_model",
]  # fmt: skip
