package safety_test

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store/memstore"
	"recompose/shared/workspace"
)

// secret is the source of the credentials of all processes.
type secret struct {
	text string
	err  error
}

// credential is the credentials of one process.
type credential struct {
	secret  *secret
	current string
}

func (c *credential) Name() string { return c.current }

func (c *credential) Reload(context.Context) (bool, error) {
	if c.secret.err != nil {
		return false, c.secret.err
	}
	changed := c.current != c.secret.text
	c.current = c.secret.text
	return changed, nil
}

// rig is processes that share a store and a secret.
type rig struct {
	t      *testing.T
	now    time.Time
	store  *watched
	secret *secret
	calls  int   // of the service
	answer error // of the service
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, now: now, store: &watched{Store: memstore.New()}, secret: &secret{text: "old"}}
}

// process starts a process.
type process struct {
	*safety.Key
	has *credential
}

func (r *rig) process() process {
	has := &credential{secret: r.secret, current: "old"}
	return process{safety.NewKey(r.options(has)), has}
}

func (r *rig) options(has *credential) safety.KeyOptions {
	return safety.KeyOptions{
		Store: r.store, Credentials: has, By: "w1", Log: slog.New(slog.DiscardHandler),
		Now:   func() time.Time { return r.now },
		Probe: func(context.Context) error { r.calls++; return r.answer },
	}
}

// refused requires that the store has a refusal, or that it has none.
func (r *rig) refused(want bool) {
	r.t.Helper()
	state, err := safety.ReadRefusal(r.t.Context(), r.store)
	require.NoError(r.t, err)
	require.Equal(r.t, want, state != nil, "%v", state)
}

// underWay requires that another process is checking, and that the message is retried soon.
func underWay(t *testing.T, err error) {
	t.Helper()
	retry := new(queue.RetryError)
	require.ErrorAs(t, err, &retry)
	require.Equal(t, 2*time.Second, retry.After)
	require.ErrorContains(t, err, "another process is checking")
}

var (
	errRefused = &workspace.Error{Operation: "list-images", Class: workspace.Unauthorized, Status: 401}
	errLogin   = &workspace.Error{Operation: "list-images", Class: workspace.Unauthorized, Err: workspace.ErrLoginRefused}
)
