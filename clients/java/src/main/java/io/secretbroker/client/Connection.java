package io.secretbroker.client;

import io.grpc.ConnectivityState;
import io.grpc.ManagedChannel;
import io.grpc.netty.shaded.io.grpc.netty.NettyChannelBuilder;
import io.grpc.netty.shaded.io.netty.channel.ChannelOption;
import io.grpc.netty.shaded.io.netty.channel.EventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.MultiThreadIoEventLoopGroup;
import io.grpc.netty.shaded.io.netty.channel.nio.NioIoHandler;
import io.grpc.netty.shaded.io.netty.channel.socket.nio.NioDomainSocketChannel;
import io.grpc.netty.shaded.io.netty.util.concurrent.DefaultThreadFactory;
import java.net.UnixDomainSocketAddress;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/** The one connection of a client, which is made at the first call and again when it breaks. */
final class Connection {
  private static final int LARGEST_REPLY = 64 << 20;

  private final ManagedChannel channel;
  private final EventLoopGroup own;

  /** Of a directory of certificates, which is not looked at for Unix sockets. */
  Connection(Address address, Path certificates, String serverName) {
    NettyChannelBuilder builder;
    if (address.isUnix()) {
      own = new MultiThreadIoEventLoopGroup(
          1, new DefaultThreadFactory("secret-broker", true), NioIoHandler.newFactory());
      builder = NettyChannelBuilder.forAddress(UnixDomainSocketAddress.of(address.path()))
          .eventLoopGroup(own)
          .channelType(NioDomainSocketChannel.class, UnixDomainSocketAddress.class)
          .usePlaintext()
          .overrideAuthority("secret-broker");
    } else {
      own = null;
      String name = serverName == null ? address.host() : serverName;
      builder = NettyChannelBuilder.forAddress(address.host(), address.port())
          .sslContext(new Certificates(certificates))
          .overrideAuthority(Address.authority(name));
    }
    channel = builder
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

  boolean isClosed() {
    return channel.isShutdown();
  }

  void close() {
    channel.shutdownNow();
    if (own != null) {
      own.shutdownGracefully(0, 1, TimeUnit.SECONDS);
    }
  }
}
