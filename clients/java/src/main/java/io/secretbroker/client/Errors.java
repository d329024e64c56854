package io.secretbroker.client;

import com.google.protobuf.Any;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.ErrorInfo;
import com.google.rpc.RetryInfo;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.secretbroker.client.internal.proto.SecretError;
import java.net.UnknownHostException;
import java.security.GeneralSecurityException;
import java.time.Duration;
import java.util.Optional;
import java.util.concurrent.CancellationException;
import javax.net.ssl.SSLException;

/** Says what a status means: the broker's answer, or what broke on the way to it. */
final class Errors {
  private static final String DOMAIN = "secretbroker.v1";

  private Errors() {}

  static RefusedException of(SecretError error) {
    Duration wait = error.hasRetryAfter() ? Secret.duration(error.getRetryAfter()) : null;
    return new RefusedException(Reason.of(error.getReason().name()), error.getMessage(), wait);
  }

  static RuntimeException explain(StatusRuntimeException failure, String address, Duration deadline) {
    Status status = failure.getStatus();
    Optional<RefusedException> answer = answered(failure);
    if (answer.isPresent()) {
      return answer.get();
    }
    if (status.getCode() == Status.Code.CANCELLED) {
      CancellationException cancelled = new CancellationException("the call was cancelled");
      cancelled.initCause(failure);
      return cancelled;
    }
    if (status.getCode() == Status.Code.DEADLINE_EXCEEDED) {
      return new DeadlineException(address, deadline);
    }
    Throwable cause = status.getCause();
    for (; cause != null; cause = cause.getCause()) {
      if (cause instanceof SSLException || cause instanceof GeneralSecurityException
          || cause instanceof Certificates.UnusableException) {
        return new TlsException(address, cause);
      }
    }
    // Some causes are told by their name alone, and of a host its own.
    String detail = status.getCause() == null || status.getCause() instanceof UnknownHostException
        ? status.getDescription()
        : Optional.ofNullable(status.getCause().getMessage()).orElseGet(status.getCause()::toString);
    return new UnreachableException(address, detail, failure);
  }

  /** What the broker answered; empty when it was not the broker that ended the call. */
  private static Optional<RefusedException> answered(StatusRuntimeException failure) {
    Reason reason = byCode(failure.getStatus().getCode());
    Duration wait = null;
    com.google.rpc.Status details = StatusProto.fromThrowable(failure);
    for (Any detail : details == null ? java.util.List.<Any>of() : details.getDetailsList()) {
      try {
        if (detail.is(ErrorInfo.class)) {
          ErrorInfo info = detail.unpack(ErrorInfo.class);
          Reason named = Reason.of(info.getReason());
          reason = info.getDomain().equals(DOMAIN) && named != Reason.UNSPECIFIED ? named : reason;
        } else if (detail.is(RetryInfo.class)) {
          wait = Secret.duration(detail.unpack(RetryInfo.class).getRetryDelay());
        }
      } catch (InvalidProtocolBufferException unreadable) {
        // The code says what the detail does not.
      }
    }
    String message = String.valueOf(failure.getStatus().getDescription());
    return reason == Reason.UNSPECIFIED
        ? Optional.empty() : Optional.of(new RefusedException(reason, message, wait));
  }

  /** For answers of proxies and libraries that give no reason. */
  private static Reason byCode(Status.Code code) {
    return switch (code) {
      case UNAUTHENTICATED -> Reason.UNAUTHENTICATED;
      case PERMISSION_DENIED, NOT_FOUND -> Reason.DENIED;
      case INVALID_ARGUMENT, OUT_OF_RANGE, UNIMPLEMENTED -> Reason.INVALID_REQUEST;
      case RESOURCE_EXHAUSTED -> Reason.LIMIT_EXCEEDED;
      case INTERNAL, DATA_LOSS -> Reason.INTERNAL;
      default -> Reason.UNSPECIFIED;
    };
  }
}
