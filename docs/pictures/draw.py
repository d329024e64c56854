"""Runs a command on a terminal of its own and draws what it showed as SVG: FILE TITLE COMMAND..."""

import os
import pty
import re
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 120

path, title, *command = sys.argv[1:]
shown = bytearray()


def read(fd: int) -> bytes:
    data = os.read(fd, 4096)
    shown.extend(data)
    return data


status = pty.spawn(command, read)
if status:
    sys.exit(f"{title}: ended with {status}")
# What a line held before the last carriage return was written over; its end may stand, as spaces.
lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in shown.decode().replace(os.environ.get("HIDDEN", "\0"), "").split("\n")]
lines = [re.sub(r"\x1b\[(\?25[lh]|K)", "", line) for line in lines]
console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))
console.print(Text.from_ansi(f"$ {title}\n" + "\n".join(lines).rstrip()))
svg = console.export_svg(title="secret-operator")
# Fonts would be fetched from elsewhere; the reader's own will do.
svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
with open(path, "w") as picture:
    picture.write(svg)
