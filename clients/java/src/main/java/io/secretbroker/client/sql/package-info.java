/** Database connections with the current login of a live handle. */
package io.secretbroker.client.sql;
