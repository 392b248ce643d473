package natsqueue_test

import (
	"context"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
	"recompose/shared/queue/natsqueue"
)

func TestConnect(t *testing.T) {
	t.Parallel()
	srv, err := embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", User: "bob", Password: "hush-hush"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	host := srv.ClientURL()[len("nats://"):]
	log := &lines{}
	for _, o := range []natsqueue.ConnectOptions{
		{URL: "nats://bob:hush-hush@" + host},
		{URL: host, User: "bob", Password: "hush-hush"},
	} {
		o.Log = slog.New(slog.NewTextHandler(log, nil))
		nc, err := natsqueue.Connect(t.Context(), o)
		require.NoError(t, err)
		nc.Close()
	}
	_, err = natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{URL: "nats://bob:hush-hash@" + host, Log: slog.New(slog.NewTextHandler(log, nil))})
	require.ErrorContains(t, err, "Authorization")
	require.NotContains(t, err.Error(), "hush")
	require.Zero(t, log.count("hush"))
}

func TestConnectNamesEveryFault(t *testing.T) {
	t.Parallel()
	empty := filepath.Join(t.TempDir(), "empty")
	require.NoError(t, os.WriteFile(empty, nil, 0o600))
	_, err := natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{
		URL: "nats://bob:hush@ho st", Creds: empty, User: "u", Cert: empty, CA: empty, Wait: true,
	})
	for _, text := range []string{"NATS_URL", "NATS_CREDS and NATS_USER", "NATS_PASSWORD", "NATS_CERT and NATS_KEY", "NATS_CA"} {
		require.ErrorContains(t, err, text)
	}
	require.NotContains(t, err.Error(), "hush")
	_, err = natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{})
	require.ErrorContains(t, err, "NATS_URL must be given")
}

func TestConnectWaits(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	addr := l.Addr().String()
	require.NoError(t, l.Close())
	log := &lines{}
	connected := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	go func() {
		nc, err := natsqueue.Connect(ctx, natsqueue.ConnectOptions{URL: addr, Wait: true, Log: slog.New(slog.NewTextHandler(log, nil))})
		if err == nil {
			nc.Close()
		}
		connected <- err
	}()
	require.Eventually(t, func() bool { return log.count("retrying") == 1 }, 20*time.Second, 10*time.Millisecond)
	srv, err := embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: addr})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, srv.Close()) })
	require.NoError(t, take(t, connected))
	require.Equal(t, 1, log.count("retrying"))

	cancel()
	_, err = natsqueue.Connect(ctx, natsqueue.ConnectOptions{URL: addr + "0", Wait: true})
	require.Error(t, err)
}

// A loss and its reconnect are logged at the same level.
func TestALostConnectionIsReportedAsRestored(t *testing.T) {
	t.Parallel()
	o := embednats.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0"}
	srv, err := embednats.Start(o)
	require.NoError(t, err)
	o.Listen = srv.ClientURL()[len("nats://"):]
	log := &lines{}
	level := &slog.HandlerOptions{Level: slog.LevelWarn}
	nc, err := natsqueue.Connect(t.Context(), natsqueue.ConnectOptions{URL: o.Listen, Log: slog.New(slog.NewTextHandler(log, level))})
	require.NoError(t, err)
	t.Cleanup(nc.Close)
	for n := 1; n <= 2; n++ {
		require.NoError(t, srv.Close())
		require.Eventually(t, func() bool { return log.count("connection to NATS lost") == n }, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, n-1, log.count("connection to NATS restored"))
		srv, err = embednats.Start(o)
		require.NoError(t, err)
		require.Eventually(t, func() bool { return log.count("connection to NATS restored") == n }, 20*time.Second, 10*time.Millisecond)
		require.Equal(t, n, log.count("lost_for="))
	}
	nc.Close()
	require.NoError(t, srv.Close())
	require.Equal(t, 2, log.count("connection to NATS lost"), "closing the connection is not a loss")
}
