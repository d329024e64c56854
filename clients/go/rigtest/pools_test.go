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

// A tally is how many queries one pool did, and as which users.
type tally struct {
	mu      sync.Mutex
	queries int
	users   map[string]bool
}

func (c *tally) note(user string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.users == nil {
		c.users = make(map[string]bool)
	}
	c.queries++
	c.users[user] = true
}

func TestAHundredRotationsUnderLoadFailNoQuery(t *testing.T) {
	live := liveOf(t, fromEnv(t), "DB")
	pool, db := openPGX(t, live), openSQL(t, live)
	ctx, stop := context.WithCancel(t.Context())
	var working sync.WaitGroup
	var changes atomic.Int64
	tallies := map[string]*tally{"pgx": {}, "database/sql": {}}
	work := func(name string, query func(user *string) error) {
		working.Go(func() {
			for ctx.Err() == nil {
				var user string
				if err := query(&user); err != nil {
					t.Error(name, err)
					return
				}
				tallies[name].note(user)
			}
		})
	}
	insert := "INSERT INTO notes (text) VALUES ('go') RETURNING current_user"
	for range 3 {
		work("pgx", func(user *string) error { return pool.QueryRow(t.Context(), insert).Scan(user) })
		work("database/sql", func(user *string) error { return db.QueryRowContext(t.Context(), insert).Scan(user) })
	}
	slow := "SELECT current_user FROM pg_sleep(0.2)"
	work("pgx", func(user *string) error { return pool.QueryRow(t.Context(), slow).Scan(user) })
	work("database/sql", func(user *string) error { return transaction(t.Context(), db, user) })
	live.OnChange(func(context.Context, *secretbroker.Secret) { changes.Add(1) })
	for range rotations {
		await(t, live, rotate(t, "DB"))
	}
	stop()
	working.Wait()
	for name, tally := range tallies {
		t.Logf("%s: %d queries as %d users over %d rotations", name, tally.queries, len(tally.users), rotations)
		if len(tally.users) <= rotations/2 {
			t.Error(name, "does not follow the rotations")
		}
	}
	// The pools hold nothing old any more, so the old logins are revoked long before their overlap ends.
	for deadline := time.Now().Add(20 * time.Second); logins(t, db) > 1; time.Sleep(100 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal(logins(t, db), "logins are left")
		}
	}
	if changes.Load() != rotations {
		t.Error("the hook was called", changes.Load(), "times")
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

func transaction(ctx context.Context, db *sql.DB, user *string) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }()
	for range 2 {
		if err := tx.QueryRowContext(ctx, "SELECT current_user FROM pg_sleep(0.1)").Scan(user); err != nil {
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
	if err := brokerjwt.Verify(live, before, jwt.MapClaims{}); err != nil {
		t.Error(err)
	}
}

// pgxpool lets nobody in on a failed login; there the next one is good.
func TestALoginThatTheDatabaseRefusesIsTriedAgainWithAFreshOne(t *testing.T) {
	live := liveOf(t, fromEnv(t), "DB")
	before := live.Current().Generation()
	control(t, "drop-users", struct{}{})
	if _, err := openSQL(t, live).ExecContext(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
	if live.Current().Generation() <= before {
		t.Error("the login was not refused")
	}
	if _, err := openPGX(t, live).Exec(t.Context(), "SELECT 1"); err != nil {
		t.Error(err)
	}
}

func TestPoolsOutliveTheSidecar(t *testing.T) {
	live := liveOf(t, fromEnv(t), "DB")
	pool, db := openPGX(t, live), openSQL(t, live)
	query := func() {
		t.Helper()
		if _, err := pool.Exec(t.Context(), "SELECT 1"); err != nil {
			t.Error(err)
		}
		if _, err := db.ExecContext(t.Context(), "SELECT 1"); err != nil {
			t.Error(err)
		}
	}
	control(t, "kill", struct{}{})
	query()
	pool.Reset() // the next connection logs in with what the handle holds
	query()
	control(t, "start", struct{}{})
	await(t, live, rotate(t, "DB"))
	query()
}
