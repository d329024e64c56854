// Webservice keeps notes in PostgreSQL and gives tokens out, with a database login and a signing key that rotate while
// it runs.
//
//	POST /tokens?user=NAME   answers a token
//	POST /notes              with the token as bearer: keeps the body, answers its number
//	GET  /health             answers the generations in use
//
// It needs SECRET_BROKER_ADDRESS, SECRET_BROKER_CERT_DIR, PGHOST, PGPORT and PGDATABASE, and listens on LISTEN
// (127.0.0.1:8080).
package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/brokerjwt"
	"github.com/secret-broker/secret-broker/clients/go/brokerpgx"
)

type service struct {
	pool *pgxpool.Pool
	db   *secretbroker.Live
	keys *secretbroker.Live
}

func main() {
	if err := run(); err != nil {
		slog.Error("stopped", "error", err)
		os.Exit(1)
	}
}

func run() error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	client, err := secretbroker.FromEnv()
	if err != nil {
		return err
	}
	defer func() { _ = client.Close() }()
	db, err := client.Live(ctx, "DB")
	if err != nil {
		return err
	}
	defer db.Close()
	keys, err := client.Live(ctx, "JWT")
	if err != nil {
		return err
	}
	defer keys.Close()
	config, err := pgxpool.ParseConfig("")
	if err != nil {
		return err
	}
	pool, err := brokerpgx.NewPool(ctx, db, config)
	if err != nil {
		return err
	}
	defer pool.Close()
	return serve(ctx, &service{pool: pool, db: db, keys: keys})
}

func serve(ctx context.Context, s *service) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /health", s.health)
	mux.HandleFunc("POST /tokens", s.token)
	mux.HandleFunc("POST /notes", s.note)
	listener, err := net.Listen("tcp", cmp.Or(os.Getenv("LISTEN"), "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	slog.Info("listening", "address", listener.Addr().String(), "login", s.db)
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Shutdown(context.Background()) })
	if err := server.Serve(listener); !errors.Is(err, http.ErrServerClosed) {
		return err
	}
	return nil
}

func (s *service) health(w http.ResponseWriter, r *http.Request) {
	if err := s.pool.Ping(r.Context()); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	_, _ = fmt.Fprintf(w, "DB %d JWT %d\n", s.db.Current().Generation(), s.keys.Current().Generation())
}

func (s *service) token(w http.ResponseWriter, r *http.Request) {
	token, err := brokerjwt.Sign(s.keys, jwt.RegisteredClaims{
		Subject: r.FormValue("user"), ExpiresAt: jwt.NewNumericDate(time.Now().Add(10 * time.Minute)),
	})
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = io.WriteString(w, token)
}

func (s *service) note(w http.ResponseWriter, r *http.Request) {
	bearer, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if err := brokerjwt.Verify(s.keys, bearer, &jwt.RegisteredClaims{}); err != nil {
		http.Error(w, "no good token", http.StatusUnauthorized)
		return
	}
	text, err := io.ReadAll(http.MaxBytesReader(w, r.Body, 4096))
	if err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	var number int64
	err = s.pool.QueryRow(r.Context(), "INSERT INTO notes (text) VALUES ($1) RETURNING id", string(text)).Scan(&number)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	_, _ = fmt.Fprintln(w, number)
}
