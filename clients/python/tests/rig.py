"""Real servers, as the environment names them, whose secrets turn over on demand."""

from __future__ import annotations

import json
import os
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self


@dataclass(frozen=True)
class Rig:
    """Where the servers are, and their control."""

    control: str
    pg: str
    redis_host: str
    redis_port: int
    socket: str
    wrong_cert_dir: Path
    address: str

    def do(self, verb: str, **body: Any) -> Any:
        request = urllib.request.Request(f"{self.control}/{verb}", json.dumps(body).encode())
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def rotate(self, name: str) -> int:
        return int(self.do("rotate", name=name)["generation"])

    @classmethod
    def from_env(cls) -> Self:
        host, port = os.environ["RIG_REDIS"].rsplit(":", 1)
        return cls(
            control=os.environ["RIG_CONTROL"],
            pg=os.environ["RIG_PG"],
            redis_host=host,
            redis_port=int(port),
            socket=os.environ["RIG_SOCKET"],
            wrong_cert_dir=Path(os.environ["RIG_WRONG_CERT_DIR"]),
            address=os.environ["SECRET_BROKER_ADDRESS"],
        )
