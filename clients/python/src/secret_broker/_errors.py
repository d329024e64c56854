"""Why a call failed: ours, the network's, or the broker's answer.

No message ever holds a value: the broker's messages do not, and ours name files and addresses only.
"""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import timedelta


class Reason(StrEnum):
    """The broker's machine-readable reasons; their meaning stands in the contract."""

    UNSPECIFIED = "UNSPECIFIED"
    UNAUTHENTICATED = "UNAUTHENTICATED"
    DENIED = "DENIED"
    INVALID_REQUEST = "INVALID_REQUEST"
    SOURCE_UNAVAILABLE = "SOURCE_UNAVAILABLE"
    SOURCE_SEALED = "SOURCE_SEALED"
    SOURCE_THROTTLED = "SOURCE_THROTTLED"
    SOURCE_TIMEOUT = "SOURCE_TIMEOUT"
    SOURCE_FORBIDDEN = "SOURCE_FORBIDDEN"
    SOURCE_UNAUTHENTICATED = "SOURCE_UNAUTHENTICATED"
    SOURCE_NOT_FOUND = "SOURCE_NOT_FOUND"
    SOURCE_INVALID = "SOURCE_INVALID"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"
    WITHDRAWN = "WITHDRAWN"
    AUDIT_UNAVAILABLE = "AUDIT_UNAVAILABLE"
    LIMIT_EXCEEDED = "LIMIT_EXCEEDED"
    DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
    SHUTTING_DOWN = "SHUTTING_DOWN"
    INTERNAL = "INTERNAL"


_PERMANENT = frozenset({Reason.DENIED, Reason.INVALID_REQUEST, Reason.UNAUTHENTICATED})


class SecretBrokerError(Exception):
    """Why a call failed."""

    @property
    def is_transient(self) -> bool:
        """Whether the same call may succeed without anybody changing the request."""
        return True

    @property
    def reason(self) -> Reason | None:
        """The broker's reason, where it answered."""
        return None

    @property
    def retry_after(self) -> timedelta | None:
        """How long the broker asks to wait before the next attempt."""
        return None


class ConfigurationError(SecretBrokerError):
    """The client is told something that can't work: an address, a file, a name."""

    @property
    def is_transient(self) -> bool:
        """Never: somebody has to change the configuration."""
        return False


class TlsError(SecretBrokerError):
    """The broker and this client do not accept each other's certificates."""

    def __init__(self, address: str, detail: str) -> None:
        super().__init__(f"TLS with {address} failed: {detail}")
        self.address = address
        self.detail = detail


class UnreachableError(SecretBrokerError):
    """The broker can't be reached, or the connection broke."""

    def __init__(self, address: str, detail: str) -> None:
        super().__init__(f"{address} can't be reached: {detail}; is the broker running there?")
        self.address = address
        self.detail = detail


class DeadlineError(SecretBrokerError):
    """No answer came in time; `deadline` is in seconds."""

    def __init__(self, address: str, deadline: float) -> None:
        super().__init__(f"no answer from {address} within {deadline:g} s")
        self.address = address
        self.deadline = deadline


class RefusedError(SecretBrokerError):
    """The broker answered with an error."""

    def __init__(self, reason: Reason, message: str, retry_after: timedelta | None = None) -> None:
        super().__init__(f"{message} ({reason})")
        self.message = message
        self._reason = reason
        self._retry_after = retry_after

    @property
    def is_transient(self) -> bool:
        """False where the broker will give the same answer again."""
        return self._reason not in _PERMANENT

    @property
    def reason(self) -> Reason:
        """Why."""
        return self._reason

    @property
    def retry_after(self) -> timedelta | None:
        """How long the broker asks to wait; `None` when asking again won't help."""
        return self._retry_after
