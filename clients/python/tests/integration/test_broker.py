from __future__ import annotations

import queue
import threading
import time
from typing import TYPE_CHECKING

import psycopg
import pytest

from secret_broker import (
    AsyncClient,
    Client,
    Current,
    DeadlineError,
    Outcome,
    Reason,
    RefusedError,
    Revoked,
    Rotated,
    Secret,
    TlsError,
    UnreachableError,
)
from secret_broker.jwt import Jwt
from secret_broker.psycopg import BrokerPool

if TYPE_CHECKING:
    from rig import Rig


async def test_a_service_starts_and_its_credential_logs_in(
    rig: Rig, client: Client, async_client: AsyncClient
) -> None:
    for secret in (client.get("DB"), await async_client.get("DB"), Client(rig.socket).get("DB")):
        with psycopg.connect(rig.pg, user=secret.text("username"), password=secret.text("password")) as connection:
            assert connection.execute("SELECT current_user").fetchone() == (secret.text("username"),)
        assert secret.time_left is not None
        assert secret.time_left.total_seconds() > 0
    assert client.report(client.get("DB"), Outcome.WORKED) == client.get("DB").generation
    assert client.get("API_KEY").text("value") == "api-key-of-the-rig"
    names = [entry.name for entry in client.list()]
    assert {"DB", "CACHE", "JWT", "API_KEY"} <= set(names)
    assert "FORBIDDEN" not in names


async def test_a_denied_secret_says_so(client: Client, async_client: AsyncClient) -> None:
    for name in ("FORBIDDEN", "NEVER_HEARD_OF"):
        with pytest.raises(RefusedError) as raised:
            client.get(name)
        assert raised.value.reason is Reason.DENIED
        with pytest.raises(RefusedError):
            client.live(name)
        with pytest.raises(RefusedError):
            await async_client.live(name)
    many = client.get_many(["DB", "FORBIDDEN", "MISSING_AT_SOURCE"])
    assert isinstance(many["DB"], Secret)
    refused = [many[name] for name in ("FORBIDDEN", "MISSING_AT_SOURCE")]
    assert [error.reason for error in refused if isinstance(error, RefusedError)] == [
        Reason.DENIED,
        Reason.SOURCE_NOT_FOUND,
    ]


def test_a_source_that_never_answers_ends_by_the_deadline(client: Client) -> None:
    started = time.monotonic()
    with pytest.raises((DeadlineError, RefusedError)) as raised:
        client.get("SLOW", deadline=0.5)
    assert raised.value.is_transient
    assert time.monotonic() - started < 2


async def test_a_wrong_certificate_is_a_tls_error(rig: Rig) -> None:
    with Client(rig.address, cert_dir=rig.wrong_cert_dir) as client, pytest.raises(TlsError):
        client.get("DB")
    async with AsyncClient(rig.address, cert_dir=rig.wrong_cert_dir) as client:
        with pytest.raises(TlsError):
            await client.get("DB")


def test_access_that_is_taken_away_revokes_and_comes_back(rig: Rig, client: Client) -> None:
    with client.watch("DB") as watch:
        assert isinstance(next(watch), Current)
        rig.do("revoke-access", name="DB")
        revoked = next(watch)
        assert revoked == Revoked("DB", Reason.WITHDRAWN)
        with pytest.raises(RefusedError):
            client.get("DB")
        rig.do("grant-access", name="DB")
        assert client.get("DB").generation > 0


def test_the_sidecar_is_killed_and_restarted(rig: Rig, client: Client) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live, client.watch("DB") as watch:
        first = next(watch)
        assert isinstance(first, Current)
        with BrokerPool(live, rig.pg, min_size=1, open=True) as pool:
            rig.do("kill")
            with pytest.raises(UnreachableError):
                client.get("DB")
            assert live.current.generation == first.secret.generation
            with pool.connection() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)
            rig.do("start")
            assert client.get("DB").generation > 0
            generation = rig.rotate("DB")
            while (found := changes.get(timeout=30)).generation != generation:
                pass
            assert live.current.generation == found.generation
            for event in watch:
                if isinstance(event, Rotated) and event.secret.generation == generation:
                    break
            with pool.connection() as connection:
                assert connection.execute("SELECT 1").fetchone() == (1,)


async def test_certificates_turn_over_without_a_restart(rig: Rig, client: Client, async_client: AsyncClient) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("DB", on_change=changes.put) as live:
        await async_client.get("DB")
        for forget_old in (False, True):
            rig.do("certs", forget_old=forget_old)
            assert client.get("DB").generation > 0
            assert (await async_client.get("DB")).generation > 0
        # The handle's stream, too, comes back with the new certificates.
        rig.do("restart")
        generation = rig.rotate("DB")
        while changes.get(timeout=30).generation != generation:
            pass
        assert live.current.generation == generation


def test_tokens_are_accepted_across_rotations(rig: Rig, client: Client) -> None:
    changes: queue.Queue[Secret] = queue.Queue()
    with client.live("JWT", on_change=changes.put) as live:
        keys = Jwt(live)
        before, following = keys.sign({"n": 1}), bytes(live.current.field("next"))
        rig.rotate("JWT")
        assert bytes(changes.get(timeout=10).field("value")) == following
        assert keys.verify(before) == {"n": 1}
        assert keys.verify(keys.sign({"n": 2})) == {"n": 2}


def test_a_handle_tells_each_of_many_rotations_in_order(rig: Rig, client: Client) -> None:
    seen: list[int] = []
    done = threading.Event()

    def note(secret: Secret) -> None:
        seen.append(secret.generation)
        done.set()

    with client.live("DB", on_change=note):
        generations = []
        for _ in range(5):
            done.clear()
            generations.append(rig.rotate("DB"))
            assert done.wait(10)
    assert seen == generations
