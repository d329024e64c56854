package io.secretbroker.client;

import static org.junit.jupiter.api.Assertions.assertArrayEquals;
import static org.junit.jupiter.api.Assertions.assertEquals;

import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import io.secretbroker.client.internal.proto.SecretError;
import io.secretbroker.client.internal.proto.SecretResult;
import io.secretbroker.client.internal.proto.WatchEventType;
import io.secretbroker.client.internal.proto.WatchSecretsResponse;
import java.nio.charset.StandardCharsets;
import java.util.List;
import java.util.Map;
import org.junit.jupiter.api.Test;

class LedgerTest {
  private final Ledger ledger = new Ledger();

  private static io.secretbroker.client.internal.proto.Secret secret(String name, long generation) {
    return io.secretbroker.client.internal.proto.Secret.newBuilder().setName(name).setGeneration(generation).build();
  }

  private static WatchSecretsResponse.Builder message(
      String kind, io.secretbroker.client.internal.proto.Secret... secrets) {
    return WatchSecretsResponse.newBuilder()
        .setType(WatchEventType.valueOf("WATCH_EVENT_TYPE_" + kind)).addAllSecrets(List.of(secrets));
  }

  private List<String> take(WatchSecretsResponse.Builder message) {
    return ledger.take(message.build()).stream().map(event -> event.type() + " " + event.name()).toList();
  }

  @Test
  void aVersionIsToldOnceHoweverOftenItIsSent() {
    assertEquals(List.of("CURRENT A"), take(message("SNAPSHOT", secret("A", 1))));
    assertEquals(List.of(), take(message("SNAPSHOT", secret("A", 1))));
    assertEquals(List.of(), take(message("ROTATED", secret("A", 1))));
    assertEquals(List.of("ROTATED A"), take(message("ROTATED", secret("A", 2))));
  }

  @Test
  void aRotationHiddenInAnotherMessageIsToldAsOne() {
    take(message("SNAPSHOT", secret("A", 1)));
    assertEquals(List.of("ROTATED A"), take(message("RENEWED", secret("A", 3))));
    assertEquals(List.of("RENEWED A"), take(message("RENEWED", secret("A", 3))));
  }

  @Test
  void whatASnapshotLeavesOutIsWithdrawn() {
    take(message("SNAPSHOT", secret("A", 1), secret("B", 1), secret("C", 1)));
    assertEquals(List.of("ROTATED B", "REVOKED C"), take(message("SNAPSHOT", secret("B", 2)).addUnchanged("A")));
  }

  @Test
  void afterItWasUnavailableAValueIsToldAgain() {
    take(message("SNAPSHOT", secret("A", 1)));
    assertEquals(List.of("UNAVAILABLE A"), take(message("SNAPSHOT").addUnavailable(
        SecretResult.newBuilder().setName("A").setError(SecretError.getDefaultInstance()))));
    assertEquals(List.of("CURRENT A"), take(message("RECOVERED", secret("A", 1))));
  }

  @Test
  void theBytesOfAMessageAreWipedWhenTheyAreTaken() {
    byte[] bytes = "hunter2".getBytes(StandardCharsets.UTF_8);
    ByteString field = UnsafeByteOperations.unsafeWrap(bytes);
    Values values = Values.taking(Map.of("password", field));
    assertArrayEquals(new byte[7], bytes);
    assertEquals("hunter2", values.text("password").orElseThrow());
  }
}
