// Package secretbroker is the client of the secret broker that runs beside an application.
//
//   - A value never prints: not with any verb of package fmt, not in JSON, not through log/slog. It is wiped from
//     memory when its [Secret] is closed or found unreachable. What the HTTP/2 and TLS layers buffered on the way is
//     theirs, and so is a string that the application took.
//   - Certificates are read again at each new connection when their files changed.
//   - Every call ends by its deadline; a [Watch] has none and resumes by itself.
//
// A [Live] handle is what most applications need: it always has the current value, without a call.
// The packages brokersql, brokerpgx and brokerjwt build connection pools and token signing on it.
package secretbroker
