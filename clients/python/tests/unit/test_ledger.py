from __future__ import annotations

from fake import event, secret, snapshot

from secret_broker._proto import broker_pb2 as pb
from secret_broker._watched import Event, Ledger


def shown(events: list[Event]) -> list[str]:
    return [f"{type(event).__name__} {event.name}" for event in events]


def test_a_version_is_told_once_however_often_it_is_sent() -> None:
    ledger = Ledger()
    assert shown(ledger.take(snapshot(secret("A", 1)))) == ["Current A"]
    assert ledger.take(snapshot(secret("A", 1))) == []
    assert ledger.take(event("ROTATED", secret("A", 1))) == []
    assert shown(ledger.take(event("ROTATED", secret("A", 2)))) == ["Rotated A"]
    assert ledger.generations() == {"A": 2}


def test_a_rotation_hidden_in_another_message_is_told_as_one() -> None:
    ledger = Ledger()
    ledger.take(snapshot(secret("A", 1)))
    assert shown(ledger.take(event("RENEWED", secret("A", 3)))) == ["Rotated A"]
    for kind in ("Renewed", "Expiring", "Stale", "Recovered"):
        assert shown(ledger.take(event(kind.upper(), secret("A", 3)))) == [f"{kind} A"]


def test_what_a_snapshot_leaves_out_is_withdrawn() -> None:
    ledger = Ledger()
    ledger.take(snapshot(secret("A", 1), secret("B", 1), secret("C", 1)))
    again = ledger.take(snapshot(secret("B", 2), unchanged=("A",)))
    assert shown(again) == ["Rotated B", "Revoked C"]


def test_after_it_was_unavailable_a_value_is_told_again() -> None:
    ledger = Ledger()
    ledger.take(snapshot(secret("A", 1)))
    gone = snapshot()
    gone.unavailable.add(name="A", error=pb.SecretError(reason=pb.ERROR_REASON_SOURCE_SEALED))
    assert shown(ledger.take(gone)) == ["Unavailable A"]
    assert shown(ledger.take(event("RECOVERED", secret("A", 1)))) == ["Current A"]


def test_after_it_was_revoked_a_value_is_told_again() -> None:
    ledger = Ledger()
    ledger.take(snapshot(secret("A", 1)))
    revoked = pb.WatchSecretsResponse(type=pb.WATCH_EVENT_TYPE_REVOKED, name="A", reason=pb.ERROR_REASON_EXPIRED)
    assert shown(ledger.take(revoked)) == ["Revoked A"]
    assert shown(ledger.take(event("ROTATED", secret("A", 2)))) == ["Current A"]
