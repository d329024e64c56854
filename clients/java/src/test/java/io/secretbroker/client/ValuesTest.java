package io.secretbroker.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertTrue;

import com.google.protobuf.ByteString;
import com.google.protobuf.Duration;
import com.google.protobuf.Timestamp;
import com.google.protobuf.UnsafeByteOperations;
import io.secretbroker.client.internal.proto.PreviousSecret;
import java.util.Map;
import org.junit.jupiter.api.Test;
import org.junit.jupiter.api.Timeout;

@Timeout(30)
class ValuesTest {
  private static byte[] value() {
    return "hunter2".getBytes(java.nio.charset.StandardCharsets.UTF_8);
  }

  @Test
  void valuesAreTakenOutOfWhatTheyCameInWhichIsZeroed() {
    byte[] came = value();
    Values values = Values.taking(Map.of("password", UnsafeByteOperations.unsafeWrap(came)));
    assertEquals("hunter2", values.text("password").orElseThrow());
    assertArrayEquals(new byte[7], came);
  }

  @Test
  void valuesAreZeroedWhenClosed() {
    byte[] own = value();
    Values values = Values.owning(Map.of("password", own));
    values.wipe();
    assertArrayEquals(new byte[7], own);
    assertTrue(values.field("password").isEmpty());
  }

  @Test
  void valuesAreZeroedOnceNothingRefersToThem() throws InterruptedException {
    byte[] own = value();
    Values values = Values.owning(Map.of("password", own));
    assertEquals(7, values.field("password").orElseThrow().length);
    values = null;
    while (own[0] != 0) {
      System.gc();
      Thread.sleep(10);
    }
    assertArrayEquals(new byte[7], own);
  }

  @Test
  void theVersionBeforeIsShownUntilItsOverlapEndsByTheBrokersClock() {
    assertTrue(overlapping(30).previous().isPresent());
    assertTrue(overlapping(-2).previous().isEmpty());
  }

  /** A secret of a broker whose clock is decades behind ours. */
  private static Secret overlapping(long seconds) {
    return Secret.of(io.secretbroker.client.internal.proto.Secret.newBuilder()
        .setExpireTime(Timestamp.newBuilder().setSeconds(1_000_060))
        .setTimeLeft(Duration.newBuilder().setSeconds(60))
        .setPrevious(PreviousSecret.newBuilder()
            .putFields("password", ByteString.copyFromUtf8("hunter1"))
            .setValidUntil(Timestamp.newBuilder().setSeconds(1_000_000 + seconds))).build());
  }

  @Test
  void waitsAreSpreadAndBounded() {
    Backoff backoff = new Backoff();
    assertTrue(backoff.after(null).compareTo(Backoff.FIRST_BOUND) < 0);
    long distinct = java.util.stream.Stream.generate(() -> backoff.after(null)).limit(50)
        .peek(wait -> assertTrue(wait.compareTo(Backoff.LAST_BOUND) < 0)).distinct().count();
    assertTrue(distinct > 45);
    java.time.Duration asked = java.time.Duration.ofSeconds(7);
    assertEquals(asked, backoff.after(new RefusedException(Reason.SOURCE_SEALED, "sealed", asked)));
    backoff.reset();
    assertTrue(backoff.after(null).compareTo(Backoff.FIRST_BOUND) < 0);
  }
}
