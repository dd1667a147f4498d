"""Where mistakes are planted: the source of a rung with the headers that only a few rungs share written into it."""

import re
from pathlib import Path

import handgrad

FOLDER = Path(handgrad.__path__[0], "kernels", "cuda")


def whole(stem: str) -> str:
    """The text of `<stem>.cu`, with attention*.cuh and philox.cuh in the place of the lines that include them."""
    text = (FOLDER / f"{stem}.cu").read_text()
    include = re.compile(r'#include "((?:attention\w*|philox)\.cuh)"\n')
    while found := include.search(text):
        header = (FOLDER / found[1]).read_text().replace("#pragma once\n", "")
        text = text[: found.start()] + header + text[found.end() :]
    return text
