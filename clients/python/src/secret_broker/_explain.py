"""What a status means: the broker's answer, or what broke on the way to it."""

from __future__ import annotations

import re
import socket
import ssl
from typing import TYPE_CHECKING, Final

import grpc
from google.rpc import error_details_pb2, status_pb2

from secret_broker._address import Address, Tls
from secret_broker._errors import (
    DeadlineError,
    Reason,
    RefusedError,
    SecretBrokerError,
    TlsError,
    UnreachableError,
)
from secret_broker._secret import span

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import timedelta

_DOMAIN: Final = "secretbroker.v1"
_DETAILS: Final = "grpc-status-details-bin"
#: Seconds that finding out why a connection broke may take.
_PROBE: Final = 2.0
_TLS: Final = re.compile(r"SSL_ERROR|CERTIFICATE|[Hh]andshake|[Cc]ertificate|tlsv1|TLS_error|[Pp]eer name")

#: For answers of proxies and libraries that give no reason.
_BY_CODE: Final = {
    grpc.StatusCode.UNAUTHENTICATED: Reason.UNAUTHENTICATED,
    grpc.StatusCode.PERMISSION_DENIED: Reason.DENIED,
    grpc.StatusCode.NOT_FOUND: Reason.DENIED,
    grpc.StatusCode.INVALID_ARGUMENT: Reason.INVALID_REQUEST,
    grpc.StatusCode.OUT_OF_RANGE: Reason.INVALID_REQUEST,
    grpc.StatusCode.UNIMPLEMENTED: Reason.INVALID_REQUEST,
    grpc.StatusCode.RESOURCE_EXHAUSTED: Reason.LIMIT_EXCEEDED,
    grpc.StatusCode.INTERNAL: Reason.INTERNAL,
    grpc.StatusCode.DATA_LOSS: Reason.INTERNAL,
}


def explain(
    code: grpc.StatusCode,
    details: str,
    trailers: Iterable[tuple[str, str | bytes]] | None,
    address: Address,
    deadline: float,
) -> SecretBrokerError:
    """Names what a status is about; a connection that broke over certificates needs `probe` to be told."""
    reason, wait = _answered(trailers)
    if reason is None and code is grpc.StatusCode.DEADLINE_EXCEEDED:
        return DeadlineError(str(address), deadline)
    reason = reason or _BY_CODE.get(code)
    if reason is not None:
        return RefusedError(reason, details, wait)
    if isinstance(address, Tls) and _TLS.search(details):
        return TlsError(str(address), details)
    return UnreachableError(str(address), details)


def probe(address: Address, server_name: str | None, context: ssl.SSLContext | None) -> TlsError | None:
    """Asks by a connection of its own whether it is certificates that the two sides refuse.

    A broker says so only after its handshake, when gRPC has swallowed the cause. Blocks for at most 2 seconds.
    """
    if not isinstance(address, Tls) or context is None:
        return None
    try:
        with socket.create_connection((address.host, address.port), _PROBE) as tcp:
            return _handshake(address, server_name, context, tcp)
    except OSError:
        return None


def _handshake(address: Tls, server_name: str | None, context: ssl.SSLContext, tcp: socket.socket) -> TlsError | None:
    silent = "the broker closed the connection after the handshake; does it trust client.pem?"
    try:
        with context.wrap_socket(tcp, server_hostname=server_name or address.host) as tls:
            try:
                # A broker that accepts us speaks first.
                return None if tls.recv(1) else TlsError(str(address), silent)
            except (ssl.SSLEOFError, ConnectionError):
                return TlsError(str(address), silent)
    except ssl.SSLError as error:
        return None if isinstance(error, ssl.SSLEOFError) else TlsError(str(address), str(error.reason or error))


def _answered(
    trailers: Iterable[tuple[str, str | bytes]] | None,
) -> tuple[Reason | None, timedelta | None]:
    reason, wait = None, None
    for key, value in trailers or ():
        if key != _DETAILS or not isinstance(value, bytes):
            continue
        info, retry = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo()
        for detail in status_pb2.Status.FromString(value).details:
            if detail.Unpack(info) and info.domain == _DOMAIN:
                reason = Reason(info.reason) if info.reason in Reason.__members__ else Reason.UNSPECIFIED
            elif detail.Unpack(retry):
                wait = span(retry.retry_delay)
    return reason, wait
