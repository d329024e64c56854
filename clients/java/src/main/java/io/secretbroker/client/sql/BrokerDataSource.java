package io.secretbroker.client.sql;

import io.secretbroker.client.Live;
import io.secretbroker.client.Secret;
import java.io.PrintWriter;
import java.lang.reflect.InvocationHandler;
import java.lang.reflect.InvocationTargetException;
import java.lang.reflect.Method;
import java.lang.reflect.Proxy;
import java.sql.Connection;
import java.sql.DriverManager;
import java.sql.SQLException;
import java.sql.SQLFeatureNotSupportedException;
import java.util.Optional;
import java.util.Properties;
import java.util.concurrent.CompletionStage;
import java.util.concurrent.atomic.AtomicBoolean;
import java.util.logging.Logger;
import javax.sql.DataSource;

/**
 * A data source whose connections log in with the current version's fields {@code username} and {@code password}.
 *
 * <p>It makes a new connection at each call, as pools expect. The handle reports a version as applied once no connection
 * of an earlier one is open.
 */
public final class BrokerDataSource implements DataSource, AutoCloseable {
  /** How often a login is tried while the credential changes under it. */
  private static final int ATTEMPTS = 3;

  /** The SQLSTATE class of an invalid authorization. */
  private static final String AUTHORIZATION = "28";

  private final Live live;
  private final String url;
  private final Properties properties;
  private final Fleet fleet = new Fleet();
  private final Live.Subscription subscription;
  private volatile Runnable retire = () -> {};
  private PrintWriter log;
  private int loginSeconds;

  /**
   * Of a live handle, which stays the caller's to close.
   *
   * @param live the handle
   * @param url the JDBC address, without credentials
   */
  public BrokerDataSource(Live live, String url) {
    this(live, url, new Properties());
  }

  /**
   * The same with properties of the driver.
   *
   * @param live the handle
   * @param url the JDBC address, without credentials
   * @param properties the driver's properties
   */
  public BrokerDataSource(Live live, String url, Properties properties) {
    this.live = live;
    this.url = url;
    this.properties = new Properties();
    this.properties.putAll(properties);
    this.subscription = live.onChangeAsync(this::changed);
  }

  /**
   * Says how the pool over this data source closes its idle connections, and those in use when they are returned. It is
   * called at each rotation, and may be called more than once for one.
   *
   * @param retire must not block
   */
  public void onRotation(Runnable retire) {
    this.retire = retire;
  }

  /** A hook of the handle: completes once no connection of an earlier version is open. */
  private CompletionStage<?> changed(Secret secret) {
    // What a pool asks for may come after the change.
    return fleet.noneBefore(secret.generation(), () -> retire.run(), live.background());
  }

  @Override
  public Connection getConnection() throws SQLException {
    for (int attempt = 1; ; attempt++) {
      Secret secret = live.current();
      try {
        Connection opened = connect(secret);
        if (attempt == ATTEMPTS || live.current().generation() == secret.generation()) {
          return opened;
        }
        opened.close(); // a pool may just have retired its connections, without this one
      } catch (SQLException error) {
        if (attempt == ATTEMPTS || !hasSuccessor(secret, error)) {
          throw error;
        }
      }
    }
  }

  private Connection connect(Secret secret) throws SQLException {
    Properties login = new Properties();
    login.putAll(properties);
    secret.text("username").ifPresent(user -> login.setProperty("user", user));
    secret.text("password").ifPresent(password -> login.setProperty("password", password));
    if (loginSeconds > 0) {
      login.setProperty("loginTimeout", String.valueOf(loginSeconds));
    }
    long generation = secret.generation();
    // Counted before the login, so that the version is not reported as left while the login goes on.
    fleet.add(generation);
    try {
      return counted(DriverManager.getConnection(url, login), generation);
    } catch (SQLException | RuntimeException error) {
      fleet.remove(generation);
      throw error;
    }
  }

  private boolean hasSuccessor(Secret tried, SQLException error) {
    if (live.current().generation() > tried.generation()) {
      return true;
    }
    String state = Optional.ofNullable(error.getSQLState()).orElse("");
    return state.startsWith(AUTHORIZATION) && live.refused(tried, "SQLSTATE " + state);
  }

  /** A connection that is counted until it is closed. */
  private Connection counted(Connection raw, long generation) {
    AtomicBoolean open = new AtomicBoolean(true);
    InvocationHandler handler = (proxy, method, arguments) -> {
      try {
        return method.invoke(raw, arguments);
      } catch (InvocationTargetException error) {
        throw error.getCause();
      } finally {
        if (ends(method) && open.compareAndSet(true, false)) {
          fleet.remove(generation);
        }
      }
    };
    return (Connection) Proxy.newProxyInstance(
        BrokerDataSource.class.getClassLoader(), new Class<?>[] {Connection.class}, handler);
  }

  private static boolean ends(Method method) {
    return method.getName().equals("close") || method.getName().equals("abort");
  }

  @Override
  public Connection getConnection(String username, String password) throws SQLException {
    throw new SQLFeatureNotSupportedException("the broker gives the login: call getConnection()");
  }

  /** Stops following the handle. */
  @Override
  public void close() {
    subscription.close();
  }

  @Override
  public PrintWriter getLogWriter() {
    return log;
  }

  @Override
  public void setLogWriter(PrintWriter writer) {
    log = writer;
  }

  @Override
  public void setLoginTimeout(int seconds) {
    loginSeconds = seconds;
  }

  @Override
  public int getLoginTimeout() {
    return loginSeconds;
  }

  @Override
  public Logger getParentLogger() throws SQLFeatureNotSupportedException {
    throw new SQLFeatureNotSupportedException("it does not log");
  }

  @Override
  public <T> T unwrap(Class<T> type) throws SQLException {
    if (type.isInstance(this)) {
      return type.cast(this);
    }
    throw new SQLException("it wraps no " + type.getName());
  }

  @Override
  public boolean isWrapperFor(Class<?> type) {
    return type.isInstance(this);
  }

  @Override
  public String toString() {
    return "BrokerDataSource(" + live + ")";
  }
}
