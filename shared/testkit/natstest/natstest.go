// Package natstest is a NATS server in this process, for tests.
package natstest

import (
	"cmp"
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
)

// NATS is a server and a connection to it. The data stays when it is stopped.
type NATS struct {
	Dir    string
	Server *embednats.Server
	Conn   *nats.Conn

	o embednats.Options
}

// Start starts a server that ends with the test. Without a StoreDir it has a folder of its own.
func Start(tb testing.TB, o embednats.Options) *NATS {
	tb.Helper()
	o.StoreDir = cmp.Or(o.StoreDir, tb.TempDir())
	n := &NATS{Dir: o.StoreDir, o: o}
	n.Start(tb)
	tb.Cleanup(func() { n.Stop(tb) })
	return n
}

// Start starts the server once more.
func (n *NATS) Start(tb testing.TB) {
	tb.Helper()
	var err error
	n.Server, err = embednats.Start(n.o)
	require.NoError(tb, err)
	n.Conn, err = n.Server.Connect()
	require.NoError(tb, err)
}

// Stop closes the connection and stops the server.
func (n *NATS) Stop(tb testing.TB) {
	tb.Helper()
	n.Conn.Close()
	require.NoError(tb, n.Server.Close())
}
