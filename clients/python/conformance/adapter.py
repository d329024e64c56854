"""The adapter of the conformance runner: the protocol's operations by the client's verbs, as JSON lines."""

from __future__ import annotations

import base64
import json
import pprint
import sys
import threading
import traceback
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from secret_broker import (
    Client,
    ConfigurationError,
    DeadlineError,
    Event,
    Live,
    Outcome,
    RefusedError,
    Revoked,
    Secret,
    SecretBrokerError,
    TlsError,
    Unavailable,
    UnreachableError,
    Watch,
)
from secret_broker.jwt import InvalidTokenError, Jwt

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

_KINDS: dict[type[SecretBrokerError], str] = {
    ConfigurationError: "configuration",
    TlsError: "tls",
    UnreachableError: "unreachable",
    DeadlineError: "deadline",
    RefusedError: "refused",
}


class Adapter:
    """One client and what was opened with it."""

    def __init__(self) -> None:
        """Starts without a client."""
        self._client: Client | None = None
        self._secrets: dict[str, Secret] = {}
        self._watches: dict[str, Watch] = {}
        self._lives: dict[str, Live] = {}
        self._removers: dict[str, Callable[[], None]] = {}
        self._writing = threading.Lock()

    def answer(self, request: Mapping[str, Any]) -> None:
        """Carries one request out and writes its answer."""
        answer: dict[str, Any] = {"id": request.get("id")}
        try:
            answer["ok"] = getattr(self, f"on_{request['op']}")(request)
        except SecretBrokerError as error:
            answer["error"] = _error(error)
        except InvalidTokenError:
            answer["error"] = {"kind": "refused", "reason": None, "transient": False, "retry_after_ms": None}
        except Exception:  # noqa: BLE001 - the runner sees that the adapter is at fault
            answer["error"] = {"kind": "adapter", "reason": None, "transient": False, "retry_after_ms": None}
            traceback.print_exc()
        self._write(answer)

    def close(self) -> None:
        """Closes everything."""
        for watch in self._watches.values():
            watch.close()
        for live in self._lives.values():
            live.close()
        if self._client is not None:
            self._client.close()

    @property
    def client(self) -> Client:
        """The client of the last `connect`."""
        if self._client is None:
            raise ConfigurationError("connect comes first")
        return self._client

    def on_connect(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        client = Client(
            request["address"],
            cert_dir=request.get("cert_dir"),
            server_name=request.get("server_name"),
            deadline=_seconds(request) or 10.0,
        )
        self.close()
        self._watches, self._lives, self._client = {}, {}, client
        return {}

    def on_get(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        secret = self.client.get(request["name"], deadline=_seconds(request))
        self._secrets[secret.name] = secret
        return _shown(secret)

    def on_get_many(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        found = self.client.get_many(request["names"])
        return [
            {"name": name, "ok": _shown(result)}
            if isinstance(result, Secret)
            else {"name": name, "error": _error(result)}
            for name, result in found.items()
        ]

    def on_list(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        return [
            {"name": entry.name, "category": entry.category, "state": entry.state, "generation": entry.generation}
            for entry in self.client.list(request.get("category"))
        ]

    def on_watch(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        key = request["watch"]
        watch = self._watches[key] = self.client.watch(*request["names"])
        threading.Thread(target=self._follow, args=(key, watch), daemon=True).start()
        return {}

    def on_unwatch(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        self._watches.pop(request["watch"]).close()
        return {}

    def on_report(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        secret, outcome = self._secrets[request["name"]], Outcome(request["outcome"])
        return {"current_generation": self.client.report(secret, outcome, request.get("detail") or "")}

    def on_live(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        key = request["live"]
        live = self._lives[key] = self.client.live(request["name"], deadline=_seconds(request))

        def changed(secret: Secret) -> None:
            self._write({"live": key, "changed": secret.generation})

        self._removers[key] = live.on_change(changed)
        return {"generation": live.current.generation}

    def on_live_value(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        live = self._lives[request["live"]]
        current, previous = live.current, live.previous
        return {
            "generation": current.generation,
            "fields": _encoded(current.fields),
            "previous_generation": None if previous is None else previous.generation,
            "standing": live.standing and _error(live.standing),
        }

    def on_unlive(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        self._removers.pop(request["live"])()
        self._lives.pop(request["live"]).close()
        return {}

    def on_print(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        secret = self.client.get(request["name"])
        with self.client.live(request["name"]) as live:
            subjects = [secret, secret.fields, secret.previous, live, live.current, *secret.fields.values()]
            texts = [
                text
                for subject in subjects
                for text in (str(subject), repr(subject), f"{subject}", ascii(subject), pprint.pformat(subject))
            ]
            texts += [pprint.pformat(dict(secret.fields)), json.dumps(subjects, default=repr)]
        return {"text": "\n".join(texts)}

    def on_jwt_sign(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        return {"token": Jwt(self._lives[request["live"]]).sign(request["claims"])}

    def on_jwt_verify(self, request: Mapping[str, Any]) -> Any:  # noqa: ANN401, D102
        return {"claims": Jwt(self._lives[request["live"]]).verify(request["token"])}

    def _follow(self, key: str, watch: Watch) -> None:
        try:
            for event in watch:
                self._write({"watch": key} | _told(event))
        except SecretBrokerError as error:
            self._write({"watch": key, "error": _error(error)})

    def _write(self, line: Mapping[str, Any]) -> None:
        with self._writing:
            print(json.dumps(line), flush=True)  # noqa: T201


def _told(event: Event) -> dict[str, Any]:
    told: dict[str, Any] = {
        "event": type(event).__name__.upper(),
        "name": event.name,
        "generation": None,
        "reason": None,
    }
    match event:
        case Revoked(_, reason):
            told["reason"] = reason
        case Unavailable(_, error):
            told["reason"] = error.reason
        case _:
            told["generation"] = event.secret.generation
    return told


def _shown(secret: Secret) -> dict[str, Any]:
    previous = secret.previous
    return {
        "name": secret.name,
        "version": secret.version,
        "generation": secret.generation,
        "fields": _encoded(secret.fields),
        "freshness": secret.freshness,
        "time_left_ms": _milliseconds(secret.time_left),
        "previous": previous
        and {
            "version": previous.version,
            "generation": previous.generation,
            "fields": _encoded(previous.fields),
        },
    }


def _error(error: SecretBrokerError) -> dict[str, Any]:
    return {
        "kind": _KINDS[type(error)],
        "reason": error.reason,
        "transient": error.is_transient,
        "retry_after_ms": _milliseconds(error.retry_after),
    }


def _encoded(fields: Mapping[str, memoryview]) -> dict[str, str]:
    return {name: base64.b64encode(value).decode() for name, value in fields.items()}


def _milliseconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span / timedelta(milliseconds=1))


def _seconds(request: Mapping[str, Any]) -> float | None:
    milliseconds = request.get("deadline_ms")
    return None if milliseconds is None else milliseconds / 1000


def main() -> None:
    """Answers requests until standard input ends; slow ones hold up no other."""
    adapter = Adapter()
    with ThreadPoolExecutor(16) as pool:
        for line in sys.stdin:
            request = json.loads(line)
            if request["op"] == "connect":
                adapter.answer(request)
            else:
                pool.submit(adapter.answer, request)
    adapter.close()


if __name__ == "__main__":
    main()
