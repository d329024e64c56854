// Package brokersql connects database/sql with the current credential of a live handle.
//
// New connections log in with the current version. After a rotation, idle connections of older versions are closed and
// those in use live on until they are returned, so that no query fails. The handle reports the new version as applied
// once no connection of an older one is left.
package brokersql

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"strings"
	"sync"

	secretbroker "github.com/secret-broker/secret-broker/clients/go"
	"github.com/secret-broker/secret-broker/clients/go/internal/fleet"
)

// attempts is how often a login is tried while the credential changes under it.
const attempts = 3

// A Login makes the driver's connector for a version of the credential, such as:
//
//	func(secret *secretbroker.Secret) (driver.Connector, error) {
//		config := base.Copy()
//		config.User, config.Password = secret.Text("username"), secret.Text("password")
//		return stdlib.GetConnector(*config), nil
//	}
type Login func(secret *secretbroker.Secret) (driver.Connector, error)

// A Connector is a [driver.Connector] for [sql.OpenDB]. Closing the [sql.DB] closes it too, but not the live handle.
type Connector struct {
	live  *secretbroker.Live
	login Login
	fleet fleet.Fleet
	stop  func()

	mu   sync.Mutex
	open map[*conn]struct{}
}

// New makes a connector of a live handle.
func New(live *secretbroker.Live, login Login) *Connector {
	connector := &Connector{live: live, login: login, open: make(map[*conn]struct{})}
	connector.stop = live.OnChange(func(ctx context.Context, secret *secretbroker.Secret) {
		connector.retire(secret.Generation())
		connector.fleet.OnlyThis(ctx, secret.Generation())
	})
	return connector
}

// Connect opens a connection with the current version. When the database refuses it, the broker is told, and the login
// is tried again with the version that it then serves.
func (c *Connector) Connect(ctx context.Context) (driver.Conn, error) {
	for attempt := 1; ; attempt++ {
		secret := c.live.Current()
		opened, err := c.connect(ctx, secret)
		if err == nil {
			return opened, nil
		}
		if attempt == attempts || ctx.Err() != nil || !c.successor(ctx, secret, err) {
			return nil, err
		}
	}
}

func (c *Connector) connect(ctx context.Context, secret *secretbroker.Secret) (driver.Conn, error) {
	target, err := c.login(secret)
	if err != nil {
		return nil, err
	}
	// Counted before the login, so that the version is not reported as left while the login goes on.
	remove := c.fleet.Add(secret.Generation())
	raw, err := target.Connect(ctx)
	if err != nil {
		remove()
		return nil, err
	}
	opened := &conn{raw: raw, connector: c, generation: secret.Generation(), remove: remove, inUse: true}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.open[opened] = struct{}{}
	return opened, nil
}

// successor tells whether another version can be tried after a failed login.
func (c *Connector) successor(ctx context.Context, tried *secretbroker.Secret, err error) bool {
	if c.live.Current().Generation() > tried.Generation() {
		return true
	}
	// Drivers for PostgreSQL tell the SQLSTATE so; class 28 is an invalid authorization.
	var state interface{ SQLState() string }
	if errors.As(err, &state) && strings.HasPrefix(state.SQLState(), "28") {
		return c.live.Refused(ctx, tried, "SQLSTATE "+state.SQLState())
	}
	return false
}

// Driver exists for database/sql.
func (c *Connector) Driver() driver.Driver { return opener{c} }

// Close stops following the handle.
func (c *Connector) Close() error {
	c.stop()
	return nil
}

// retire closes what lies idle with another version.
func (c *Connector) retire(current uint64) {
	c.mu.Lock()
	all := make([]*conn, 0, len(c.open))
	for opened := range c.open {
		if opened.generation != current {
			all = append(all, opened)
		}
	}
	c.mu.Unlock()
	for _, old := range all {
		old.closeIdle()
	}
}

func (c *Connector) isCurrent(generation uint64) bool {
	return c.live.Current().Generation() <= generation
}

func (c *Connector) forget(closed *conn) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.open, closed)
}

type opener struct{ connector *Connector }

func (o opener) Open(string) (driver.Conn, error) {
	return nil, fmt.Errorf("brokersql: open the database with sql.OpenDB and a connector")
}
