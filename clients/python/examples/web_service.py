"""A web service whose database login and token keys are replaced while it runs.

    python web_service.py PORT DATABASE_URL

`POST /token` answers a token; `GET /` with it as `Authorization: Bearer …` answers who it is in the database.
"""

from __future__ import annotations

import json
import sys
from datetime import timedelta
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import sqlalchemy

from secret_broker import Client
from secret_broker.jwt import InvalidTokenError, Jwt
from secret_broker.sqlalchemy import attach

_WHO = sqlalchemy.text("SELECT current_user")


def handler(engine: sqlalchemy.Engine, keys: Jwt) -> type[BaseHTTPRequestHandler]:
    """The service on its database and its keys."""

    class Service(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self._answer(HTTPStatus.OK, token=keys.sign({"sub": "somebody"}, lifetime=timedelta(hours=1)))

        def do_GET(self) -> None:
            try:
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                claims = keys.verify(token if scheme == "Bearer" else "", require=["exp"])
            except InvalidTokenError as error:
                self._answer(HTTPStatus.UNAUTHORIZED, error=str(error))
                return
            with engine.connect() as connection:
                self._answer(HTTPStatus.OK, sub=claims["sub"], user=connection.execute(_WHO).scalar_one())

        def _answer(self, status: HTTPStatus, **content: Any) -> None:  # noqa: ANN401
            body = json.dumps(content).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keeps requests out of the log."""

    return Service


def main(port: str, database: str) -> None:
    """Serves until it is interrupted."""
    with Client.from_env() as client, client.live("DB") as login, client.live("JWT") as signing:
        engine = sqlalchemy.create_engine(database)
        attached = attach(engine, login)
        server = ThreadingHTTPServer(("127.0.0.1", int(port)), handler(engine, Jwt(signing)))
        print(f"serving on {server.server_port}", flush=True)  # noqa: T201
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            attached.close()
            engine.dispose()


if __name__ == "__main__":
    main(*sys.argv[1:])
