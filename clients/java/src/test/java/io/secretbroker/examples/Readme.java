package io.secretbroker.examples;

import com.zaxxer.hikari.HikariConfig;
import io.secretbroker.client.Client;
import io.secretbroker.client.hikari.BrokerHikari;

class Readme {
  static void run(String jdbcUrl) throws Exception {
    try (var client = Client.fromEnv(); // SECRET_BROKER_ADDRESS and SECRET_BROKER_CERT_DIR
        var login = client.live("DB")) { // always the current version
      var config = new HikariConfig();
      config.setJdbcUrl(jdbcUrl); // without credentials
      try (var pool = BrokerHikari.open(login, config); // follows each rotation
          var connection = pool.getConnection()) {
        connection.createStatement().execute("SELECT 1");
      }
    }
  }
}
