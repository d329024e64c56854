package io.secretbroker.client.hikari;

import com.zaxxer.hikari.HikariConfig;
import com.zaxxer.hikari.HikariDataSource;
import com.zaxxer.hikari.HikariPoolMXBean;
import io.secretbroker.client.Live;
import io.secretbroker.client.sql.BrokerDataSource;

/**
 * Opens HikariCP pools whose connections log in with the current version.
 *
 * <p>After a rotation, idle connections are closed and those in use live on until they are returned, so that no query
 * fails. The handle reports the new version as applied once no connection of an earlier one is open.
 */
public final class BrokerHikari {
  private BrokerHikari() {}

  /**
   * Opens a pool.
   *
   * @param live the handle, which stays the caller's to close
   * @param config the pool's settings with the JDBC address and without credentials; it is not changed
   * @return the pool
   */
  public static HikariDataSource open(Live live, HikariConfig config) {
    HikariConfig ours = new HikariConfig();
    config.copyStateTo(ours);
    BrokerDataSource source = new BrokerDataSource(live, config.getJdbcUrl(), config.getDataSourceProperties());
    ours.setJdbcUrl(null);
    ours.setDataSource(source);
    Pool pool = new Pool(ours, source);
    source.onRotation(() -> {
      HikariPoolMXBean connections = pool.getHikariPoolMXBean();
      if (connections != null) {
        connections.softEvictConnections();
      }
    });
    return pool;
  }

  /** A pool that stops following the handle when it is closed. */
  private static final class Pool extends HikariDataSource {
    private final BrokerDataSource source;

    Pool(HikariConfig config, BrokerDataSource source) {
      super(config);
      this.source = source;
    }

    @Override
    public void close() {
      super.close();
      source.close();
    }
  }
}
