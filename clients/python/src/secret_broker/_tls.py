"""The client's certificates: read when first needed, and again whenever their files changed.

While the files are half replaced or unreadable, the last good ones stay in use; nothing is cached of a failure.
"""

from __future__ import annotations

import os
import ssl
import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from secret_broker._errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path

#: What tells one content of the three files from the next: inode, size, and change time of each.
_Stamp = tuple[tuple[int, int, int], ...]


@dataclass(frozen=True, slots=True)
class Loaded:
    """Credentials of one content of the files."""

    stamp: _Stamp
    credentials: grpc.ChannelCredentials
    #: For finding out why the broker refuses a connection.
    context: ssl.SSLContext


class Certificates:
    """`ca.pem`, `client.pem` and `client.key` in a directory."""

    def __init__(self, directory: Path) -> None:
        """Reads nothing yet."""
        self._files = (directory / "ca.pem", directory / "client.pem", directory / "client.key")
        self._lock = threading.Lock()
        self._loaded: Loaded | None = None

    def current(self) -> Loaded:
        """Gives the credentials for a new connection. Reads small local files when they changed."""
        with self._lock:
            try:
                # Taken before reading: a change in between is seen at the next connection.
                stamp = tuple(map(_stamp, self._files))
                if self._loaded is None or self._loaded.stamp != stamp:
                    self._loaded = self._load(stamp)
            except (OSError, ValueError) as error:
                if self._loaded is None:
                    raise ConfigurationError(f"the certificates can't be read: {error}") from None
            return self._loaded

    def _load(self, stamp: _Stamp) -> Loaded:
        authorities, chain, key = (file.read_bytes() for file in self._files)
        # gRPC tells nothing of files that it can't use, so the standard library reads them first.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_alpn_protocols(["h2"])
        ca_file, chain_file, key_file = self._files
        try:
            context.load_verify_locations(cadata=authorities.decode("ascii"))
        except (ssl.SSLError, ValueError):
            raise ValueError(f"{ca_file}: no PEM certificate can be read from it") from None
        try:
            context.load_cert_chain(chain_file, key_file)
        except ssl.SSLError:
            raise ValueError(f"{chain_file} and {key_file}: no PEM pair that fits together") from None
        return Loaded(stamp, grpc.ssl_channel_credentials(authorities, key, chain), context)


def _stamp(file: Path) -> tuple[int, int, int]:
    found = os.stat(file)  # noqa: PTH116 - a third of the cost of Path.stat, and this runs at each call
    return found.st_ino, found.st_size, found.st_mtime_ns
