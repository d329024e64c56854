//go:build rig

package rigtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/jackc/pgx/v5/stdlib"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/brokerjwt"
	"github.com/secret-broker/secret-broker/clients/go/brokerpgx"
	"github.com/secret-broker/secret-broker/clients/go/brokersql"
)

const rotations = 100

func openPGX(t *testing.T, live *secretbroker.Live) *pgxpool.Pool {
	t.Helper()
	config, err := pgxpool.ParseConfig("pool_max_conns=6")
	if err != nil {
		t.Fatal(err)
	}
	pool, err := brokerpgx.NewPool(t.Context(), live, config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

func openSQL(t *testing.T, live *secretbroker.Live) *sql.DB {
	t.Helper()
	base, err := pgx.ParseConfig("")
	if err != nil {
		t.Fatal(err)
	}
	db := sql.OpenDB(brokersql.New(live, func(secret *secretbroker.Secret) (driver.Connector, error) {
		config := base.Copy()
		config.User, config.Password = secret.Text("username"), secret.Text("password")
		return stdlib.GetConnector(*config), nil
	}))
	db.SetMaxOpenConns(6)
	db.SetMaxIdleConns(6)
	t.Cleanup(func() { _ = db.Close() })
	return db
}

func TestAHundredRotationsUnderLoadFailNoQuery(t *testing.T) {
	live := liveOf(t, fromEnv(t), "DB")
	pool, db := openPGX(t, live), openSQL(t, live)
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	var queries, users atomic.Int64
	work := func(query func() error) {
		working.Go(func() {
			for ctx.Err() == nil {
				if err := query(); err != nil {
					t.Error(err)
					return
				}
				queries.Add(1)
			}
		})
	}
	for range 3 {
		work(func() error { _, err := pool.Exec(t.Context(), "INSERT INTO notes (text) VALUES ('pgx')"); return err })
		work(func() error {
			_, err := db.ExecContext(t.Context(), "INSERT INTO notes (text) VALUES ($1)", "sql")
			return err
		})
	}
	work(func() error { _, err := pool.Exec(t.Context(), "SELECT pg_sleep(0.2)"); return err })
	work(func() error { return transaction(t.Context(), db) })
	live.OnChange(func(context.Context, *secretbroker.Secret) { users.Add(1) })
	for range rotations {
		await(t, live, rotate(t, "DB"))
	}
	stop()
	working.Wait()
	t.Logf("%d queries over %d rotations, %d seen by the hook", queries.Load(), rotations, users.Load())
	if queries.Load() < rotations || users.Load() < rotations/2 {
		t.Error("too little happened")
	}
	// The pools hold nothing old any more, so the old logins are revoked long before their overlap ends.
	for deadline := time.Now().Add(20 * time.Second); logins(t, db) > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(logins(t, db), "logins are left")
		}
	}
	var user string
	if err := db.QueryRowContext(t.Context(), "SELECT current_user").Scan(&user); err != nil || user != live.Current().Text("username") {
		t.Error(user, err)
	}
}

func logins(t *testing.T, db *sql.DB) (count int) {
	t.Helper()
	alike := "SELECT count(*) FROM pg_roles WHERE rolname LIKE left(current_user, 6) || '%'"
	if err := db.QueryRowContext(t.Context(), alike).Scan(&count); err != nil {
		t.Fatal(err)
	}
	return count
}

func transaction(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 2 {
		if _, err := tx.ExecContext(ctx, "SELECT pg_sleep(0.1)"); err != nil {
			return err
		}
	}
	return tx.Commit()
}

func TestTokensOutliveARotationAtTheBroker(t *testing.T) {
	live := liveOf(t, fromEnv(t), "JWT")
	before, err := brokerjwt.Sign(live, jwt.MapClaims{"sub": "before"})
	if err != nil {
		t.Fatal(err)
	}
	await(t, live, rotate(t, "JWT"))
	after, err := brokerjwt.Sign(live, jwt.MapClaims{"sub": "after"})
	if err != nil {
		t.Fatal(err)
	}
	if err := brokerjwt.Verify(live, after, jwt.MapClaims{}); err != nil {
		t.Error(err)
	}
	if live.Previous() == nil {
		return // its overlap ended, since all its readers took the new version over
	}
	if err := brokerjwt.Verify(live, before, jwt.MapClaims{}); err != nil {
		t.Error(err)
	}
}
