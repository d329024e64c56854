package io.secretbroker.client;

/** What became of a version at the application. */
public final class Outcome {
  /** It was taken over, and none before it is in use any more. */
  public static final Outcome APPLIED =
      new Outcome(io.secretbroker.client.internal.proto.Outcome.OUTCOME_APPLIED, "");

  /** The target accepted it; this implies {@link #APPLIED}. */
  public static final Outcome WORKED =
      new Outcome(io.secretbroker.client.internal.proto.Outcome.OUTCOME_WORKED, "");

  private static final int DETAIL = 256;

  final io.secretbroker.client.internal.proto.Outcome outcome;
  final String detail;

  private Outcome(io.secretbroker.client.internal.proto.Outcome outcome, String detail) {
    this.outcome = outcome;
    this.detail = detail;
  }

  /**
   * The target refused it.
   *
   * @param detail what the target said; must not contain a value; cut at 256 characters
   * @return the outcome
   */
  public static Outcome refused(String detail) {
    int end = detail.codePointCount(0, detail.length()) <= DETAIL
        ? detail.length() : detail.offsetByCodePoints(0, DETAIL);
    return new Outcome(io.secretbroker.client.internal.proto.Outcome.OUTCOME_REFUSED, detail.substring(0, end));
  }
}
