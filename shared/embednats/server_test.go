package embednats_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/shared/embednats"
)

func TestInProcess(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s, err := embednats.Start(embednats.Options{StoreDir: dir, SyncAlways: true})
	require.NoError(t, err)
	require.Empty(t, s.ClientURL())
	nc, err := s.Connect()
	require.NoError(t, err)
	require.NoError(t, nc.Publish("x", nil))
	require.NoError(t, nc.Flush())

	_, err = embednats.Start(embednats.Options{StoreDir: dir})
	require.ErrorContains(t, err, "another process uses this folder")

	nc.Close()
	require.NoError(t, s.Close())
	require.NoError(t, s.Close(), "closing may be repeated")
	s, err = embednats.Start(embednats.Options{StoreDir: dir})
	require.NoError(t, err, "the folder is free after Close")
	require.NoError(t, s.Close())
}

func TestListen(t *testing.T) {
	t.Parallel()
	s, err := embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: "127.0.0.1:0", User: "u", Password: "p"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close()) })

	_, err = nats.Connect(s.ClientURL())
	require.ErrorIs(t, err, nats.ErrAuthorization)
	nc, err := nats.Connect(s.ClientURL(), nats.UserInfo("u", "p"))
	require.NoError(t, err)
	addr := nc.ConnectedAddr()
	nc.Close()
	in, err := s.Connect()
	require.NoError(t, err, "in process with the same credentials")
	in.Close()

	_, err = embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: addr})
	require.ErrorContains(t, err, "--nats-listen")
	require.ErrorContains(t, err, "another port")
}

func TestAListenerForOtherMachinesNeedsTLSAndCredentials(t *testing.T) {
	t.Parallel()
	for _, listen := range []string{"0.0.0.0:0", ":0", "[::]:0", "192.0.2.1:4222", "example.test:4222"} {
		_, err := embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: listen, User: "u", Password: "p"})
		for _, name := range []string{"NATS_USER", "NATS_PASSWORD", "NATS_CERT", "NATS_KEY"} {
			require.ErrorContains(t, err, name, listen)
		}
	}
	_, err := embednats.Start(embednats.Options{})
	require.ErrorContains(t, err, "folder")
	_, err = embednats.Start(embednats.Options{StoreDir: t.TempDir(), Listen: "4222"})
	require.ErrorContains(t, err, "host:port")
	_, err = embednats.Start(embednats.Options{StoreDir: t.TempDir(), User: "u"})
	require.ErrorContains(t, err, "together")
}
