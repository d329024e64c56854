"""What an application does when a version changes.

Each hook is called with new versions, in order and one after the other, by a thread or task of its own: a slow one
keeps neither the handle nor another hook waiting, and goes on with the latest version, so that it may skip some in
between. One that fails has not taken its version over.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

    from secret_broker._holders import Holder
    from secret_broker._secret import Secret

_log = logging.getLogger("secret_broker")


class Hook:
    """A hook and its thread."""

    def __init__(self, name: str, call: Callable[[Secret], object], holder: Holder) -> None:
        """Waits for versions."""
        self._name, self._call, self._holder = name, call, holder
        self._told = threading.Condition()
        self._latest: Secret | None = None
        self._closed = False
        threading.Thread(target=self._run, name=f"secret-broker hook {name}", daemon=True).start()

    def tell(self, secret: Secret) -> None:
        """Has the hook called with a version, in place of one that it has not come to."""
        with self._told:
            self._latest = secret
            self._told.notify()

    def close(self) -> None:
        """The hook is not called any more; what it began goes on."""
        self._holder.leave()
        with self._told:
            self._closed = True
            self._told.notify()

    def _next(self) -> Secret | None:
        with self._told:
            self._told.wait_for(lambda: self._closed or self._latest is not None)
            secret, self._latest = self._latest, None
            return None if self._closed else secret

    def _run(self) -> None:
        while (secret := self._next()) is not None:
            try:
                self._call(secret)
            except Exception as error:  # noqa: BLE001 - whatever it is, the handle goes on
                _failed(self._name, error)
            else:
                self._holder.applied(secret.generation)


class AsyncHook:
    """A hook, a function or coroutine function, and its task."""

    def __init__(self, name: str, call: Callable[[Secret], object], holder: Holder) -> None:
        """Waits for versions."""
        self._name, self._call, self._holder = name, call, holder
        self._told = asyncio.Event()
        self._latest: Secret | None = None
        self._closed = False
        self.task = asyncio.get_running_loop().create_task(self._run(), name=f"secret-broker hook {name}")

    def tell(self, secret: Secret) -> None:
        """Has the hook called with a version, in place of one that it has not come to."""
        self._latest = secret
        self._told.set()

    def close(self) -> None:
        """The hook is not called any more; what it began goes on until the handle is closed, which cancels it."""
        self._holder.leave()
        self._closed = True
        self._told.set()

    async def _next(self) -> Secret | None:
        await self._told.wait()
        self._told.clear()
        secret, self._latest = self._latest, None
        return None if self._closed else secret

    async def _run(self) -> None:
        while (secret := await self._next()) is not None:
            try:
                answer = self._call(secret)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:  # noqa: BLE001 - whatever it is, the handle goes on
                _failed(self._name, error)
            else:
                self._holder.applied(secret.generation)


def _failed(name: str, error: Exception) -> None:
    # Its text may hold a value.
    _log.error("a hook on %s failed with %s", name, type(error).__name__)
