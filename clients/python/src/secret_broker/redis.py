"""Redis pools whose new connections log in with the current version of a secret.

A connection of an older version is closed when it is idle, returned or about to be used; it is made again at its next
use. The broker is told that a version is applied when no connection of an older one is left, and of a login that the
server refuses, which is tried again with the version that the broker then serves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import redis
from redis.asyncio import connection as aio

from secret_broker._retire import AsyncRetirer, Login, Retirer

if TYPE_CHECKING:
    from secret_broker._aio_live import AsyncLive
    from secret_broker._live import Live


class BrokerConnectionPool(redis.ConnectionPool):
    """A `ConnectionPool` that follows a handle: `redis.Redis(connection_pool=BrokerConnectionPool(live, host=…))`."""

    def __init__(
        self,
        live: Live,
        *,
        connection_class: type[Any] = redis.Connection,
        user_field: str = "username",
        password_field: str = "password",  # noqa: S107 - a field's name
        **options: Any,  # noqa: ANN401 - the pool's own
    ) -> None:
        """Takes all further options of `ConnectionPool`, but no user and no password."""
        logins = _Logins(live, Login(user_field, password_field))
        super().__init__(connection_class=_following(connection_class, logins), **options)
        # Closes idle ones only, under the lock that hands them out.
        self._retirer = Retirer(live, lambda: self.disconnect(inuse_connections=False), logins.behind)

    def close(self) -> None:
        """Closes all connections, and lets go of the handle."""
        self._retirer.close()
        super().close()


class AsyncBrokerConnectionPool(aio.ConnectionPool):
    """A `ConnectionPool` that follows a handle, for `redis.asyncio.Redis.from_pool`."""

    def __init__(
        self,
        live: AsyncLive,
        *,
        connection_class: type[Any] = aio.Connection,
        user_field: str = "username",
        password_field: str = "password",  # noqa: S107 - a field's name
        **options: Any,  # noqa: ANN401 - the pool's own
    ) -> None:
        """Takes all further options of `ConnectionPool`, but no user and no password."""
        logins = _Logins(live, Login(user_field, password_field))
        super().__init__(connection_class=_async_following(connection_class, logins), **options)
        self._retirer = AsyncRetirer(live, self._retire, logins.behind)

    async def _retire(self) -> None:
        # The pool's own `disconnect` lets go of the lock that hands connections out.
        async with self._lock:
            for connection in list(self._available_connections):
                if connection.should_reconnect():  # type: ignore[no-untyped-call]
                    await connection.disconnect()

    async def aclose(self) -> None:
        """Closes all connections, and lets go of the handle."""
        self._retirer.close()
        await super().aclose()


class _Logins(redis.CredentialProvider):
    """The connections of one pool and the generations that they logged in with."""

    def __init__(self, live: Any, login: Login) -> None:  # noqa: ANN401 - either kind
        self.live = live
        self._login = login
        self._lock = threading.Lock()
        self._connections: WeakSet[Any] = WeakSet()

    def get_credentials(self) -> tuple[str, str]:
        return self._login.of(self.live.current)

    async def get_credentials_async(self) -> tuple[str, str]:
        return self._login.of(self.live.current)

    def note(self, connection: Any) -> None:  # noqa: ANN401 - either kind
        # Before it logs in: at worst it is taken for older than it is, and made once more.
        connection.generation = self.live.generation
        with self._lock:
            self._connections.add(connection)

    def is_outdated(self, connection: Any) -> bool:  # noqa: ANN401 - either kind
        return connection.generation not in (None, self.live.generation)

    def behind(self, generation: int) -> bool:
        """Whether any open connection logged in with another version."""
        with self._lock:
            connections = list(self._connections)
        return any(connection.generation not in (None, generation) for connection in connections)


def _following(base: type[Any], logins: _Logins) -> type[Any]:
    class Following(base):  # type: ignore[misc]
        generation: int | None = None

        def __init__(self, **options: Any) -> None:  # noqa: ANN401
            super().__init__(**options, credential_provider=logins)

        def connect(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            # The pool calls this before it hands a connection out.
            if logins.is_outdated(self):
                self.disconnect()
            secret = logins.live.current
            try:
                super().connect(*args, **options)
            except redis.AuthenticationError:
                if not logins.live.refused(secret, "the login was refused"):
                    raise
                super().connect(*args, **options)

        def on_connect_check_health(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            logins.note(self)
            super().on_connect_check_health(*args, **options)

        def should_reconnect(self) -> bool:
            return bool(super().should_reconnect() or logins.is_outdated(self))

        def disconnect(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            super().disconnect(*args, **options)
            self.generation = None

    return Following


def _async_following(base: type[Any], logins: _Logins) -> type[Any]:
    class Following(base):  # type: ignore[misc]
        generation: int | None = None

        def __init__(self, **options: Any) -> None:  # noqa: ANN401
            super().__init__(**options, credential_provider=logins)

        async def connect(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            # The pool calls this before it hands a connection out.
            if logins.is_outdated(self):
                await self.disconnect()
            secret = logins.live.current
            try:
                await super().connect(*args, **options)
            except redis.AuthenticationError:
                if not await logins.live.refused(secret, "the login was refused"):
                    raise
                await super().connect(*args, **options)

        async def on_connect_check_health(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            logins.note(self)
            await super().on_connect_check_health(*args, **options)

        def should_reconnect(self) -> bool:
            return bool(super().should_reconnect() or logins.is_outdated(self))

        async def disconnect(self, *args: Any, **options: Any) -> None:  # noqa: ANN401
            try:
                await super().disconnect(*args, **options)
            finally:
                self.generation = None

    return Following
