package nats_test

import (
	"testing"

	"github.com/nats-io/nats.go"
	"github.com/stretchr/testify/require"

	"recompose/events"
	"recompose/shared/store/natsstore"
)

// A worker writes the records of rollouts; people read them.
func TestWhoMayReadRollouts(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	worker := b.connect(t, "worker")
	own, err := natsstore.Open(t.Context(), worker, natsstore.Options{Bucket: natsstore.Rollouts, Verify: true})
	require.NoError(t, err)
	key := "rollouts/win11/head"
	_, err = own.Put(t.Context(), key, []byte(`{"name":"win11"}`), 0)
	require.NoError(t, err)
	data, _, err := own.Get(t.Context(), key)
	require.NoError(t, err)
	require.JSONEq(t, `{"name":"win11"}`, string(data))
	require.NoError(t, worker.LastError())
	for _, user := range []string{"operator", "reader"} {
		nc := b.connect(t, user)
		seen, err := natsstore.Open(t.Context(), nc, natsstore.Options{Bucket: natsstore.Rollouts, Direct: true})
		require.NoError(t, err)
		data, _, err := seen.Get(t.Context(), key)
		require.NoError(t, err, user)
		require.JSONEq(t, `{"name":"win11"}`, string(data))
		require.NoError(t, nc.LastError(), user)
	}
}

// A verb that waits, or is redriven, is on recompose.next.rollout.v1: who may publish there, or a timer, may send every verb.
func TestWhoMayPublishAVerbBehindTheEntrance(t *testing.T) { //nolint:paralleltest // the configuration reads the environment
	b := start(t)
	const next, timer = "recompose.next.rollout.v1", "recompose.timer.forged"
	for user, may := range map[string]map[string]bool{
		"worker":   {next: true, timer: true, events.TypeRolloutApprove: false},
		"operator": {next: true, timer: false, events.TypeRolloutApprove: true}, // next for redrives, and every verb at the entrance
		"reader":   {next: false, timer: false, events.TypeRolloutApprove: false},
		"setup":    {next: false, timer: false, events.TypeRolloutApprove: false},
	} {
		for subject, allowed := range may {
			nc := b.connect(t, user)
			require.NoError(t, nc.Publish(subject, []byte(`{}`)))
			require.NoError(t, nc.Flush())
			if allowed {
				require.NoError(t, nc.LastError(), "%s on %s", user, subject)
			} else {
				require.ErrorIs(t, nc.LastError(), nats.ErrPermissionViolation, "%s on %s", user, subject)
			}
			nc.Close()
		}
	}
}
