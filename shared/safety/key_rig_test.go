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

// secret is where the credentials of all processes come from.
type secret struct {
	text string
	err  error
}

// credential is that of one process.
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
	asked  int   // the service
	answer error // of the service
}

func newRig(t *testing.T) *rig {
	return &rig{t: t, now: now, store: &watched{Store: memstore.New()}, secret: &secret{text: "old"}}
}

// process is one of them.
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
		Probe: func(context.Context) error { r.asked++; return r.answer },
	}
}

// refused requires that the store has a refusal, or none.
func (r *rig) refused(want bool) {
	r.t.Helper()
	is, err := safety.ReadRefusal(r.t.Context(), r.store)
	require.NoError(r.t, err)
	require.Equal(r.t, want, is != nil, "%v", is)
}

// underWay requires that another process is finding out, and that the message comes back soon.
func underWay(t *testing.T, err error) {
	t.Helper()
	retry := new(queue.RetryError)
	require.ErrorAs(t, err, &retry)
	require.Equal(t, 2*time.Second, retry.After)
	require.ErrorContains(t, err, "being found out")
}

var (
	errRefused = &workspace.Error{Operation: "list-images", Class: workspace.Unauthorized, Status: 401}
	errLogin   = &workspace.Error{Operation: "list-images", Class: workspace.Unauthorized, Err: workspace.ErrLoginRefused}
)
