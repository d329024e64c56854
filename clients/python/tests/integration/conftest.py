from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from rig import Rig

from secret_broker import AsyncClient, Client

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def rig() -> Rig:
    return Rig.from_env()


@pytest.fixture
def client() -> Iterator[Client]:
    with Client.from_env() as client:
        yield client


@pytest.fixture
async def async_client() -> AsyncIterator[AsyncClient]:
    async with AsyncClient.from_env() as client:
        yield client
