// Conformance is the adapter that the conformance runner drives: one JSON request a line in, one JSON answer a line
// out.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/golang-jwt/jwt/v5"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/brokerjwt"
)

type object = map[string]any

type request struct {
	ID         json.RawMessage `json:"id"`
	Op         string          `json:"op"`
	Address    string          `json:"address"`
	CertDir    string          `json:"cert_dir"`
	ServerName string          `json:"server_name"`
	DeadlineMS int64           `json:"deadline_ms"`
	Name       string          `json:"name"`
	Names      []string        `json:"names"`
	Category   string          `json:"category"`
	Watch      string          `json:"watch"`
	Live       string          `json:"live"`
	Outcome    string          `json:"outcome"`
	Detail     string          `json:"detail"`
	Claims     jwt.MapClaims   `json:"claims"`
	Token      string          `json:"token"`
}

type adapter struct {
	client  *secretbroker.Client
	last    map[string]*secretbroker.Secret
	watches map[string]context.CancelFunc
	lives   map[string]*secretbroker.Live
	mu      sync.Mutex
	out     *json.Encoder
}

func main() {
	a := &adapter{
		last: map[string]*secretbroker.Secret{}, watches: map[string]context.CancelFunc{},
		lives: map[string]*secretbroker.Live{}, out: json.NewEncoder(os.Stdout),
	}
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 64<<20)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			fmt.Fprintln(os.Stderr, "conformance:", err)
			os.Exit(1)
		}
		if ok, err := a.answer(context.Background(), &r); err != nil {
			a.tell(object{"id": r.ID, "error": told(err)})
		} else {
			a.tell(object{"id": r.ID, "ok": ok})
		}
	}
}

func (a *adapter) tell(line object) {
	a.mu.Lock()
	defer a.mu.Unlock()
	_ = a.out.Encode(line)
}

func (a *adapter) answer(ctx context.Context, r *request) (any, error) {
	if a.client == nil && r.Op != "connect" {
		return nil, &secretbroker.ConfigurationError{Message: "not connected"}
	}
	client := a.client
	if client != nil && r.DeadlineMS > 0 {
		client = client.WithDeadline(time.Duration(r.DeadlineMS) * time.Millisecond)
	}
	switch r.Op {
	case "connect":
		return a.connect(r)
	case "get":
		secret, err := client.Get(ctx, r.Name)
		if err != nil {
			return nil, err
		}
		a.last[r.Name] = secret
		return shown(secret), nil
	case "get_many":
		return getMany(ctx, client, r.Names)
	case "list":
		return list(ctx, client, r.Category)
	case "watch":
		return a.watch(ctx, r)
	case "unwatch":
		if cancel := a.watches[r.Watch]; cancel != nil {
			cancel()
		}
		return object{}, nil
	case "report":
		return a.report(ctx, r)
	case "print":
		return a.print(ctx, client, r.Name)
	case "live":
		return a.live(ctx, client, r)
	}
	return a.answerLive(r)
}

func (a *adapter) connect(r *request) (any, error) {
	client, err := secretbroker.New(secretbroker.Options{
		Address: r.Address, CertDir: r.CertDir, ServerName: r.ServerName,
		Deadline: time.Duration(r.DeadlineMS) * time.Millisecond,
	})
	if err != nil {
		return nil, err
	}
	if a.client != nil {
		for _, live := range a.lives {
			live.Close()
		}
		clear(a.lives)
		_ = a.client.Close()
	}
	a.client = client
	return object{}, nil
}

func getMany(ctx context.Context, client *secretbroker.Client, names []string) (any, error) {
	results, err := client.GetMany(ctx, names...)
	all := make([]object, 0, len(results))
	for _, result := range results {
		if result.Err != nil {
			all = append(all, object{"name": result.Name, "error": told(result.Err)})
		} else {
			all = append(all, object{"name": result.Name, "ok": shown(result.Secret)})
		}
	}
	return all, err
}

func list(ctx context.Context, client *secretbroker.Client, category string) (any, error) {
	found, err := client.List(ctx, category)
	all := make([]object, 0, len(found))
	for _, m := range found {
		all = append(all, object{"name": m.Name, "category": m.Category, "state": m.State, "generation": m.Generation})
	}
	return all, err
}

func (a *adapter) watch(ctx context.Context, r *request) (any, error) {
	ctx, cancel := context.WithCancel(ctx)
	a.watches[r.Watch] = cancel
	watch := a.client.Watch(r.Names...)
	go func() {
		for event, err := range watch.Events(ctx) {
			if err != nil {
				if ctx.Err() == nil {
					a.tell(object{"watch": r.Watch, "error": told(err)})
				}
				return
			}
			line := object{"watch": r.Watch, "event": event.Type, "name": event.Name, "generation": nil, "reason": nil}
			if event.Secret != nil {
				line["generation"] = event.Secret.Generation()
			}
			if event.Type == secretbroker.Revoked {
				line["reason"] = event.Reason
			}
			if reason := secretbroker.ReasonOf(event.Err); reason != "" {
				line["reason"] = reason
			}
			a.tell(line)
		}
	}()
	return object{}, nil
}

func (a *adapter) report(ctx context.Context, r *request) (any, error) {
	secret := a.last[r.Name]
	if secret == nil {
		return nil, &secretbroker.ConfigurationError{Message: "get the secret first"}
	}
	outcome := secretbroker.Applied
	switch r.Outcome {
	case "WORKED":
		outcome = secretbroker.Worked
	case "REFUSED":
		outcome = secretbroker.RefusedBecause(r.Detail)
	}
	generation, err := a.client.Report(ctx, secret, outcome)
	return object{"current_generation": generation}, err
}

func (a *adapter) live(ctx context.Context, client *secretbroker.Client, r *request) (any, error) {
	live, err := client.Live(ctx, r.Name)
	if err != nil {
		return nil, err
	}
	a.lives[r.Live] = live
	live.OnChange(func(_ context.Context, secret *secretbroker.Secret) {
		a.tell(object{"live": r.Live, "changed": secret.Generation()})
	})
	return object{"generation": live.Current().Generation()}, nil
}

func (a *adapter) answerLive(r *request) (any, error) {
	live := a.lives[r.Live]
	if live == nil {
		return nil, &secretbroker.ConfigurationError{Message: "no such operation or handle: " + r.Op}
	}
	switch r.Op {
	case "live_value":
		value := object{"generation": live.Current().Generation(), "fields": fields(live.Current()), "previous_generation": nil}
		if previous := live.Previous(); previous != nil {
			value["previous_generation"] = previous.Generation()
		}
		if standing := live.Standing(); standing != nil {
			value["standing"] = told(standing)
		}
		return value, nil
	case "unlive":
		live.Close()
		delete(a.lives, r.Live)
		return object{}, nil
	case "jwt_sign":
		token, err := brokerjwt.Sign(live, r.Claims)
		return object{"token": token}, err
	case "jwt_verify":
		claims := jwt.MapClaims{}
		err := brokerjwt.Verify(live, r.Token, claims)
		return object{"claims": claims}, err
	}
	return nil, &secretbroker.ConfigurationError{Message: "no such operation: " + r.Op}
}

// print is every way in which the language prints a secret, a live handle and what they hold.
func (a *adapter) print(ctx context.Context, client *secretbroker.Client, name string) (any, error) {
	secret, err := client.Get(ctx, name)
	if err != nil {
		return nil, err
	}
	live, err := client.Live(ctx, name)
	if err != nil {
		return nil, err
	}
	defer live.Close()
	values := []any{
		secret, *secret, secret.Previous(), []any{secret}, struct{ Secret, hidden any }{secret, secret},
		live, live.Current(), live.Previous(), []any{live},
	}
	if previous := live.Previous(); previous != nil {
		values = append(values, *previous)
	}
	var text strings.Builder
	logger := slog.New(slog.NewTextHandler(&text, nil))
	for _, value := range values {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
			fmt.Fprintf(&text, verb+"\n", value)
		}
		encoded, _ := json.Marshal(value)
		text.Write(append(encoded, '\n'))
		logger.Info("shown", "value", value)
	}
	return object{"text": text.String()}, nil
}

type fielded interface {
	FieldNames() []string
	Field(string) ([]byte, bool)
}

func fields(of fielded) map[string][]byte { // encoding/json writes bytes as base64
	all := make(map[string][]byte)
	for _, name := range of.FieldNames() {
		all[name], _ = of.Field(name)
	}
	return all
}

func shown(s *secretbroker.Secret) object {
	line := object{
		"name": s.Name(), "version": s.Version(), "generation": s.Generation(), "fields": fields(s),
		"freshness": "FRESH", "time_left_ms": nil, "previous": nil,
	}
	if s.Freshness().Stale {
		line["freshness"] = "STALE"
	}
	if left, ends := s.TimeLeft(); ends {
		line["time_left_ms"] = left.Milliseconds()
	}
	if p := s.Previous(); p != nil {
		line["previous"] = object{"version": p.Version(), "generation": p.Generation(), "fields": fields(p)}
	}
	return line
}

func told(err error) object {
	line := object{
		"kind": kind(err), "reason": nil, "transient": secretbroker.IsTransient(err), "retry_after_ms": nil, "message": err.Error(),
	}
	if reason := secretbroker.ReasonOf(err); reason != "" {
		line["reason"] = reason
	}
	if wait := secretbroker.RetryAfter(err); wait != 0 {
		line["retry_after_ms"] = wait.Milliseconds()
	}
	return line
}

func kind(err error) string {
	for kind, target := range map[string]any{
		"configuration": new(*secretbroker.ConfigurationError), "tls": new(*secretbroker.TLSError),
		"unreachable": new(*secretbroker.UnreachableError), "deadline": new(*secretbroker.DeadlineError),
	} {
		if errors.As(err, target) {
			return kind
		}
	}
	return "refused"
}
