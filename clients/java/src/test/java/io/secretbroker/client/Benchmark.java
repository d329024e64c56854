package io.secretbroker.client;

import java.nio.file.Files;
import java.time.Duration;
import java.util.Map;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.ToLongFunction;

/** Prints reads per second of a live handle and the time from a change at a broker to the hook. */
public final class Benchmark {
  private static final int CHANGES = 500;
  private static final int BATCH = 1000;

  private Benchmark() {}

  public static void main(String[] arguments) throws Exception {
    Duration time = Duration.ofMillis(arguments.length > 0 ? Long.parseLong(arguments[0]) : 1000);
    try (TestBroker broker = new TestBroker(Files.createTempDirectory("sb-bench"))) {
      broker.set("DB", 1, Map.of("password", "hunter1"));
      try (Client client = broker.client(); Live live = client.live("DB")) {
        for (int i = 0; i < 5; i++) { // lets the compiler settle
          read(null, 2, time.dividedBy(4), live, handle -> handle.current().generation());
          read(null, 2, time.dividedBy(4), live, handle -> handle.current().text("password").orElseThrow().length());
        }
        for (int threads = 1; threads <= 2; threads++) {
          read("a handle", threads, time, live, handle -> handle.current().generation());
          read("a field", threads, time, live, handle -> handle.current().text("password").orElseThrow().length());
        }
        change(broker, live);
      }
    }
  }

  private static void read(String what, int count, Duration time, Live live, ToLongFunction<Live> read)
      throws InterruptedException {
    AtomicLong reads = new AtomicLong();
    AtomicLong sink = new AtomicLong();
    long end = System.nanoTime() + time.toNanos();
    Thread[] threads = new Thread[count];
    for (int i = 0; i < count; i++) {
      threads[i] = new Thread(() -> {
        long sum = 0;
        long own = 0;
        for (; System.nanoTime() < end; own += BATCH) {
          for (int j = 0; j < BATCH; j++) {
            sum += read.applyAsLong(live);
          }
        }
        reads.addAndGet(own);
        sink.addAndGet(sum);
      });
      threads[i].start();
    }
    for (Thread thread : threads) {
      thread.join();
    }
    if (what == null) {
      return;
    }
    System.out.printf("reading %s, %d thread(s): %,d reads/s%n", what, count, reads.get() * 1_000_000_000L / time.toNanos());
  }

  private static void change(TestBroker broker, Live live) throws InterruptedException {
    BlockingQueue<Long> changed = new LinkedBlockingQueue<>();
    live.onChange(secret -> changed.add(secret.generation()));
    long start = System.nanoTime();
    for (long generation = 2; generation < CHANGES + 2; generation++) {
      broker.set("DB", generation, Map.of("password", "hunter2"));
      while (changed.take() != generation) {
        continue;
      }
    }
    System.out.printf("from a change to the hook: %,d us on average%n", (System.nanoTime() - start) / CHANGES / 1000);
  }
}
