/** HikariCP pools with the current login of a live handle. It needs com.zaxxer:HikariCP. */
package io.secretbroker.client.hikari;
