"""Tokens that are signed with the current version of a secret, and verified with its neighbours as well.

The secret has the field `value`, which signs, and optionally `next`, which will sign after the next rotation. A token
is accepted if `value`, the previous version's `value` while it overlaps, or `next` signed it: no rotation logs
anybody out, and no order of rollout matters. A key has 32 bytes or more; shorter ones neither sign nor verify.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import jwt

from secret_broker._errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import timedelta

    from secret_broker._aio_live import AsyncLive
    from secret_broker._live import Live
    from secret_broker._secret import Previous, Secret

#: Raised when a token is not accepted; its subclasses tell why.
InvalidTokenError = jwt.InvalidTokenError

_ALGORITHM: Final = "HS256"
_SMALLEST_KEY: Final = 32


class Jwt:
    """Signs and verifies HS256 tokens with the keys of a handle."""

    def __init__(self, live: Live | AsyncLive) -> None:
        """Takes the keys from the handle at each use, without a call."""
        self._live = live

    def sign(self, claims: Mapping[str, Any], *, lifetime: timedelta | None = None) -> str:
        """Signs the claims with the current key; `lifetime` sets `iat` and `exp`."""
        content = dict(claims)
        if lifetime is not None:
            now = datetime.now(UTC)
            content |= {"iat": now, "exp": now + lifetime}
        key = _key(self._live.current, "value")
        if key is None:
            raise ConfigurationError(f"{self._live.name} has no field `value` of at least {_SMALLEST_KEY} bytes")
        return jwt.encode(content, key, _ALGORITHM)

    def verify(
        self,
        token: str,
        *,
        audience: str | Iterable[str] | None = None,
        issuer: str | None = None,
        leeway: timedelta | float = 60,
        require: Iterable[str] = (),
    ) -> dict[str, Any]:
        """The claims of a token; raises `InvalidTokenError` when its signature, time, audience or issuer is wrong.

        `exp` and `nbf` are checked where the token has them, with a `leeway` in seconds, audience and issuer where
        they are given; a token for an audience is refused where none is. `require` names claims that must be there.
        """
        refused: jwt.InvalidTokenError = jwt.InvalidSignatureError("Signature verification failed")
        for key in self._keys():
            try:
                return jwt.decode(
                    token,
                    key,
                    [_ALGORITHM],
                    audience=audience,
                    issuer=issuer,
                    leeway=leeway,
                    options={"require": list(require)},
                )
            except jwt.InvalidSignatureError as error:
                refused = error
        raise refused

    def _keys(self) -> Iterator[bytes]:
        current = self._live.current
        for version, field in ((current, "value"), (current.previous, "value"), (current, "next")):
            key = None if version is None else _key(version, field)
            if key is not None:
                yield key


def _key(version: Secret | Previous, field: str) -> bytes | None:
    key = bytes(version.fields.get(field, b""))
    return key if len(key) >= _SMALLEST_KEY else None
