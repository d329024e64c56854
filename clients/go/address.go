package secretbroker

import (
	"fmt"
	"net"
	"strings"
)

// An address is where the broker listens: TCP with mTLS, or a Unix socket, whose peer is known by its credentials.
type address struct {
	network string // "tcp" or "unix"
	target  string // host:port, or a path
	host    string
}

func parseAddress(text string) (address, error) {
	scheme, rest, _ := strings.Cut(text, "://")
	switch scheme {
	case "unix":
		if strings.HasPrefix(rest, "/") {
			return address{network: "unix", target: rest}, nil
		}
	case "https":
		host, port, err := net.SplitHostPort(strings.TrimRight(rest, "/"))
		if err == nil && host != "" && validPort(port) && !strings.ContainsAny(host, "/@ ") {
			return address{network: "tcp", target: net.JoinHostPort(host, port), host: host}, nil
		}
	}
	return address{}, &ConfigurationError{
		Message: fmt.Sprintf("the address `%s` is none: give https://HOST:PORT or unix:///PATH", text),
	}
}

func validPort(port string) bool {
	number, err := net.LookupPort("tcp", port)
	return err == nil && number > 0 && strings.Trim(port, "0123456789") == ""
}

func (a address) String() string {
	if a.network == "unix" {
		return "unix://" + a.target
	}
	return "https://" + a.target
}
