from __future__ import annotations

import asyncio
import queue
import threading
from typing import TYPE_CHECKING, Any

import pytest
from fake import Broker, event, secret, snapshot

from secret_broker import (
    AsyncClient,
    AsyncLive,
    Client,
    ConfigurationError,
    DeadlineError,
    Live,
    Reason,
    RefusedError,
    Secret,
    UnreachableError,
)
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
        for generation in (2, 3):
            stream.tell(event("ROTATED", secret(generation=generation)))
            assert changes.get(timeout=10).generation == generation
        assert broker.reports.get(timeout=10).generation == 3
    assert "RuntimeError" in caplog.text
    assert "hunter" not in caplog.text


def standing(live: Live | AsyncLive) -> Any:
    return live.standing


def test_a_withdrawn_value_stays_and_its_standing_says_so(client: Client, broker: Broker) -> None:
    with client.live("DB") as live:
        assert live.standing is None
        stream = broker.streams.get(timeout=10)
        stream.tell(withdrawn())
        while standing(live) is None:
            pass
        assert standing(live).reason is Reason.WITHDRAWN
        assert live.current.text("password") == "hunter1"
        stream.tell(event("ROTATED", secret(generation=2)))
        assert live.after(1).generation == 2
        assert standing(live) is None


def test_a_version_that_is_served_again_after_the_watch_was_refused_is_told(client: Client, broker: Broker) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live, pytest.MonkeyPatch.context() as patch:
        patch.setattr("secret_broker._live.LAST_BOUND", 0.01)
        stream = broker.streams.get(timeout=10)
        broker.denies_watches = True
        stream.end()
        while standing(live) is None:
            pass
        assert standing(live).reason is Reason.UNAUTHENTICATED
        broker.denies_watches = False
        stream = broker.streams.get(timeout=10)
        assert not stream.request.seen_generations
        stream.tell(snapshot(secret(generation=1)))
        while standing(live) is not None:
            pass
    assert changes.empty()


async def test_a_withdrawn_value_stays_and_its_standing_says_so_in_asyncio(
    async_client: AsyncClient, broker: Broker
) -> None:
    async with await async_client.live("DB") as live:
        stream = await asyncio.to_thread(broker.streams.get, timeout=10)
        stream.tell(withdrawn())
        while standing(live) is None:
            await asyncio.sleep(0)
        assert standing(live).reason is Reason.WITHDRAWN
        assert live.current.text("password") == "hunter1"
        stream.tell(event("ROTATED", secret(generation=2)))
        assert (await live.after(1)).generation == 2
        assert standing(live) is None


async def test_no_later_version_in_time_is_told(client: Client, async_client: AsyncClient) -> None:
    with client.live("DB") as live, pytest.raises(DeadlineError):
        live.after(1, deadline=0.05)
    async with await async_client.live("DB") as async_live:
        with pytest.raises(DeadlineError):
            await async_live.after(1, deadline=0.05)


async def test_a_refused_version_is_reported_and_its_successor_waited_for(
    client: Client, async_client: AsyncClient, broker: Broker
) -> None:
    def served_anew() -> None:
        while broker.reports.get(timeout=10).outcome != pb.OUTCOME_REFUSED:
            pass
        broker.streams.get(timeout=10).tell(event("ROTATED", secret(generation=2)))

    answer = threading.Thread(target=served_anew)
    answer.start()
    with client.live("DB") as live:
        assert await asyncio.to_thread(live.refused, live.current, "28P01")
        assert live.generation == 2
    answer.join()
    answer = threading.Thread(target=served_anew)
    answer.start()
    async with await async_client.live("DB") as async_live:
        assert await async_live.refused(async_live.current, "28P01")
        assert async_live.generation == 2
    await asyncio.to_thread(answer.join)


def test_a_slow_hook_keeps_neither_the_handle_nor_other_hooks_waiting(client: Client, broker: Broker) -> None:
    ends = threading.Event()
    others: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=lambda _: ends.wait(10)) as live:
        live.on_change(others.put)
        stream = broker.streams.get(timeout=10)
        for generation in (2, 3):
            stream.tell(event("ROTATED", secret(generation=generation)))
            assert others.get(timeout=5).generation == generation
        assert live.generation == 3
        assert broker.reports.empty()
        ends.set()
        assert broker.reports.get(timeout=10).generation == 3


async def test_a_slow_hook_keeps_neither_the_handle_nor_other_hooks_waiting_in_asyncio(
    async_client: AsyncClient, broker: Broker
) -> None:
    ends = asyncio.Event()
    others: asyncio.Queue[Secret] = asyncio.Queue()

    async def slow(_: Secret) -> None:
        await ends.wait()

    async with await async_client.live("DB", on_change=slow) as live:
        live.on_change(others.put)
        stream = await asyncio.to_thread(broker.streams.get, timeout=10)
        for generation in (2, 3):
            stream.tell(event("ROTATED", secret(generation=generation)))
            assert (await asyncio.wait_for(others.get(), 5)).generation == generation
        assert live.generation == 3
        assert broker.reports.empty()
        ends.set()
        assert (await asyncio.to_thread(broker.reports.get, timeout=10)).generation == 3


def test_a_hook_that_is_behind_skips_to_the_latest_version(client: Client, broker: Broker) -> None:
    ends = threading.Event()
    slow: queue.Queue[int] = queue.Queue()

    def wait(found: Secret) -> None:
        slow.put(found.generation)
        ends.wait(10)

    with client.live("DB", on_change=wait) as live:
        stream = broker.streams.get(timeout=10)
        stream.tell(event("ROTATED", secret(generation=2)))
        assert slow.get(timeout=10) == 2
        for generation in (3, 4, 5):
            stream.tell(event("ROTATED", secret(generation=generation)))
            live.after(generation - 1)
        # What the handle holds last is told to hooks before a later event is taken.
        stream.tell(withdrawn())
        while standing(live) is None:
            pass
        ends.set()
        assert slow.get(timeout=10) == 5
        assert broker.reports.get(timeout=10).generation == 5


async def test_a_hook_that_is_behind_skips_to_the_latest_version_in_asyncio(
    async_client: AsyncClient, broker: Broker
) -> None:
    ends = asyncio.Event()
    slow: asyncio.Queue[int] = asyncio.Queue()

    async def wait(found: Secret) -> None:
        slow.put_nowait(found.generation)
        await ends.wait()

    async with await async_client.live("DB", on_change=wait) as live:
        stream = await asyncio.to_thread(broker.streams.get, timeout=10)
        stream.tell(event("ROTATED", secret(generation=2)))
        assert await slow.get() == 2
        for generation in (3, 4, 5):
            stream.tell(event("ROTATED", secret(generation=generation)))
            await live.after(generation - 1)
        ends.set()
        assert await slow.get() == 5
        assert (await asyncio.to_thread(broker.reports.get, timeout=10)).generation == 5


async def test_a_handle_that_is_closed_while_a_hook_waits_reports_nothing_and_leaves_no_task(
    async_client: AsyncClient, broker: Broker
) -> None:
    began = asyncio.Event()

    async def wait(_: Secret) -> None:
        began.set()
        await asyncio.Event().wait()

    before = asyncio.all_tasks()
    live = await async_client.live("DB", on_change=wait)
    (await asyncio.to_thread(broker.streams.get, timeout=10)).tell(event("ROTATED", secret(generation=2)))
    await began.wait()
    await live.close()
    left = {task for task in asyncio.all_tasks() - before if "secret_broker" in repr(task)}
    assert not left
    await async_client.get("DB")
    assert broker.reports.empty()


def hook_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "secret-broker hook DB"]


def test_a_closed_client_shows_in_the_standing_and_ends_hooks(client: Client, broker: Broker) -> None:
    live = client.live("DB", on_change=lambda _: None)
    broker.streams.get(timeout=10)
    threads = hook_threads()
    client.close()
    live._thread.join(10)
    assert isinstance(standing(live), ConfigurationError)
    for thread in threads:
        thread.join(10)
        assert not thread.is_alive()
    live.close()


async def test_a_closed_client_shows_in_the_standing_and_ends_hooks_in_asyncio(
    async_client: AsyncClient, broker: Broker
) -> None:
    live = await async_client.live("DB", on_change=lambda _: None)
    await asyncio.to_thread(broker.streams.get, timeout=10)
    tasks = [live._task, *(hook.task for hook in live._hooks)]
    await async_client.close()
    await asyncio.wait_for(asyncio.gather(*tasks), 10)
    assert isinstance(standing(live), ConfigurationError)
    await live.close()


async def test_a_hook_on_a_closed_handle_is_never_called(client: Client, async_client: AsyncClient) -> None:
    live = client.live("DB")
    live.close()
    live.on_change(lambda _: None)()
    live.on_change(lambda _: None)
    assert not hook_threads()
    async_live = await async_client.live("DB")
    await async_live.close()
    async_live.on_change(lambda _: None)()
    async_live.on_change(lambda _: None)
    assert not [task for task in asyncio.all_tasks() if task.get_name() == "secret-broker hook DB"]


def test_a_hook_that_fails_keeps_no_other_from_being_called(client: Client, broker: Broker) -> None:
    others: queue.Queue[Secret] = queue.Queue()

    def fail(_: Secret) -> None:
        raise RuntimeError

    with client.live("DB", on_change=fail) as live:
        live.on_change(others.put)
        broker.streams.get(timeout=10).tell(event("ROTATED", secret(generation=2)))
        assert others.get(timeout=5).generation == 2


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


async def test_start_up_waits_for_a_value_that_its_source_does_not_have_yet(
    client: Client, async_client: AsyncClient, broker: Broker
) -> None:
    def provide() -> None:
        while broker.gets == 0:
            pass
        broker.secrets["LATE"] = secret("LATE")

    providing = threading.Thread(target=provide)
    providing.start()
    async with await async_client.live("LATE", deadline=10) as handle:
        assert handle.generation == 1
    providing.join()
    del broker.secrets["LATE"]
    broker.gets = 0
    providing = threading.Thread(target=provide)
    providing.start()
    with client.live("LATE", deadline=10) as live:
        assert live.generation == 1
    providing.join()


async def test_start_up_ends_with_what_kept_it(client: Client, async_client: AsyncClient, broker: Broker) -> None:
    for name, error in (("NONE", RefusedError), ("SLOW", DeadlineError), ("SEALED", RefusedError)):
        with pytest.raises(error):
            client.live(name, deadline=1)
        with pytest.raises(error):
            await async_client.live(name, deadline=1)
    await asyncio.to_thread(broker.stop)
    with pytest.raises(UnreachableError):
        client.live("DB", deadline=1)


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
