"""psycopg pools whose new connections log in with the current version of a secret.

At each change the pool is drained: idle connections are replaced at once, those in use when they are returned. The
broker is told that a version is applied when no connection of an older one is left, and of a login that the database
refuses, which is tried again with the version that the broker then serves.
"""

from __future__ import annotations

import threading
import time
from typing import TYPE_CHECKING, Any, Self
from weakref import WeakKeyDictionary

from psycopg import AsyncConnection, Connection, OperationalError
from psycopg_pool import AsyncConnectionPool, ConnectionPool

from secret_broker._retire import ATTEMPTS, AsyncRetirer, Login, Retirer, refusal

if TYPE_CHECKING:
    from secret_broker._aio_live import AsyncLive
    from secret_broker._live import Live
    from secret_broker._secret import Secret


class BrokerPool(ConnectionPool[Connection[Any]]):
    """A `ConnectionPool` that follows a handle; `conninfo` names no user and no password."""

    def __init__(
        self,
        live: Live,
        conninfo: str = "",
        *,
        connection_class: type[Connection[Any]] = Connection,
        user_field: str = "username",
        password_field: str = "password",  # noqa: S107 - a field's name
        **options: Any,  # noqa: ANN401 - the pool's own
    ) -> None:
        """Takes all further options of `ConnectionPool`."""
        logins = _Logins(live, Login(user_field, password_field))

        def has_successor(tried: Secret, error: OperationalError) -> bool:
            said = refusal(error)
            return live.generation != tried.generation or (said is not None and live.refused(tried, said))

        class Authenticated(connection_class):  # type: ignore[misc, valid-type]
            @classmethod
            def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401
                attempt = 0
                while True:
                    attempt += 1
                    secret = live.current
                    try:
                        connection: Self = super().connect(conninfo, **kwargs, **logins.of(secret))
                    except OperationalError as error:
                        if attempt == ATTEMPTS or not has_successor(secret, error):
                            raise
                    else:
                        logins.note(connection, secret)
                        return connection

        def retire() -> None:
            if logins.drain_is_due():
                self.drain()

        self._retirer = Retirer(live, retire, logins.behind)
        super().__init__(conninfo, connection_class=Authenticated, **options)

    def close(self, timeout: float = 5.0) -> None:
        """Closes the pool, and lets go of the handle."""
        self._retirer.close()
        super().close(timeout)


class AsyncBrokerPool(AsyncConnectionPool[AsyncConnection[Any]]):
    """An `AsyncConnectionPool` that follows a handle; `conninfo` names no user and no password."""

    def __init__(
        self,
        live: AsyncLive,
        conninfo: str = "",
        *,
        connection_class: type[AsyncConnection[Any]] = AsyncConnection,
        user_field: str = "username",
        password_field: str = "password",  # noqa: S107 - a field's name
        **options: Any,  # noqa: ANN401 - the pool's own
    ) -> None:
        """Takes all further options of `AsyncConnectionPool`; `open` is false unless told."""
        logins = _Logins(live, Login(user_field, password_field))

        async def has_successor(tried: Secret, error: OperationalError) -> bool:
            said = refusal(error)
            return live.generation != tried.generation or (said is not None and await live.refused(tried, said))

        class Authenticated(connection_class):  # type: ignore[misc, valid-type]
            @classmethod
            async def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:  # noqa: ANN401
                attempt = 0
                while True:
                    attempt += 1
                    secret = live.current
                    try:
                        connection: Self = await super().connect(conninfo, **kwargs, **logins.of(secret))
                    except OperationalError as error:
                        if attempt == ATTEMPTS or not await has_successor(secret, error):
                            raise
                    else:
                        logins.note(connection, secret)
                        return connection

        async def retire() -> None:
            if logins.drain_is_due():
                await self.drain()

        options.setdefault("open", False)
        self._retirer = AsyncRetirer(live, retire, logins.behind)
        super().__init__(conninfo, connection_class=Authenticated, **options)

    async def close(self, timeout: float = 5.0) -> None:  # noqa: ASYNC109 - the pool's own signature
        """Closes the pool, and lets go of the handle."""
        self._retirer.close()
        await super().close(timeout)


class _Logins:
    """The connections of one pool and the generations that they logged in with."""

    def __init__(self, live: Live | AsyncLive, login: Login) -> None:
        self._live = live
        self._login = login
        self._lock = threading.Lock()
        self._made: WeakKeyDictionary[Connection[Any] | AsyncConnection[Any], tuple[int, float]] = WeakKeyDictionary()
        self._drained_at = 0.0

    def of(self, secret: Secret) -> dict[str, str]:
        user, password = self._login.of(secret)
        return {"user": user, "password": password}

    def note(self, connection: Connection[Any] | AsyncConnection[Any], secret: Secret) -> None:
        with self._lock:
            self._made[connection] = (secret.generation, time.monotonic())

    def behind(self, generation: int) -> bool:
        """Whether any open connection logged in with another version."""
        return bool(self._outdated(generation))

    def drain_is_due(self) -> bool:
        """Whether a connection of another version was made since the pool was drained last."""
        due = any(made_at >= self._drained_at for made_at in self._outdated(self._live.generation))
        if due:
            self._drained_at = time.monotonic()
        return due

    def _outdated(self, generation: int) -> list[float]:
        with self._lock:
            made = list(self._made.items())
        return [at for connection, (of, at) in made if of != generation and not connection.closed]
