"""A handle that always has the current version of a secret, for threads.

- Reading it is reading an attribute: no call, no lock.
- A thread of its own watches; it survives the broker's restarts, and ends with `close`.
- What was held last stays when the broker goes away, and when it can give none: `standing` says so.
"""

from __future__ import annotations

import logging
import threading
import time
from typing import TYPE_CHECKING, Self

from secret_broker._errors import ConfigurationError, DeadlineError, SecretBrokerError
from secret_broker._holders import Holder, Holders
from secret_broker._hooks import Hook
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
        self._hooks: tuple[Hook, ...] = ()
        self._users = 1
        self._lock = threading.Lock()
        self._told = threading.Condition()
        self._closing = threading.Event()
        self._watch: Watch = client.watch(name, holding=[first])
        self._thread = threading.Thread(target=self._run, name=f"secret-broker {name}", daemon=True)
        self._thread.start()

    @property
    def name(self) -> str:
        """The name of the secret."""
        return self._held.secret.name

    @property
    def current(self) -> Secret:
        """The version to use now."""
        return self._held.secret

    @property
    def generation(self) -> int:
        """The generation of the version to use now."""
        return self._held.secret.generation

    @property
    def previous(self) -> Previous | None:
        """The version before, while it is still accepted."""
        return self._held.secret.previous

    @property
    def standing(self) -> SecretBrokerError | None:
        """`None` while the broker serves the version that is held; otherwise why it does not."""
        return self._held.standing

    def after(self, generation: int, *, deadline: float | None = None) -> Secret:
        """Waits for a version later than this generation; raises `DeadlineError` when none comes in time."""
        deadline = deadline or self._client.deadline
        with self._told:
            if self._told.wait_for(lambda: self.generation > generation, deadline):
                return self.current
        raise DeadlineError(str(self._client.address), deadline)

    def on_change(self, hook: Callable[[Secret], object]) -> Callable[[], None]:
        """Calls the hook with each later version, in a thread of its own; gives what takes it away again.

        It returns once the application uses nothing older any more. A version is applied when all hooks returned.
        A hook that is slow may skip versions in between. That of a closed handle is never called.
        """
        with self._lock:
            if self._closing.is_set():
                return lambda: None
            added = Hook(self.name, hook, self._holders.join())
            self._hooks = (*self._hooks, added)

        def remove() -> None:
            with self._lock:
                self._hooks = tuple(other for other in self._hooks if other is not added)
            added.close()

        return remove

    def holder(self) -> Holder:
        """Adds a place whose older versions keep the broker from being told that a newer one is applied."""
        return self._holders.join()

    def report(self, outcome: Outcome, detail: str = "") -> int:
        """Tells the broker what became of the current version at its target."""
        return self._client.report(self.current, outcome, detail)

    def refused(self, secret: Secret, detail: str = "") -> bool:
        """Tells the broker that the target refused a version, so that it fetches a fresh one, and waits for that.

        Gives whether there is another before the client's deadline.
        """
        try:
            self._client.report(secret, Outcome.REFUSED, detail)
            self.after(secret.generation)
        except SecretBrokerError:
            pass
        return self.generation > secret.generation

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
        self._end()
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
            except ConfigurationError as closed:  # The client was.
                self._held.standing = closed
                self._end()
                return
            except SecretBrokerError as error:
                self._held.standing = error
                _log.warning("the watch of %s ended, and is begun again: %s", self.name, error)
                self._closing.wait(LAST_BOUND)
            if not self._closing.is_set():
                self._watch = self._client.watch(self.name, holding=self._held.served())
                if self._closing.is_set():
                    self._watch.close()

    def _end(self) -> None:
        with self._lock:
            self._closing.set()
            hooks, self._hooks = self._hooks, ()
        for hook in hooks:
            hook.close()

    def _changed(self, secret: Secret) -> None:
        with self._told:
            self._told.notify_all()
        with self._lock:
            self._holders.rotated(secret.generation)
            for hook in self._hooks:
                hook.tell(secret)

    def _report(self, generation: int) -> None:
        secret = self._held.secret
        if self._report_applied and secret.generation == generation and not self._closing.is_set():
            threading.Thread(target=self._applied, args=(secret,), daemon=True).start()

    def _applied(self, secret: Secret) -> None:
        backoff = Backoff()
        while self.generation == secret.generation and not self._closing.is_set():
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
        except DeadlineError:
            break
        except SecretBrokerError as error:
            if not error.is_transient:
                raise
            last = error
        time.sleep(min(backoff.wait(last), max(0.0, ends - time.monotonic())))
    raise last
