package secretbroker

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// certificates are three PEM files in a directory, read when first needed and again whenever they changed. While they
// are half replaced or unreadable, the last good ones stay in use; nothing is kept of a failure.
type certificates struct {
	ca, chain, key string
	serverName     string

	mu     sync.Mutex
	stamp  [3]stamp
	loaded *tls.Config
}

// A stamp tells one content of a file from the next.
type stamp struct {
	file     os.FileInfo
	size     int64
	modified time.Time
}

func (s stamp) same(other stamp) bool {
	return s.size == other.size && s.modified.Equal(other.modified) && os.SameFile(s.file, other.file)
}

func certificatesIn(directory, serverName string) *certificates {
	return &certificates{
		ca:         filepath.Join(directory, "ca.pem"),
		chain:      filepath.Join(directory, "client.pem"),
		key:        filepath.Join(directory, "client.key"),
		serverName: serverName,
	}
}

// current is the configuration for a new connection.
func (c *certificates) current() (*tls.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.refresh(); err != nil && c.loaded == nil {
		return nil, err
	}
	return c.loaded, nil
}

func (c *certificates) refresh() error {
	// Taken before reading: a change in between is seen at the next connection.
	var now [3]stamp
	unchanged := c.loaded != nil
	for i, path := range []string{c.ca, c.chain, c.key} {
		file, err := os.Stat(path)
		if err != nil {
			return err
		}
		now[i] = stamp{file: file, size: file.Size(), modified: file.ModTime()}
		unchanged = unchanged && now[i].same(c.stamp[i])
	}
	if unchanged {
		return nil
	}
	config, err := c.read()
	if err != nil {
		return err
	}
	c.stamp, c.loaded = now, config
	return nil
}

func (c *certificates) read() (*tls.Config, error) {
	authorities, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(authorities) {
		return nil, fmt.Errorf("%s: no PEM certificate can be read from it", c.ca)
	}
	own, err := tls.LoadX509KeyPair(c.chain, c.key)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", c.chain, c.key, err)
	}
	// Without a session cache: a resumed session would carry the identity of the certificate before.
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		RootCAs:      roots,
		Certificates: []tls.Certificate{own},
		ServerName:   c.serverName,
		NextProtos:   []string{"h2"},
	}, nil
}
