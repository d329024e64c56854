package io.secretbroker.client;

import io.grpc.ConnectivityState;
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
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicLong;
import java.util.function.Supplier;

/** The one connection of a client, which is made at the first call and again when it breaks. */
final class Connection {
  private static final int LARGEST_REPLY = 64 << 20;

  private final ManagedChannel channel;
  private final EventLoopGroup thread;
  private final AtomicLong begun = new AtomicLong();
  private final AtomicLong ended = new AtomicLong();

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

  /** The channel for a call: after a failure it tries again at once, and does not answer with the failure of before. */
  ManagedChannel channel() {
    if (channel.getState(false) == ConnectivityState.TRANSIENT_FAILURE) {
      channel.enterIdle();
    }
    return channel;
  }

  private Channel counted(Supplier<Channel> socket) {
    long number = begun.incrementAndGet();
    Channel attempt = socket.get();
    attempt.closeFuture().addListener(closed -> ended.accumulateAndGet(number, Math::max));
    return attempt;
  }

  /** How many attempts to connect were begun. */
  long attempts() {
    return begun.get();
  }

  /** Whether an attempt that was begun after so many others has ended already, connected for a while or never. */
  boolean endedAfter(long attempts) {
    return ended.get() > attempts;
  }

  boolean isClosed() {
    return channel.isShutdown();
  }

  void close() {
    channel.shutdownNow();
    thread.shutdownGracefully(0, 1, TimeUnit.SECONDS);
  }
}
