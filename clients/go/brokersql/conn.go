package brokersql

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"sync"
)

// A conn is the driver's connection and the version that it logged in with. It passes on what the driver's can do.
type conn struct {
	raw        driver.Conn
	connector  *Connector
	generation uint64
	remove     func()

	mu     sync.Mutex // guards against being closed while taken into use
	inUse  bool
	closed bool
}

// Unwrap is the driver's own connection, for [sql.Conn.Raw].
func (c *conn) Unwrap() driver.Conn { return c.raw }

// Close closes the driver's connection.
func (c *conn) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.close()
}

func (c *conn) closeIdle() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.inUse {
		_ = c.close()
	}
}

func (c *conn) close() error {
	if c.closed {
		return nil
	}
	c.closed = true
	defer c.remove()
	defer c.connector.forget(c)
	return c.raw.Close()
}

// ResetSession is called by database/sql when it takes an idle connection into use, which it exchanges for another
// without a failed query when this one is too old.
func (c *conn) ResetSession(ctx context.Context) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || !c.connector.isCurrent(c.generation) {
		return driver.ErrBadConn
	}
	c.inUse = true
	if resetter, ok := c.raw.(driver.SessionResetter); ok {
		return resetter.ResetSession(ctx)
	}
	return nil
}

// IsValid is called by database/sql when a connection is returned.
func (c *conn) IsValid() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inUse = false
	if c.closed || !c.connector.isCurrent(c.generation) {
		return false
	}
	validator, ok := c.raw.(driver.Validator)
	return !ok || validator.IsValid()
}

// Prepare exists for database/sql.
func (c *conn) Prepare(query string) (driver.Stmt, error) { return c.raw.Prepare(query) }

// Begin exists for database/sql.
func (c *conn) Begin() (driver.Tx, error) {
	//lint:ignore SA1019 the interface demands it
	return c.raw.Begin()
}

// Ping asks the driver, where it can.
func (c *conn) Ping(ctx context.Context) error {
	if pinger, ok := c.raw.(driver.Pinger); ok {
		return pinger.Ping(ctx)
	}
	return nil
}

// PrepareContext asks the driver, or prepares without a context.
func (c *conn) PrepareContext(ctx context.Context, query string) (driver.Stmt, error) {
	if preparer, ok := c.raw.(driver.ConnPrepareContext); ok {
		return preparer.PrepareContext(ctx, query)
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.raw.Prepare(query)
}

// BeginTx asks the driver, or begins a transaction with the defaults.
func (c *conn) BeginTx(ctx context.Context, options driver.TxOptions) (driver.Tx, error) {
	if beginner, ok := c.raw.(driver.ConnBeginTx); ok {
		return beginner.BeginTx(ctx, options)
	}
	if options.ReadOnly || options.Isolation != driver.IsolationLevel(sql.LevelDefault) {
		return nil, errors.New("brokersql: the driver knows only transactions with the default options")
	}
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	return c.Begin()
}

// ExecContext asks the driver, or has database/sql prepare a statement.
func (c *conn) ExecContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Result, error) {
	if execer, ok := c.raw.(driver.ExecerContext); ok {
		return execer.ExecContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

// QueryContext asks the driver, or has database/sql prepare a statement.
func (c *conn) QueryContext(ctx context.Context, query string, args []driver.NamedValue) (driver.Rows, error) {
	if queryer, ok := c.raw.(driver.QueryerContext); ok {
		return queryer.QueryContext(ctx, query, args)
	}
	return nil, driver.ErrSkip
}

// CheckNamedValue asks the driver, or leaves it to database/sql.
func (c *conn) CheckNamedValue(value *driver.NamedValue) error {
	if checker, ok := c.raw.(driver.NamedValueChecker); ok {
		return checker.CheckNamedValue(value)
	}
	return driver.ErrSkip
}
