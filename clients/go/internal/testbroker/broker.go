// Package testbroker is a broker within the test's process, whose secrets and answers the test sets.
package testbroker

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"maps"
	"net"
	"os"
	"path/filepath"
	"sync"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/secret-broker/secret-broker/clients/go/internal/brokerpb"
)

// A Broker serves secrets that are set by its test.
type Broker struct {
	brokerpb.UnimplementedSecretBrokerServer
	t         testing.TB
	authority *Authority
	dir       string

	mu       sync.Mutex
	secrets  map[string]*brokerpb.Secret
	watchers map[chan *brokerpb.WatchSecretsResponse]struct{}
	reports  []*brokerpb.ReportOutcomeRequest
	told     chan struct{} // closed and replaced at each report
	watches  []*brokerpb.WatchSecretsRequest
	peers    []string
	server   *grpc.Server
	address  string
}

// New starts a broker on a port of its own, with certificates in CertDir.
func New(t testing.TB) *Broker {
	t.Helper()
	broker := &Broker{
		t: t, authority: NewAuthority(t), dir: t.TempDir(), address: "127.0.0.1:0",
		secrets:  make(map[string]*brokerpb.Secret),
		watchers: make(map[chan *brokerpb.WatchSecretsResponse]struct{}),
		told:     make(chan struct{}),
	}
	broker.authority.Issue(t, broker.dir, "client")
	broker.Start()
	t.Cleanup(broker.Stop)
	return broker
}

// Start serves on the address of before.
func (b *Broker) Start() {
	b.t.Helper()
	listener, err := net.Listen("tcp", b.address)
	if err != nil {
		b.t.Fatal(err)
	}
	b.address = listener.Addr().String()
	chain, key := b.authority.Sign(b.t, "broker")
	own, err := tls.X509KeyPair(chain, key)
	if err != nil {
		b.t.Fatal(err)
	}
	b.serve(listener, grpc.Creds(credentials.NewTLS(&tls.Config{
		MinVersion: tls.VersionTLS13, Certificates: []tls.Certificate{own},
		ClientAuth: tls.RequireAndVerifyClientCert, ClientCAs: b.authority.Pool(),
		VerifyPeerCertificate: func(_ [][]byte, chains [][]*x509.Certificate) error {
			b.mu.Lock()
			defer b.mu.Unlock()
			b.peers = append(b.peers, chains[0][0].Subject.CommonName)
			return nil
		},
	})))
}

// ListenUnix serves on a socket as well, and returns its address.
func (b *Broker) ListenUnix() string {
	b.t.Helper()
	directory, err := os.MkdirTemp("", "sb") // short enough for a socket's path
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { _ = os.RemoveAll(directory) })
	path := filepath.Join(directory, "broker.sock")
	listener, err := net.Listen("unix", path)
	if err != nil {
		b.t.Fatal(err)
	}
	b.Stop()
	b.serve(listener)
	return "unix://" + path
}

func (b *Broker) serve(listener net.Listener, options ...grpc.ServerOption) {
	b.server = grpc.NewServer(options...)
	brokerpb.RegisterSecretBrokerServer(b.server, b)
	server := b.server
	go func() { _ = server.Serve(listener) }()
}

// Stop breaks all connections.
func (b *Broker) Stop() { b.server.Stop() }

// Address is the broker's address for a client.
func (b *Broker) Address() string { return "https://" + b.address }

// CertDir has the client's certificate.
func (b *Broker) CertDir() string { return b.dir }

// Renew gives the client a new certificate of this name.
func (b *Broker) Renew(name string) { b.authority.Issue(b.t, b.dir, name) }

// Set serves a version from now on, and tells watchers that it was rotated.
func (b *Broker) Set(name string, generation uint64, fields map[string]string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	secret := &brokerpb.Secret{
		Name: name, Generation: generation, Version: string(rune('a' + generation%26)),
		Fields: make(map[string][]byte), TimeLeft: durationpb.New(3600e9),
	}
	for field, value := range fields {
		secret.Fields[field] = []byte(value)
	}
	if before := b.secrets[name]; before != nil {
		secret.Previous = &brokerpb.PreviousSecret{
			Fields: before.Fields, Generation: before.Generation, Version: before.Version,
		}
	}
	b.secrets[name] = secret
	b.send(&brokerpb.WatchSecretsResponse{
		Type: brokerpb.WatchEventType_WATCH_EVENT_TYPE_ROTATED, Name: name, Secrets: []*brokerpb.Secret{secret},
	})
}

// Revoke withdraws a secret.
func (b *Broker) Revoke(name string, reason brokerpb.ErrorReason) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.secrets, name)
	b.send(&brokerpb.WatchSecretsResponse{
		Type: brokerpb.WatchEventType_WATCH_EVENT_TYPE_REVOKED, Name: name, Reason: reason,
	})
}

func (b *Broker) send(message *brokerpb.WatchSecretsResponse) {
	for watcher := range b.watchers {
		watcher <- message
	}
}

// Reports are what applications reported.
func (b *Broker) Reports() []*brokerpb.ReportOutcomeRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*brokerpb.ReportOutcomeRequest(nil), b.reports...)
}

// AwaitReport waits for a report of this outcome about this generation.
func (b *Broker) AwaitReport(generation uint64, outcome brokerpb.Outcome) {
	b.t.Helper()
	for {
		b.mu.Lock()
		told := b.told
		for _, report := range b.reports {
			if report.Generation == generation && report.Outcome == outcome {
				b.mu.Unlock()
				return
			}
		}
		b.mu.Unlock()
		select {
		case <-told:
		case <-b.t.Context().Done():
			b.t.Fatalf("generation %d was never reported as %s", generation, outcome)
		}
	}
}

// Watches are the requests of all streams so far.
func (b *Broker) Watches() []*brokerpb.WatchSecretsRequest {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]*brokerpb.WatchSecretsRequest(nil), b.watches...)
}

// Peers are the common names of the certificates of all connections so far.
func (b *Broker) Peers() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string(nil), b.peers...)
}

// Refusal is an answer as the broker gives it.
func Refusal(reason string, code codes.Code) error {
	refused, err := status.New(code, "refused").WithDetails(
		&errdetails.ErrorInfo{Reason: reason, Domain: "secretbroker.v1"},
		&errdetails.RetryInfo{RetryDelay: durationpb.New(2e9)})
	if err != nil {
		return err
	}
	return refused.Err()
}

// GetSecret serves what was set; SLOW never comes.
func (b *Broker) GetSecret(ctx context.Context, request *brokerpb.GetSecretRequest) (*brokerpb.GetSecretResponse, error) {
	if request.GetName() == "SLOW" {
		<-ctx.Done()
		return nil, ctx.Err()
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if secret, ok := b.secrets[request.GetName()]; ok {
		return &brokerpb.GetSecretResponse{Secret: secret}, nil
	}
	return nil, Refusal("DENIED", codes.PermissionDenied)
}

// ListSecrets gives one entry a page.
func (b *Broker) ListSecrets(_ context.Context, request *brokerpb.ListSecretsRequest) (*brokerpb.ListSecretsResponse, error) {
	if request.GetPageToken() == "" {
		return &brokerpb.ListSecretsResponse{
			Secrets: []*brokerpb.SecretMetadata{{Name: "A", State: brokerpb.SecretState_SECRET_STATE_FRESH}}, NextPageToken: "2",
		}, nil
	}
	return &brokerpb.ListSecretsResponse{Secrets: []*brokerpb.SecretMetadata{{Name: "B"}}}, nil
}

// BatchGetSecrets serves what was set.
func (b *Broker) BatchGetSecrets(_ context.Context, request *brokerpb.BatchGetSecretsRequest) (*brokerpb.BatchGetSecretsResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	reply := &brokerpb.BatchGetSecretsResponse{}
	for _, name := range request.GetNames() {
		reply.Results = append(reply.Results, b.result(name))
	}
	return reply, nil
}

func (b *Broker) result(name string) *brokerpb.SecretResult {
	if secret, ok := b.secrets[name]; ok {
		return &brokerpb.SecretResult{Name: name, Outcome: &brokerpb.SecretResult_Secret{Secret: secret}}
	}
	denied := &brokerpb.SecretError{Reason: brokerpb.ErrorReason_ERROR_REASON_DENIED, Message: "refused"}
	return &brokerpb.SecretResult{Name: name, Outcome: &brokerpb.SecretResult_Error{Error: denied}}
}

// ReportOutcome keeps the report.
func (b *Broker) ReportOutcome(_ context.Context, request *brokerpb.ReportOutcomeRequest) (*brokerpb.ReportOutcomeResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.reports = append(b.reports, request)
	close(b.told)
	b.told = make(chan struct{})
	return &brokerpb.ReportOutcomeResponse{CurrentGeneration: b.secrets[request.GetName()].GetGeneration()}, nil
}

// WatchSecrets sends a snapshot and then each change.
func (b *Broker) WatchSecrets(request *brokerpb.WatchSecretsRequest, stream grpc.ServerStreamingServer[brokerpb.WatchSecretsResponse]) error {
	messages := make(chan *brokerpb.WatchSecretsResponse, 1024)
	snapshot, err := b.enter(request, messages)
	if err != nil {
		return err
	}
	defer b.leave(messages)
	if err := stream.Send(snapshot); err != nil {
		return err
	}
	for {
		select {
		case message := <-messages:
			if err := stream.Send(message); err != nil {
				return err
			}
		case <-stream.Context().Done():
			return stream.Context().Err()
		}
	}
}

func (b *Broker) enter(request *brokerpb.WatchSecretsRequest, messages chan *brokerpb.WatchSecretsResponse) (*brokerpb.WatchSecretsResponse, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.watches = append(b.watches, request)
	snapshot := &brokerpb.WatchSecretsResponse{Type: brokerpb.WatchEventType_WATCH_EVENT_TYPE_SNAPSHOT}
	names := request.GetNames()
	if len(names) == 0 {
		for name := range maps.Keys(b.secrets) {
			names = append(names, name)
		}
	}
	for _, name := range names {
		secret, ok := b.secrets[name]
		switch {
		case !ok:
			return nil, Refusal("DENIED", codes.PermissionDenied)
		case request.GetSeenGenerations()[name] == secret.GetGeneration():
			snapshot.Unchanged = append(snapshot.Unchanged, name)
		default:
			snapshot.Secrets = append(snapshot.Secrets, secret)
		}
	}
	b.watchers[messages] = struct{}{}
	return snapshot, nil
}

func (b *Broker) leave(messages chan *brokerpb.WatchSecretsResponse) {
	b.mu.Lock()
	defer b.mu.Unlock()
	delete(b.watchers, messages)
}
