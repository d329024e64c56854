"""The connection to the broker: made at the first call, and again when it broke or the certificates changed.

Pure bookkeeping, shared by both clients: a channel that is replaced is handed out no more, and is given back for
closing when the last call on it has ended.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from secret_broker._address import Tls
from secret_broker._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable

    import grpc

    from secret_broker._address import Address
    from secret_broker._tls import Certificates, Loaded

_Channel = TypeVar("_Channel")
_Stub = TypeVar("_Stub")

#: Larger than any batch of secrets that a broker is configured to send.
_LARGEST_REPLY: Final = 64 << 20

_OPTIONS: Final[list[tuple[str, Any]]] = [
    ("grpc.max_receive_message_length", _LARGEST_REPLY),
    ("grpc.keepalive_time_ms", 20_000),
    ("grpc.keepalive_timeout_ms", 10_000),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.min_reconnect_backoff_ms", 5_000),
    ("grpc.enable_retries", 0),
    ("grpc.enable_http_proxy", 0),
    # A channel with other certificates must not share the connection of the one before.
    ("grpc.use_local_subchannel_pool", 1),
]


@dataclass(eq=False, slots=True)
class Lease(Generic[_Channel, _Stub]):
    """A channel while calls are made on it."""

    channel: _Channel
    stub: _Stub
    loaded: Loaded | None
    calls: int = 0


class Channels(Generic[_Channel, _Stub]):
    """Hands out the channel of the present certificates. Safe to share between threads."""

    def __init__(
        self,
        address: Address,
        server_name: str | None,
        certificates: Certificates | None,
        opener: Callable[[str, grpc.ChannelCredentials | None, list[tuple[str, Any]]], tuple[_Channel, _Stub]],
    ) -> None:
        """Opens nothing yet."""
        self._address = address
        self._certificates = certificates
        self._opener = opener
        self._options = list(_OPTIONS)
        if isinstance(address, Tls):
            self._options.append(("grpc.ssl_target_name_override", server_name or address.host))
            self._options.append(("grpc.default_authority", server_name or address.host))
        else:
            self._options.append(("grpc.default_authority", "secret-broker"))
        self._lock = threading.Lock()
        self._current: Lease[_Channel, _Stub] | None = None
        self._idle: list[_Channel] = []
        self._closed = False

    def lease(self) -> Lease[_Channel, _Stub]:
        """Gives the channel for one call; `release` must follow."""
        loaded = None if self._certificates is None else self._certificates.current()
        with self._lock:
            if self._closed:
                raise ConfigurationError("the client is closed")
            if self._current is not None and self._current.loaded is not loaded:
                self._retire(self._current)
            if self._current is None:
                credentials = None if loaded is None else loaded.credentials
                channel, stub = self._opener(self._address.target, credentials, self._options)
                self._current = Lease(channel, stub, loaded)
            self._current.calls += 1
            return self._current

    def release(self, lease: Lease[_Channel, _Stub], *, broken: bool = False) -> list[_Channel]:
        """Ends a call, and gives the channels that are to be closed now.

        After a broken one the next call connects at once, instead of waiting for gRPC's back-off.
        """
        with self._lock:
            lease.calls -= 1
            if lease is self._current:
                if broken:
                    self._retire(lease)
            elif lease.calls == 0:
                self._idle.append(lease.channel)
            return self._take_idle()

    def close(self) -> list[_Channel]:
        """Ends all use, and gives the channels that are to be closed now."""
        with self._lock:
            self._closed = True
            if self._current is not None:
                self._idle.append(self._current.channel)
                self._current = None
            return self._take_idle()

    def _retire(self, lease: Lease[_Channel, _Stub]) -> None:
        self._current = None
        if lease.calls == 0:
            self._idle.append(lease.channel)

    def _take_idle(self) -> list[_Channel]:
        idle, self._idle = self._idle, []
        return idle
