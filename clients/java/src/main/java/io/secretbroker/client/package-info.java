/**
 * The client of the secret broker that runs beside an application.
 *
 * <ul>
 *   <li>A value never prints, and is wiped from memory when its secret is closed or found unreachable. What the HTTP/2
 *       and TLS layers buffered on the way is theirs, and so is a string that the application took.
 *   <li>Certificates are read again at each new connection when their files changed.
 *   <li>Every call ends by its deadline; a watch has none and resumes by itself.
 * </ul>
 *
 * <p>A {@link io.secretbroker.client.Live} handle is what most applications need: it always has the current value,
 * without a call. The packages {@code sql}, {@code hikari} and {@code jwt} build data sources and tokens on it.
 */
package io.secretbroker.client;
