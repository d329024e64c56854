"""Where the broker listens: TCP with mTLS, or a Unix socket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import PurePosixPath

from secret_broker._errors import ConfigurationError

_LARGEST_PORT = 65535


@dataclass(frozen=True, slots=True)
class Tls:
    """mTLS on TCP, `https://HOST:PORT`; the host is without brackets."""

    host: str
    port: int

    @property
    def target(self) -> str:
        """The name that gRPC resolves."""
        return f"dns:///{self._bracketed}:{self.port}"

    @property
    def _bracketed(self) -> str:
        return f"[{self.host}]" if ":" in self.host else self.host

    def __str__(self) -> str:
        return f"https://{self._bracketed}:{self.port}"


@dataclass(frozen=True, slots=True)
class Unix:
    """A Unix socket, `unix:///PATH`, whose peer the kernel names."""

    path: PurePosixPath

    @property
    def target(self) -> str:
        """The name that gRPC resolves."""
        return f"unix:{self.path}"

    def __str__(self) -> str:
        return f"unix://{self.path}"


Address = Tls | Unix


def parse(text: str) -> Address:
    """Reads an address; raises `ConfigurationError` when the text is none."""
    scheme, separator, rest = text.partition("://")
    found: Address | None = None
    if separator and scheme == "unix" and rest.startswith("/"):
        found = Unix(PurePosixPath(rest))
    elif separator and scheme == "https":
        found = _tls(rest.rstrip("/"))
    if found is None:
        raise ConfigurationError(f"the address `{text}` is none: give https://HOST:PORT or unix:///PATH")
    return found


def _tls(authority: str) -> Tls | None:
    host, _, port = authority.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    well_formed = host and not any(bad in host for bad in "/@ []")
    if not well_formed or not (port.isascii() and port.isdigit()) or int(port) > _LARGEST_PORT:
        return None
    return Tls(host, int(port))
