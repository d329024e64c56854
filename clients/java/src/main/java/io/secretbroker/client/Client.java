package io.secretbroker.client;

import io.grpc.CallOptions;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.MethodDescriptor;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.ClientCalls;
import io.secretbroker.client.internal.proto.BatchGetSecretsRequest;
import io.secretbroker.client.internal.proto.GetSecretRequest;
import io.secretbroker.client.internal.proto.GetSecretResponse;
import io.secretbroker.client.internal.proto.ListSecretsRequest;
import io.secretbroker.client.internal.proto.ListSecretsResponse;
import io.secretbroker.client.internal.proto.ReportOutcomeRequest;
import io.secretbroker.client.internal.proto.SecretBrokerGrpc;
import io.secretbroker.client.internal.proto.SecretResult;
import java.nio.file.Path;
import java.time.Duration;
import java.util.ArrayList;
import java.util.Collection;
import java.util.List;
import java.util.Optional;
import java.util.concurrent.TimeUnit;

/**
 * A client of the broker.
 *
 * <p>It speaks over one connection, which is made at the first call and again when it breaks, and may be shared between
 * threads. An interrupt of a waiting thread cancels its call, which then throws a
 * {@link java.util.concurrent.CancellationException}.
 */
public final class Client implements AutoCloseable {
  /** Names the broker's address; {@code https://127.0.0.1:7443} when it is not set. */
  public static final String ADDRESS_VARIABLE = "SECRET_BROKER_ADDRESS";

  /** Names the directory of ca.pem, client.pem and client.key; needed for https addresses. */
  public static final String CERT_DIR_VARIABLE = "SECRET_BROKER_CERT_DIR";

  private static final int BATCH = 1000;
  private static final int MOST_TRIES = 3;
  private static final int LAST_WORD_MILLIS = 100;

  private final Address address;
  private final Connection connection;
  private final Lives lives;
  private final Duration deadline;

  private Client(Address address, Connection connection, Lives lives, Duration deadline) {
    this.address = address;
    this.connection = connection;
    this.lives = lives;
    this.deadline = deadline;
  }

  /**
   * A client as the variables {@link #ADDRESS_VARIABLE} and {@link #CERT_DIR_VARIABLE} say.
   *
   * @return a client that connects at its first call
   * @throws ConfigurationException when they name nothing that can work
   */
  public static Client fromEnv() {
    Builder builder = builder();
    Optional.ofNullable(System.getenv(ADDRESS_VARIABLE)).filter(set -> !set.isEmpty()).ifPresent(builder::address);
    Optional.ofNullable(System.getenv(CERT_DIR_VARIABLE)).filter(set -> !set.isEmpty())
        .ifPresent(set -> builder.certDir(Path.of(set)));
    return builder.build();
  }

  /**
   * A client with settings of your own.
   *
   * @return the settings
   */
  public static Builder builder() {
    return new Builder();
  }

  /**
   * The same client, on the same connection, with another deadline.
   *
   * @param deadline the time for one call, connecting included
   * @return the client
   */
  public Client withDeadline(Duration deadline) {
    return new Client(address, connection, lives, deadline);
  }

  /**
   * The broker's address.
   *
   * @return the address
   */
  public String address() {
    return address.toString();
  }

  /**
   * The current version of a secret.
   *
   * @param name the name in the catalogue
   * @return the version
   * @throws SecretBrokerException the broker's reason, or that it could not be asked in time
   */
  public Secret get(String name) {
    GetSecretResponse reply = call(Calls.GET, GetSecretRequest.newBuilder().setName(name).build());
    if (!reply.hasSecret()) {
      throw malformed("a reply without a secret");
    }
    return Secret.of(reply.getSecret());
  }

  /**
   * Several secrets at once, each with its own result, in the order of the names.
   *
   * @param names the names in the catalogue
   * @return a result for each
   * @throws SecretBrokerException only when the broker could not be asked
   */
  public List<Result> getMany(Collection<String> names) {
    List<String> all = List.copyOf(names);
    List<Result> results = new ArrayList<>();
    for (int start = 0; start < all.size(); start += BATCH) {
      List<String> chunk = all.subList(start, Math.min(all.size(), start + BATCH));
      BatchGetSecretsRequest request = BatchGetSecretsRequest.newBuilder().addAllNames(chunk).build();
      call(Calls.BATCH_GET, request).getResultsList().forEach(result -> results.add(result(result)));
    }
    return results;
  }

  private Result result(SecretResult from) {
    return switch (from.getOutcomeCase()) {
      case SECRET -> new Result(from.getName(), Optional.of(Secret.of(from.getSecret())), Optional.empty());
      case ERROR -> new Result(from.getName(), Optional.empty(), Optional.of(Errors.of(from.getError())));
      default -> new Result(
          from.getName(), Optional.empty(), Optional.of(malformed("a result without an outcome")));
    };
  }

  /**
   * What this caller may read, without values.
   *
   * @return all entries
   * @throws SecretBrokerException that the broker could not be asked in time
   */
  public List<Metadata> list() {
    return list("");
  }

  /**
   * What this caller may read of one category, without values.
   *
   * @param category the category; all when empty
   * @return the entries
   * @throws SecretBrokerException that the broker could not be asked in time
   */
  public List<Metadata> list(String category) {
    List<Metadata> all = new ArrayList<>();
    String page = "";
    do {
      ListSecretsResponse reply = call(SecretBrokerGrpc.getListSecretsMethod(),
          ListSecretsRequest.newBuilder().setCategory(category).setPageToken(page).build());
      reply.getSecretsList().forEach(metadata -> all.add(Metadata.of(metadata)));
      page = reply.getNextPageToken();
    } while (!page.isEmpty());
    return all;
  }

  /**
   * Watches these secrets.
   *
   * @param names the names in the catalogue; all that may be read when none is given
   * @return the changes; nothing happens until they are read
   */
  public Watch watch(String... names) {
    return new Watch(this, List.of(names));
  }

  /**
   * A handle that always has the current version; waits for the first one until the deadline.
   *
   * @param name the name in the catalogue
   * @return the handle
   * @throws SecretBrokerException why there is no value
   */
  public Live live(String name) {
    return new Live(lives, lives.keep(this, name, true), deadline);
  }

  /**
   * The same, but leaves it to the application to {@link #report} what became of a version. Of handles for one secret, the
   * first one decides.
   *
   * @param name the name in the catalogue
   * @return the handle
   * @throws SecretBrokerException why there is no value
   */
  public Live liveWithoutReports(String name) {
    return new Live(lives, lives.keep(this, name, false), deadline);
  }

  /**
   * Tells the broker what became of a version.
   *
   * @param secret the version
   * @param outcome what became of it
   * @return the generation that is current now
   * @throws SecretBrokerException the broker's reason, or that it could not be told in time
   */
  public long report(Secret secret, Outcome outcome) {
    ReportOutcomeRequest request = ReportOutcomeRequest.newBuilder()
        .setName(secret.name()).setGeneration(secret.generation())
        .setOutcome(outcome.outcome).setDetail(outcome.detail).build();
    return call(SecretBrokerGrpc.getReportOutcomeMethod(), request).getCurrentGeneration();
  }

  /** Ends the connection, and with it all calls, watches and live handles. */
  @Override
  public void close() {
    connection.close();
    lives.close();
  }

  Duration deadline() {
    return deadline;
  }

  Connection connection() {
    return connection;
  }

  RuntimeException explain(StatusRuntimeException failure) {
    if (connection.isClosed()) {
      return new ConfigurationException("the client is closed");
    }
    return Errors.explain(failure, address(), deadline);
  }

  private <Q, R> R call(MethodDescriptor<Q, R> method, Q request) {
    CallOptions options = CallOptions.DEFAULT.withDeadlineAfter(deadline.toNanos(), TimeUnit.NANOSECONDS);
    for (int tries = 1; tries < MOST_TRIES; tries++) {
      CancellableContext attended = connection.attend();
      Context before = attended.attach();
      try {
        return ClientCalls.blockingUnaryCall(connection.channel(), method, options.withWaitForReady(), request);
      } catch (StatusRuntimeException failure) {
        RuntimeException explained = explain(failure);
        if (attended.isCancelled() || explained instanceof DeadlineException && connection.hasFailed()) {
          break;
        }
        if (!(explained instanceof UnreachableException || explained instanceof TlsException)) {
          throw explained;
        }
        // The connection had ended unnoticed, as when the broker was restarted. Every call may be made again.
      } finally {
        attended.detach(before);
        connection.leave(attended);
      }
    }
    // One that does not wait is told why there is no connection.
    boolean late = options.getDeadline().isExpired();
    CallOptions last = late ? options.withDeadlineAfter(LAST_WORD_MILLIS, TimeUnit.MILLISECONDS) : options;
    try {
      return ClientCalls.blockingUnaryCall(connection.channel(), method, last, request);
    } catch (StatusRuntimeException failure) {
      throw explain(failure);
    }
  }

  private UnreachableException malformed(String what) {
    return new UnreachableException(address(), what + " came back", null);
  }

  /** The settings of a client. */
  public static final class Builder {
    private String address = "https://127.0.0.1:7443";
    private Path certDir;
    private String serverName;
    private Duration deadline = Duration.ofSeconds(10);

    private Builder() {}

    /**
     * The broker's address.
     *
     * @param address {@code https://HOST:PORT} or {@code unix:///PATH}
     * @return this
     */
    public Builder address(String address) {
      this.address = address;
      return this;
    }

    /**
     * The client's certificates.
     *
     * @param certDir the directory of ca.pem, client.pem and client.key
     * @return this
     */
    public Builder certDir(Path certDir) {
      this.certDir = certDir;
      return this;
    }

    /**
     * The name that the broker's certificate has to carry, if not the address's host.
     *
     * @param serverName the name
     * @return this
     */
    public Builder serverName(String serverName) {
      this.serverName = serverName;
      return this;
    }

    /**
     * The time for one call, connecting included; 10 seconds unless told.
     *
     * @param deadline the time
     * @return this
     */
    public Builder deadline(Duration deadline) {
      this.deadline = deadline;
      return this;
    }

    /**
     * A client that connects at its first call.
     *
     * @return the client
     * @throws ConfigurationException when the address is none, or needs certificates and no directory is named
     */
    public Client build() {
      Address parsed = Address.parse(address);
      if (!parsed.isUnix() && certDir == null) {
        throw new ConfigurationException(parsed + " needs certificates: set " + CERT_DIR_VARIABLE
            + " to the directory of ca.pem, client.pem and client.key, or use a unix:///PATH address");
      }
      return new Client(parsed, new Connection(parsed, certDir, serverName), new Lives(), deadline);
    }
  }
}
