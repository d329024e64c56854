"""What a handle costs: reads per second, by one thread and by four, and the time from a change to the hook.

A rotation is asked of the rig's control, which answers once the broker serves the new version. The hook runs in
between; its time is taken against the moment at which another client, asking over and over, first saw the version.
"""

from __future__ import annotations

import json
import os
import statistics
import threading
import time
import urllib.request
from typing import TYPE_CHECKING

from secret_broker import Client, Live

if TYPE_CHECKING:
    from secret_broker import Secret

_READS = 1_000_000
_CHANGES = 10


def reads(live: Live, threads: int) -> float:
    """Reads per second of all threads together."""

    def read() -> None:
        for _ in range(_READS // threads):
            _ = live.current

    readers = [threading.Thread(target=read) for _ in range(threads)]
    started = time.perf_counter()
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    return _READS / (time.perf_counter() - started)


def rotate() -> None:
    """Asks the rig for another version."""
    body = json.dumps({"name": "DB"}).encode()
    request = urllib.request.Request(f"{os.environ['RIG_CONTROL']}/rotate", body)  # noqa: S310
    with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
        answer.read()


def changes(client: Client, live: Live) -> list[float]:
    """Seconds from the first sight of a version to its hook; less than zero where the hook was first."""
    found = []
    for _ in range(_CHANGES):
        hooked = threading.Event()
        at: list[float] = []

        def note(_: Secret, at: list[float] = at, hooked: threading.Event = hooked) -> None:
            at.append(time.perf_counter())
            hooked.set()

        before = live.generation
        remove = live.on_change(note)
        rotation = threading.Thread(target=rotate)
        rotation.start()
        while client.get("DB").generation == before:
            pass
        seen = time.perf_counter()
        hooked.wait(30)
        remove()
        rotation.join()
        found.append(at[0] - seen)
    return found


def main() -> None:
    """Prints one line for each figure."""
    with Client.from_env() as client, client.live("DB") as live:
        print(f"reads per second, 1 thread: {reads(live, 1):,.0f}")
        print(f"reads per second, 4 threads: {reads(live, 4):,.0f}")
        found = sorted(changes(client, live))
        print(f"change to hook, ms: median {statistics.median(found) * 1e3:.2f}, worst {found[-1] * 1e3:.2f}")


if __name__ == "__main__":
    main()
