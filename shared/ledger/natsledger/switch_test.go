package natsledger_test

import (
	"testing"

	"github.com/nats-io/nats.go/jetstream"
	"github.com/stretchr/testify/require"

	"recompose/shared/ledger"
	"recompose/shared/ledger/natsledger"
)

func TestFreezeThatCannotBeRead(t *testing.T) {
	t.Parallel()
	p := setup(t)
	s, err := natsledger.New(t.Context(), p.nc, natsledger.Options{})
	require.NoError(t, err)
	js, err := jetstream.New(p.nc)
	require.NoError(t, err)
	kv, err := js.KeyValue(t.Context(), "RECOMPOSE_LEDGER")
	require.NoError(t, err)
	_, err = kv.Put(t.Context(), "freeze", []byte("{"))
	require.NoError(t, err)
	_, err = s.Frozen(t.Context())
	require.ErrorContains(t, err, "damaged")
	require.NoError(t, s.Thaw(t.Context()), "it can be ended all the same")
	f, err := s.Frozen(t.Context())
	require.NoError(t, err)
	require.Nil(t, f)

	require.NoError(t, kv.Purge(t.Context(), "freeze"))
	f, err = s.Frozen(t.Context())
	require.NoError(t, err)
	require.Nil(t, f)

	require.NoError(t, js.DeleteKeyValue(t.Context(), "RECOMPOSE_LEDGER"))
	_, err = s.Frozen(t.Context())
	require.Error(t, err, "without the ledger nothing is known")
}

func TestDeploymentsAreFrozenApart(t *testing.T) {
	t.Parallel()
	p := setup(t)
	test, err := natsledger.New(t.Context(), p.nc, natsledger.Options{Deployment: "test"})
	require.NoError(t, err)
	production, err := natsledger.New(t.Context(), p.nc, natsledger.Options{})
	require.NoError(t, err)
	require.NoError(t, test.SetFreeze(t.Context(), ledger.Freeze{Reason: "r"}))
	f, err := production.Frozen(t.Context())
	require.NoError(t, err)
	require.Nil(t, f)
}
