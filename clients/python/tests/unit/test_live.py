from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING

import pytest
from fake import Broker, event, secret, snapshot

from secret_broker import AsyncClient, Client, DeadlineError, Reason, RefusedError, Secret, UnreachableError
from secret_broker._proto import broker_pb2 as pb

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _served(broker: Broker) -> None:
    broker.secrets["DB"] = secret(generation=1)


def withdrawn() -> pb.WatchSecretsResponse:
    return pb.WatchSecretsResponse(type=pb.WATCH_EVENT_TYPE_REVOKED, name="DB", reason=pb.ERROR_REASON_WITHDRAWN)


def test_a_handle_follows_its_secret_and_reports(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live:
        assert (live.name, live.current.generation, live.previous) == ("DB", 1, None)
        stream = broker.streams.get(timeout=10)
        assert dict(stream.request.seen_generations) == {"DB": 1}
        previous = pb.PreviousSecret(fields={"password": b"hunter1"}, generation=1)
        stream.tell(event("ROTATED", secret(generation=2, previous=previous)))
        assert changes.get(timeout=10).generation == 2
        assert live.current.text("password") == "hunter2"
        assert live.previous is not None
        assert bytes(live.previous.field("password")) == b"hunter1"
        report = broker.reports.get(timeout=10)
        assert (report.generation, report.outcome) == (2, pb.OUTCOME_APPLIED)
        stream.tell(event("RENEWED", secret(generation=2, time_left={"seconds": 60})))
        stream.tell(event("ROTATED", secret(generation=3)))
        assert changes.get(timeout=10).generation == 3
        assert "hunter" not in f"{live!r} {live}"
    assert changes.empty()


async def test_a_handle_follows_its_secret_and_reports_in_asyncio(async_client: AsyncClient, broker: Broker) -> None:
    changes: asyncio.Queue[Secret] = asyncio.Queue()
    async with await async_client.live("DB", on_change=changes.put) as live:
        stream = await asyncio.to_thread(broker.streams.get, timeout=10)
        stream.tell(event("ROTATED", secret(generation=2)))
        assert (await changes.get()).generation == 2
        assert live.current.generation == 2
        report = await asyncio.to_thread(broker.reports.get, timeout=10)
        assert (report.generation, report.outcome) == (2, pb.OUTCOME_APPLIED)
        assert "hunter" not in f"{live!r} {live}"


def test_a_version_is_applied_when_all_hooks_and_holders_are_done(client: Client, broker: Broker) -> None:
    hooked = threading.Event()
    with client.live("DB") as live:
        live.on_change(lambda _: hooked.set())
        holder = live.holder()
        other = live.holder()
        broker.streams.get(timeout=10).tell(event("ROTATED", secret(generation=2)))
        assert hooked.wait(10)
        holder.applied(2)
        assert broker.reports.empty()
        other.leave()
        assert broker.reports.get(timeout=10).generation == 2


def test_reporting_can_be_left_to_the_application(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put, report_applied=False) as live:
        stream = broker.streams.get(timeout=10)
        for generation in (2, 3):
            stream.tell(event("ROTATED", secret(generation=generation)))
            changes.get(timeout=10)
        assert live.generation == 3
    assert broker.reports.empty()


def test_a_hook_that_fails_is_no_application_and_shows_no_value(
    client: Client, broker: Broker, caplog: pytest.LogCaptureFixture
) -> None:
    changes: queue.Queue[Secret] = queue.Queue()

    def fail(found: Secret) -> None:
        changes.put(found)
        if found.generation == 2:
            raise RuntimeError(found.text("password"))

    with client.live("DB", on_change=fail):
        stream = broker.streams.get(timeout=10)
        stream.tell(event("ROTATED", secret(generation=2)))
        stream.tell(event("ROTATED", secret(generation=3)))
        assert [changes.get(timeout=10).generation for _ in range(2)] == [2, 3]
        assert broker.reports.get(timeout=10).generation == 3
    assert "RuntimeError" in caplog.text
    assert "hunter" not in caplog.text


def test_a_withdrawn_value_is_gone_until_it_comes_back(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live:
        stream = broker.streams.get(timeout=10)
        stream.tell(withdrawn())
        while live._held.secret is not None:
            pass
        with pytest.raises(RefusedError) as raised:
            _ = live.current
        assert raised.value.reason is Reason.WITHDRAWN
        stream.tell(event("ROTATED", secret(generation=2)))
        assert changes.get(timeout=10).generation == 2
        assert live.current.generation == 2


def test_a_handle_keeps_its_value_through_the_broker_s_restart(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live:
        broker.streams.get(timeout=10)
        broker.stop()
        assert live.current.generation == 1
        broker.start()
        broker.streams.get(timeout=10).tell(snapshot(secret(generation=9)))
        assert changes.get(timeout=10).generation == 9


async def test_start_up_waits_for_the_first_value(broker: Broker, cert_dir: Path) -> None:
    broker.stop()
    starting = threading.Timer(0.3, broker.start)
    starting.start()
    with Client(broker.address, cert_dir=cert_dir) as client, client.live("DB", deadline=10) as live:
        assert live.current.generation == 1
    starting.join()
    await asyncio.to_thread(broker.stop)
    starting = threading.Timer(0.3, broker.start)
    starting.start()
    async with (
        AsyncClient(broker.address, cert_dir=cert_dir) as async_client,
        await async_client.live("DB", deadline=10) as handle,
    ):
        assert handle.current.generation == 1
    starting.join()


async def test_start_up_ends_with_what_kept_it(client: Client, async_client: AsyncClient, broker: Broker) -> None:
    for name, error in (("NONE", RefusedError), ("SLOW", DeadlineError), ("SEALED", RefusedError)):
        with pytest.raises(error):
            client.live(name, deadline=0.2)
        with pytest.raises(error):
            await async_client.live(name, deadline=0.2)
    await asyncio.to_thread(broker.stop)
    with pytest.raises(UnreachableError):
        client.live("DB", deadline=0.2)


def test_a_handle_ends_with_its_client(client: Client, broker: Broker) -> None:
    live = client.live("DB")
    broker.streams.get(timeout=10)
    client.close()
    live._thread.join(10)
    assert not live._thread.is_alive()
    live.close()


def test_handles_of_one_secret_are_shared_until_all_are_closed(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    first, second = client.live("DB"), client.live("DB", on_change=changes.put)
    assert first is second
    first.close()
    broker.streams.get(timeout=10).tell(event("ROTATED", secret(generation=2)))
    assert changes.get(timeout=10).generation == 2
    second.close()
    second.close()
    assert client.live("DB") is not second


async def test_handles_of_one_secret_are_shared_until_all_are_closed_in_asyncio(
    async_client: AsyncClient, broker: Broker
) -> None:
    changes: asyncio.Queue[Secret] = asyncio.Queue()
    first, second = await async_client.live("DB"), await async_client.live("DB", on_change=changes.put)
    assert first is second
    await first.close()
    (await asyncio.to_thread(broker.streams.get, timeout=10)).tell(event("ROTATED", secret(generation=2)))
    assert (await changes.get()).generation == 2
    await second.close()
    third = await async_client.live("DB")
    assert third is not second
    await third.close()
