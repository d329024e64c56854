"""What both clients share: their settings, and the pure steps around each call."""

from __future__ import annotations

import os
import random
from collections import deque
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Final

from secret_broker import _address
from secret_broker._address import Address, Tls
from secret_broker._errors import ConfigurationError, SecretBrokerError
from secret_broker._proto import broker_pb2 as pb
from secret_broker._tls import Certificates
from secret_broker._watched import Event, Ledger

if TYPE_CHECKING:
    from collections.abc import Iterable

    from secret_broker._secret import Secret

#: Names the broker's address; `https://127.0.0.1:7443` when it is not set.
ADDRESS_VARIABLE: Final = "SECRET_BROKER_ADDRESS"
#: Names the directory of `ca.pem`, `client.pem` and `client.key`; needed for `https` addresses.
CERT_DIR_VARIABLE: Final = "SECRET_BROKER_CERT_DIR"

_DEFAULT_ADDRESS: Final = "https://127.0.0.1:7443"
#: Seconds for one call, connecting included.
DEADLINE: Final = 10.0
#: The most names that the contract takes in one batch.
BATCH: Final = 1000
#: The most characters of a report's detail.
DETAIL: Final = 256

#: Seconds; the bound of the wait before an attempt doubles from the first to the last.
FIRST_BOUND: Final = 0.1
LAST_BOUND: Final = 5.0


class Outcome(Enum):
    """What became of a version at the application."""

    #: It was taken over, and none before it is in use any more.
    APPLIED = "APPLIED"
    #: The target accepted it; implies APPLIED.
    WORKED = "WORKED"
    #: The target refused it.
    REFUSED = "REFUSED"


@dataclass(frozen=True, slots=True)
class Settings:
    """Where the broker is and who we are."""

    address: Address
    server_name: str | None
    certificates: Certificates | None
    deadline: float

    @classmethod
    def of(
        cls,
        address: str | None,
        cert_dir: str | os.PathLike[str] | None,
        server_name: str | None,
        deadline: float,
    ) -> Settings:
        """Checks what a user gave."""
        parsed = _address.parse(address or _DEFAULT_ADDRESS)
        if deadline <= 0:
            raise ConfigurationError(f"a deadline of {deadline:g} s leaves no time for a call")
        if not isinstance(parsed, Tls):
            return cls(parsed, None, None, deadline)
        if not cert_dir:
            raise ConfigurationError(
                f"{parsed} needs certificates: set {CERT_DIR_VARIABLE} to the directory of ca.pem, "
                "client.pem and client.key, or use a unix:///PATH address"
            )
        return cls(parsed, server_name, Certificates(Path(cert_dir)), deadline)


def environment() -> tuple[str | None, str | None]:
    """The address and certificate directory that this process was given; `None` where it was not."""
    return os.environ.get(ADDRESS_VARIABLE) or None, os.environ.get(CERT_DIR_VARIABLE) or None


def batches(names: Iterable[str]) -> list[pb.BatchGetSecretsRequest]:
    """The requests for any number of names."""
    unique = list(dict.fromkeys(names))
    return [pb.BatchGetSecretsRequest(names=unique[start : start + BATCH]) for start in range(0, len(unique), BATCH)]


def report_of(secret: Secret, outcome: Outcome, detail: str) -> pb.ReportOutcomeRequest:
    """The request for a report."""
    return pb.ReportOutcomeRequest(
        name=secret.name,
        generation=secret.generation,
        outcome=pb.Outcome.Value(f"OUTCOME_{outcome.value}"),
        detail=detail[:DETAIL],
    )


class Backoff:
    """Full jitter over a bound that doubles from 0.1 to 5 seconds, or as long as the broker asks."""

    def __init__(self) -> None:
        """Starts at the first bound."""
        self._bound = FIRST_BOUND

    def reset(self) -> None:
        """Starts over, after something worked."""
        self._bound = FIRST_BOUND

    def wait(self, error: SecretBrokerError | None) -> float:
        """Seconds to wait before the next attempt."""
        asked = error.retry_after if error is not None else None
        jittered = self._bound * random.random()  # noqa: S311 - spreads load, guards nothing
        self._bound = min(self._bound * 2, LAST_BOUND)
        return jittered if asked is None else asked.total_seconds()


class Resumption:
    """The pure part of a watch: what was seen, what is ready, how long to wait."""

    def __init__(self, names: Iterable[str], holding: Iterable[Secret]) -> None:
        """Starts after the versions that the caller holds already."""
        self._names = list(names)
        self._ledger = Ledger()
        self._backoff = Backoff()
        self.ready: deque[Event] = deque()
        for secret in holding:
            self._ledger.note(secret)

    def request(self) -> pb.WatchSecretsRequest:
        """Asks for what is not seen yet."""
        return pb.WatchSecretsRequest(names=self._names, seen_generations=self._ledger.generations())

    def take(self, message: pb.WatchSecretsResponse) -> None:
        """Makes the events of a message ready."""
        self._backoff.reset()
        self.ready.extend(self._ledger.take(message))

    def interrupted(self, error: SecretBrokerError | None) -> float:
        """Seconds to wait before the next attempt; raises the error where that is of no use."""
        if error is not None and not error.is_transient:
            raise error
        return self._backoff.wait(error)
