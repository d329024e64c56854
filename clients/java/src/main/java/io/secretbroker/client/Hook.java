package io.secretbroker.client;

import java.util.concurrent.CompletionStage;

/** Is called with each new version of a secret. */
@FunctionalInterface
public interface Hook {
  /**
   * Called at the change, in the order of the versions. It must not block.
   *
   * @param secret the new version
   * @return completes once the application uses nothing older any more
   */
  CompletionStage<?> changed(Secret secret);
}
