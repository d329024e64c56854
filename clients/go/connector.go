package secretbroker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

const connectTimeout = 5 * time.Second

// A connector opens connections to one address and keeps the last failure: a broker that refuses our certificate says
// so after the handshake, when HTTP/2 runs already and swallows the cause.
type connector struct {
	address      address
	certificates *certificates // nil for Unix sockets

	mu       sync.Mutex
	last     error
	waiting  map[*attempt]struct{}
	attempts uint64
}

// An attempt is a call that waits for a connection.
type attempt struct {
	after  uint64
	failed context.CancelCauseFunc
}

// watch cancels with the cause when a connection begun from now on can't be made.
func (c *connector) watch(failed context.CancelCauseFunc) (stop func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	waiting := &attempt{after: c.attempts, failed: failed}
	c.waiting[waiting] = struct{}{}
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.waiting, waiting)
	}
}

func (c *connector) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.last
}

func (c *connector) begin() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.attempts++
	return c.attempts
}

// heard forgets the last failure: the broker answers. The beginning of an attempt is too early for that, as the next
// failure is then not known yet.
func (c *connector) heard() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.last = nil
}

// observe keeps a failure; with established false it ends the calls that wait for this connection.
func (c *connector) observe(number uint64, err error, established bool) {
	if errors.Is(err, net.ErrClosed) {
		return // our own doing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if number == c.attempts {
		c.last = c.explain(err)
	}
	if established {
		return
	}
	for waiting := range c.waiting {
		if number > waiting.after {
			waiting.failed(c.explain(err))
		}
	}
}

func (c *connector) explain(err error) error {
	if isTLS(err) {
		return &TLSError{Address: c.address.String(), Detail: err.Error()}
	}
	return &UnreachableError{Address: c.address.String(), Detail: err.Error()}
}

// errCertificates marks certificates of ours that can't be read.
type errCertificates struct{ error }

func isTLS(err error) bool {
	var op *net.OpError
	if errors.As(err, &op) && (op.Op == "remote error" || op.Op == "local error") {
		return true // an alert of the TLS layer
	}
	for _, cause := range []any{
		new(errCertificates), new(*tls.CertificateVerificationError), new(tls.RecordHeaderError), new(tls.AlertError),
		new(x509.UnknownAuthorityError), new(x509.HostnameError), new(x509.CertificateInvalidError),
	} {
		if errors.As(err, cause) {
			return true
		}
	}
	return false
}

// dial opens a connection for the HTTP/2 layer. The address it is given is a placeholder.
func (c *connector) dial(ctx context.Context, _ string) (net.Conn, error) {
	number := c.begin()
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	conn, err := c.open(ctx)
	if err != nil {
		c.observe(number, err, false)
		return nil, err
	}
	return &observed{Conn: conn, connector: c, number: number}, nil
}

func (c *connector) open(ctx context.Context) (net.Conn, error) {
	conn, err := (&net.Dialer{}).DialContext(ctx, c.address.network, c.address.target)
	if err != nil || c.certificates == nil {
		return conn, err
	}
	config, err := c.certificates.current()
	if err != nil {
		_ = conn.Close()
		return nil, errCertificates{err}
	}
	secured := tls.Client(conn, config)
	if err := secured.HandshakeContext(ctx); err != nil {
		_ = conn.Close()
		return nil, err
	}
	return secured, nil
}

// observed is a connection whose failure is kept. The broker has accepted it once it says anything.
type observed struct {
	net.Conn
	connector   *connector
	number      uint64
	established atomic.Bool
}

func (o *observed) Read(into []byte) (int, error) {
	n, err := o.Conn.Read(into)
	if n > 0 && !o.established.Swap(true) {
		o.connector.heard()
	}
	if err != nil {
		o.connector.observe(o.number, err, o.established.Load())
	}
	return n, err
}
