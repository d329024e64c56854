from __future__ import annotations

import asyncio
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from fake import Broker, secret
from google.protobuf import descriptor_pb2
from grpc_tools import protoc

from secret_broker import (
    AsyncClient,
    Client,
    ConfigurationError,
    DeadlineError,
    Outcome,
    Reason,
    RefusedError,
    Secret,
    State,
    UnreachableError,
)
from secret_broker import _address as address
from secret_broker._proto import broker_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@pytest.fixture
def socket_broker() -> Iterator[Broker]:
    # A socket's path has to be short.
    with tempfile.TemporaryDirectory(dir="/tmp") as directory:
        broker = Broker(socket_path=Path(directory) / "s")
        yield broker
        broker.stop()


def test_addresses_are_read_and_printed_alike() -> None:
    for text in ("https://127.0.0.1:7443", "https://[::1]:7443", "unix:///run/broker.sock"):
        assert str(address.parse(text)) == text


@pytest.mark.parametrize(
    "bad",
    [
        "http://localhost:1",
        "https://",
        "https://:1",
        "https://h",
        "unix://rel",
        "https://h:x",
        "https://h:70000",
        "h:1",
    ],
)
def test_what_is_no_address_is_refused_with_what_would_be_one(bad: str) -> None:
    with pytest.raises(ConfigurationError, match="https://HOST:PORT"):
        Client(bad)


def test_an_address_that_needs_certificates_says_so() -> None:
    with pytest.raises(ConfigurationError, match="SECRET_BROKER_CERT_DIR"):
        Client("https://127.0.0.1:1")
    with pytest.raises(ConfigurationError, match="deadline"):
        Client("unix:///s", deadline=0)


def test_the_environment_says_where_and_as_whom(
    monkeypatch: pytest.MonkeyPatch, broker: Broker, cert_dir: Path
) -> None:
    broker.secrets["DB"] = secret()
    monkeypatch.setenv("SECRET_BROKER_ADDRESS", broker.address)
    monkeypatch.setenv("SECRET_BROKER_CERT_DIR", str(cert_dir))
    with Client.from_env() as client:
        assert client.get("DB").text("password") == "hunter1"
    monkeypatch.delenv("SECRET_BROKER_ADDRESS")
    assert str(Client.from_env().address) == "https://127.0.0.1:7443"


def test_a_secret_is_read_over_tls_and_a_socket(client: Client, broker: Broker, socket_broker: Broker) -> None:
    for at, by in ((broker, client), (socket_broker, Client(socket_broker.address))):
        at.secrets["DB"] = secret(generation=7)
        found = by.get("DB")
        assert (found.name, found.version, found.generation) == ("DB", "v7", 7)
        assert {name: bytes(value) for name, value in found.fields.items()} == {
            "password": b"hunter7",
            "username": b"user7",
        }
        by.close()


async def test_a_secret_is_read_over_tls_and_a_socket_by_asyncio(
    async_client: AsyncClient, broker: Broker, socket_broker: Broker
) -> None:
    for at, by in ((broker, async_client), (socket_broker, AsyncClient(socket_broker.address))):
        at.secrets["DB"] = secret(generation=7)
        assert (await by.get("DB")).text("password") == "hunter7"
        assert await by.report(await by.get("DB"), Outcome.WORKED) == 7
        await by.close()


def test_each_name_of_many_has_its_own_result(client: Client, broker: Broker) -> None:
    names = [f"S{number}" for number in range(2100)]
    broker.secrets = {name: secret(name) for name in names if name != "S7"}
    found = client.get_many(names)
    assert list(found) == names
    refused = found["S7"]
    assert isinstance(refused, RefusedError)
    assert refused.reason is Reason.DENIED
    assert isinstance(found["S2099"], Secret)


async def test_each_name_of_many_has_its_own_result_in_asyncio(async_client: AsyncClient, broker: Broker) -> None:
    broker.secrets = {"A": secret("A")}
    found = await async_client.get_many(["A", "B"])
    assert [type(result) for result in found.values()] == [Secret, RefusedError]


async def test_all_pages_are_listed(client: Client, async_client: AsyncClient, broker: Broker) -> None:
    entry = pb.SecretMetadata(name="A", category="database", state=pb.SECRET_STATE_STALE, generation=3)
    broker.pages = [
        pb.ListSecretsResponse(secrets=[entry], next_page_token="1"),
        pb.ListSecretsResponse(secrets=[pb.SecretMetadata(name="B")]),
    ]
    for found in (client.list(), await async_client.list("database")):
        assert [found[0].name, found[0].category, found[0].state, found[0].generation] == [
            "A", "database", State.STALE, 3,
        ]  # fmt: skip
        assert [entry.name for entry in found] == ["A", "B"]


def test_a_report_names_the_version_and_cuts_its_detail(client: Client, broker: Broker) -> None:
    assert client.report(Secret(secret(generation=4)), Outcome.REFUSED, "x" * 300) == 4
    report = broker.reports.get(timeout=5)
    assert (report.name, report.generation, report.outcome) == ("DB", 4, pb.OUTCOME_REFUSED)
    assert report.detail == "x" * 256


def test_a_refusal_has_the_broker_s_reason(client: Client) -> None:
    with pytest.raises(RefusedError, match="no access to NONE") as raised:
        client.get("NONE")
    assert raised.value.reason is Reason.DENIED
    assert not raised.value.is_transient
    with pytest.raises(RefusedError) as raised:
        client.get("SEALED")
    assert raised.value.reason is Reason.SOURCE_SEALED
    assert raised.value.is_transient
    assert raised.value.retry_after is not None
    assert raised.value.retry_after.total_seconds() == 1.5


async def test_a_refusal_has_the_broker_s_reason_in_asyncio(async_client: AsyncClient) -> None:
    with pytest.raises(RefusedError) as raised:
        await async_client.get("NONE")
    assert raised.value.reason is Reason.DENIED


async def test_a_call_ends_by_its_deadline(client: Client, async_client: AsyncClient) -> None:
    with pytest.raises(DeadlineError, match=r"0\.2 s") as raised:
        client.get("SLOW", deadline=0.2)
    assert raised.value.is_transient
    with pytest.raises(DeadlineError):
        await async_client.get("SLOW", deadline=0.2)


async def test_a_call_can_be_cancelled(async_client: AsyncClient, broker: Broker) -> None:
    call = asyncio.create_task(async_client.get("SLOW"))
    while not broker.gets:
        await asyncio.sleep(0)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call


async def test_a_broker_that_is_away_is_unreachable_and_found_again_at_once(
    client: Client, async_client: AsyncClient, broker: Broker
) -> None:
    broker.secrets["DB"] = secret()
    client.get("DB")
    await async_client.get("DB")
    broker.stop()
    for _ in range(3):
        with pytest.raises(UnreachableError, match="is the broker running there") as raised:
            client.get("DB")
        assert raised.value.is_transient
        with pytest.raises(UnreachableError):
            await async_client.get("DB")
    broker.start()
    assert client.get("DB").generation == 1
    assert (await async_client.get("DB")).generation == 1


def test_a_closed_client_says_so(client: Client) -> None:
    client.close()
    with pytest.raises(ConfigurationError, match="closed"):
        client.get("DB")


def test_a_client_is_shared_by_threads(client: Client, broker: Broker) -> None:
    broker.secrets["DB"] = secret()
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(client.get("DB").generation)) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == [1] * 16


def test_the_stubs_are_generated_from_the_contract(tmp_path: Path) -> None:
    contract = Path(__file__).parents[2] / "proto" / "secretbroker" / "v1"
    file = tmp_path / "contract"
    status = protoc.main(
        [
            "",
            f"-Isecret_broker/_proto={contract}",
            f"-I{Path(protoc.__file__).parent / '_proto'}",
            f"--descriptor_set_out={file}",
            "secret_broker/_proto/broker.proto",
        ]
    )
    assert status == 0
    contracts = descriptor_pb2.FileDescriptorSet.FromString(file.read_bytes())
    generated = descriptor_pb2.FileDescriptorProto()
    pb.DESCRIPTOR.CopyToProto(generated)
    for side in (generated, contracts.file[0]):
        without_json_names(side.message_type)
    assert generated == contracts.file[0]


def without_json_names(messages: Iterable[descriptor_pb2.DescriptorProto]) -> None:
    for message in messages:
        for field in message.field:
            field.ClearField("json_name")
        without_json_names(message.nested_type)
