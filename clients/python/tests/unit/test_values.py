from __future__ import annotations

import copy
import gc
import json
import pickle
import pprint
import time
import traceback
from typing import Any

import pytest
from fake import secret
from google.protobuf.timestamp_pb2 import Timestamp

from secret_broker import Freshness, Reason, Secret
from secret_broker import _secret as module
from secret_broker._proto import broker_pb2 as pb


def sample() -> Secret:
    previous = pb.PreviousSecret(fields={"password": b"hunter0"}, generation=0)
    return Secret(secret(previous=previous, time_left={"seconds": 60}))


def test_no_way_of_printing_shows_a_value() -> None:
    made = sample()
    subjects: list[Any] = [made, made.previous, made.fields, made.field("password"), dict(made.fields), [made]]
    subjects.append(made.fields._buffers)  # what a debugger or a trace with local variables shows
    shown = " ".join(
        text
        for subject in subjects
        for text in (repr(subject), str(subject), f"{subject}", f"{subject!r}", "%s %r" % (subject, subject))  # noqa: UP031
    )
    shown += pprint.pformat(subjects) + json.dumps(subjects, default=repr)
    assert "password" in shown
    assert "hunter" not in shown
    assert "104, 117" not in shown


def test_values_are_not_pickled_or_copied() -> None:
    made = sample()
    for subject in (made, made.fields, made.previous):
        with pytest.raises(TypeError):
            pickle.dumps(subject)
        with pytest.raises(TypeError):
            copy.deepcopy(subject)
        with pytest.raises(TypeError):
            json.dumps(subject)


def test_a_field_that_is_no_text_is_named_without_its_value() -> None:
    made = Secret(pb.Secret(name="DB", fields={"raw": b"\xffhunter2"}))
    with pytest.raises(ValueError, match="raw") as raised:
        made.text("raw")
    assert "hunter" not in "".join(traceback.format_exception(raised.value))
    assert raised.value.__context__ is None


def test_values_are_zeroed_when_closed() -> None:
    made = sample()
    view = made.field("password")
    assert bytes(view) == b"hunter1"
    with made:
        pass
    assert bytes(view) == bytes(7)
    assert made.previous is not None
    assert bytes(made.previous.field("password")) == bytes(7)


def test_a_view_outlives_its_secret_and_is_read_only() -> None:
    view = sample().field("password")
    gc.collect()
    assert bytes(view) == b"hunter1"
    with pytest.raises(TypeError):
        view[0] = 0


def test_values_are_zeroed_with_their_last_reference(monkeypatch: pytest.MonkeyPatch) -> None:
    wiped: list[int] = []
    wipe = module._Buffer.wipe

    def noted(buffer: module._Buffer) -> None:
        wipe(buffer)
        wiped.append(sum(buffer))

    monkeypatch.setattr(module._Buffer, "wipe", noted)
    made = sample()
    assert not wiped
    del made
    gc.collect()
    assert wiped == [0, 0, 0]


def test_the_time_left_runs_down_on_the_local_clock(monkeypatch: pytest.MonkeyPatch) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    made = sample()
    now += 45
    assert made.time_left is not None
    assert made.time_left.total_seconds() == 15
    now += 45
    assert made.time_left.total_seconds() == 0


def test_the_version_before_is_shown_until_its_overlap_ends_by_the_broker_s_clock(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    now = 1000.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    previous = pb.PreviousSecret(fields={"password": b"hunter0"}, valid_until=Timestamp(seconds=1_000_030))
    # The broker's clock is decades behind ours.
    made = Secret(secret(previous=previous, expire_time={"seconds": 1_000_060}, time_left={"seconds": 60}))
    now += 29
    assert made.previous is not None
    now += 1
    assert made.previous is None


def test_staleness_is_told_with_its_reason() -> None:
    made = Secret(
        secret(freshness=pb.FRESHNESS_STALE, stale_reason=pb.ERROR_REASON_SOURCE_SEALED, stale_for={"seconds": 3})
    )
    assert made.freshness is Freshness.STALE
    assert made.stale_reason is Reason.SOURCE_SEALED
    assert made.stale_for is not None
    assert made.stale_for.total_seconds() == 3
    assert sample().freshness is Freshness.FRESH


def test_the_reasons_and_states_are_those_of_the_contract() -> None:
    assert [f"ERROR_REASON_{reason}" for reason in Reason] == pb.ErrorReason.keys()
    assert [f"SECRET_STATE_{state}" for state in module.State] == pb.SecretState.keys()
    assert module.reason(9999) is Reason.UNSPECIFIED
