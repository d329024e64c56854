"""A hundred rotations under load, with a query on every pool at any time: none fails."""

from __future__ import annotations

import asyncio
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import redis
import redis.asyncio
import sqlalchemy
from sqlalchemy.ext.asyncio import create_async_engine

from secret_broker import AsyncClient, Client
from secret_broker import sqlalchemy as broker_sqlalchemy
from secret_broker.psycopg import AsyncBrokerPool, BrokerPool
from secret_broker.redis import AsyncBrokerConnectionPool, BrokerConnectionPool

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from rig import Rig

ROTATIONS = 100


class Load:
    """Queries on every pool, over and over, until it is stopped."""

    def __init__(self) -> None:
        self.stopped = threading.Event()
        self.done: Counter[str] = Counter()
        self.users: dict[str, set[str]] = {}
        self.failed: list[str] = []
        self._threads: list[threading.Thread] = []
        self._tasks: list[asyncio.Task[None]] = []

    def add(self, name: str, query: Callable[[], str]) -> None:
        def run() -> None:
            while not self.stopped.wait(0.005):
                try:
                    self._note(name, query())
                except Exception as error:  # noqa: BLE001 - counted
                    self.failed.append(f"{name}: {type(error).__name__}: {error}")

        for _ in range(2):
            self._threads.append(threading.Thread(target=run))
            self._threads[-1].start()

    def add_async(self, name: str, query: Callable[[], Awaitable[str]]) -> None:
        async def run() -> None:
            while not self.stopped.is_set():
                try:
                    self._note(name, await query())
                except Exception as error:  # noqa: BLE001 - counted
                    self.failed.append(f"{name}: {type(error).__name__}: {error}")
                await asyncio.sleep(0.005)

        self._tasks += [asyncio.create_task(run()) for _ in range(2)]

    def _note(self, name: str, user: str) -> None:
        self.done[name] += 1
        self.users.setdefault(name, set()).add(user)

    async def stop(self) -> None:
        self.stopped.set()
        await asyncio.gather(*self._tasks)
        for thread in self._threads:
            await asyncio.to_thread(thread.join)


async def test_no_query_fails_while_credentials_are_replaced_a_hundred_times(rig: Rig) -> None:
    load = Load()
    # The broker counts acknowledgements once for a certificate and once for a socket's user.
    with Client.from_env() as client:
        async with AsyncClient(rig.socket) as async_client:
            # Brokers that were killed in other tests left theirs to Vault.
            others = await users(rig) - {client.get("DB").text("username")}
            closers = [*synchronous(rig, client, load)]
            async_closers = [*await asynchronous(rig, async_client, load)]
            for _ in range(ROTATIONS):
                for name in ("DB", "CACHE"):
                    await asyncio.to_thread(rig.rotate, name)
            await load.stop()
            last = client.get("DB").text("username")
            await acknowledged(rig, others | {last})
            for close in closers:
                await asyncio.to_thread(close)
            for aclose in async_closers:
                await aclose()
    print({name: (load.done[name], len(load.users[name])) for name in load.done})  # noqa: T201
    assert load.failed == []
    assert len(load.done) == 6
    for name, seen in load.users.items():
        assert len(seen) > ROTATIONS // 2, name


async def test_a_login_that_the_database_refuses_is_tried_again_with_a_fresh_one(rig: Rig) -> None:
    load = Load()
    with Client.from_env() as client:
        async with AsyncClient.from_env() as async_client:
            live, async_live = client.live("DB"), await async_client.live("DB")
            refused = live.current.text("username")
            await asyncio.to_thread(rig.do, "drop-users")
            closers = synchronous(rig, client, load)
            async_closers = await asynchronous(rig, async_client, load)
            while len(load.done) < 6 and not load.failed:
                await asyncio.sleep(0.01)
            await load.stop()
            for close in [*closers, live.close]:
                await asyncio.to_thread(close)
            for aclose in [*async_closers, async_live.close]:
                await aclose()
    assert load.failed == []
    assert not any(refused in seen for seen in load.users.values())


async def acknowledged(rig: Rig, expected: set[str]) -> None:
    """Waits until the broker has revoked each user that was replaced, long before its overlap would have ended."""
    for _ in range(100):
        left = await users(rig)
        if left <= expected:
            return
        await asyncio.sleep(0.1)
    raise AssertionError(f"{left - expected} are left")


async def users(rig: Rig) -> set[str]:
    return set((await asyncio.to_thread(rig.do, "users"))["users"])


def synchronous(rig: Rig, client: Client, load: Load) -> list[Callable[[], Any]]:
    db, cache = client.live("DB"), client.live("CACHE")

    engine = sqlalchemy.create_engine(rig.pg.replace("postgresql:", "postgresql+psycopg:"), pool_size=2)
    attached = broker_sqlalchemy.attach(engine, db)

    def by_engine() -> str:
        with engine.begin() as connection:
            return str(connection.execute(sqlalchemy.text("SELECT current_user")).scalar_one())

    pool = BrokerPool(db, rig.pg, min_size=1, max_size=2, open=True)

    def by_pool() -> str:
        with pool.connection() as connection:
            return str(connection.execute("SELECT current_user").fetchall()[0][0])

    redis_pool = BrokerConnectionPool(cache, host=rig.redis_host, port=rig.redis_port)
    store = redis.Redis(connection_pool=redis_pool)

    def by_redis() -> str:
        return str(store.acl_whoami())

    load.add("sqlalchemy", by_engine)
    load.add("psycopg", by_pool)
    load.add("redis", by_redis)
    return [attached.close, engine.dispose, pool.close, redis_pool.close, db.close, cache.close]


async def asynchronous(rig: Rig, client: AsyncClient, load: Load) -> list[Callable[[], Awaitable[Any]]]:
    db, cache = await client.live("DB"), await client.live("CACHE")

    engine = create_async_engine(rig.pg.replace("postgresql:", "postgresql+asyncpg:"), pool_size=2)
    attached = broker_sqlalchemy.attach_async(engine, db)

    async def by_engine() -> str:
        async with engine.begin() as connection:
            return str((await connection.execute(sqlalchemy.text("SELECT current_user"))).scalar_one())

    pool = AsyncBrokerPool(db, rig.pg, min_size=1, max_size=2)
    await pool.open()

    async def by_pool() -> str:
        async with pool.connection() as connection:
            return str((await (await connection.execute("SELECT current_user")).fetchall())[0][0])

    redis_pool = AsyncBrokerConnectionPool(cache, host=rig.redis_host, port=rig.redis_port)
    store = redis.asyncio.Redis.from_pool(redis_pool)

    async def by_redis() -> str:
        return str(await store.acl_whoami())

    load.add_async("async sqlalchemy", by_engine)
    load.add_async("async psycopg", by_pool)
    load.add_async("async redis", by_redis)
    return [attached.close, engine.dispose, pool.close, store.aclose, redis_pool.aclose, db.close, cache.close]
