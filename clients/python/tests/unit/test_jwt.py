from __future__ import annotations

import base64
import hmac
from datetime import timedelta
from typing import TYPE_CHECKING

import jwt as pyjwt
import pytest
from fake import Broker, event

from secret_broker import Client, ConfigurationError
from secret_broker._proto import broker_pb2 as pb
from secret_broker.jwt import InvalidTokenError, Jwt

if TYPE_CHECKING:
    from collections.abc import Iterator

    from secret_broker import Live

KEYS = {name: name.encode() * 32 for name in "abcd"}


def signer(value: str, next_value: str | None = None, previous: str | None = None, generation: int = 1) -> pb.Secret:
    made = pb.Secret(name="JWT", fields={"value": KEYS[value]}, generation=generation, version=str(generation))
    if next_value is not None:
        made.fields["next"] = KEYS[next_value]
    if previous is not None:
        made.previous.fields["value"] = KEYS[previous]
    return made


@pytest.fixture
def live(client: Client, broker: Broker) -> Iterator[Live]:
    broker.secrets["JWT"] = signer("b", "c", "a")
    with client.live("JWT") as live:
        yield live


def test_current_next_and_previous_keys_verify(live: Live) -> None:
    keys = Jwt(live)
    assert keys.verify(keys.sign({"sub": "me"})) == {"sub": "me"}
    for name in "abc":
        token = pyjwt.encode({"sub": name}, KEYS[name], "HS256")
        assert keys.verify(token) == {"sub": name}
    with pytest.raises(InvalidTokenError):
        keys.verify(pyjwt.encode({"sub": "d"}, KEYS["d"], "HS256"))


def test_other_algorithms_and_old_tokens_are_refused(live: Live) -> None:
    keys = Jwt(live)
    with pytest.raises(InvalidTokenError):
        keys.verify(pyjwt.encode({}, "", "none"))
    with pytest.raises(InvalidTokenError):
        keys.verify(pyjwt.encode({}, KEYS["b"] * 2, "HS512"))
    with pytest.raises(InvalidTokenError):
        keys.verify(keys.sign({}, lifetime=timedelta(seconds=-61)))
    assert "exp" in keys.verify(keys.sign({}, lifetime=timedelta(seconds=-30)))
    for audience in (None, "me"):
        with pytest.raises(InvalidTokenError):
            keys.verify(keys.sign({"aud": "somebody else's"}), audience=audience)
    with pytest.raises(InvalidTokenError):
        keys.verify(keys.sign({}), require=["exp"])
    assert (
        keys.verify(keys.sign({"aud": "x"}, lifetime=timedelta(hours=1)), audience="x", require=["exp"])["aud"] == "x"
    )


def test_tokens_outlive_a_rotation(live: Live, broker: Broker) -> None:
    keys = Jwt(live)
    before = keys.sign({"n": 1})
    stream = broker.streams.get(timeout=10)
    stream.tell(event("ROTATED", signer("c", "d", "b", generation=2)))
    broker.reports.get(timeout=10)
    assert keys.verify(before) == {"n": 1}
    assert pyjwt.decode(keys.sign({"n": 2}), KEYS["c"], ["HS256"]) == {"n": 2}


def test_a_short_key_neither_signs_nor_verifies(client: Client, broker: Broker) -> None:
    made = signer("b", previous="a")
    made.fields["next"] = b""
    broker.secrets["JWT"] = made
    with client.live("JWT") as live:
        for key in ("", "short"):
            with pytest.raises(InvalidTokenError):
                Jwt(live).verify(token(key.encode()))
    made.fields["value"] = b"short"
    with client.live("JWT") as live:
        with pytest.raises(ConfigurationError, match="32 bytes"):
            Jwt(live).sign({})
        with pytest.raises(InvalidTokenError):
            Jwt(live).verify(token(b"short"))
        assert Jwt(live).verify(token(KEYS["a"])) == {"sub": "eve"}


def token(key: bytes) -> str:
    """A token by a key of any length."""
    signed = ".".join(
        base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in (b'{"alg":"HS256"}', b'{"sub":"eve"}')
    )
    tag = hmac.digest(key, signed.encode(), "sha256")
    return f"{signed}.{base64.urlsafe_b64encode(tag).rstrip(b'=').decode()}"
