from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from fake import Authority, Broker

from secret_broker import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path


@pytest.fixture
def authority() -> Authority:
    return Authority()


@pytest.fixture
def cert_dir(authority: Authority, tmp_path: Path) -> Path:
    return authority.write(tmp_path / "tls")


@pytest.fixture
def broker(cert_dir: Path) -> Iterator[Broker]:
    broker = Broker(cert_dir)
    yield broker
    broker.stop()


@pytest.fixture
def client(broker: Broker, cert_dir: Path) -> Iterator[Client]:
    with Client(broker.address, cert_dir=cert_dir, deadline=5) as client:
        yield client


@pytest.fixture
async def async_client(broker: Broker, cert_dir: Path) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(broker.address, cert_dir=cert_dir, deadline=5) as client:
        yield client
