package io.secretbroker.client;

import io.grpc.netty.shaded.io.grpc.netty.GrpcSslContexts;
import io.grpc.netty.shaded.io.netty.buffer.ByteBufAllocator;
import io.grpc.netty.shaded.io.netty.handler.ssl.ApplicationProtocolNegotiator;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContext;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslContextBuilder;
import io.grpc.netty.shaded.io.netty.handler.ssl.SslProvider;
import java.io.IOException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.attribute.BasicFileAttributes;
import java.util.List;
import javax.net.ssl.SSLEngine;
import javax.net.ssl.SSLException;
import javax.net.ssl.SSLSessionContext;

/**
 * Three PEM files in a directory, read at a new connection whenever they changed. While they are half replaced or
 * unreadable, the last good ones stay in use; nothing is kept of a failure.
 */
final class Certificates extends SslContext {
  private final Path authorities;
  private final Path chain;
  private final Path key;
  private final SslContext outline;
  private List<Object> stamp = List.of();
  private SslContext loaded;

  /** Certificates of ours that can't be used. */
  static final class UnusableException extends RuntimeException {
    private static final long serialVersionUID = 1;

    UnusableException(String message, Throwable cause) {
      super(message, cause);
    }
  }

  Certificates(Path directory) {
    authorities = directory.resolve("ca.pem");
    chain = directory.resolve("client.pem");
    key = directory.resolve("client.key");
    try {
      outline = settings().build();
    } catch (SSLException error) {
      throw new ConfigurationException("TLS can't be set up: " + error.getMessage());
    }
  }

  private static SslContextBuilder settings() {
    return GrpcSslContexts.configure(SslContextBuilder.forClient(), SslProvider.JDK).protocols("TLSv1.3");
  }

  /** The settings for a new connection, in a context of its own: none resumes a session of other certificates. */
  private synchronized SslContext current() {
    try {
      // Taken before reading: a change in between is seen at the next connection.
      List<Object> now = List.of(stamp(authorities), stamp(chain), stamp(key));
      if (loaded == null || !now.equals(stamp)) {
        loaded = settings()
            .trustManager(authorities.toFile()).keyManager(chain.toFile(), key.toFile()).build();
        stamp = now;
      }
    } catch (IOException | IllegalArgumentException error) {
      if (loaded == null) {
        throw new UnusableException(error.getMessage(), error);
      }
    }
    return loaded;
  }

  private static List<Object> stamp(Path path) throws IOException {
    BasicFileAttributes found = Files.readAttributes(path, BasicFileAttributes.class);
    return List.of(String.valueOf(found.fileKey()), found.size(), found.lastModifiedTime());
  }

  @Override
  public SSLEngine newEngine(ByteBufAllocator allocator) {
    return current().newEngine(allocator);
  }

  @Override
  public SSLEngine newEngine(ByteBufAllocator allocator, String host, int port) {
    return current().newEngine(allocator, host, port);
  }

  @Override
  public boolean isClient() {
    return true;
  }

  @Override
  public List<String> cipherSuites() {
    return outline.cipherSuites();
  }

  @Override
  @SuppressWarnings("deprecation")
  public ApplicationProtocolNegotiator applicationProtocolNegotiator() {
    return outline.applicationProtocolNegotiator();
  }

  @Override
  public SSLSessionContext sessionContext() {
    return outline.sessionContext();
  }
}
