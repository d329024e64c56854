"""What a handle holds: the pure part of both kinds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secret_broker._errors import RefusedError, SecretBrokerError
from secret_broker._watched import Revoked, Unavailable

if TYPE_CHECKING:
    from secret_broker._secret import Secret
    from secret_broker._watched import Event


class Held:
    """The last version, and how it stands at the broker."""

    __slots__ = ("secret", "standing")

    def __init__(self, first: Secret) -> None:
        """Starts with a version that is served."""
        self.secret = first
        self.standing: SecretBrokerError | None = None

    def served(self) -> list[Secret]:
        """What a new watch need not tell: of a version that is not served it has to tell that it is served again."""
        return [self.secret] if self.standing is None else []

    def take(self, event: Event) -> Secret | None:
        """Follows an event, and gives the version where it is another one."""
        match event:
            case Revoked(name, reason):
                self.standing = RefusedError(reason, f"{name} must not be used any more")
            case Unavailable(_, error):
                self.standing = error
            case _:
                before, self.secret, self.standing = self.secret, event.secret, None
                if (before.generation, before.version) != (self.secret.generation, self.secret.version):
                    return event.secret
        return None
