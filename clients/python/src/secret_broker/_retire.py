"""Lets a pool's connections of older versions go softly, and then says so to the handle.

Works as a hook of the handle, and so in a thread or task of its own.
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
#: How often a login is tried while the credential changes under it.
ATTEMPTS: Final = 3
#: The SQLSTATE class of an invalid authorization.
_AUTHORIZATION: Final = "28"


@dataclass(frozen=True, slots=True)
class Login:
    """The fields of a secret that log in."""

    user: str = "username"
    password: str = "password"  # noqa: S105 - a field's name

    def of(self, secret: Secret) -> tuple[str, str]:
        """The user and the password of a version."""
        return secret.text(self.user), secret.text(self.password)


def refusal(error: BaseException) -> str | None:
    """What a server says of a login that it does not accept; `None` when it is something else that failed."""
    state = getattr(error, "sqlstate", None)
    if isinstance(state, str):
        return f"SQLSTATE {state}" if state.startswith(_AUTHORIZATION) else None
    # libpq does not tell the state.
    return "the login was refused" if "authentication failed" in str(error) else None


class Retirer:
    """Retires a pool's connections at each change. Make it before the pool has any."""

    def __init__(self, live: Live, retire: Callable[[], None], behind: Callable[[int], bool]) -> None:
        """`retire` closes idle connections that are outdated; `behind` tells whether any is left of another one."""
        self._live = live
        self._retire = retire
        self._behind = behind
        self._closing = threading.Event()
        self._remove = live.on_change(self._changed)

    def close(self) -> None:
        """Leaves the pool to itself."""
        self._closing.set()
        self._remove()

    def _changed(self, _: Secret) -> None:
        """Returns when no connection of an older version is left."""
        while not self._closing.is_set():
            try:
                self._retire()
                if not self._behind(self._live.generation):
                    return
            except Exception as error:  # noqa: BLE001 - whatever the pool's library raises; tried again
                _not_retired(self._live.name, error)
            self._closing.wait(_LOOK)


class AsyncRetirer:
    """Retires a pool's connections at each change. Make it before the pool has any."""

    def __init__(self, live: AsyncLive, retire: Callable[[], Awaitable[None]], behind: Callable[[int], bool]) -> None:
        """`retire` closes idle connections that are outdated; `behind` tells whether any is left of another one."""
        self._live = live
        self._retire = retire
        self._behind = behind
        self._closing = asyncio.Event()
        self._remove = live.on_change(self._changed)

    def close(self) -> None:
        """Leaves the pool to itself."""
        self._closing.set()
        self._remove()

    async def _changed(self, _: Secret) -> None:
        """Returns when no connection of an older version is left."""
        while not self._closing.is_set():
            try:
                await self._retire()
                if not self._behind(self._live.generation):
                    return
            except Exception as error:  # noqa: BLE001 - whatever the pool's library raises; tried again
                _not_retired(self._live.name, error)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._closing.wait(), _LOOK)


def _not_retired(name: str, error: Exception) -> None:
    _log.warning("connections of %s could not be retired: %s", name, type(error).__name__)
