"""What a watcher has seen: turns the broker's messages into events, each version once.

Pure. The ledger survives reconnects and is what a stream resumes from.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from secret_broker._errors import ConfigurationError, Reason, RefusedError, SecretBrokerError
from secret_broker._proto import broker_pb2 as pb
from secret_broker._secret import Secret, reason, span

if TYPE_CHECKING:
    from collections.abc import Iterable


@dataclass(frozen=True, slots=True)
class _Valued:
    secret: Secret

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self.secret.name


@dataclass(frozen=True, slots=True)
class Current(_Valued):
    """The version that is current when the watch begins to see this secret."""


@dataclass(frozen=True, slots=True)
class Rotated(_Valued):
    """A new version is served, also one that came while the connection was lost."""


@dataclass(frozen=True, slots=True)
class Renewed(_Valued):
    """The same version ends later."""


@dataclass(frozen=True, slots=True)
class Expiring(_Valued):
    """The version ends soon, and no successor could be had yet."""


@dataclass(frozen=True, slots=True)
class Stale(_Valued):
    """The source could not confirm the version when it was due."""


@dataclass(frozen=True, slots=True)
class Recovered(_Valued):
    """The source confirms the version again."""


@dataclass(frozen=True, slots=True)
class Revoked:
    """The value must not be used any more."""

    name: str
    reason: Reason


@dataclass(frozen=True, slots=True)
class Unavailable:
    """No value can be had now; the next one comes as `Current`."""

    name: str
    error: SecretBrokerError


Event = Current | Rotated | Renewed | Expiring | Stale | Recovered | Revoked | Unavailable

_UNCHANGED: dict[int, type[Renewed | Expiring | Stale | Recovered]] = {
    pb.WATCH_EVENT_TYPE_RENEWED: Renewed,
    pb.WATCH_EVENT_TYPE_EXPIRING: Expiring,
    pb.WATCH_EVENT_TYPE_STALE: Stale,
    pb.WATCH_EVENT_TYPE_RECOVERED: Recovered,
}


class Ledger:
    """The versions seen, by the secret's name."""

    def __init__(self) -> None:
        """Starts with nothing seen."""
        self._seen: dict[str, tuple[int, str]] = {}

    def note(self, secret: Secret) -> None:
        """Counts a version as seen."""
        self._seen[secret.name] = (secret.generation, secret.version)

    def generations(self) -> dict[str, int]:
        """What a stream resumes from."""
        return {name: generation for name, (generation, _) in self._seen.items()}

    def take(self, message: pb.WatchSecretsResponse) -> list[Event]:
        """The events of one message, in its order."""
        if message.type == pb.WATCH_EVENT_TYPE_SNAPSHOT:
            return self._snapshot(message)
        if message.type == pb.WATCH_EVENT_TYPE_REVOKED:
            self._seen.pop(message.name, None)
            return [Revoked(message.name, reason(message.reason))]
        return self._changed(message.type, message.secrets)

    def _snapshot(self, message: pb.WatchSecretsResponse) -> list[Event]:
        named = {*message.unchanged, *(secret.name for secret in message.secrets)}
        events = self._changed(message.type, message.secrets)
        for result in message.unavailable:
            named.add(result.name)
            self._seen.pop(result.name, None)
            if result.HasField("error"):
                events.append(Unavailable(result.name, refusal(result.error)))
        for name in sorted(self._seen.keys() - named):
            del self._seen[name]
            events.append(Revoked(name, Reason.WITHDRAWN))
        return events

    def _changed(self, kind: int, secrets: Iterable[pb.Secret]) -> list[Event]:
        """Tells what is new.

        A version not seen before is a rotation whatever the message calls it: the broker may have left out the
        message that lay between.
        """
        events: list[Event] = []
        for secret in map(Secret, secrets):
            seen = self._seen.get(secret.name)
            self.note(secret)
            if seen is None:
                events.append(Current(secret))
            elif seen != (secret.generation, secret.version):
                events.append(Rotated(secret))
            elif kind in _UNCHANGED:
                events.append(_UNCHANGED[kind](secret))
        return events


def refusal(error: pb.SecretError) -> RefusedError:
    """The broker's answer about one name."""
    wait = span(error.retry_after) if error.HasField("retry_after") else None
    return RefusedError(reason(error.reason), error.message, wait)


def outcome(result: pb.SecretResult, address: str) -> Secret | RefusedError:
    """What became of one name of a batch."""
    match result.WhichOneof("outcome"):
        case "secret":
            return Secret(result.secret)
        case "error":
            return refusal(result.error)
        case _:
            raise ConfigurationError(f"{address} is no broker: a result without an outcome came back")
