package io.secretbroker.client;

import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.Parser;
import io.grpc.MethodDescriptor;
import io.grpc.Status;
import io.grpc.protobuf.ProtoUtils;
import io.secretbroker.client.internal.proto.BatchGetSecretsRequest;
import io.secretbroker.client.internal.proto.BatchGetSecretsResponse;
import io.secretbroker.client.internal.proto.GetSecretRequest;
import io.secretbroker.client.internal.proto.GetSecretResponse;
import io.secretbroker.client.internal.proto.SecretBrokerGrpc;
import io.secretbroker.client.internal.proto.WatchSecretsRequest;
import io.secretbroker.client.internal.proto.WatchSecretsResponse;
import java.io.IOException;
import java.io.InputStream;
import java.util.Arrays;

/** The calls whose replies hold values, with replies that are wiped once they are read. */
final class Calls {
  static final MethodDescriptor<GetSecretRequest, GetSecretResponse> GET =
      wiping(SecretBrokerGrpc.getGetSecretMethod(), GetSecretResponse.getDefaultInstance(), GetSecretResponse.parser());
  static final MethodDescriptor<BatchGetSecretsRequest, BatchGetSecretsResponse> BATCH_GET =
      wiping(SecretBrokerGrpc.getBatchGetSecretsMethod(), BatchGetSecretsResponse.getDefaultInstance(),
          BatchGetSecretsResponse.parser());
  static final MethodDescriptor<WatchSecretsRequest, WatchSecretsResponse> WATCH =
      wiping(SecretBrokerGrpc.getWatchSecretsMethod(), WatchSecretsResponse.getDefaultInstance(),
          WatchSecretsResponse.parser());

  private Calls() {}

  private static <Q, R extends Message> MethodDescriptor<Q, R> wiping(
      MethodDescriptor<Q, R> method, R none, Parser<R> parser) {
    MethodDescriptor.Marshaller<R> usual = ProtoUtils.marshaller(none);
    return method.toBuilder(method.getRequestMarshaller(), new MethodDescriptor.Marshaller<R>() {
      @Override
      public InputStream stream(R message) {
        return usual.stream(message);
      }

      @Override
      public R parse(InputStream stream) {
        return read(stream, parser);
      }
    }).build();
  }

  private static <R> R read(InputStream stream, Parser<R> parser) {
    byte[] message = {};
    try {
      // gRPC's streams are whole messages of a known length.
      message = new byte[stream.available()];
      stream.readNBytes(message, 0, message.length);
      int more = stream.read();
      if (more >= 0) {
        message = joined(message, more, stream.readAllBytes()); // it came compressed
      }
      return parser.parseFrom(message);
    } catch (InvalidProtocolBufferException error) {
      throw Status.INTERNAL.withDescription("a reply can't be read").withCause(error).asRuntimeException();
    } catch (IOException error) {
      throw Status.UNAVAILABLE.withCause(error).asRuntimeException();
    } finally {
      Arrays.fill(message, (byte) 0);
    }
  }

  private static byte[] joined(byte[] head, int middle, byte[] tail) {
    byte[] all = Arrays.copyOf(head, head.length + 1 + tail.length);
    all[head.length] = (byte) middle;
    System.arraycopy(tail, 0, all, head.length + 1, tail.length);
    Arrays.fill(head, (byte) 0);
    Arrays.fill(tail, (byte) 0);
    return all;
  }
}
