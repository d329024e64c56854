"""A handle that always has the current version of a secret, for asyncio.

- Reading it is reading an attribute: no call, no lock.
- A task of its own watches; it survives the broker's restarts, and ends with `close`.
- What was held last stays when the broker goes away, and when it can give none: `standing` says so.
"""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any, Self

from secret_broker._errors import ConfigurationError, DeadlineError, SecretBrokerError
from secret_broker._holders import Holder, Holders
from secret_broker._hooks import AsyncHook
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
        self._hooks: tuple[AsyncHook, ...] = ()
        self._users = 1
        self._closing = False
        self._told = asyncio.Event()
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
        return self._held.secret.name

    @property
    def current(self) -> Secret:
        """The version to use now."""
        return self._held.secret

    @property
    def generation(self) -> int:
        """The generation of the version to use now."""
        return self._held.secret.generation

    @property
    def previous(self) -> Previous | None:
        """The version before, while it is still accepted."""
        return self._held.secret.previous

    @property
    def standing(self) -> SecretBrokerError | None:
        """`None` while the broker serves the version that is held; otherwise why it does not."""
        return self._held.standing

    async def after(self, generation: int, *, deadline: float | None = None) -> Secret:
        """Waits for a version later than this generation; raises `DeadlineError` when none comes in time."""
        deadline = deadline or self._client.deadline
        try:
            async with asyncio.timeout(deadline):
                while self.generation <= generation:
                    await self._told.wait()
        except TimeoutError:
            raise DeadlineError(str(self._client.address), deadline) from None
        return self.current

    def on_change(self, hook: Callable[[Secret], object]) -> Callable[[], None]:
        """Calls the function or coroutine function with each later version, in a task of its own.

        It returns once the application uses nothing older any more. A version is applied when all hooks returned.
        A hook that is slow may skip versions in between. That of a closed handle is never called. Gives what takes
        the hook away again.
        """
        if self._closing:
            return lambda: None
        added = AsyncHook(self.name, hook, self._holders.join())
        self._hooks = (*self._hooks, added)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not added)
            added.close()

        return remove

    def holder(self) -> Holder:
        """Adds a place whose older versions keep the broker from being told that a newer one is applied."""
        return self._holders.join()

    async def report(self, outcome: Outcome, detail: str = "") -> int:
        """Tells the broker what became of the current version at its target."""
        return await self._client.report(self.current, outcome, detail)

    async def refused(self, secret: Secret, detail: str = "") -> bool:
        """Tells the broker that the target refused a version, so that it fetches a fresh one, and waits for that.

        Gives whether there is another before the client's deadline.
        """
        try:
            await self._client.report(secret, Outcome.REFUSED, detail)
            await self.after(secret.generation)
        except SecretBrokerError:
            pass
        return self.generation > secret.generation

    def share(self) -> bool:
        """Counts one more user, who closes the handle as well; false when it is closed already."""
        self._users += self._users > 0
        return self._users > 0

    async def close(self) -> None:
        """Ends the watch and cancels hooks when this is the last user; the last version stays readable."""
        self._users -= self._users > 0
        if self._users > 0:
            return
        self._end()
        hooks, self._hooks = self._hooks, ()
        # A hook may be what closes the handle.
        ending: set[asyncio.Task[Any]] = {self._task, *self._reports, *(hook.task for hook in hooks)}
        ending -= {task for task in ending if task is asyncio.current_task()}
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
            try:
                async with self._client.watch(self.name, holding=self._held.served()) as watch:
                    async for event in watch:
                        changed = self._held.take(event)
                        if changed is not None:
                            self._changed(changed)
            except ConfigurationError as closed:  # The client was.
                self._held.standing = closed
                self._end()
                return
            except SecretBrokerError as error:
                self._held.standing = error
                _log.warning("the watch of %s ended, and is begun again: %s", self.name, error)
            await asyncio.sleep(LAST_BOUND)

    def _end(self) -> None:
        # First: hooks that leave have not taken over what they were at, so nothing is reported from here on.
        self._closing = True
        for hook in self._hooks:
            hook.close()

    def _changed(self, secret: Secret) -> None:
        self._told.set()
        self._told = asyncio.Event()
        self._holders.rotated(secret.generation)
        for hook in self._hooks:
            hook.tell(secret)

    def _report(self, generation: int) -> None:
        secret = self._held.secret
        if self._report_applied and secret.generation == generation and not self._closing:
            report = self._loop.create_task(self._applied(secret))
            self._reports.add(report)
            report.add_done_callback(self._reports.discard)

    async def _applied(self, secret: Secret) -> None:
        backoff = Backoff()
        while self.generation == secret.generation and not self._closing:
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
        except DeadlineError:
            break
        except SecretBrokerError as error:
            if not error.is_transient:
                raise
            last = error
        await asyncio.sleep(min(backoff.wait(last), max(0.0, ends - loop.time())))
    raise last
