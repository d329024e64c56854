"""Lets a pool's connections of older versions go softly, and then says so to the handle.

Works beside the handle's own thread or task, so that a slow pool delays no other hook.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from secret_broker._aio_live import AsyncLive
    from secret_broker._live import Live
    from secret_broker._secret import Secret

_log = logging.getLogger("secret_broker")

#: Seconds between looks at connections that are in use.
_LOOK: Final = 0.25


@dataclass(frozen=True, slots=True)
class Login:
    """The fields of a secret that log in."""

    user: str = "username"
    password: str = "password"  # noqa: S105 - a field's name

    def of(self, secret: Secret) -> tuple[str, str]:
        """The user and the password of a version."""
        return secret.text(self.user), secret.text(self.password)


class Retirer:
    """A thread that retires a pool's connections at each change."""

    def __init__(self, live: Live, retire: Callable[[], None], behind: Callable[[int], bool]) -> None:
        """`retire` closes idle connections that are outdated; `behind` tells whether any is left of another one."""
        self._live = live
        self._retire = retire
        self._behind = behind
        self._holder = live.holder()
        self._wake = threading.Event()
        self._closing = False
        self._remove = live.on_change(lambda _: self._wake.set())
        self._thread = threading.Thread(target=self._run, name=f"secret-broker pool {live.name}", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leaves the pool to itself."""
        self._closing = True
        self._remove()
        self._wake.set()
        if self._thread is not threading.current_thread():
            self._thread.join()
        self._holder.leave()

    def _run(self) -> None:
        left: int | None = None
        while True:
            self._wake.wait(None if left is None else _LOOK)
            self._wake.clear()
            if self._closing:
                return
            generation = self._live.generation
            try:
                self._retire()
            except Exception as error:  # noqa: BLE001 - whatever the pool's library raises; tried again
                _log.warning("connections of %s could not be retired: %s", self._live.name, type(error).__name__)
                left = generation
                continue
            left = generation if self._behind(generation) else None
            if left is None:
                self._holder.applied(generation)


class AsyncRetirer:
    """A task that retires a pool's connections at each change."""

    def __init__(self, live: AsyncLive, retire: Callable[[], Awaitable[None]], behind: Callable[[int], bool]) -> None:
        """`retire` closes idle connections that are outdated; `behind` tells whether any is left of another one."""
        self._live = live
        self._retire = retire
        self._behind = behind
        self._holder = live.holder()
        self._wake = asyncio.Event()
        self._remove = live.on_change(lambda _: self._wake.set())
        self._task = asyncio.get_running_loop().create_task(self._run(), name=f"secret-broker pool {live.name}")

    async def close(self) -> None:
        """Leaves the pool to itself."""
        self._remove()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._holder.leave()

    async def _run(self) -> None:
        left: int | None = None
        while True:
            if left is None:
                await self._wake.wait()
            else:
                with suppress(TimeoutError):
                    await asyncio.wait_for(self._wake.wait(), _LOOK)
            self._wake.clear()
            generation = self._live.generation
            try:
                await self._retire()
            except Exception as error:  # noqa: BLE001 - whatever the pool's library raises; tried again
                _log.warning("connections of %s could not be retired: %s", self._live.name, type(error).__name__)
                left = generation
                continue
            left = generation if self._behind(generation) else None
            if left is None:
                self._holder.applied(generation)
