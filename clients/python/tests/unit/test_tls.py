from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING

import pytest
from fake import Authority, Broker, secret, snapshot

from secret_broker import AsyncClient, Client, ConfigurationError, Current, Rotated, TlsError

if TYPE_CHECKING:
    from pathlib import Path


@pytest.fixture(autouse=True)
def _served(broker: Broker) -> None:
    broker.secrets["DB"] = secret()


async def test_new_certificates_are_used_by_the_next_call(
    client: Client, async_client: AsyncClient, broker: Broker, cert_dir: Path, authority: Authority
) -> None:
    client.get("DB")
    await async_client.get("DB")
    authority.write_client(cert_dir, "renewed")
    client.get("DB")
    await async_client.get("DB")
    assert broker.peers == ["app", "app", "renewed", "renewed"]


def test_a_watch_that_reconnects_takes_the_new_certificates(
    client: Client, broker: Broker, cert_dir: Path, authority: Authority
) -> None:
    with client.watch("DB") as watch:
        tell = threading.Thread(target=lambda: broker.streams.get(timeout=10).tell(snapshot(secret("DB", 1))))
        tell.start()
        assert isinstance(next(watch), Current)
        tell.join()
        authority.write_client(cert_dir, "renewed")
        client.get("DB")
        broker._open[0].end()
        tell = threading.Thread(target=lambda: broker.streams.get(timeout=10).tell(snapshot(secret("DB", 2))))
        tell.start()
        assert isinstance(next(watch), Rotated)
        tell.join()
    assert broker.peers == ["app", "renewed", "renewed"]


def test_a_call_on_the_old_connection_ends_in_peace(
    client: Client, broker: Broker, cert_dir: Path, authority: Authority
) -> None:
    found: list[str] = []
    broker.secrets["SLOW"] = secret("SLOW")
    slow = threading.Thread(target=lambda: found.append(client.get("SLOW").name))
    slow.start()
    while not broker.gets:
        pass
    authority.write_client(cert_dir, "renewed")
    client.get("DB")
    broker.slow.set()
    slow.join()
    assert found == ["SLOW"]
    assert broker.peers == ["app", "renewed"]


def test_half_replaced_certificates_leave_the_last_good_ones_in_use(
    client: Client, broker: Broker, cert_dir: Path
) -> None:
    client.get("DB")
    (cert_dir / "client.key").write_text("no key")
    client.get("DB")
    (cert_dir / "client.pem").unlink()
    client.get("DB")
    (cert_dir / "ca.pem").write_text("no authority")
    client.get("DB")
    assert broker.peers == ["app"] * 4


@pytest.mark.parametrize("file", ["ca.pem", "client.pem", "client.key"])
def test_certificates_that_never_were_good_are_named(broker: Broker, cert_dir: Path, file: str) -> None:
    (cert_dir / file).write_text("nonsense")
    with Client(broker.address, cert_dir=cert_dir) as client, pytest.raises(ConfigurationError, match=file):
        client.get("DB")
    (cert_dir / file).unlink()
    with Client(broker.address, cert_dir=cert_dir) as client, pytest.raises(ConfigurationError, match=file):
        client.get("DB")


async def test_a_certificate_that_the_broker_refuses_is_a_tls_error(
    broker: Broker, cert_dir: Path, tmp_path: Path
) -> None:
    wrong = Authority().write(tmp_path / "wrong")
    (wrong / "ca.pem").write_bytes((cert_dir / "ca.pem").read_bytes())
    with Client(broker.address, cert_dir=wrong) as client, pytest.raises(TlsError) as raised:
        client.get("DB")
    assert raised.value.is_transient
    async with AsyncClient(broker.address, cert_dir=wrong) as async_client:
        with pytest.raises(TlsError):
            await async_client.get("DB")


async def test_a_broker_of_another_authority_is_a_tls_error(broker: Broker, tmp_path: Path) -> None:
    wrong = Authority().write(tmp_path / "wrong")
    with Client(broker.address, cert_dir=wrong) as client, pytest.raises(TlsError):
        client.get("DB")
    async with AsyncClient(broker.address, cert_dir=wrong) as async_client:
        with pytest.raises(TlsError):
            await asyncio.wait_for(async_client.get("DB"), 10)


def test_the_broker_s_certificate_has_to_carry_the_server_name(broker: Broker, cert_dir: Path) -> None:
    with Client(broker.address, cert_dir=cert_dir, server_name="localhost") as client:
        client.get("DB")
    with (
        Client(broker.address, cert_dir=cert_dir, server_name="elsewhere") as client,
        pytest.raises(TlsError),
    ):
        client.get("DB")
