package lambdaboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
)

// probeEvery is how long nothing is asked of the service after it has refused the credentials: a little longer than the
// client itself holds calls back.
const probeEvery = time.Minute + 2*time.Second

// breaker is what all sandboxes of all functions share; *dynamoledger.Store is one.
type breaker interface {
	Broken(ctx context.Context) (*dynamoledger.Break, error)
	OpenBreaker(ctx context.Context, b dynamoledger.Break) error
	Probe(ctx context.Context, next time.Time) (bool, error)
	CloseBreaker(ctx context.Context) error
}

// brake keeps the key from being locked, which the service does after five refused signatures in a row. The breaker
// stops every sandbox; one of them probes once a minute, with the credentials that are in the secret then. A sandbox
// that was itself refused goes on only after a probe of its own: its credentials may be old.
type brake struct {
	store breaker
	keys  *secret
	auth  *rotating
	probe func(ctx context.Context) error
	by    string
	log   *slog.Logger
	now   func() time.Time

	mu      sync.Mutex
	refused error     // this sandbox was refused, and not taken since
	next    time.Time // when it may probe for itself
}

// Check tells why no message may be handled.
func (b *brake) Check(ctx context.Context) error {
	broken, err := b.store.Broken(ctx)
	if err != nil { // what cannot be read is open
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if broken == nil {
		if b.refused == nil {
			return nil
		}
		if b.now().Before(b.next) {
			return b.refused
		}
		return b.probed(ctx)
	}
	mine, err := b.store.Probe(ctx, b.now().Add(probeEvery))
	if err != nil {
		return err
	}
	if !mine {
		return fmt.Errorf("the service refuses the credentials since %s: %s", broken.At.Format(time.RFC3339), broken.Reason)
	}
	if err := b.probed(ctx); err != nil {
		return err
	}
	if err := b.store.CloseBreaker(ctx); err != nil {
		return err
	}
	b.log.InfoContext(ctx, "the service takes the credentials again")
	return nil
}

// probed asks the service for very little, with the credentials as they are in the secret now.
func (b *brake) probed(ctx context.Context) error {
	if _, err := b.reread(ctx); err != nil {
		b.log.WarnContext(ctx, "the credentials could not be read again", "error", err)
	}
	b.refused = b.probe(ctx)
	b.next = b.now().Add(probeEvery)
	if b.refused != nil {
		return fmt.Errorf("the service still refuses the credentials, or does not answer: %w", b.refused)
	}
	return nil
}

// reread takes the credentials from the secret; true where they are others than before.
func (b *brake) reread(ctx context.Context) (bool, error) {
	if b.keys.arn == "" {
		return false, nil
	}
	c, err := b.keys.load(ctx)
	if err != nil {
		return false, err
	}
	err = b.auth.replace(authOf(c))
	if errors.Is(err, errUnchanged) {
		return false, nil
	}
	if err == nil {
		b.log.InfoContext(ctx, "the secret has new credentials")
	}
	return err == nil, err
}

// Pull is told of a 401. If the secret has other credentials by now, only this sandbox waits; else all do.
func (b *brake) Pull(ctx context.Context, why error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.refused, b.next = why, b.now().Add(probeEvery)
	changed, err := b.reread(ctx)
	if err != nil {
		b.log.WarnContext(ctx, "the credentials could not be read again", "error", err)
	}
	if changed {
		return
	}
	b.log.ErrorContext(ctx, "the service refuses the credentials; no function calls it until a probe shows that it takes them", "error", why)
	err = b.store.OpenBreaker(ctx, dynamoledger.Break{Reason: why.Error(), By: b.by, At: b.now().UTC(), Probe: b.now().Add(probeEvery).UTC()})
	if err != nil {
		b.log.ErrorContext(ctx, "the other sandboxes could not be told", "error", err)
	}
}

// gate is what stands directly before each write: the freeze, and the breaker, which another sandbox may have opened
// since this message was begun.
type gate struct {
	store interface {
		ledger.Switch
		Broken(ctx context.Context) (*dynamoledger.Break, error)
	}
}

// Frozen tells the freeze in force. An open breaker is an error: the write must not be made now.
func (g gate) Frozen(ctx context.Context) (*ledger.Freeze, error) {
	broken, err := g.store.Broken(ctx)
	switch {
	case err != nil:
		return nil, err
	case broken != nil:
		return nil, fmt.Errorf("the service refuses the credentials since %s: %s", broken.At.Format(time.RFC3339), broken.Reason)
	}
	return g.store.Frozen(ctx)
}
