"""A broker in this process, told by the test what to answer, and certificates for it."""

from __future__ import annotations

import datetime
import ipaddress
import queue
import socket
import threading
from concurrent import futures
from typing import TYPE_CHECKING, Any

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2

from secret_broker._proto import broker_pb2 as pb
from secret_broker._proto import broker_pb2_grpc as pb_grpc

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_END = object()


def secret(name: str = "DB", generation: int = 1, **more: Any) -> pb.Secret:
    fields = {"username": f"user{generation}".encode(), "password": f"hunter{generation}".encode()}
    made = pb.Secret(name=name, fields=fields, version=f"v{generation}", generation=generation)
    made.MergeFrom(pb.Secret(**more))
    return made


def snapshot(*secrets: pb.Secret, unchanged: tuple[str, ...] = ()) -> pb.WatchSecretsResponse:
    return pb.WatchSecretsResponse(type=pb.WATCH_EVENT_TYPE_SNAPSHOT, secrets=secrets, unchanged=unchanged)


def event(kind: str, of: pb.Secret) -> pb.WatchSecretsResponse:
    return pb.WatchSecretsResponse(
        type=pb.WatchEventType.Value(f"WATCH_EVENT_TYPE_{kind}"), name=of.name, secrets=[of]
    )


def refuse(
    context: grpc.ServicerContext, code: grpc.StatusCode, reason: str, message: str, retry: float | None = None
) -> None:
    info = error_details_pb2.ErrorInfo(domain="secretbroker.v1", reason=reason)
    status = status_pb2.Status(code=code.value[0], message=message)
    details: list[Any] = [info]
    if retry is not None:
        details.append(error_details_pb2.RetryInfo(retry_delay=Duration(nanos=int(retry * 1e9))))
    for detail in details:
        packed = AnyMessage()
        packed.Pack(detail)
        status.details.append(packed)
    context.set_trailing_metadata((("grpc-status-details-bin", status.SerializeToString()),))
    context.abort(code, message)


class Stream:
    """One watch at the broker: what the client asked, and what it is told."""

    def __init__(self, request: pb.WatchSecretsRequest) -> None:
        self.request = request
        self._messages: queue.Queue[Any] = queue.Queue()

    def tell(self, message: pb.WatchSecretsResponse) -> None:
        self._messages.put(message)

    def end(self) -> None:
        self._messages.put(_END)

    def __iter__(self) -> Iterator[pb.WatchSecretsResponse]:
        return iter(self._messages.get, _END)


class Broker(pb_grpc.SecretBrokerServicer):
    def __init__(self, certificates: Path | None = None, socket_path: Path | None = None) -> None:
        self.secrets: dict[str, pb.Secret] = {}
        self.streams: queue.Queue[Stream] = queue.Queue()
        self.reports: queue.Queue[pb.ReportOutcomeRequest] = queue.Queue()
        self.peers: list[str] = []
        self.gets = 0
        self.denies_watches = False
        self.slow = threading.Event()
        self.pages: list[pb.ListSecretsResponse] = []
        self._certificates = certificates
        self._path = socket_path
        self._open: list[Stream] = []
        self.port = _free_port()
        self._server: grpc.Server | None = None
        self.start()

    @property
    def address(self) -> str:
        return f"unix://{self._path}" if self._path else f"https://127.0.0.1:{self.port}"

    def start(self) -> None:
        self._server = grpc.server(futures.ThreadPoolExecutor(16), options=[("grpc.so_reuseport", 0)])
        pb_grpc.add_SecretBrokerServicer_to_server(self, self._server)
        if self._path is not None:
            self._server.add_insecure_port(f"unix:{self._path}")
        elif self._certificates is not None:
            files = [(self._certificates / name).read_bytes() for name in ("server.key", "server.pem", "ca.pem")]
            credentials = grpc.ssl_server_credentials([(files[0], files[1])], files[2], require_client_auth=True)
            self._server.add_secure_port(f"127.0.0.1:{self.port}", credentials)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            stopped = self._server.stop(None)
            self.slow.set()
            for stream in self._open:
                stream.end()
            stopped.wait()
            self._server = None

    def GetSecret(self, request: pb.GetSecretRequest, context: grpc.ServicerContext) -> pb.GetSecretResponse:  # noqa: N802
        self.gets += 1
        self.peers.append(_peer(context))
        if request.name == "SLOW":
            self.slow.wait()
        if request.name == "SEALED":
            refuse(context, grpc.StatusCode.UNAVAILABLE, "SOURCE_SEALED", "the source is sealed", 1.5)
        if request.name == "LATE" and request.name not in self.secrets:
            refuse(context, grpc.StatusCode.UNAVAILABLE, "SOURCE_NOT_FOUND", "the source has none")
        if request.name not in self.secrets:
            refuse(context, grpc.StatusCode.PERMISSION_DENIED, "DENIED", f"no access to {request.name}")
        return pb.GetSecretResponse(secret=self.secrets[request.name])

    def BatchGetSecrets(  # noqa: N802
        self, request: pb.BatchGetSecretsRequest, _context: grpc.ServicerContext
    ) -> pb.BatchGetSecretsResponse:
        denied = pb.SecretError(reason=pb.ERROR_REASON_DENIED, message="no")
        return pb.BatchGetSecretsResponse(
            results=[
                pb.SecretResult(name=name, secret=self.secrets[name])
                if name in self.secrets
                else pb.SecretResult(name=name, error=denied)
                for name in request.names
            ]
        )

    def ListSecrets(self, request: pb.ListSecretsRequest, _context: grpc.ServicerContext) -> pb.ListSecretsResponse:  # noqa: N802
        return self.pages[int(request.page_token or 0)]

    def WatchSecrets(  # noqa: N802
        self, request: pb.WatchSecretsRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.WatchSecretsResponse]:
        self.peers.append(_peer(context))
        if self.denies_watches:
            refuse(context, grpc.StatusCode.UNAUTHENTICATED, "UNAUTHENTICATED", "who are you?")
        stream = Stream(request)
        self._open.append(stream)
        context.add_callback(stream.end)
        self.streams.put(stream)
        yield from stream

    def ReportOutcome(  # noqa: N802
        self, request: pb.ReportOutcomeRequest, _context: grpc.ServicerContext
    ) -> pb.ReportOutcomeResponse:
        self.reports.put(request)
        return pb.ReportOutcomeResponse(current_generation=request.generation)


def _peer(context: grpc.ServicerContext) -> str:
    names = context.auth_context().get("x509_common_name", [b""])
    return b"".join(bytes(name) for name in names).decode()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class Authority:
    """A certificate authority that writes what a broker and its client need into a directory."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
        self._certificate = self._sign(self._name, self._key, authority=True)

    def write(self, directory: Path, client: str = "app") -> Path:
        directory.mkdir(exist_ok=True)
        self._write(directory / "ca.pem", self._certificate.public_bytes(serialization.Encoding.PEM))
        self._issue(directory, "server", "127.0.0.1")
        self.write_client(directory, client)
        return directory

    def write_client(self, directory: Path, name: str) -> None:
        self._issue(directory, "client", name)

    def _issue(self, directory: Path, file: str, name: str) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        certificate = self._sign(subject, key)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        self._write(directory / f"{file}.key", pem)
        self._write(directory / f"{file}.pem", certificate.public_bytes(serialization.Encoding.PEM))

    def _write(self, file: Path, content: bytes) -> None:
        part = file.with_suffix(".part")
        part.write_bytes(content)
        part.replace(file)

    def _sign(
        self, subject: x509.Name, key: ec.EllipticCurvePrivateKey, *, authority: bool = False
    ) -> x509.Certificate:
        now = datetime.datetime.now(datetime.UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self._name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(hours=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        )
        if not authority:
            names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1")), x509.DNSName("localhost")]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(self._key, hashes.SHA256())
