"""Runs a command on a terminal of its own and draws what it showed as SVG: FILE TITLE COMMAND..."""

import os
import pty
import re
import sys

from rich.console import Console
from rich.text import Text

WIDTH = 110

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
lines = [line.rstrip("\r").rsplit("\r", 1)[-1] for line in shown.decode().split("\n")]
lines = [re.sub(r"\x1b\\[\\?25[lh]|\x1b\\[K", "", line) for line in lines]
console = Console(record=True, width=WIDTH, file=open(os.devnull, "w"))
console.print(Text.from_ansi(f"$ {title}\n" + "\n".join(lines).rstrip()))
console.save_svg(path, title="secret-operator")
