"""The command line. main.py settles threads before anything loads NumPy; the other files hold one command each."""

import os
import shutil
import sys


def program() -> str:
    """The command as the user must type it: `handgrad` where that is found, else the path to it, as in .venv/bin/handgrad."""
    typed = sys.argv[0]
    if os.path.basename(typed) != "handgrad" or shutil.which("handgrad") == os.path.abspath(typed):
        return "handgrad"
    return os.path.relpath(typed)
