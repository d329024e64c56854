package io.secretbroker.client;

import com.google.protobuf.ByteOutput;
import com.google.protobuf.ByteString;
import com.google.protobuf.UnsafeByteOperations;
import java.io.IOException;
import java.lang.ref.Cleaner;
import java.lang.ref.Reference;
import java.nio.ByteBuffer;
import java.nio.CharBuffer;
import java.nio.charset.CharacterCodingException;
import java.nio.charset.StandardCharsets;
import java.util.Arrays;
import java.util.Map;
import java.util.Optional;
import java.util.SortedSet;
import java.util.TreeMap;
import java.util.TreeSet;

/** The parts of a value, wiped when they are closed or found unreachable. */
final class Values {
  /** What Java reads in place of bytes that are no UTF-8. */
  private static final char REPLACEMENT = '\uFFFD';

  private static final Cleaner CLEANER = Cleaner.create();

  private final Held held;
  private final Cleaner.Cleanable cleanable;

  private Values(Held held) {
    this.held = held;
    this.cleanable = CLEANER.register(this, held);
  }

  /** Takes the bytes over: what the message held is wiped. */
  static Values taking(Map<String, ByteString> fields) {
    Map<String, byte[]> own = new TreeMap<>();
    fields.forEach((name, value) -> own.put(name, take(value)));
    return owning(own);
  }

  /** Of bytes that nobody else holds. */
  static Values owning(Map<String, byte[]> own) {
    return new Values(new Held(own));
  }

  Optional<byte[]> field(String name) {
    try {
      return Optional.ofNullable(held.fields.get(name)).map(byte[]::clone);
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  Optional<String> text(String name) {
    byte[] value = held.fields.get(name);
    if (value == null) {
      return Optional.empty();
    }
    try {
      String text = new String(value, StandardCharsets.UTF_8);
      return text.indexOf(REPLACEMENT) < 0 || isText(value) ? Optional.of(text) : Optional.empty();
    } finally {
      Reference.reachabilityFence(this);
    }
  }

  private static boolean isText(byte[] value) {
    try {
      CharBuffer text = StandardCharsets.UTF_8.newDecoder().decode(ByteBuffer.wrap(value));
      Arrays.fill(text.array(), '\0');
      return true;
    } catch (CharacterCodingException notText) {
      return false;
    }
  }

  SortedSet<String> names() {
    return new TreeSet<>(held.fields.keySet());
  }

  void wipe() {
    cleanable.clean();
  }

  private static byte[] take(ByteString from) {
    byte[] own = from.toByteArray();
    try {
      UnsafeByteOperations.unsafeWriteTo(from, new Wiping());
    } catch (IOException impossible) {
      throw new IllegalStateException(impossible);
    }
    return own;
  }

  /** What the cleaner wipes; it must not refer to its owner. */
  private static final class Held implements Runnable {
    private volatile Map<String, byte[]> fields;

    Held(Map<String, byte[]> fields) {
      this.fields = fields;
    }

    @Override
    public void run() {
      Map<String, byte[]> gone = fields;
      fields = Map.of();
      gone.values().forEach(value -> Arrays.fill(value, (byte) 0));
    }
  }

  /** Is given the arrays in which a message keeps its bytes, and wipes them. */
  private static final class Wiping extends ByteOutput {
    @Override
    public void write(byte value) {}

    @Override
    public void write(byte[] value, int offset, int length) {
      Arrays.fill(value, offset, offset + length, (byte) 0);
    }

    @Override
    public void writeLazy(byte[] value, int offset, int length) {
      write(value, offset, length);
    }

    @Override
    public void write(ByteBuffer value) {
      if (value.hasArray() && !value.isReadOnly()) {
        write(value.array(), value.arrayOffset() + value.position(), value.remaining());
      }
    }

    @Override
    public void writeLazy(ByteBuffer value) {
      write(value);
    }
  }
}
