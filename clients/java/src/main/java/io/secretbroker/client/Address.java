package io.secretbroker.client;

import java.util.regex.Matcher;
import java.util.regex.Pattern;

/** Where the broker listens: TCP with mTLS ({@code path} is null), or a Unix socket. */
record Address(String host, int port, String path) {
  private static final Pattern TLS = Pattern.compile("https://(?:\\[([0-9a-fA-F:.]+)]|([^/@ :\\[\\]]+)):(\\d{1,5})/?");
  private static final Pattern UNIX = Pattern.compile("unix://(/.+)");

  static Address parse(String text) {
    Matcher unix = UNIX.matcher(text);
    if (unix.matches()) {
      return new Address(null, 0, unix.group(1));
    }
    Matcher tls = TLS.matcher(text);
    if (tls.matches()) {
      int port = Integer.parseInt(tls.group(3));
      if (port > 0 && port < 65536) {
        return new Address(tls.group(1) == null ? tls.group(2) : tls.group(1), port, null);
      }
    }
    throw new ConfigurationException(
        "the address `" + text + "` is none: give https://HOST:PORT or unix:///PATH");
  }

  boolean isUnix() {
    return path != null;
  }

  /** As HTTP names it: brackets around an IPv6 address. */
  static String authority(String host) {
    return host.contains(":") ? "[" + host + "]" : host;
  }

  @Override
  public String toString() {
    return isUnix() ? "unix://" + path : "https://" + authority(host) + ":" + port;
  }
}
