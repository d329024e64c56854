from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from fake import Broker, event, secret, snapshot

from secret_broker import (
    AsyncClient,
    AsyncWatch,
    Client,
    Current,
    Reason,
    RefusedError,
    Renewed,
    Revoked,
    Rotated,
    Secret,
)
from secret_broker._verbs import LAST_BOUND, Backoff

if TYPE_CHECKING:
    from fake import Stream


async def streamed(broker: Broker) -> Stream:
    return await asyncio.to_thread(broker.streams.get, timeout=10)


def test_a_watch_resumes_after_what_it_has_seen(client: Client, broker: Broker) -> None:
    with client.watch("DB", "CACHE") as watch:
        streams: list[Stream] = []

        def serve() -> None:
            first = broker.streams.get(timeout=10)
            streams.append(first)
            first.tell(snapshot(secret("DB", 1), secret("CACHE", 1)))
            first.tell(event("ROTATED", secret("DB", 2)))
            first.end()
            second = broker.streams.get(timeout=10)
            streams.append(second)
            second.tell(snapshot(secret("CACHE", 4), unchanged=("DB",)))
            second.tell(event("RENEWED", secret("DB", 2)))

        server = threading.Thread(target=serve)
        server.start()
        events = [next(watch) for _ in range(5)]
        server.join()
    assert [(type(event), event.name) for event in events] == [
        (Current, "DB"),
        (Current, "CACHE"),
        (Rotated, "DB"),
        (Rotated, "CACHE"),
        (Renewed, "DB"),
    ]
    assert list(streams[0].request.names) == ["DB", "CACHE"]
    assert dict(streams[0].request.seen_generations) == {}
    assert dict(streams[1].request.seen_generations) == {"DB": 2, "CACHE": 1}


async def test_a_watch_resumes_after_what_it_has_seen_in_asyncio(async_client: AsyncClient, broker: Broker) -> None:
    async with async_client.watch("DB", holding=[Secret(secret("DB", 1))]) as watch:
        events = asyncio.create_task(collect(watch, 2))
        first = await streamed(broker)
        assert dict(first.request.seen_generations) == {"DB": 1}
        first.tell(snapshot(secret("DB", 2)))
        first.end()
        second = await streamed(broker)
        assert dict(second.request.seen_generations) == {"DB": 2}
        second.tell(snapshot())
        assert [type(event) for event in await events] == [Rotated, Revoked]


async def collect(watch: AsyncWatch, count: int) -> list[object]:
    return [await anext(watch) for _ in range(count)]


def test_a_watch_survives_the_broker_s_restart(client: Client, broker: Broker) -> None:
    with client.watch("DB") as watch:
        tell = threading.Thread(target=lambda: broker.streams.get(timeout=10).tell(snapshot(secret("DB", 1))))
        tell.start()
        assert isinstance(next(watch), Current)
        tell.join()
        broker.stop()
        broker.start()
        tell = threading.Thread(target=lambda: broker.streams.get(timeout=10).tell(snapshot(secret("DB", 5))))
        tell.start()
        assert isinstance(next(watch), Rotated)
        tell.join()


async def test_a_watch_survives_the_broker_s_restart_in_asyncio(async_client: AsyncClient, broker: Broker) -> None:
    async with async_client.watch("DB") as watch:
        first = asyncio.create_task(collect(watch, 1))
        (await streamed(broker)).tell(snapshot(secret("DB", 1)))
        assert [type(event) for event in await first] == [Current]
        await asyncio.to_thread(broker.stop)
        broker.start()
        second = asyncio.create_task(collect(watch, 1))
        (await streamed(broker)).tell(snapshot(secret("DB", 5)))
        assert [type(event) for event in await second] == [Rotated]


def test_a_watch_is_closed_from_another_thread(client: Client, broker: Broker) -> None:
    watch = client.watch("DB")
    ended = threading.Event()

    def read() -> None:
        list(watch)
        ended.set()

    threading.Thread(target=read).start()
    broker.streams.get(timeout=10)
    watch.close()
    assert ended.wait(10)
    assert list(watch) == []


async def test_a_watch_is_closed_under_its_reader(async_client: AsyncClient, broker: Broker) -> None:
    watch = async_client.watch("DB")
    reader = asyncio.create_task(collect_all(watch))
    await streamed(broker)
    await watch.close()
    assert await asyncio.wait_for(reader, 10) == 0


async def collect_all(watch: AsyncWatch) -> int:
    return len([event async for event in watch])


async def test_a_cancelled_reader_loses_nothing(async_client: AsyncClient, broker: Broker) -> None:
    async with async_client.watch("DB") as watch:
        reader = asyncio.create_task(collect(watch, 2))
        (await streamed(broker)).tell(snapshot(secret("DB", 1)))
        while not watch._resumption._ledger.generations():
            await asyncio.sleep(0)
        reader.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reader
        again = asyncio.create_task(collect(watch, 1))
        (await streamed(broker)).tell(snapshot(secret("DB", 2)))
        assert [type(event) for event in await again] == [Rotated]


async def test_an_error_that_stays_ends_the_watch(client: Client, async_client: AsyncClient, broker: Broker) -> None:
    broker.denies_watches = True
    watch = client.watch("DB")
    with pytest.raises(RefusedError) as raised:
        next(watch)
    assert raised.value.reason is Reason.UNAUTHENTICATED
    assert list(watch) == []
    async_watch = async_client.watch("DB")
    with pytest.raises(RefusedError):
        await anext(async_watch)
    assert await collect_all(async_watch) == 0


def test_waits_are_spread_and_bounded() -> None:
    backoff = Backoff()
    waits = [backoff.wait(None) for _ in range(50)]
    assert waits[0] <= 0.1
    assert max(waits) <= LAST_BOUND
    assert len(set(waits)) == 50
    asked = RefusedError(Reason.SOURCE_SEALED, "sealed", Secret(secret(time_left={"seconds": 7})).time_left)
    assert 6 < backoff.wait(asked) <= 7
