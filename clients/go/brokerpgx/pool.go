// Package brokerpgx gives pgx connections and pools the current credential of a live handle.
//
// New connections log in with the current version. After a rotation, idle connections are closed and those in use live
// on until they are released, so that no query fails. The handle reports the new version as applied once no connection
// of an older one is left.
package brokerpgx

import (
	"context"
	"errors"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/multitracer"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/fleet"
)

// departure is where a connection keeps what has to be called when it is closed.
const departure = "secretbroker.departure"

// Login puts the current version's fields "username" and "password" into a connection's configuration. It is for
// connections outside a pool: pgx.ConnectConfig(ctx, config) after it. The version is returned for a report.
func Login(live *secretbroker.Live, config *pgx.ConnConfig) *secretbroker.Secret {
	secret := live.Current()
	if user := secret.Text("username"); user != "" {
		config.User = user
	}
	config.Password = secret.Text("password")
	return secret
}

// NewPool makes a pool whose connections log in with the current version. The hooks that the configuration has already
// are kept, and the configuration itself is not changed.
func NewPool(ctx context.Context, live *secretbroker.Live, config *pgxpool.Config) (*pgxpool.Pool, error) {
	ours := config.Copy()
	open := &fleet.Fleet{}
	ours.BeforeConnect = beforeConnect(live, open, config.BeforeConnect)
	ours.BeforeClose = func(conn *pgx.Conn) {
		if config.BeforeClose != nil {
			config.BeforeClose(conn)
		}
		if left, ok := conn.PgConn().CustomData()[departure].(func()); ok {
			left()
		}
	}
	// Before the pool has connections: none is of a version whose end it does not hear of.
	made := make(chan *pgxpool.Pool, 1)
	stop := live.OnChange(func(ctx context.Context, secret *secretbroker.Secret) {
		select {
		case pool := <-made:
			made <- pool
			pool.Reset()
			open.OnlyThis(ctx, secret.Generation())
		case <-ctx.Done():
		}
	})
	pool, err := pgxpool.NewWithConfig(ctx, ours)
	if err != nil {
		stop()
		return nil, err
	}
	made <- pool
	return pool, nil
}

type configure = func(context.Context, *pgx.ConnConfig) error

func beforeConnect(live *secretbroker.Live, open *fleet.Fleet, before configure) configure {
	return func(ctx context.Context, config *pgx.ConnConfig) error {
		if before != nil {
			if err := before(ctx, config); err != nil {
				return err
			}
		}
		secret := Login(live, config)
		// Counted before the login, so that the version is not reported as left while the login goes on.
		left := open.Add(secret.Generation())
		config.Tracer = traced(config.Tracer, &login{live: live, secret: secret, left: left})
		after := config.AfterConnect
		config.AfterConnect = func(ctx context.Context, conn *pgconn.PgConn) error {
			conn.CustomData()[departure] = left
			if after != nil {
				return after(ctx, conn)
			}
			return nil
		}
		return nil
	}
}

func traced(before pgx.QueryTracer, login *login) pgx.QueryTracer {
	if before == nil {
		return login
	}
	return multitracer.New(before, login)
}

// A login learns how a connection attempt ended: a failed one is not open any more, and the broker is told of one that
// the database refused, so that it fetches a fresh version.
type login struct {
	live   *secretbroker.Live
	secret *secretbroker.Secret
	left   func()
}

// TraceConnectStart exists for pgx.
func (l *login) TraceConnectStart(ctx context.Context, _ pgx.TraceConnectStartData) context.Context {
	return ctx
}

// TraceConnectEnd notes a failed login.
func (l *login) TraceConnectEnd(ctx context.Context, data pgx.TraceConnectEndData) {
	if data.Err == nil {
		return
	}
	l.left()
	refused, ok := errors.AsType[*pgconn.PgError](data.Err)
	if ok && strings.HasPrefix(refused.Code, "28") {
		l.live.Refused(ctx, l.secret, "SQLSTATE "+refused.Code)
	}
}

// TraceQueryStart exists for pgx, whose tracers all have to trace queries.
func (l *login) TraceQueryStart(ctx context.Context, _ *pgx.Conn, _ pgx.TraceQueryStartData) context.Context {
	return ctx
}

// TraceQueryEnd exists for pgx.
func (l *login) TraceQueryEnd(context.Context, *pgx.Conn, pgx.TraceQueryEndData) {}
