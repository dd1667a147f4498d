"""Models."""

from .folder import load_model, save_model
from .generation import generate
from .glove import GloVe, GloVeConfig
from .gpt import GPT, GPTConfig
from .lstm import LSTMLanguageModel

__all__ = ["GPT", "GPTConfig", "GloVe", "GloVeConfig", "LSTMLanguageModel", "generate", "load_model", "save_model"]
