"""Models."""

from .folder import load_model, save_model
from .generation import generate
from .gpt import GPT, GPTConfig

__all__ = ["GPT", "GPTConfig", "generate", "load_model", "save_model"]
