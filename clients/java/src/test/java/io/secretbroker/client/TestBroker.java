package io.secretbroker.client;

import com.google.protobuf.Any;
import com.google.protobuf.ByteString;
import com.google.rpc.Code;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Grpc;
import io.grpc.Metadata;
import io.grpc.Server;
import io.grpc.ServerCall;
import io.grpc.ServerCallHandler;
import io.grpc.ServerInterceptor;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.grpc.netty.NettyServerBuilder;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioIoHandler;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioServerDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.handler.ssl.ClientAuth;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContextBuilder;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslProvider;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ServerCallStreamObserver;
import io.grpc.stub.StreamObserver;
import io.secretbroker.client.internal.proto.BatchGetSecretsRequest;
import io.secretbroker.client.internal.proto.BatchGetSecretsResponse;
import io.secretbroker.client.internal.proto.ErrorReason;
import io.secretbroker.client.internal.proto.GetSecretRequest;
import io.secretbroker.client.internal.proto.GetSecretResponse;
import io.secretbroker.client.internal.proto.ListSecretsRequest;
import io.secretbroker.client.internal.proto.ListSecretsResponse;
import io.secretbroker.client.internal.proto.PreviousSecret;
import io.secretbroker.client.internal.proto.ReportOutcomeRequest;
import io.secretbroker.client.internal.proto.ReportOutcomeResponse;
import io.secretbroker.client.internal.proto.SecretBrokerGrpc;
import io.secretbroker.client.internal.proto.SecretError;
import io.secretbroker.client.internal.proto.SecretMetadata;
import io.secretbroker.client.internal.proto.SecretResult;
import io.secretbroker.client.internal.proto.SecretState;
import io.secretbroker.client.internal.proto.WatchEventType;
import io.secretbroker.client.internal.proto.WatchSecretsRequest;
import io.secretbroker.client.internal.proto.WatchSecretsResponse;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Files;
import java.nio.file.Path;
import java.security.cert.X509Certificate;
import java.util.ArrayList;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.TreeMap;
import javax.net.ssl.SSLPeerUnverifiedException;
import javax.net.ssl.SSLSession;

/** A broker within the test's process, whose secrets and answers the test sets. */
final class TestBroker extends SecretBrokerGrpc.SecretBrokerImplBase implements AutoCloseable {
  final TestAuthority authority = new TestAuthority();
  final Path certDir;
  final List<WatchSecretsRequest> watches = new ArrayList<>();
  final Set<String> peers = new HashSet<>();
  private final Path ownDir;
  private final Map<String, io.secretbroker.client.internal.proto.Secret> secrets = new TreeMap<>();
  private final Set<StreamObserver<WatchSecretsResponse>> watchers = new HashSet<>();
  private final List<ReportOutcomeRequest> reports = new ArrayList<>();
  private Server server;
  int proxied;
  private int port;

  TestBroker(Path directory) throws IOException {
    certDir = Files.createDirectories(directory.resolve("client"));
    ownDir = Files.createDirectories(directory.resolve("broker"));
    authority.issue(certDir, "client");
    start();
  }

  void start() throws IOException {
    start("127.0.0.1");
  }

  void start(String ip) throws IOException {
    authority.issue(ownDir, "broker");
    server = NettyServerBuilder.forAddress(new InetSocketAddress(ip, port))
        .sslContext(GrpcSslContexts.configure(
                SslContextBuilder.forServer(
                    ownDir.resolve("client.pem").toFile(), ownDir.resolve("client.key").toFile()), SslProvider.JDK)
            .trustManager(ownDir.resolve("ca.pem").toFile()).clientAuth(ClientAuth.REQUIRE).protocols("TLSv1.3").build())
        .intercept(new NotePeers()).addService(this).build().start();
    port = server.getPort();
  }

  /** Serves on a socket in place of TCP. */
  String startUnix() throws IOException {
    stop();
    Path socket = Files.createTempDirectory("sb").resolve("broker.sock");
    EventLoopGroup group = new MultiThreadIoEventLoopGroup(1, NioIoHandler.newFactory());
    server = NettyServerBuilder.forAddress(UnixDomainSocketAddress.of(socket))
        .channelType(NioServerDomainSocketChannel.class).bossEventLoopGroup(group).workerEventLoopGroup(group)
        .addService(this).build().start();
    return "unix://" + socket;
  }

  void stop() {
    try {
      server.shutdownNow().awaitTermination();
    } catch (InterruptedException interrupted) {
      throw new IllegalStateException(interrupted);
    }
    synchronized (this) {
      watchers.clear();
    }
  }

  @Override
  public void close() {
    stop();
  }

  String address() {
    return "https://127.0.0.1:" + port;
  }

  Client client() {
    return Client.builder().address(address()).certDir(certDir).build();
  }

  /** Serves a version from now on, and tells watchers that it was rotated. */
  synchronized void set(String name, long generation, Map<String, String> fields) {
    var secret = io.secretbroker.client.internal.proto.Secret.newBuilder()
        .setName(name).setGeneration(generation).setVersion("v" + generation)
        .setTimeLeft(com.google.protobuf.Duration.newBuilder().setSeconds(3600));
    fields.forEach((field, value) -> secret.putFields(field, ByteString.copyFromUtf8(value)));
    var before = secrets.get(name);
    if (before != null) {
      secret.setPrevious(PreviousSecret.newBuilder()
          .putAllFields(before.getFieldsMap()).setGeneration(before.getGeneration()).setVersion(before.getVersion()));
    }
    secrets.put(name, secret.build());
    send(WatchSecretsResponse.newBuilder()
        .setType(WatchEventType.WATCH_EVENT_TYPE_ROTATED).setName(name).addSecrets(secret).build());
  }

  synchronized void revoke(String name) {
    secrets.remove(name);
    send(WatchSecretsResponse.newBuilder().setType(WatchEventType.WATCH_EVENT_TYPE_REVOKED)
        .setName(name).setReason(ErrorReason.ERROR_REASON_REVOKED).build());
  }

  private void send(WatchSecretsResponse message) {
    watchers.forEach(watcher -> watcher.onNext(message));
  }

  synchronized List<ReportOutcomeRequest> reports() {
    return List.copyOf(reports);
  }

  synchronized void awaitReport(long generation, io.secretbroker.client.internal.proto.Outcome outcome)
      throws InterruptedException {
    while (reports.stream().noneMatch(r -> r.getGeneration() == generation && r.getOutcome() == outcome)) {
      wait();
    }
  }

  private static StatusRuntimeException denied() {
    return StatusProto.toStatusRuntimeException(com.google.rpc.Status.newBuilder()
        .setCode(Code.PERMISSION_DENIED_VALUE).setMessage("refused")
        .addDetails(Any.pack(ErrorInfo.newBuilder().setReason("DENIED").setDomain("secretbroker.v1").build()))
        .addDetails(Any.pack(RetryInfo.newBuilder()
            .setRetryDelay(com.google.protobuf.Duration.newBuilder().setSeconds(2)).build())).build());
  }

  @Override
  public synchronized void getSecret(GetSecretRequest request, StreamObserver<GetSecretResponse> to) {
    if (request.getName().equals("SLOW")) {
      return;
    }
    if (request.getName().equals("BEHIND_A_PROXY")) {
      proxied++;
      to.onError(Status.UNAVAILABLE.withDescription("no healthy upstream").asRuntimeException());
      return;
    }
    var secret = secrets.get(request.getName());
    if (secret == null) {
      to.onError(denied());
      return;
    }
    to.onNext(GetSecretResponse.newBuilder().setSecret(secret).build());
    to.onCompleted();
  }

  @Override
  public synchronized void batchGetSecrets(BatchGetSecretsRequest request, StreamObserver<BatchGetSecretsResponse> to) {
    var reply = BatchGetSecretsResponse.newBuilder();
    for (String name : request.getNamesList()) {
      var result = SecretResult.newBuilder().setName(name);
      if (secrets.containsKey(name)) {
        result.setSecret(secrets.get(name));
      } else {
        result.setError(SecretError.newBuilder().setReason(ErrorReason.ERROR_REASON_DENIED));
      }
      reply.addResults(result);
    }
    to.onNext(reply.build());
    to.onCompleted();
  }

  @Override
  public void listSecrets(ListSecretsRequest request, StreamObserver<ListSecretsResponse> to) {
    boolean first = request.getPageToken().isEmpty();
    to.onNext(ListSecretsResponse.newBuilder()
        .addSecrets(SecretMetadata.newBuilder().setName(first ? "A" : "B").setState(SecretState.SECRET_STATE_FRESH))
        .setNextPageToken(first ? "2" : "").build());
    to.onCompleted();
  }

  @Override
  public synchronized void reportOutcome(ReportOutcomeRequest request, StreamObserver<ReportOutcomeResponse> to) {
    reports.add(request);
    notifyAll();
    var secret = secrets.get(request.getName());
    to.onNext(ReportOutcomeResponse.newBuilder()
        .setCurrentGeneration(secret == null ? 0 : secret.getGeneration()).build());
    to.onCompleted();
  }

  @Override
  public synchronized void watchSecrets(WatchSecretsRequest request, StreamObserver<WatchSecretsResponse> to) {
    watches.add(request);
    var snapshot = WatchSecretsResponse.newBuilder().setType(WatchEventType.WATCH_EVENT_TYPE_SNAPSHOT);
    for (String name : request.getNamesList()) {
      var secret = secrets.get(name);
      if (secret == null) {
        to.onError(denied());
        return;
      }
      if (request.getSeenGenerationsOrDefault(name, 0) == secret.getGeneration()) {
        snapshot.addUnchanged(name);
      } else {
        snapshot.addSecrets(secret);
      }
    }
    ((ServerCallStreamObserver<WatchSecretsResponse>) to).setOnCancelHandler(() -> leave(to));
    to.onNext(snapshot.build());
    watchers.add(to);
  }

  private synchronized void leave(StreamObserver<WatchSecretsResponse> watcher) {
    watchers.remove(watcher);
  }

  /** Notes whose certificates came. */
  private final class NotePeers implements ServerInterceptor {
    @Override
    public <Q, R> ServerCall.Listener<Q> interceptCall(
        ServerCall<Q, R> call, Metadata headers, ServerCallHandler<Q, R> next) {
      SSLSession session = call.getAttributes().get(Grpc.TRANSPORT_ATTR_SSL_SESSION);
      try {
        X509Certificate peer = (X509Certificate) session.getPeerCertificates()[0];
        synchronized (TestBroker.this) {
          peers.add(peer.getSubjectX500Principal().getName());
        }
      } catch (SSLPeerUnverifiedException error) {
        throw new IllegalStateException(error);
      }
      return next.startCall(call, headers);
    }
  }
}
