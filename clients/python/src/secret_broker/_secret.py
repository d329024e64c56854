"""A secret as the application holds it.

Values are never printed, and their buffers are zeroed when the last reference to them goes or `close` is
called. The time left is counted on this machine's monotonic clock from the moment of the reply, so that a clock
that differs from the broker's does no harm.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final, NoReturn, Self

from secret_broker._errors import Reason
from secret_broker._proto import broker_pb2 as pb

if TYPE_CHECKING:
    from google.protobuf.duration_pb2 import Duration
    from google.protobuf.timestamp_pb2 import Timestamp

_REASON_PREFIX: Final = "ERROR_REASON_"
_STATE_PREFIX: Final = "SECRET_STATE_"


class State(StrEnum):
    """Where a secret stands in its life; the meaning stands in the contract."""

    UNSPECIFIED = "UNSPECIFIED"
    ABSENT = "ABSENT"
    FRESH = "FRESH"
    RENEWING = "RENEWING"
    REPLACING = "REPLACING"
    STALE = "STALE"
    EXPIRED = "EXPIRED"
    REVOKED = "REVOKED"


class Freshness(StrEnum):
    """Whether the source of a secret still confirms it."""

    FRESH = "FRESH"
    STALE = "STALE"


class _Buffer(bytearray):
    """Bytes that are zeroed when the last view of them goes."""

    def wipe(self) -> None:
        self[:] = bytes(len(self))

    def __repr__(self) -> str:
        return f"<{len(self)} bytes>"

    __str__ = __repr__

    def __del__(self) -> None:
        self.wipe()


class Fields(Mapping[str, memoryview]):
    """The parts of a value by name, as read-only views that print without their content."""

    __slots__ = ("_buffers",)

    def __init__(self, fields: Mapping[str, bytes]) -> None:
        """Copies the values into buffers that can be wiped."""
        self._buffers = {name: _Buffer(fields[name]) for name in sorted(fields)}

    def __getitem__(self, name: str) -> memoryview:
        return memoryview(self._buffers[name]).toreadonly()

    def __iter__(self) -> Iterator[str]:
        return iter(self._buffers)

    def __len__(self) -> int:
        return len(self._buffers)

    def text(self, name: str) -> str:
        """A field as text; raises `KeyError` without such a field and `ValueError` when it is not UTF-8."""
        buffer = self._buffers[name]
        try:
            return buffer.decode()
        except UnicodeDecodeError:
            pass
        # Outside of the handler: the decoder's error holds the value.
        raise ValueError(f"the field `{name}` is not UTF-8")

    def wipe(self) -> None:
        """Zeroes all values in place."""
        for buffer in self._buffers.values():
            buffer.wipe()

    def __repr__(self) -> str:
        return f"Fields({', '.join(self._buffers)})"

    def __reduce__(self) -> NoReturn:
        raise TypeError("the values of a secret can't be pickled or copied")


class _Valued:
    """What a version and the one before it have in common."""

    __slots__ = ("_fields", "_generation", "_version")

    def __init__(self, fields: Mapping[str, bytes], version: str, generation: int) -> None:
        self._fields = Fields(fields)
        self._version = version
        self._generation = generation

    @property
    def fields(self) -> Fields:
        """All fields in the order of their names."""
        return self._fields

    def field(self, name: str) -> memoryview:
        """The bytes of a field, without a copy; raises `KeyError` when there is none."""
        return self._fields[name]

    def text(self, name: str) -> str:
        """A field as text; raises `KeyError` without such a field and `ValueError` when it is not UTF-8."""
        return self._fields.text(name)

    @property
    def version(self) -> str:
        """The version at the source; equal versions have equal values."""
        return self._version

    @property
    def generation(self) -> int:
        """Grows with each new version that the broker serves."""
        return self._generation

    def close(self) -> None:
        """Zeroes the values at once; views of them read zeros from then on."""
        self._fields.wipe()

    def __reduce__(self) -> NoReturn:
        raise TypeError("a secret can't be pickled or copied")


class Previous(_Valued):
    """The version before, while it is still accepted."""

    __slots__ = ("_ends", "_valid_until")

    def __init__(self, message: pb.PreviousSecret, sent_at: datetime) -> None:
        """Takes a version over from the contract, as of the broker's time of the reply."""
        super().__init__(message.fields, message.version, message.generation)
        self._valid_until = instant(message.valid_until) if message.HasField("valid_until") else None
        self._ends: float | None = None
        if self._valid_until is not None:
            self._ends = time.monotonic() + (self._valid_until - sent_at).total_seconds()

    @property
    def valid_until(self) -> datetime | None:
        """Until when it is accepted at the latest, by the broker's clock."""
        return self._valid_until

    @property
    def is_over(self) -> bool:
        """Whether that moment has passed, counted from the reply."""
        return self._ends is not None and time.monotonic() >= self._ends

    def __repr__(self) -> str:
        return f"Previous(fields={list(self._fields)}, version={self._version!r}, generation={self._generation})"


class Secret(_Valued):
    """A version of a secret with all that says how far it can be trusted."""

    __slots__ = (
        "_ends",
        "_expires_at",
        "_freshness",
        "_issued_at",
        "_name",
        "_previous",
        "_stale_for",
        "_stale_reason",
    )

    def __init__(self, message: pb.Secret) -> None:
        """Takes a version over from the contract."""
        super().__init__(message.fields, message.version, message.generation)
        self._name = message.name
        self._issued_at = instant(message.issue_time) if message.HasField("issue_time") else None
        self._expires_at = instant(message.expire_time) if message.HasField("expire_time") else None
        left = span(message.time_left).total_seconds() if message.HasField("time_left") else None
        self._ends = None if left is None else time.monotonic() + left
        stale = message.freshness == pb.FRESHNESS_STALE
        self._freshness = Freshness.STALE if stale else Freshness.FRESH
        self._stale_reason = reason(message.stale_reason) if stale else None
        self._stale_for = span(message.stale_for) if stale else None
        self._previous = Previous(message.previous, self._sent_at(left)) if message.HasField("previous") else None

    @property
    def name(self) -> str:
        """The name in the broker's catalogue."""
        return self._name

    @property
    def issued_at(self) -> datetime | None:
        """When the version was issued, by the broker's clock."""
        return self._issued_at

    @property
    def expires_at(self) -> datetime | None:
        """When the version ends, by the broker's clock; `None` when nothing ends it."""
        return self._expires_at

    @property
    def time_left(self) -> timedelta | None:
        """The time left now, by this machine's monotonic clock; `None` when nothing ends the version."""
        return None if self._ends is None else timedelta(seconds=max(0.0, self._ends - time.monotonic()))

    @property
    def freshness(self) -> Freshness:
        """Whether the source still confirms the version."""
        return self._freshness

    @property
    def stale_reason(self) -> Reason | None:
        """Why the version is stale; `None` when it is fresh."""
        return self._stale_reason

    @property
    def stale_for(self) -> timedelta | None:
        """How long it had been stale at the time of the reply; `None` when it is fresh."""
        return self._stale_for

    @property
    def previous(self) -> Previous | None:
        """The version before, while it overlaps this one."""
        return None if self._previous is None or self._previous.is_over else self._previous

    def close(self) -> None:
        """Zeroes the values of this version and the one before at once."""
        super().close()
        if self._previous is not None:
            self._previous.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _sent_at(self, left: float | None) -> datetime:
        """The broker's time of the reply, as far as the reply tells it; else this machine's."""
        if left is None or self._expires_at is None:
            return datetime.now(UTC)
        return self._expires_at - timedelta(seconds=left)

    def __repr__(self) -> str:
        return (
            f"Secret(name={self._name!r}, fields={list(self._fields)}, version={self._version!r}, "
            f"generation={self._generation}, time_left={self.time_left}, freshness={self._freshness}, "
            f"previous={self._previous!r})"
        )


@dataclass(frozen=True, slots=True)
class Metadata:
    """What is known of a secret without its value."""

    name: str
    category: str
    state: State
    #: Empty when none is held.
    version: str
    #: 0 when none is held.
    generation: int
    issued_at: datetime | None
    #: `None` when nothing ends the version.
    expires_at: datetime | None
    #: Why the state is not fresh.
    reason: Reason | None

    @classmethod
    def of(cls, message: pb.SecretMetadata) -> Metadata:
        """Takes an entry over from the contract."""
        name = pb.SecretState.Name(message.state) if message.state in pb.SecretState.values() else ""
        found = reason(message.reason)
        return cls(
            name=message.name,
            category=message.category,
            state=State(name.removeprefix(_STATE_PREFIX) or State.UNSPECIFIED),
            version=message.version,
            generation=message.generation,
            issued_at=instant(message.issue_time) if message.HasField("issue_time") else None,
            expires_at=instant(message.expire_time) if message.HasField("expire_time") else None,
            reason=None if found is Reason.UNSPECIFIED else found,
        )


def reason(number: int) -> Reason:
    """A reason of the contract; one of a later contract is `UNSPECIFIED`."""
    known = number in pb.ErrorReason.values()
    name = pb.ErrorReason.Name(pb.ErrorReason.ValueType(number)) if known else ""
    return Reason(name.removeprefix(_REASON_PREFIX) or Reason.UNSPECIFIED)


def instant(timestamp: Timestamp) -> datetime:
    """A moment of the contract, in UTC."""
    return datetime.fromtimestamp(timestamp.seconds + timestamp.nanos / 1e9, UTC)


def span(duration: Duration) -> timedelta:
    """A time of the contract."""
    return timedelta(seconds=duration.seconds, microseconds=duration.nanos / 1000)
