package io.secretbroker.rig;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.nimbusds.jwt.JWTClaimsSet;
import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import io.secretbroker.client.Client;
import io.secretbroker.client.Live;
import io.secretbroker.client.Reason;
import io.secretbroker.client.RefusedException;
import io.secretbroker.client.Result;
import io.secretbroker.client.SecretBrokerException;
import io.secretbroker.client.TlsException;
import io.secretbroker.client.hikari.BrokerHikari;
import io.secretbroker.client.jwt.Tokens;
import io.secretbroker.client.sql.BrokerDataSource;
import java.nio.file.Path;
import java.sql.Connection;
import java.sql.SQLException;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Queue;
import java.util.TreeMap;
import java.util.concurrent.ConcurrentLinkedQueue;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.concurrent.atomic.AtomicLong;
import javax.sql.DataSource;
import org.junit.jupiter.api.Tag;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(400)
@Tag("rig")
class RigTest {
  private static final int ROTATIONS = 100;
  private static final Duration SOON = Duration.ofSeconds(30);

  @Test
  void startUpByTcpAndBySocket() {
    try (Client tcp = Client.fromEnv();
        Client socket = Client.builder().address(System.getenv("RIG_SOCKET")).build()) {
      for (Client client : List.of(tcp, socket)) {
        assertEquals("api-key-of-the-rig", client.get("API_KEY").text("value").orElseThrow());
        List<Result> many = client.getMany(List.of("DB", "FORBIDDEN"));
        assertTrue(many.get(0).get().text("password").isPresent());
        assertEquals(Reason.DENIED, assertThrows(RefusedException.class, () -> many.get(1).get()).reason());
        assertTrue(client.list().size() >= 4);
      }
    }
  }

  @Test
  void whatIsRefusedSaysWhy() {
    try (Client client = Client.fromEnv()) {
      RefusedException denied = assertThrows(RefusedException.class, () -> client.get("FORBIDDEN"));
      assertEquals(Reason.DENIED, denied.reason());
      assertFalse(denied.isTransient());
      assertEquals(Reason.DENIED, assertThrows(RefusedException.class, () -> client.live("FORBIDDEN")).reason());
      assertEquals(Reason.SOURCE_NOT_FOUND,
          assertThrows(RefusedException.class, () -> client.get("MISSING_AT_SOURCE")).reason());
      Client hasty = client.withDeadline(Duration.ofSeconds(1));
      assertTrue(assertThrows(SecretBrokerException.class, () -> hasty.get("SLOW")).isTransient());
    }
    Path wrong = Path.of(System.getenv("RIG_WRONG_CERT_DIR"));
    try (Client stranger = Client.builder().address(System.getenv(Client.ADDRESS_VARIABLE)).certDir(wrong).build()) {
      assertThrows(TlsException.class, () -> stranger.get("API_KEY"));
    }
  }

  @Test
  void aHandleSurvivesTheSidecar() throws Exception {
    try (Client client = Client.fromEnv(); Live live = client.live("DB")) {
      long before = live.current().generation();
      Rig.control("kill", "{}");
      assertTrue(assertThrows(SecretBrokerException.class, () -> client.get("API_KEY")).isTransient());
      assertEquals(before, live.current().generation());
      assertTrue(live.current().text("password").isPresent());
      Rig.control("start", "{}");
      client.get("API_KEY");
      await(live, Rig.rotate("DB"));
    }
  }

  @Test
  void certificatesTurnOverUnderARunningClient() throws Exception {
    try (Client client = Client.fromEnv(); Live live = client.live("DB")) {
      Rig.control("certs", "{\"forget_old\":true}");
      Rig.control("restart", "{}"); // every connection is new
      client.get("API_KEY");
      await(live, Rig.rotate("DB"));
    }
  }

  @Test
  void aGrantThatIsTakenAwayAndGivenBack() throws Exception {
    try (Client client = Client.fromEnv(); Live live = client.live("DB")) {
      Rig.control("revoke-access", "{\"name\":\"DB\"}");
      while (live.standing().isEmpty()) {
        Thread.onSpinWait();
      }
      Rig.control("grant-access", "{\"name\":\"DB\"}");
      while (live.standing().isPresent()) {
        Thread.onSpinWait();
      }
      await(live, Rig.rotate("DB"));
    }
  }

  @Test
  void tokensOutliveARotation() throws Exception {
    try (Client client = Client.fromEnv(); Live live = client.live("JWT")) {
      Tokens tokens = new Tokens(live);
      String before = tokens.sign(new JWTClaimsSet.Builder().subject("before").build());
      await(live, Rig.rotate("JWT"));
      String after = tokens.sign(new JWTClaimsSet.Builder().subject("after").build());
      assertEquals("after", tokens.verify(after).getSubject());
      assertEquals("before", tokens.verify(before).getSubject());
    }
  }

  @Test
  void poolsOutliveTheSidecar() throws Exception {
    try (Client client = Client.fromEnv();
        Live live = client.live("DB");
        HikariDataSource pool = BrokerHikari.open(live, config());
        BrokerDataSource plain = new BrokerDataSource(live, Rig.jdbcUrl())) {
      String first = live.current().text("username").orElseThrow();
      Rig.control("kill", "{}");
      pool.getHikariPoolMXBean().softEvictConnections(); // the next connection logs in with what the handle holds
      for (DataSource source : List.of(pool, plain)) {
        assertEquals(first, ask(source, "SELECT current_user"));
      }
      Rig.control("start", "{}");
      await(live, Rig.rotate("DB"));
      for (DataSource source : List.of(pool, plain)) {
        assertFalse(ask(source, "SELECT current_user").equals(first));
      }
    }
  }

  @Test
  void aLoginThatTheDatabaseRefusesIsTriedAgainWithAFreshOne() throws Exception {
    try (Client client = Client.fromEnv(); Live live = client.live("DB")) {
      String refused = live.current().text("username").orElseThrow();
      Rig.control("drop-users", "{}");
      try (HikariDataSource pool = BrokerHikari.open(live, config());
          BrokerDataSource plain = new BrokerDataSource(live, Rig.jdbcUrl())) {
        for (DataSource source : List.of(pool, plain)) {
          assertFalse(ask(source, "SELECT current_user").equals(refused));
        }
      }
    }
  }

  @Test
  void aHundredRotationsUnderLoadFailNoQuery() throws Exception {
    ExecutorService threads = Executors.newCachedThreadPool();
    try (Client client = Client.fromEnv();
        Live live = client.live("DB");
        HikariDataSource pool = BrokerHikari.open(live, config());
        BrokerDataSource plain = new BrokerDataSource(live, Rig.jdbcUrl())) {
      long before = logins(pool);
      AtomicBoolean stopped = new AtomicBoolean();
      AtomicLong changes = new AtomicLong();
      String insert = "INSERT INTO notes (text) VALUES ('java') RETURNING current_user";
      String slow = "SELECT current_user FROM pg_sleep(0.2)";
      Map<String, Queue<String>> users = new TreeMap<>();
      List<Future<?>> working = new ArrayList<>();
      for (Map.Entry<String, DataSource> source : Map.<String, DataSource>of("HikariCP", pool, "DataSource", plain).entrySet()) {
        Queue<String> seen = new ConcurrentLinkedQueue<>();
        users.put(source.getKey(), seen);
        for (String query : List.of(insert, insert, slow)) {
          working.add(threads.submit(() -> work(source.getValue(), query, stopped, seen)));
        }
      }
      live.onChange(secret -> changes.incrementAndGet());
      for (int i = 0; i < ROTATIONS; i++) {
        await(live, Rig.rotate("DB"));
      }
      stopped.set(true);
      for (Future<?> worker : working) {
        worker.get();
      }
      users.forEach((name, seen) -> {
        long distinct = seen.stream().distinct().count();
        System.out.printf("%s: %d queries as %d users over %d rotations%n", name, seen.size(), distinct, ROTATIONS);
        assertTrue(distinct > ROTATIONS / 2, name + " does not follow the rotations");
      });
      // The pools hold nothing old any more, so the old logins are revoked long before their overlap ends.
      long deadline = System.nanoTime() + Duration.ofSeconds(20).toNanos();
      while (logins(pool) > before && System.nanoTime() < deadline) {
        Thread.sleep(100);
      }
      assertTrue(logins(pool) <= before);
      assertEquals(ROTATIONS, changes.get());
    } finally {
      threads.shutdownNow();
    }
  }

  private static HikariConfig config() {
    HikariConfig config = new HikariConfig();
    config.setJdbcUrl(Rig.jdbcUrl());
    config.setMaximumPoolSize(6);
    return config;
  }

  private static Void work(DataSource source, String query, AtomicBoolean stopped, Queue<String> users)
      throws SQLException {
    while (!stopped.get()) {
      users.add(ask(source, query));
    }
    return null;
  }

  private static String ask(DataSource source, String query) throws SQLException {
    try (Connection connection = source.getConnection();
        var statement = connection.createStatement();
        var rows = statement.executeQuery(query)) {
      rows.next();
      return rows.getString(1);
    }
  }

  private static long logins(DataSource source) throws SQLException {
    String alike = "SELECT count(*) FROM pg_roles WHERE rolname LIKE left(current_user, 6) || '%'";
    return Long.parseLong(ask(source, alike));
  }

  private static void await(Live live, long generation) {
    assertTrue(live.awaitAfter(generation - 1, SOON));
  }
}
