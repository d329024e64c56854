"""Client of the secret broker that runs beside an application.

`Client` is for threads, `AsyncClient` for asyncio; both have the same verbs. The integrations stand in modules of
their own, so that none of their libraries is needed: `secret_broker.sqlalchemy`, `secret_broker.psycopg`,
`secret_broker.redis` and `secret_broker.jwt`.
"""

from secret_broker._aio_client import AsyncClient
from secret_broker._aio_live import AsyncLive
from secret_broker._aio_watch import AsyncWatch
from secret_broker._client import Client
from secret_broker._errors import (
    ConfigurationError,
    DeadlineError,
    Reason,
    RefusedError,
    SecretBrokerError,
    TlsError,
    UnreachableError,
)
from secret_broker._holders import Holder
from secret_broker._live import Live
from secret_broker._secret import Fields, Freshness, Metadata, Previous, Secret, State
from secret_broker._verbs import ADDRESS_VARIABLE, CERT_DIR_VARIABLE, Outcome
from secret_broker._watch import Watch
from secret_broker._watched import (
    Current,
    Event,
    Expiring,
    Recovered,
    Renewed,
    Revoked,
    Rotated,
    Stale,
    Unavailable,
)

__all__ = [
    "ADDRESS_VARIABLE",
    "CERT_DIR_VARIABLE",
    "AsyncClient",
    "AsyncLive",
    "AsyncWatch",
    "Client",
    "ConfigurationError",
    "Current",
    "DeadlineError",
    "Event",
    "Expiring",
    "Fields",
    "Freshness",
    "Holder",
    "Live",
    "Metadata",
    "Outcome",
    "Previous",
    "Reason",
    "Recovered",
    "RefusedError",
    "Renewed",
    "Revoked",
    "Rotated",
    "Secret",
    "SecretBrokerError",
    "Stale",
    "State",
    "TlsError",
    "Unavailable",
    "UnreachableError",
    "Watch",
]
