package secretbroker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"
	"unicode/utf8"

	"google.golang.org/grpc"
	grpcbackoff "google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/connectivity"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/experimental"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

const (
	// AddressVariable names the broker's address; https://127.0.0.1:7443 when it is not set.
	AddressVariable = "SECRET_BROKER_ADDRESS"
	// CertDirVariable names the directory of ca.pem, client.pem and client.key; needed for https addresses.
	CertDirVariable = "SECRET_BROKER_CERT_DIR"

	defaultAddress  = "https://127.0.0.1:7443"
	defaultDeadline = 10 * time.Second
	batchSize       = 1000     // the most names that the contract takes in one batch
	detailLength    = 256      // the most characters of a report's detail
	largestReply    = 64 << 20 // bytes: larger than any batch that a broker is configured to send
)

// Options say where the broker is and who the client is itself. The zero value is a broker on this host's usual port.
type Options struct {
	// Address is https://HOST:PORT or unix:///PATH.
	Address string
	// CertDir is the directory of ca.pem, client.pem and client.key; needed for https addresses.
	CertDir string
	// ServerName is the name that the broker's certificate has to carry, if not the address's host.
	ServerName string
	// Deadline is the time for one call, connecting included, where the call's context gives no less; 10 seconds
	// when 0.
	Deadline time.Duration
}

// A Client speaks to the broker over one connection, which is made at the first call and again when it breaks. It may
// be used by several goroutines at once.
type Client struct {
	connection *grpc.ClientConn
	connector  *connector
	stub       brokerpb.SecretBrokerClient
	lives      *lives
	deadline   time.Duration
}

// An Outcome is what became of a version at the application.
type Outcome struct {
	outcome brokerpb.Outcome
	detail  string
}

var (
	// Applied says that the version was taken over, and none before it is in use any more.
	Applied = Outcome{outcome: brokerpb.Outcome_OUTCOME_APPLIED}
	// Worked says that the target accepted the version; it implies Applied.
	Worked = Outcome{outcome: brokerpb.Outcome_OUTCOME_WORKED}
)

// RefusedBecause says that the target refused the version, and what it said, which must not contain a value and is cut
// at 256 characters.
func RefusedBecause(detail string) Outcome {
	return Outcome{outcome: brokerpb.Outcome_OUTCOME_REFUSED, detail: firstCharacters(detail, detailLength)}
}

// FromEnv is a client as the variables [AddressVariable] and [CertDirVariable] of this process say.
func FromEnv() (*Client, error) {
	return New(Options{Address: os.Getenv(AddressVariable), CertDir: os.Getenv(CertDirVariable)})
}

// New is a client that connects at its first call. It fails with a [ConfigurationError] when the options name nothing
// that can work.
func New(options Options) (*Client, error) {
	if options.Address == "" {
		options.Address = defaultAddress
	}
	if options.Deadline == 0 {
		options.Deadline = defaultDeadline
	}
	address, err := parseAddress(options.Address)
	if err != nil {
		return nil, err
	}
	dialer := &connector{address: address, waiting: make(map[*attempt]struct{})}
	if address.network == "tcp" {
		if options.CertDir == "" {
			return nil, &ConfigurationError{Message: fmt.Sprintf("%s needs certificates: set %s to the directory of "+
				"ca.pem, client.pem and client.key, or use a unix:///PATH address", address, CertDirVariable)}
		}
		name := options.ServerName
		if name == "" {
			name = address.host
		}
		dialer.certificates = certificatesIn(options.CertDir, name)
	}
	connection, err := connect(dialer)
	if err != nil {
		return nil, &ConfigurationError{Message: err.Error()}
	}
	return &Client{
		connection: connection,
		connector:  dialer,
		stub:       brokerpb.NewSecretBrokerClient(connection),
		lives:      &lives{},
		deadline:   options.Deadline,
	}, nil
}

func connect(dialer *connector) (*grpc.ClientConn, error) {
	// The dialer knows the address and secures the connection; to HTTP/2 the broker is always the same authority.
	return grpc.NewClient("passthrough:///secret-broker",
		grpc.WithAuthority("secret-broker"),
		grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(dialer.dial),
		grpc.WithNoProxy(),
		grpc.WithDisableServiceConfig(),
		grpc.WithIdleTimeout(0),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           grpcbackoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 5 * time.Second},
			MinConnectTimeout: connectTimeout,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{
			Time: 20 * time.Second, Timeout: 10 * time.Second, PermitWithoutStream: true,
		}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(largestReply), grpc.WaitForReady(true)),
		experimental.WithBufferPool(wipingPool{}),
	)
}

// WithDeadline is the same client, on the same connection, with another deadline.
func (c *Client) WithDeadline(deadline time.Duration) *Client {
	other := *c
	other.deadline = deadline
	return &other
}

// Address is the broker's address.
func (c *Client) Address() string { return c.connector.address.String() }

// Close ends the connection, and with it all calls, watches and live handles. It must not be called by a hook.
func (c *Client) Close() error {
	err := c.connection.Close()
	c.lives.close()
	return err
}

// Get is the current version of a secret.
func (c *Client) Get(ctx context.Context, name string) (*Secret, error) {
	reply, err := call(ctx, c, &brokerpb.GetSecretRequest{Name: name}, c.stub.GetSecret)
	if err != nil {
		return nil, err
	}
	if reply.GetSecret() == nil {
		return nil, c.malformed("a reply without a secret")
	}
	return secretOf(reply.GetSecret()), nil
}

// A Result is what became of one name of [Client.GetMany]: a secret, or why there is none.
type Result struct {
	Name   string
	Secret *Secret
	Err    error
}

// GetMany reads several secrets at once, each with its own result, in the order of the names. It fails only when the
// broker could not be asked.
func (c *Client) GetMany(ctx context.Context, names ...string) ([]Result, error) {
	all := make([]Result, 0, len(names))
	for len(names) > 0 {
		chunk := names[:min(batchSize, len(names))]
		names = names[len(chunk):]
		reply, err := call(ctx, c, &brokerpb.BatchGetSecretsRequest{Names: chunk}, c.stub.BatchGetSecrets)
		if err != nil {
			return nil, err
		}
		for _, result := range reply.GetResults() {
			all = append(all, c.resultOf(result))
		}
	}
	return all, nil
}

func (c *Client) resultOf(result *brokerpb.SecretResult) Result {
	switch outcome := result.GetOutcome().(type) {
	case *brokerpb.SecretResult_Secret:
		return Result{Name: result.GetName(), Secret: secretOf(outcome.Secret)}
	case *brokerpb.SecretResult_Error:
		return Result{Name: result.GetName(), Err: errorOf(outcome.Error)}
	default:
		return Result{Name: result.GetName(), Err: c.malformed("a result without an outcome")}
	}
}

// List is what this caller may read, without values: of one category, or all when it is empty.
func (c *Client) List(ctx context.Context, category string) ([]Metadata, error) {
	var all []Metadata
	request := &brokerpb.ListSecretsRequest{Category: category}
	for {
		page, err := call(ctx, c, request, c.stub.ListSecrets)
		if err != nil {
			return nil, err
		}
		for _, metadata := range page.GetSecrets() {
			all = append(all, metadataOf(metadata))
		}
		if request.PageToken = page.GetNextPageToken(); request.PageToken == "" {
			return all, nil
		}
	}
}

// Report tells the broker what became of a version, and returns the generation that is current now.
func (c *Client) Report(ctx context.Context, secret *Secret, outcome Outcome) (uint64, error) {
	reply, err := call(ctx, c, &brokerpb.ReportOutcomeRequest{
		Name:       secret.Name(),
		Generation: secret.Generation(),
		Outcome:    outcome.outcome,
		Detail:     outcome.detail,
	}, c.stub.ReportOutcome)
	return reply.GetCurrentGeneration(), err
}

// call is one call within the deadline, which the broker is told as well.
func call[Q, R any](
	ctx context.Context, c *Client, request Q, method func(context.Context, Q, ...grpc.CallOption) (R, error),
) (R, error) {
	within, cancel := context.WithTimeout(ctx, c.deadline)
	defer cancel()
	var none R
	do := func(attended context.Context) (R, error) { return method(attended, request) }
	reply, broke, err := attend(within, c, do)
	if broke {
		// The connection had ended unnoticed, as when the broker was restarted. Every call may be made twice.
		reply, _, err = attend(within, c, do)
	}
	if err == nil {
		return reply, nil
	}
	if ctx.Err() != nil && !errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return none, ctx.Err()
	}
	if within.Err() != nil {
		return none, &DeadlineError{Address: c.Address(), Deadline: c.deadline}
	}
	return none, err
}

// attend does a call that waits for a connection, and ends it when no connection can be made. It tells whether there was
// one that broke under the call.
func attend[R any](ctx context.Context, c *Client, do func(context.Context) (R, error)) (reply R, broke bool, err error) {
	attended, cancel := context.WithCancelCause(ctx)
	stop := c.connector.watch(cancel)
	defer stop()
	if c.connection.GetState() == connectivity.TransientFailure {
		c.connection.ResetConnectBackoff()
	}
	if reply, err = do(attended); err == nil {
		return reply, false, nil
	}
	defer cancel(nil)
	if cause := context.Cause(attended); cause != nil && ctx.Err() == nil {
		return reply, false, cause
	}
	return reply, ctx.Err() == nil && status.Code(err) == codes.Unavailable, c.explain(err)
}

// explain says what a status means: the broker's answer, or what broke on the way to it.
func (c *Client) explain(err error) error {
	if c.connection.GetState() == connectivity.Shutdown {
		return &ConfigurationError{Message: "the client is closed"}
	}
	s := status.Convert(err)
	if answer := answered(s); answer != nil {
		return answer
	}
	if s.Code() == codes.DeadlineExceeded {
		return &DeadlineError{Address: c.Address(), Deadline: c.deadline}
	}
	if failure := c.connector.failure(); failure != nil {
		return failure
	}
	return &UnreachableError{Address: c.Address(), Detail: s.Message()}
}

func (c *Client) malformed(what string) error {
	return &UnreachableError{Address: c.Address(), Detail: what + " came back"}
}

func firstCharacters(text string, count int) string {
	for i := range text {
		if count--; count < 0 {
			return text[:i]
		}
	}
	if utf8.ValidString(text) {
		return text
	}
	return string([]rune(text))
}
