package io.secretbroker.client;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertFalse;
import static org.junit.jupiter.api.Assertions.assertInstanceOf;
import static org.junit.jupiter.api.Assertions.assertThrows;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.nimbusds.jose.JOSEException;
import com.nimbusds.jose.JWSAlgorithm;
import com.nimbusds.jose.JWSHeader;
import com.nimbusds.jose.crypto.MACSigner;
import com.nimbusds.jwt.JWTClaimsSet;
import com.nimbusds.jwt.SignedJWT;
import com.nimbusds.jwt.proc.BadJWTException;
import io.secretbroker.client.jwt.Tokens;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardCopyOption;
import java.time.Duration;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.Set;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.CancellationException;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CountDownLatch;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicBoolean;
import org.junit.jupiter.api.AfterEach;
import org.junit.jupiter.api.BeforeEach;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;
import org.junit.jupiter.api.io.TempDir;

@Timeout(30)
class ClientTest {
  private static final io.secretbroker.client.internal.proto.Outcome APPLIED =
      io.secretbroker.client.internal.proto.Outcome.OUTCOME_APPLIED;

  @TempDir Path directory;
  private TestBroker broker;
  private Client client;

  @BeforeEach
  void start() throws IOException {
    broker = new TestBroker(directory);
    broker.set("DB", 1, Map.of("password", "hunter1"));
    client = broker.client();
  }

  @AfterEach
  void stop() {
    client.close();
    broker.close();
  }

  @Test
  void addressesThatAreNoneAreRefused() {
    for (String bad : List.of("", "http://h:1", "https://", "https://:1", "https://h", "https://h:99999", "unix://rel")) {
      assertThrows(ConfigurationException.class, () -> Client.builder().address(bad).certDir(directory).build(), bad);
    }
    assertThrows(ConfigurationException.class, () -> Client.builder().address("https://h:1").build());
    for (String good : List.of("https://127.0.0.1:7443", "https://[::1]:7443", "unix:///run/broker.sock")) {
      try (Client made = Client.builder().address(good).certDir(directory).build()) {
        assertEquals(good, made.address());
      }
    }
  }

  @Test
  void theVerbsAnswerByTcpAndByUnixSocket() throws IOException {
    verbs(client);
    try (Client socket = Client.builder().address(broker.startUnix()).build()) {
      verbs(socket);
    }
    assertEquals("é".repeat(256), broker.reports().get(0).getDetail());
  }

  private static void verbs(Client client) {
    Secret secret = client.get("DB");
    assertEquals("hunter1", secret.text("password").orElseThrow());
    long left = secret.timeLeft().orElseThrow().toSeconds();
    assertTrue(left > 3500 && left <= 3600);
    List<Result> many = client.getMany(List.of("DB", "NONE"));
    assertEquals(1, many.get(0).get().generation());
    assertEquals(Reason.DENIED, ((RefusedException) many.get(1).error().orElseThrow()).reason());
    assertEquals(List.of("A", "B"), client.list().stream().map(Metadata::name).toList());
    assertEquals(1, client.report(secret, Outcome.refused("é".repeat(300))));
  }

  @Test
  void eachFailureHasItsOwnException() throws Exception {
    RefusedException refused = assertThrows(RefusedException.class, () -> client.get("NONE"));
    assertEquals(Reason.DENIED, refused.reason());
    assertEquals(Duration.ofSeconds(2), refused.retryAfter().orElseThrow());
    assertFalse(refused.isTransient());
    Client hasty = client.withDeadline(Duration.ofMillis(50));
    assertTrue(assertThrows(DeadlineException.class, () -> hasty.get("SLOW")).isTransient());
    Path none = Files.createDirectory(directory.resolve("none"));
    try (Client without = Client.builder().address(broker.address()).certDir(none).build()) {
      assertThrows(TlsException.class, () -> without.get("DB"));
    }
    Thread.currentThread().interrupt();
    assertThrows(CancellationException.class, () -> client.get("SLOW"));
    assertTrue(Thread.interrupted());
    broker.stop();
    assertThrows(UnreachableException.class, () -> client.get("DB"));
    broker.start();
    assertEquals(1, client.get("DB").generation());
  }

  @Test
  void certificatesOfAnotherAuthorityAreRefusedByEitherSide() throws IOException {
    Path wrong = Files.createDirectory(directory.resolve("wrong"));
    new TestAuthority().issue(wrong, "stranger");
    try (Client stranger = Client.builder().address(broker.address()).certDir(wrong).build()) {
      assertThrows(TlsException.class, () -> stranger.get("DB"));
    }
    Files.copy(broker.certDir.resolve("ca.pem"), wrong.resolve("ca.pem"), StandardCopyOption.REPLACE_EXISTING);
    try (Client stranger = Client.builder().address(broker.address()).certDir(wrong).build()) {
      assertThrows(TlsException.class, () -> stranger.get("DB"));
    }
  }

  @Test
  void changedCertificatesAreReadAtTheNextConnection() throws IOException {
    client.get("DB");
    broker.authority.issue(broker.certDir, "renewed");
    broker.stop();
    broker.start();
    client.get("DB");
    assertEquals(Set.of("CN=client", "CN=renewed"), broker.peers);
  }

  @Test
  void aCallDoesNotFailOfWhatFailedBeforeIt() throws Exception {
    AtomicBoolean going = new AtomicBoolean(true);
    CompletableFuture<Void> other = CompletableFuture.runAsync(() -> {
      while (going.get()) {
        try {
          client.get("DB");
        } catch (UnreachableException | CancellationException away) {
          Thread.yield();
        }
      }
    });
    try {
      for (int i = 0; i < 50; i++) {
        broker.stop();
        Thread.sleep(i % 10);
        broker.start();
        assertEquals(1, client.get("DB").generation());
        assertFalse(other.isDone());
      }
    } finally {
      going.set(false);
    }
    other.join();
  }

  @Test
  void everyAddressOfAHostIsTriedBeforeACallFails() throws IOException {
    String address = broker.address().replace("127.0.0.1", "two-addresses.test");
    var builder = Client.builder().address(address).certDir(broker.certDir).serverName("127.0.0.1");
    try (Client named = builder.build()) {
      for (String ip : List.of("127.0.0.1", "127.0.0.2", "127.0.0.1")) {
        broker.stop();
        assertThrows(UnreachableException.class, () -> named.get("DB"));
        broker.start(ip);
        assertEquals(1, named.get("DB").generation(), ip);
      }
    }
  }

  @Test
  void aHostThatNobodyKnowsIsNamed() {
    var builder = Client.builder().address("https://nowhere.invalid:7443").certDir(broker.certDir);
    try (Client lost = builder.deadline(Duration.ofSeconds(2)).build()) {
      Exception told = assertThrows(UnreachableException.class, () -> lost.get("DB"));
      assertTrue(told.getMessage().contains("nowhere.invalid"), told.getMessage());
      assertTrue(told.getMessage().contains("resolve"), told.getMessage());
    }
  }

  @Test
  void anAnswerThatIsNotTheBrokersIsToldAfterAFewTries() {
    Exception told = assertThrows(UnreachableException.class, () -> client.get("BEHIND_A_PROXY"));
    assertTrue(told.getMessage().contains("no healthy upstream"), told.getMessage());
    assertEquals(3, broker.proxied);
  }

  @Test
  void aWatchResumesAndTellsEachVersionOnce() throws IOException {
    List<String> told = new ArrayList<>();
    try (Watch watch = client.watch("DB")) {
      for (long generation = 0; generation < 3; ) {
        Event event = watch.next();
        generation = event.secret().orElseThrow().generation();
        told.add(event.type() + " " + generation);
        if (generation == 1) {
          broker.set("DB", 2, Map.of());
        } else if (generation == 2) {
          broker.stop();
          broker.set("DB", 3, Map.of());
          broker.start();
        }
      }
    }
    assertEquals(List.of("CURRENT 1", "ROTATED 2", "ROTATED 3"), told);
    assertEquals(2, broker.watches.get(broker.watches.size() - 1).getSeenGenerationsOrThrow("DB"));
  }

  @Test
  void aWatchThatIsDeniedSaysSoAndOneThatIsClosedEnds() {
    try (Watch watch = client.watch("NONE")) {
      assertEquals(Reason.DENIED, assertThrows(RefusedException.class, watch::hasNext).reason());
    }
    Watch watch = client.watch("DB");
    watch.next();
    CompletableFuture.runAsync(watch::close);
    assertFalse(watch.hasNext());
  }

  @Test
  void aLiveHandleFollowsReportsAndForgets() throws Exception {
    Live live = client.live("DB");
    BlockingQueue<Long> changed = new LinkedBlockingQueue<>();
    live.onChange(secret -> changed.add(secret.generation()));
    broker.set("DB", 2, Map.of("password", "hunter2"));
    assertEquals(2, changed.take());
    assertEquals("hunter2", live.current().text("password").orElseThrow());
    assertEquals("hunter1", live.previous().orElseThrow().text("password").orElseThrow());
    broker.awaitReport(2, APPLIED);
    assertEquals(2, broker.reports().get(0).getGeneration(), "a version that replaced none is not reported");
    Live same = client.live("DB");
    live.close();
    assertEquals("hunter2", same.current().text("password").orElseThrow());
    same.close();
    assertTrue(same.current().text("password").isEmpty());
  }

  @Test
  void aHookThatHasNotTakenOverHoldsTheReportBack() throws Exception {
    try (Live live = client.live("DB")) {
      CompletableFuture<Void> taken = new CompletableFuture<>();
      live.onChangeAsync(secret -> secret.generation() == 2 ? taken : CompletableFuture.completedFuture(null));
      broker.set("DB", 2, Map.of());
      assertTrue(live.awaitAfter(1, Duration.ofSeconds(10)));
      broker.set("DB", 3, Map.of());
      broker.awaitReport(3, APPLIED);
      taken.complete(null);
      broker.set("DB", 4, Map.of());
      broker.awaitReport(4, APPLIED);
      assertTrue(broker.reports().stream().noneMatch(report -> report.getGeneration() == 2));
    }
  }

  @Test
  void aHookThatBlocksOrFailsKeepsNeitherTheHandleNorAnotherHookWaiting() throws Exception {
    try (Live live = client.live("DB")) {
      CountDownLatch ends = new CountDownLatch(1);
      BlockingQueue<Long> others = new LinkedBlockingQueue<>();
      live.onChange(secret -> waitFor(ends));
      Live.Subscription failing = live.onChangeAsync(secret -> {
        throw new AssertionError("whatever it is");
      });
      live.onChange(secret -> others.add(secret.generation()));
      for (long generation = 2; generation < 4; generation++) {
        broker.set("DB", generation, Map.of());
        assertEquals(generation, others.take());
      }
      assertEquals(3, live.current().generation());
      assertTrue(broker.reports().isEmpty());
      ends.countDown();
      failing.close();
      broker.set("DB", 4, Map.of());
      broker.awaitReport(4, APPLIED);
      assertTrue(broker.reports().stream().allMatch(report -> report.getGeneration() == 4));
    }
  }

  @Test
  void aHookThatIsBehindSkipsToTheLatestVersion() throws Exception {
    try (Live live = client.live("DB")) {
      CountDownLatch ends = new CountDownLatch(1);
      BlockingQueue<Long> changed = new LinkedBlockingQueue<>();
      live.onChange(secret -> {
        changed.add(secret.generation());
        waitFor(ends);
      });
      BlockingQueue<Long> told = new LinkedBlockingQueue<>();
      live.onChangeAsync(secret -> CompletableFuture.completedFuture(told.add(secret.generation())));
      broker.set("DB", 2, Map.of());
      assertEquals(2, changed.take());
      for (long generation = 3; generation < 6; generation++) {
        broker.set("DB", generation, Map.of());
        while (told.take() < generation) {
          continue;
        }
      }
      broker.set("DB", 6, Map.of());
      while (told.take() < 6) { // all hooks were told of the one before
        continue;
      }
      assertTrue(broker.reports().isEmpty());
      ends.countDown();
      assertTrue(changed.take() >= 5);
      broker.awaitReport(6, APPLIED);
    }
  }

  @Test
  void aHookThatIsRemovedHoldsNoReportBack() throws Exception {
    try (Live live = client.live("DB")) {
      BlockingQueue<Long> changed = new LinkedBlockingQueue<>();
      Live.Subscription hung = live.onChangeAsync(secret -> {
        changed.add(secret.generation());
        return new CompletableFuture<>();
      });
      broker.set("DB", 2, Map.of());
      assertEquals(2, changed.take());
      hung.close();
      broker.awaitReport(2, APPLIED);
    }
  }

  @Test
  void aHandleThatIsClosedWhileAHookWaitsReportsNothing() throws Exception {
    for (long generation = 2; generation < 40; generation++) { // whether one is sent is a race
      Live live = client.live("DB");
      BlockingQueue<Long> changed = new LinkedBlockingQueue<>();
      live.onChangeAsync(secret -> {
        changed.add(secret.generation());
        return new CompletableFuture<>();
      });
      broker.set("DB", generation, Map.of());
      changed.take();
      live.close();
    }
    client.get("DB");
    assertTrue(broker.reports().isEmpty());
  }

  private static void waitFor(CountDownLatch latch) {
    try {
      latch.await();
    } catch (InterruptedException interrupted) {
      Thread.currentThread().interrupt();
    }
  }

  @Test
  void aClosedClientEndsItsHandlesAndSaysSo() {
    Live live = client.live("DB");
    client.close();
    assertTrue(live.current().text("password").isEmpty());
    assertThrows(ConfigurationException.class, () -> client.get("DB"));
    assertThrows(ConfigurationException.class, () -> client.live("DB"));
    live.close();
  }

  @Test
  void aRefusedVersionIsReportedAndItsSuccessorWaitedFor() throws Exception {
    try (Live live = client.live("DB")) {
      CompletableFuture<Boolean> another =
          CompletableFuture.supplyAsync(() -> live.refused(live.current(), "SQLSTATE 28P01"));
      broker.awaitReport(1, io.secretbroker.client.internal.proto.Outcome.OUTCOME_REFUSED);
      broker.set("DB", 2, Map.of());
      assertTrue(another.get());
      assertEquals(2, live.current().generation());
    }
  }

  @Test
  void aRevokedValueIsToldOfUntilThereIsAnother() {
    try (Live live = client.live("DB")) {
      broker.revoke("DB");
      while (live.standing().isEmpty()) {
        Thread.onSpinWait();
      }
      assertEquals(Reason.REVOKED, ((RefusedException) live.standing().get()).reason());
      broker.set("DB", 2, Map.of());
      assertTrue(live.awaitAfter(1, Duration.ofSeconds(10)));
      assertTrue(live.standing().isEmpty());
    }
  }

  @Test
  void aLiveHandleWithoutAValueSaysWhy() throws IOException {
    assertEquals(Reason.DENIED, assertThrows(RefusedException.class, () -> client.live("NONE")).reason());
    Path wrong = Files.createDirectory(directory.resolve("wrong"));
    new TestAuthority().issue(wrong, "stranger");
    try (Client stranger = Client.builder().address(broker.address()).certDir(wrong)
        .deadline(Duration.ofSeconds(2)).build()) {
      assertThrows(TlsException.class, () -> stranger.live("DB"));
    }
    broker.stop();
    Client hasty = client.withDeadline(Duration.ofMillis(300));
    assertThrows(UnreachableException.class, () -> hasty.live("DB"));
  }

  @Test
  void noWayOfPrintingShowsAValue() {
    broker.set("DB", 2, Map.of("password", "hunter2"));
    try (Live live = client.live("DB")) {
      Secret secret = live.current();
      String text = List.of(secret, live, secret.previous().orElseThrow(), List.of(secret), Map.of("s", secret))
          .toString() + String.format("%s %s", secret, live) + secret.freshness()
          + new Event(Event.Type.CURRENT, "DB", live.previous().map(p -> secret), null, null);
      assertTrue(text.contains("password") && !text.contains("hunter"), text);
    }
  }

  @Test
  void aClosedSecretHasNoValues() {
    Secret secret = client.get("DB");
    secret.close();
    assertTrue(secret.field("password").isEmpty() && secret.text("password").isEmpty());
  }

  @Test
  void aTokenForAnAudienceIsRefusedUnlessThatIsNamed() throws Exception {
    broker.set("JWT", 1, Map.of("value", "1".repeat(32)));
    try (Live live = client.live("JWT")) {
      Tokens tokens = new Tokens(live);
      String theirs = tokens.sign(new JWTClaimsSet.Builder().audience("theirs").build());
      assertThrows(BadJWTException.class, () -> tokens.verify(theirs));
      assertThrows(BadJWTException.class, () -> tokens.verify(theirs, "mine"));
      assertEquals(List.of("theirs"), tokens.verify(theirs, "theirs").getAudience());
    }
  }

  @Test
  void tokensOutliveARotation() throws Exception {
    String one = "1".repeat(32);
    String two = "2".repeat(32);
    String three = "3".repeat(32);
    broker.set("JWT", 1, Map.of("value", one, "next", two));
    try (Live live = client.live("JWT")) {
      Tokens tokens = new Tokens(live);
      JWTClaimsSet claims = new JWTClaimsSet.Builder().subject("me").build();
      assertEquals(signed(one), tokens.sign(claims));
      broker.set("JWT", 2, Map.of("value", two, "next", three));
      assertTrue(live.awaitAfter(1, Duration.ofSeconds(10)));
      for (String key : List.of(one, two, three)) {
        assertEquals("me", tokens.verify(signed(key)).getSubject());
      }
      assertThrows(BadJWTException.class, () -> tokens.verify(signed("4".repeat(32))));
      assertInstanceOf(BadJWTException.class, assertThrows(Exception.class, () -> tokens.verify("nonsense")));
    }
  }

  @Test
  void shortKeysNeitherSignNorVerify() throws Exception {
    String before = "0".repeat(32);
    broker.set("JWT", 1, Map.of("value", before));
    broker.set("JWT", 2, Map.of("value", "short", "next", ""));
    try (Live live = client.live("JWT")) {
      Tokens tokens = new Tokens(live);
      assertThrows(JOSEException.class, () -> tokens.sign(new JWTClaimsSet.Builder().build()));
      assertEquals("me", tokens.verify(signed(before)).getSubject());
      assertThrows(BadJWTException.class, () -> tokens.verify(signed("1".repeat(32))));
    }
  }

  private static String signed(String key) throws Exception {
    SignedJWT token = new SignedJWT(new JWSHeader(JWSAlgorithm.HS256), new JWTClaimsSet.Builder().subject("me").build());
    token.sign(new MACSigner(key));
    return token.serialize();
  }
}
