"""What a user's type checker sees of the package."""

from __future__ import annotations

from typing import TYPE_CHECKING

from secret_broker import Client, Current, Event, Outcome, RefusedError, Rotated, Secret, SecretBrokerError

if TYPE_CHECKING:
    from datetime import timedelta


def told(event: Event) -> str | None:
    """The password that an event brings."""
    match event:
        case Current(secret) | Rotated(secret):
            return secret.text("password")
        case _:
            return None


def main() -> None:
    """Uses each verb; no broker is needed to see how one that is away is told."""
    client = Client("unix:///nowhere/broker.sock", deadline=1.0)
    try:
        secret: Secret = client.get("DB")
        left: timedelta | None = secret.time_left
        generation: int = client.report(secret, Outcome.WORKED)
        found: dict[str, Secret | RefusedError] = client.get_many(["DB"])
        print(left, generation, found, [told(event) for event in client.watch("DB")])  # noqa: T201
    except SecretBrokerError as error:
        print(f"as expected: {error}")  # noqa: T201


main()
