"""`python -m handgrad VERB ...`: the same as the command `handgrad`."""

from .engine.cli.main import run

if __name__ == "__main__":
    run()
