"""A handle that always has the current version of a secret, for threads.

- Reading it is reading an attribute: no call, no lock.
- A thread of its own watches; it survives the broker's restarts, and ends with `close`.
- While the broker can't be reached the last version stays; one that the broker withdrew is gone at once.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from secret_broker._errors import ConfigurationError, DeadlineError, RefusedError, SecretBrokerError
from secret_broker._holders import Holder, Holders
from secret_broker._state import Held
from secret_broker._verbs import LAST_BOUND, Backoff, Outcome

if TYPE_CHECKING:
    from collections.abc import Callable

    from secret_broker._client import Client
    from secret_broker._secret import Previous, Secret
    from secret_broker._watch import Watch

_log = logging.getLogger("secret_broker")


class Live:
    """The current version of one secret."""

    def __init__(
        self,
        client: Client,
        name: str,
        deadline: float,
        *,
        report_applied: bool,
    ) -> None:
        """Use `Client.live`."""
        self._client = client
        first = _first(client, name, deadline)
        self._held = Held(first)
        self._holders = Holders(first.generation, self._report)
        self._report_applied = report_applied
        self._hooks: tuple[Callable[[Secret], object], ...] = ()
        self._users = 1
        self._lock = threading.Lock()
        self._own = self._holders.join()
        self._closing = threading.Event()
        self._watch: Watch = client.watch(name, holding=[first])
        self._thread = threading.Thread(target=self._run, name=f"secret-broker {name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self._held.name

    @property
    def current(self) -> Secret:
        """The current version; raises the broker's `RefusedError` while there is none."""
        secret = self._held.secret
        return self._held.missing() if secret is None else secret

    @property
    def generation(self) -> int:
        """The generation of the last version, also when it must not be used any more."""
        return self._held.generation

    @property
    def previous(self) -> Previous | None:
        """The version before, while it is still accepted."""
        return self._held.previous

    def on_change(self, hook: Callable[[Secret], object]) -> Callable[[], None]:
        """Calls the hook with each later version, in the handle's own thread; gives what takes it away again."""
        self._hooks = (*self._hooks, hook)

        def remove() -> None:
            self._hooks = tuple(other for other in self._hooks if other is not hook)

        return remove

    def holder(self) -> Holder:
        """Adds a place whose older versions keep the broker from being told that a newer one is applied."""
        return self._holders.join()

    def report(self, outcome: Outcome, detail: str = "") -> int:
        """Tells the broker what became of the current version at its target."""
        return self._client.report(self.current, outcome, detail)

    def share(self) -> bool:
        """Counts one more user, who closes the handle as well; false when it is closed already."""
        with self._lock:
            self._users += self._users > 0
            return self._users > 0

    def close(self) -> None:
        """Ends the watch when this is the last user; the last version stays readable."""
        with self._lock:
            self._users -= self._users > 0
            if self._users > 0:
                return
        self._closing.set()
        self._watch.close()
        if self._thread is not threading.current_thread():
            self._thread.join()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"Live({self._held.secret!r})"

    def _run(self) -> None:
        while not self._closing.is_set():
            try:
                for event in self._watch:
                    changed = self._held.take(event)
                    if changed is not None:
                        self._changed(changed)
            except ConfigurationError:
                return  # The client was closed.
            except SecretBrokerError as error:
                _log.warning("the watch of %s ended, and is begun again: %s", self.name, error)
                self._closing.wait(LAST_BOUND)
            if not self._closing.is_set():
                secret = self._held.secret
                self._watch = self._client.watch(self.name, holding=[] if secret is None else [secret])
                if self._closing.is_set():
                    self._watch.close()

    def _changed(self, secret: Secret) -> None:
        self._holders.rotated(secret.generation)
        for hook in self._hooks:
            try:
                hook(secret)
            except Exception as error:  # noqa: BLE001 - whatever it is, the watch goes on
                # Its text may hold a value.
                _log.error("a hook on %s failed with %s", self.name, type(error).__name__)
                return
        self._own.applied(secret.generation)

    def _report(self) -> None:
        secret = self._held.secret
        if secret is not None and self._report_applied:
            threading.Thread(target=self._applied, args=(secret,), daemon=True).start()

    def _applied(self, secret: Secret) -> None:
        backoff = Backoff()
        while self._held.is_at(secret.generation) and not self._closing.is_set():
            try:
                self._client.report(secret, Outcome.APPLIED)
            except SecretBrokerError as error:
                if not error.is_transient:
                    return
                self._closing.wait(backoff.wait(error))
            else:
                return


def _first(client: Client, name: str, deadline: float) -> Secret:
    ends = time.monotonic() + deadline
    backoff = Backoff()
    last: SecretBrokerError = DeadlineError(str(client.address), deadline)
    while (left := ends - time.monotonic()) > 0:
        try:
            return client.get(name, deadline=left)
        except RefusedError as error:
            if not error.is_transient or error.retry_after is None:
                raise
            last = error
        except DeadlineError:
            break
        except SecretBrokerError as error:
            if not error.is_transient:
                raise
            last = error
        time.sleep(min(backoff.wait(last), max(0.0, ends - time.monotonic())))
    raise last
