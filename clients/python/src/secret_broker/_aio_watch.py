"""A watch that never ends by itself: it reconnects and resumes from what it has seen.

- Each version is yielded once, and none is missed but such as were replaced while the reader slept.
- An error is raised only when trying again can't help; it ends the watch.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Self

from grpc import aio

from secret_broker._errors import SecretBrokerError
from secret_broker._verbs import Resumption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secret_broker._aio_client import AsyncClient
    from secret_broker._secret import Secret
    from secret_broker._watched import Event

_EOF: Final = aio.EOF  # type: ignore[attr-defined]


class AsyncWatch:
    """An asynchronous iterator over changes; nothing happens until it is asked for the next.

    A `next` that is cancelled loses nothing that was told: the watch resumes after what it yielded.
    """

    def __init__(self, client: AsyncClient, names: Iterable[str], holding: Iterable[Secret]) -> None:
        """Use `AsyncClient.watch`."""
        self._client = client
        self._resumption = Resumption(names, holding)
        self._closing = asyncio.Event()
        self._stream: Any = None
        self._lease: Any = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Event:
        while not self._closing.is_set():
            if self._resumption.ready:
                return self._resumption.ready.popleft()
            error: SecretBrokerError | None = None
            try:
                message = await self._open().read()
            except aio.AioRpcError as status:
                if self._closing.is_set():
                    break
                error = await self._client._explain(status, self._lease, self._client.deadline)  # noqa: SLF001
            except asyncio.CancelledError:
                # gRPC ends a stream whose read was cancelled, and also cancels the read of a stream that is closed,
                # itself or with its channel.
                closing, task = self._closing.is_set(), asyncio.current_task()
                await self._end(None)
                if closing:
                    break
                if task is None or task.cancelling():
                    raise
            else:
                if message is not _EOF:
                    self._resumption.take(message)
                    continue
            await self._pause(error)
        await self._end(None)
        raise StopAsyncIteration

    def _open(self) -> Any:  # noqa: ANN401 - gRPC has no public type for a stream of replies
        if self._stream is None:
            self._lease = self._client._lease()  # noqa: SLF001
            self._stream = self._lease.stub.WatchSecrets(self._resumption.request())
        return self._stream

    async def _pause(self, error: SecretBrokerError | None) -> None:
        await self._end(error)
        try:
            wait = self._resumption.interrupted(error)
        except SecretBrokerError:
            self._closing.set()
            raise
        await asyncio.sleep(wait)

    async def _end(self, error: SecretBrokerError | None) -> None:
        lease, stream = self._lease, self._stream
        self._lease, self._stream = None, None
        if stream is not None:
            stream.cancel()
        if lease is not None:
            await self._client._release(lease, error)  # noqa: SLF001

    async def close(self) -> None:
        """Ends the watch, also under a reader that waits."""
        self._closing.set()
        if self._stream is not None:
            self._stream.cancel()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()
        await self._end(None)
