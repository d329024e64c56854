"""What a handle holds: the pure part of both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NoReturn

from secret_broker._errors import Reason, RefusedError, SecretBrokerError
from secret_broker._watched import Revoked, Unavailable

if TYPE_CHECKING:
    from secret_broker._secret import Previous, Secret
    from secret_broker._watched import Event

#: With these the value is not merely out of reach.
_GONE: Final = frozenset({Reason.EXPIRED, Reason.REVOKED, Reason.WITHDRAWN, Reason.DENIED, Reason.SOURCE_NOT_FOUND})


class Held:
    """The current version, or why there is none."""

    __slots__ = ("_last", "_why", "name", "secret")

    def __init__(self, first: Secret) -> None:
        """Starts with a version."""
        self.name = first.name
        self.secret: Secret | None = first
        self._last = (first.generation, first.version)
        self._why: SecretBrokerError | None = None

    @property
    def generation(self) -> int:
        """The generation of the last version."""
        return self._last[0]

    @property
    def previous(self) -> Previous | None:
        """The version before, while it is still accepted."""
        previous = None if self.secret is None else self.secret.previous
        return None if previous is None or previous.is_over else previous

    def take(self, event: Event) -> Secret | None:
        """Follows an event, and gives the version where it is another one."""
        match event:
            case Revoked(name, reason):
                self._drop(RefusedError(reason, f"{name} must not be used any more"))
            case Unavailable(_, error):
                if error.reason in _GONE:
                    self._drop(error)
            case _:
                self.secret = event.secret
                seen = (event.secret.generation, event.secret.version)
                if seen != self._last:
                    self._last = seen
                    return event.secret
        return None

    def is_at(self, generation: int) -> bool:
        """Whether this version is still the current one."""
        return self.secret is not None and self.secret.generation == generation

    def missing(self) -> NoReturn:
        """Raises why there is no version."""
        # Another error object each time: a traceback grows with each raise.
        error = self._why
        reason = (error.reason if error is not None else None) or Reason.REVOKED
        message = error.message if isinstance(error, RefusedError) else f"{self.name} has no value now"
        raise RefusedError(reason, message)

    def _drop(self, error: SecretBrokerError) -> None:
        self._why = error
        self.secret = None
