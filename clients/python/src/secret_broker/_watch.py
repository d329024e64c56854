"""A watch that never ends by itself: it reconnects and resumes from what it has seen.

- Each version is yielded once, and none is missed but such as were replaced while the reader slept.
- An error is raised only when trying again can't help; it ends the watch.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any, Self

import grpc

from secret_broker._errors import SecretBrokerError
from secret_broker._verbs import Resumption

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secret_broker._client import Client
    from secret_broker._secret import Secret
    from secret_broker._watched import Event


class Watch:
    """An iterator over changes; nothing happens until it is asked for the next.

    `close` may be called from any thread, and ends a `next` that waits.
    """

    def __init__(self, client: Client, names: Iterable[str], holding: Iterable[Secret]) -> None:
        """Use `Client.watch`."""
        self._client = client
        self._resumption = Resumption(names, holding)
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._stream: Any = None
        self._lease: Any = None

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Event:
        while not self._closing.is_set():
            if self._resumption.ready:
                return self._resumption.ready.popleft()
            error: SecretBrokerError | None = None
            try:
                message = next(self._open())
            except StopIteration:
                pass
            except grpc.RpcError as status:
                if self._closing.is_set():
                    break
                error = self._client._explain(status, self._lease, self._client.deadline)  # noqa: SLF001
            else:
                self._resumption.take(message)
                continue
            self._pause(error)
        self._end(None)
        raise StopIteration

    def _open(self) -> Any:  # noqa: ANN401 - gRPC has no public type for a stream of replies
        if self._stream is None:
            with self._lock:
                self._lease = self._client._lease()  # noqa: SLF001
                self._stream = self._lease.stub.WatchSecrets(self._resumption.request())
                if self._closing.is_set():
                    self._stream.cancel()
        return self._stream

    def _pause(self, error: SecretBrokerError | None) -> None:
        self._end(error)
        try:
            wait = self._resumption.interrupted(error)
        except SecretBrokerError:
            self._closing.set()
            raise
        self._closing.wait(wait)

    def _end(self, error: SecretBrokerError | None) -> None:
        with self._lock:
            lease, self._lease, self._stream = self._lease, None, None
        if lease is not None:
            self._client._release(lease, error)  # noqa: SLF001

    def close(self) -> None:
        """Ends the watch."""
        with self._lock:
            self._closing.set()
            if self._stream is not None:
                self._stream.cancel()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
