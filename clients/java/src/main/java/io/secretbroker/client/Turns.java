package io.secretbroker.client;

import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.Executor;
import java.util.function.Consumer;

/** A hook that blocks: called by one thread at a time, and with the latest version when it is behind. */
final class Turns implements Hook {
  private final Consumer<Secret> hook;
  private final Executor threads;
  private CompletableFuture<Void> last = CompletableFuture.completedFuture(null); // this and below guarded by this
  private Secret latest; // that the hook has not come to

  Turns(Consumer<Secret> hook, Executor threads) {
    this.hook = hook;
    this.threads = threads;
  }

  /** Those that are skipped are taken over with the one that is not. */
  @Override
  public synchronized CompletionStage<?> changed(Secret secret) {
    if (latest == null) {
      last = last.handle((taken, failed) -> null).thenRunAsync(() -> hook.accept(next()), threads);
    }
    latest = secret;
    return last;
  }

  private synchronized Secret next() {
    Secret secret = latest;
    latest = null;
    return secret;
  }
}
