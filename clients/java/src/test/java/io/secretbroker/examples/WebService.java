package io.secretbroker.examples;

import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.proc.BadJWTException;
import com.sun.net.httpserver.HttpExchange;
import com.sun.net.httpserver.HttpServer;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.secretbroker.client.Client;
import io.secretbroker.client.Live;
import io.secretbroker.client.hikari.BrokerHikari;
import io.secretbroker.client.jwt.Tokens;
import java.io.IOException;
import java.net.InetSocketAddress;
import java.nio.charset.StandardCharsets;
import java.time.Instant;
import java.util.Date;
import java.util.Optional;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;

/**
 * Keeps notes in PostgreSQL and gives tokens out, with a database login and a signing key that rotate while it runs.
 *
 * <p>{@code POST /tokens?NAME} answers a token; {@code POST /notes} with it as bearer keeps the body and answers its number;
 * {@code GET /health} answers the generations in use. It needs SECRET_BROKER_ADDRESS, SECRET_BROKER_CERT_DIR and JDBC_URL,
 * and listens on PORT (8080) of the loopback interface.
 */
public final class WebService implements AutoCloseable {
  private final Client client = Client.fromEnv();
  private final Live login = client.live("DB");
  private final Live keys = client.live("JWT");
  private final Tokens tokens = new Tokens(keys);
  private final HikariDataSource pool;
  private final ExecutorService threads = Executors.newFixedThreadPool(8);
  private final HttpServer server;

  /** A handler of a request, whose answer is the reply. */
  private interface Handler {
    String answer(HttpExchange exchange) throws Exception;
  }

  WebService(String jdbcUrl, int port) throws IOException {
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(jdbcUrl);
    pool = BrokerHikari.open(login, config);
    server = HttpServer.create(new InetSocketAddress("127.0.0.1", port), 0);
    server.setExecutor(threads);
    serve("/health", exchange -> "DB " + login.current().generation() + " JWT " + keys.current().generation());
    serve("/tokens", this::token);
    serve("/notes", this::note);
    server.start();
  }

  /**
   * Serves until it is ended.
   *
   * @param arguments none
   * @throws IOException when the port can't be had
   */
  public static void main(String[] arguments) throws IOException {
    int port = Integer.parseInt(Optional.ofNullable(System.getenv("PORT")).orElse("8080"));
    WebService service = new WebService(System.getenv("JDBC_URL"), port);
    Runtime.getRuntime().addShutdownHook(new Thread(service::close));
  }

  int port() {
    return server.getAddress().getPort();
  }

  private String token(HttpExchange exchange) throws Exception {
    return tokens.sign(new JWTClaimsSet.Builder()
        .subject(exchange.getRequestURI().getQuery())
        .expirationTime(Date.from(Instant.now().plusSeconds(600))).build());
  }

  private String note(HttpExchange exchange) throws Exception {
    String bearer = Optional.ofNullable(exchange.getRequestHeaders().getFirst("Authorization")).orElse("");
    tokens.verify(bearer.replaceFirst("^Bearer ", ""));
    String text = new String(exchange.getRequestBody().readNBytes(4096), StandardCharsets.UTF_8);
    try (var connection = pool.getConnection();
        var insert = connection.prepareStatement("INSERT INTO notes (text) VALUES (?) RETURNING id")) {
      insert.setString(1, text);
      try (var row = insert.executeQuery()) {
        row.next();
        return row.getString(1);
      }
    }
  }

  private void serve(String path, Handler handler) {
    server.createContext(path, exchange -> {
      int status = 200;
      String answer;
      try {
        answer = handler.answer(exchange);
      } catch (BadJWTException error) {
        status = 401;
        answer = "no good token";
      } catch (Exception error) {
        status = 500;
        answer = error.toString();
      }
      byte[] bytes = answer.getBytes(StandardCharsets.UTF_8);
      exchange.sendResponseHeaders(status, bytes.length);
      exchange.getResponseBody().write(bytes);
      exchange.close();
    });
  }

  @Override
  public void close() {
    server.stop(1);
    threads.shutdown();
    pool.close();
    keys.close();
    login.close();
    client.close();
  }
}
