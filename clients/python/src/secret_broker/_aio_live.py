"""A handle that always has the current version of a secret, for asyncio.

- Reading it is reading an attribute: no call, no lock.
- A task of its own watches; it survives the broker's restarts, and ends with `close`.
- While the broker can't be reached the last version stays; one that the broker withdrew is gone at once.
"""

from __future__ import annotations

import asyncio
import inspect
import logging
from typing import TYPE_CHECKING, Self

from secret_broker._errors import ConfigurationError, DeadlineError, RefusedError, SecretBrokerError
from secret_broker._holders import Holder, Holders
from secret_broker._state import Held
from secret_broker._verbs import LAST_BOUND, Backoff, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from secret_broker._aio_client import AsyncClient
    from secret_broker._secret import Previous, Secret

_log = logging.getLogger("secret_broker")


class AsyncLive:
    """The current version of one secret."""

    def __init__(
        self,
        client: AsyncClient,
        first: Secret,
        *,
        report_applied: bool,
    ) -> None:
        """Use `AsyncClient.live`."""
        self._client = client
        self._held = Held(first)
        self._holders = Holders(first.generation, self._report)
        self._report_applied = report_applied
        self._hooks: tuple[Callable[[Secret], object], ...] = ()
        self._users = 1
        self._own = self._holders.join()
        self._loop = asyncio.get_running_loop()
        self._reports: set[asyncio.Task[None]] = set()
        self._task = self._loop.create_task(self._run(), name=f"secret-broker {first.name}")

    @classmethod
    async def open(
        cls,
        client: AsyncClient,
        name: str,
        deadline: float,
        *,
        report_applied: bool,
    ) -> Self:
        """Use `AsyncClient.live`."""
        first = await _first(client, name, deadline)
        return cls(client, first, report_applied=report_applied)

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self._held.name

    @property
    def current(self) -> Secret:
        """The current version; raises the broker's `RefusedError` while there is none."""
        secret = self._held.secret
        return self._held.missing() if secret is None else secret

    @property
    def generation(self) -> int:
        """The generation of the last version, also when it must not be used any more."""
        return self._held.generation

    @property
    def previous(self) -> Previous | None:
        """The version before, while it is still accepted."""
        return self._held.previous

    def on_change(self, hook: Callable[[Secret], object]) -> Callable[[], None]:
        """Calls the function or coroutine function with each later version; gives what takes it away again."""
        self._hooks = (*self._hooks, hook)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not hook)

        return remove

    def holder(self) -> Holder:
        """Adds a place whose older versions keep the broker from being told that a newer one is applied."""
        return self._holders.join()

    async def report(self, outcome: Outcome, detail: str = "") -> int:
        """Tells the broker what became of the current version at its target."""
        return await self._client.report(self.current, outcome, detail)

    def share(self) -> bool:
        """Counts one more user, who closes the handle as well; false when it is closed already."""
        self._users += self._users > 0
        return self._users > 0

    async def close(self) -> None:
        """Ends the watch when this is the last user; the last version stays readable."""
        self._users -= self._users > 0
        if self._users > 0:
            return
        ending = [self._task, *self._reports]
        for task in ending:
            task.cancel()
        await asyncio.gather(*ending, return_exceptions=True)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncLive({self._held.secret!r})"

    async def _run(self) -> None:
        while True:
            secret = self._held.secret
            try:
                async with self._client.watch(self.name, holding=[] if secret is None else [secret]) as watch:
                    async for event in watch:
                        changed = self._held.take(event)
                        if changed is not None:
                            await self._changed(changed)
            except ConfigurationError:
                return  # The client was closed.
            except SecretBrokerError as error:
                _log.warning("the watch of %s ended, and is begun again: %s", self.name, error)
            await asyncio.sleep(LAST_BOUND)

    async def _changed(self, secret: Secret) -> None:
        self._holders.rotated(secret.generation)
        for hook in self._hooks:
            try:
                answer = hook(secret)
                if inspect.isawaitable(answer):
                    await answer
            except Exception as error:  # noqa: BLE001 - whatever it is, the watch goes on
                # Its text may hold a value.
                _log.error("a hook on %s failed with %s", self.name, type(error).__name__)
                return
        self._own.applied(secret.generation)

    def _report(self) -> None:
        secret = self._held.secret
        if secret is not None and self._report_applied and not self._task.done():
            report = self._loop.create_task(self._applied(secret))
            self._reports.add(report)
            report.add_done_callback(self._reports.discard)

    async def _applied(self, secret: Secret) -> None:
        backoff = Backoff()
        while self._held.is_at(secret.generation):
            try:
                await self._client.report(secret, Outcome.APPLIED)
            except SecretBrokerError as error:
                if not error.is_transient:
                    return
                await asyncio.sleep(backoff.wait(error))
            else:
                return


async def _first(client: AsyncClient, name: str, deadline: float) -> Secret:
    loop = asyncio.get_running_loop()
    ends = loop.time() + deadline
    backoff = Backoff()
    last: SecretBrokerError = DeadlineError(str(client.address), deadline)
    while (left := ends - loop.time()) > 0:
        try:
            return await client.get(name, deadline=left)
        except RefusedError as error:
            if not error.is_transient or error.retry_after is None:
                raise
            last = error
        except DeadlineError:
            break
        except SecretBrokerError as error:
            if not error.is_transient:
                raise
            last = error
        await asyncio.sleep(min(backoff.wait(last), max(0.0, ends - loop.time())))
    raise last
