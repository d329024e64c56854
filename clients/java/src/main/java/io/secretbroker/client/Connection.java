package io.secretbroker.client;

import io.grpc.ConnectivityState;
import io.grpc.Context;
import io.grpc.Context.CancellableContext;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.Channel;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioIoHandler;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioSocketChannel;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;

/** The one connection of a client, which is made at the first call and again when it breaks. */
final class Connection {
  private static final int LARGEST_REPLY = 64 << 20;
  /** Within this time after a failure the next address of the host is tried, if there is one. */
  private static final int NEXT_ADDRESS_MILLIS = 100;

  private final ManagedChannel channel;
  private final EventLoopGroup thread;
  private final AtomicLong begun = new AtomicLong();
  private final Map<CancellableContext, Long> waiting = new ConcurrentHashMap<>();

  /** Of a directory of certificates, which is not looked at for Unix sockets. */
  Connection(Address address, Path certificates, String serverName) {
    NettyChannelBuilder builder;
    if (address.isUnix()) {
      builder = NettyChannelBuilder.forAddress(UnixDomainSocketAddress.of(address.path()))
          .channelFactory(() -> counted(NioDomainSocketChannel::new), UnixDomainSocketAddress.class)
          .usePlaintext()
          .overrideAuthority("secret-broker");
    } else {
      String name = serverName == null ? address.host() : serverName;
      builder = NettyChannelBuilder.forAddress(address.host(), address.port())
          .channelFactory(() -> counted(NioSocketChannel::new))
          .sslContext(new Certificates(certificates))
          .overrideAuthority(Address.authority(name));
    }
    thread = new MultiThreadIoEventLoopGroup(1, new DefaultThreadFactory("secret-broker", true), NioIoHandler.newFactory());
    channel = builder
        .eventLoopGroup(thread)
        .withOption(ChannelOption.CONNECT_TIMEOUT_MILLIS, 5000)
        .keepAliveTime(20, TimeUnit.SECONDS)
        .keepAliveTimeout(10, TimeUnit.SECONDS)
        .keepAliveWithoutCalls(true)
        .maxInboundMessageSize(LARGEST_REPLY)
        .proxyDetector(target -> null)
        .disableServiceConfigLookUp()
        .build();
  }

  ManagedChannel channel() {
    return channel;
  }

  /** The channel for a call that does not wait: after a failure it tries again at once, and does not answer with that. */
  ManagedChannel fresh() {
    if (hasFailed()) {
      channel.enterIdle();
    }
    return channel;
  }

  boolean hasFailed() {
    return channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE;
  }

  private Channel counted(Supplier<Channel> socket) {
    long number = begun.incrementAndGet();
    Channel attempt = socket.get();
    attempt.closeFuture().addListener(closed -> attempt.eventLoop().schedule(() -> {
      if (begun.get() == number) {
        waiting.forEach((call, before) -> {
          if (number > before) {
            call.cancel(null);
          }
        });
      }
    }, NEXT_ADDRESS_MILLIS, TimeUnit.MILLISECONDS));
    return attempt;
  }

  /**
   * For a call that waits for a connection: cancelled when an attempt to make one fails that began from now on. What
   * failed before, or is about to, is nothing to such a call.
   */
  CancellableContext attend() {
    CancellableContext call = Context.current().withCancellation();
    waiting.put(call, begun.get());
    if (hasFailed()) {
      channel.resetConnectBackoff();
    }
    return call;
  }

  void leave(CancellableContext call) {
    waiting.remove(call);
    call.close();
  }

  boolean isClosed() {
    return channel.isShutdown();
  }

  void close() {
    channel.shutdownNow();
    thread.shutdownGracefully(0, 1, TimeUnit.SECONDS);
  }
}
