"""Who still uses an older version of a secret: the broker is told that a version is applied when nobody does.

Pure bookkeeping, shared by both kinds of handle.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable


class Holder:
    """One place that keeps something made from a version, such as a pool of connections."""

    def __init__(self, holders: Holders, generation: int) -> None:
        """Use `Live.holder`."""
        self._holders = holders
        self.generation = generation

    def applied(self, generation: int) -> None:
        """Says that nothing made from a version before this generation is in use here any more."""
        self._holders.moved(self, generation)

    def leave(self) -> None:
        """Says that nothing made from any version is in use here any more."""
        self._holders.left(self)


class Holders:
    """All places of one handle. Safe to share between threads."""

    def __init__(self, generation: int, applied: Callable[[int], None]) -> None:
        """Calls `applied` with the current generation once all holders came to be there."""
        self._applied = applied
        self._lock = threading.Lock()
        self._all: list[Holder] = []
        self._current = generation
        self._told = generation

    def join(self) -> Holder:
        """Adds a place, which has nothing yet."""
        with self._lock:
            holder = Holder(self, self._current)
            self._all.append(holder)
            return holder

    def rotated(self, generation: int) -> None:
        """Notes that another version is current."""
        with self._lock:
            self._current = generation
        self._tell()

    def moved(self, holder: Holder, generation: int) -> None:
        """Notes where a place is."""
        with self._lock:
            holder.generation = generation
        self._tell()

    def left(self, holder: Holder) -> None:
        """Forgets a place."""
        with self._lock:
            if holder not in self._all:
                return
            self._all.remove(holder)
        self._tell()

    def _tell(self) -> None:
        with self._lock:
            behind = any(holder.generation != self._current for holder in self._all)
            if behind or self._told == self._current:
                return
            self._told = current = self._current
        self._applied(current)
