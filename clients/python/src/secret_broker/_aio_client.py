"""The verbs of the contract, for asyncio.

A client belongs to the event loop of its first call. Every call ends by its deadline, and may be cancelled.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Self, TypeVar

import grpc
from grpc import aio

from secret_broker._aio_live import AsyncLive
from secret_broker._aio_watch import AsyncWatch
from secret_broker._channels import Channels, Lease
from secret_broker._client import explained
from secret_broker._errors import RefusedError, SecretBrokerError, UnreachableError
from secret_broker._explain import probe
from secret_broker._proto import broker_pb2 as pb
from secret_broker._proto.broker_pb2_grpc import SecretBrokerStub
from secret_broker._secret import Metadata, Secret
from secret_broker._verbs import DEADLINE, Outcome, Settings, batches, environment, report_of
from secret_broker._watched import outcome as outcome_of

if TYPE_CHECKING:
    import os
    from collections.abc import Awaitable, Callable, Iterable

    from secret_broker._address import Address

_Reply = TypeVar("_Reply")
# The generated stub is typed for one of gRPC's two kinds only.
_Stub = Any
_Lease = Lease[aio.Channel, _Stub]


class AsyncClient:
    """A client of the broker; connects at its first call."""

    def __init__(
        self,
        address: str | None = None,
        *,
        cert_dir: str | os.PathLike[str] | None = None,
        server_name: str | None = None,
        deadline: float = DEADLINE,
    ) -> None:
        """Settings of your own, as `Client` has them; raises `ConfigurationError`."""
        self._settings = Settings.of(address, cert_dir, server_name, deadline)
        self._lives: dict[str, AsyncLive] = {}
        self._channels: Channels[aio.Channel, _Stub] = Channels(
            self._settings.address, self._settings.server_name, self._settings.certificates, _open
        )

    @classmethod
    def from_env(cls, *, deadline: float = DEADLINE) -> Self:
        """A client as SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR say; raises `ConfigurationError`."""
        address, cert_dir = environment()
        return cls(address, cert_dir=cert_dir, deadline=deadline)

    @property
    def address(self) -> Address:
        """The broker's address."""
        return self._settings.address

    @property
    def deadline(self) -> float:
        """Seconds for a call that is given no other deadline."""
        return self._settings.deadline

    async def get(self, name: str, *, deadline: float | None = None) -> Secret:
        """The current version of a secret."""
        request = pb.GetSecretRequest(name=name)
        reply: pb.GetSecretResponse = await self._call(
            lambda stub, left: stub.GetSecret(request, timeout=left), deadline
        )
        if not reply.HasField("secret"):
            raise UnreachableError(str(self.address), "a reply without a secret came back")
        return Secret(reply.secret)

    async def get_many(
        self, names: Iterable[str], *, deadline: float | None = None
    ) -> dict[str, Secret | RefusedError]:
        """Several secrets at once, each with its own result, in the order of the names."""
        found: dict[str, Secret | RefusedError] = {}
        for request in batches(names):
            reply = await self._batch(request, deadline)
            found |= {result.name: outcome_of(result, str(self.address)) for result in reply.results}
        return found

    async def list(self, category: str | None = None, *, deadline: float | None = None) -> list[Metadata]:
        """What this caller may read, without values: of one category, or all."""
        request = pb.ListSecretsRequest(category=category or "")
        found: list[Metadata] = []
        while True:
            page: pb.ListSecretsResponse = await self._call(
                lambda stub, left: stub.ListSecrets(request, timeout=left), deadline
            )
            found += map(Metadata.of, page.secrets)
            if not page.next_page_token:
                return found
            request.page_token = page.next_page_token

    def watch(self, *names: str, holding: Iterable[Secret] = ()) -> AsyncWatch:
        """Watches these secrets, all that may be read when none is named.

        The watch starts after the versions in `holding`, which the caller has already.
        """
        return AsyncWatch(self, names, holding)

    async def report(
        self, secret: Secret, outcome: Outcome, detail: str = "", *, deadline: float | None = None
    ) -> int:
        """Tells the broker what became of a version, and gives the generation that is current now.

        `detail` is what the target said; it must not contain a value, and is cut at 256 characters.
        """
        request = report_of(secret, outcome, detail)
        reply: pb.ReportOutcomeResponse = await self._call(
            lambda stub, left: stub.ReportOutcome(request, timeout=left), deadline
        )
        return reply.current_generation

    async def live(
        self,
        name: str,
        *,
        deadline: float | None = None,
        on_change: Callable[[Secret], object] | None = None,
        report_applied: bool = True,
    ) -> AsyncLive:
        """A handle that always has the current version; waits for the first one until the deadline.

        All callers that ask for the same name share one handle, which ends when each of them closed it: the broker
        counts an application's acknowledgements once, so one handle has to know of all that use the secret.

        `on_change`, a function or coroutine function, is called with each later version. Once it returned, and all
        holders of older versions let go of them, the broker is told that the version is applied, unless
        `report_applied` is off; the first caller decides.
        """
        live = self._lives.get(name)
        if live is None or not live.share():
            made = await AsyncLive.open(self, name, deadline or self.deadline, report_applied=report_applied)
            live = self._lives.get(name)
            if live is None or not live.share():
                live = self._lives[name] = made
            else:
                await made.close()
        if on_change is not None:
            live.on_change(on_change)
        return live

    async def close(self) -> None:
        """Closes the connection; calls, watches and handles of this client end."""
        for channel in self._channels.close():
            await channel.close(None)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"AsyncClient({self.address})"

    async def _batch(self, request: pb.BatchGetSecretsRequest, deadline: float | None) -> pb.BatchGetSecretsResponse:
        return await self._call(lambda stub, left: stub.BatchGetSecrets(request, timeout=left), deadline)

    async def _call(self, call: Callable[[_Stub, float], Awaitable[_Reply]], deadline: float | None) -> _Reply:
        deadline = deadline or self.deadline
        lease = self._lease()
        error: SecretBrokerError | None = None
        try:
            return await call(lease.stub, deadline)
        except aio.AioRpcError as status:
            error = await self._explain(status, lease, deadline)
        finally:
            await self._release(lease, error)
        raise error

    def _lease(self) -> _Lease:
        return self._channels.lease()

    async def _release(self, lease: _Lease, error: SecretBrokerError | None) -> None:
        broken = error is not None and not isinstance(error, RefusedError)
        for channel in self._channels.release(lease, broken=broken):
            await channel.close(None)

    async def _explain(self, status: aio.AioRpcError, lease: _Lease, deadline: float) -> SecretBrokerError:
        error = explained(status, self.address, deadline)
        if isinstance(error, UnreachableError) and lease.loaded is not None:
            server_name, context = self._settings.server_name, lease.loaded.context
            return await asyncio.to_thread(probe, self.address, server_name, context) or error
        return error


def _open(
    target: str, credentials: grpc.ChannelCredentials | None, options: list[tuple[str, Any]]
) -> tuple[aio.Channel, _Stub]:
    if credentials is None:
        channel = aio.insecure_channel(target, options)
    else:
        channel = aio.secure_channel(target, credentials, options)
    return channel, SecretBrokerStub(channel)
