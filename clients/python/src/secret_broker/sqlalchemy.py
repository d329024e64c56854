"""SQLAlchemy engines whose new connections log in with the current version of a secret.

A connection of an older version is never handed out again: it is closed when it is returned, or replaced when it is
checked out. What is in use is left alone, so that no query fails. The broker is told that a version is applied when
no connection of an older one is left, and of a login that the database refuses, which is tried again with the version
that the broker then serves.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Final
from weakref import WeakSet

from sqlalchemy import event
from sqlalchemy.exc import DisconnectionError
from sqlalchemy.util import await_only

from secret_broker._retire import ATTEMPTS, AsyncRetirer, Login, Retirer, refusal

if TYPE_CHECKING:
    from sqlalchemy import Engine
    from sqlalchemy.engine.interfaces import DBAPIConnection, Dialect
    from sqlalchemy.ext.asyncio import AsyncEngine
    from sqlalchemy.pool import ConnectionPoolEntry

    from secret_broker._aio_live import AsyncLive
    from secret_broker._live import Live
    from secret_broker._secret import Secret

_GENERATION: Final = "secret_broker.generation"
_USED: Final = "secret_broker.used"


def attach(
    engine: Engine,
    live: Live,
    *,
    user_field: str = "username",
    password_field: str = "password",  # noqa: S107
) -> Attached:
    """Makes the engine log in with the handle's current version, whatever user its URL names."""
    connections = _Connections(live, Login(user_field, password_field))

    def retire() -> None:
        taken = []
        try:
            for _ in range(connections.idle(engine)):
                taken.append(engine.raw_connection())  # noqa: PERF401 - what was taken is given back also on failure
        finally:
            for connection in taken:
                connection.close()

    retirer = Retirer(live, retire, connections.behind)
    connections.listen(engine)
    return Attached(connections, retirer, engine)


def attach_async(
    engine: AsyncEngine,
    live: AsyncLive,
    *,
    user_field: str = "username",
    password_field: str = "password",  # noqa: S107
) -> AsyncAttached:
    """Makes the engine log in with the handle's current version, whatever user its URL names."""
    connections = _Connections(live, Login(user_field, password_field))

    async def retire() -> None:
        taken = []
        try:
            for _ in range(connections.idle(engine.sync_engine)):
                taken.append(await engine.connect())  # noqa: PERF401 - what was taken is given back also on failure
        finally:
            for connection in taken:
                await connection.close()

    retirer = AsyncRetirer(live, retire, connections.behind)
    connections.listen(engine.sync_engine)
    return AsyncAttached(connections, retirer, engine.sync_engine)


class Attached:
    """An engine that follows a handle."""

    def __init__(self, connections: _Connections, retirer: Retirer, engine: Engine) -> None:
        """Use `attach`."""
        self._connections, self._retirer, self._engine = connections, retirer, engine

    def close(self) -> None:
        """Leaves the engine to itself: new connections log in as its URL says."""
        self._connections.unlisten(self._engine)
        self._retirer.close()


class AsyncAttached:
    """An engine that follows a handle."""

    def __init__(self, connections: _Connections, retirer: AsyncRetirer, engine: Engine) -> None:
        """Use `attach_async`."""
        self._connections, self._retirer, self._engine = connections, retirer, engine

    async def close(self) -> None:
        """Leaves the engine to itself: new connections log in as its URL says."""
        self._connections.unlisten(self._engine)
        self._retirer.close()


class _Connections:
    """The connections of one engine and the generations that they logged in with."""

    def __init__(self, live: Live | AsyncLive, login: Login) -> None:
        self._live = live
        self._login = login
        self._lock = threading.Lock()
        self._entries: WeakSet[ConnectionPoolEntry] = WeakSet()
        self._listeners = (("do_connect", self._connect), ("checkout", self._checkout), ("checkin", self._checkin))

    def listen(self, engine: Engine) -> None:
        for name, listener in self._listeners:
            event.listen(engine, name, listener)

    def unlisten(self, engine: Engine) -> None:
        for name, listener in self._listeners:
            event.remove(engine, name, listener)

    def idle(self, engine: Engine) -> int:
        """How many connections wait in the pool, where it keeps any, if one of them may be outdated."""
        checked_in = getattr(engine.pool, "checkedin", None)
        return checked_in() if checked_in is not None and self.behind(self._live.generation) else 0

    def behind(self, generation: int) -> bool:
        """Whether any open connection logged in with another version."""
        with self._lock:
            entries = list(self._entries)
        return any(
            entry.dbapi_connection is not None and entry.info.get(_GENERATION, generation) != generation
            for entry in entries
        )

    def _connect(
        self, dialect: Dialect, entry: ConnectionPoolEntry | None, cargs: list[Any], cparams: dict[str, Any]
    ) -> DBAPIConnection:
        attempt = 0
        while True:
            attempt += 1
            secret = self._live.current
            cparams["user"], cparams["password"] = self._login.of(secret)
            try:
                connection = dialect.connect(*cargs, **cparams)
            except Exception as error:  # asyncpg's are no errors of the dialect
                if attempt == ATTEMPTS or not self._has_successor(secret, error):
                    raise
                continue
            if entry is not None:
                entry.info[_GENERATION] = secret.generation
                entry.info[_USED] = False
                with self._lock:
                    self._entries.add(entry)
            return connection

    def _has_successor(self, tried: Secret, error: Exception) -> bool:
        said = refusal(error)
        if self._live.generation != tried.generation or said is None:
            return self._live.generation != tried.generation
        fresh = self._live.refused(tried, said)
        return fresh if isinstance(fresh, bool) else await_only(fresh)

    def _checkout(self, _connection: DBAPIConnection, entry: ConnectionPoolEntry, _fairy: object) -> None:
        # One that was made for this very checkout may be used once: its version still overlaps.
        if self._is_outdated(entry) and entry.info.get(_USED):
            raise DisconnectionError("the connection's credential was replaced")
        entry.info[_USED] = True

    def _checkin(self, connection: DBAPIConnection | None, entry: ConnectionPoolEntry | None) -> None:
        if connection is not None and entry is not None and self._is_outdated(entry):
            entry.invalidate()

    def _is_outdated(self, entry: ConnectionPoolEntry) -> bool:
        return bool(entry.info.get(_GENERATION, self._live.generation) != self._live.generation)
