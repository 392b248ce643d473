package lambdaboot

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"recompose/shared/credentials"
	"recompose/shared/ledger"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// probeEvery is how long nothing is asked of the service after it has refused the credentials: a little longer than the
// client itself holds calls back. The same credentials are tried again after twice as long each time, at most probeRarely:
// what helps most often is others in the secret, and those are tried at once. A login that IAM has refused is not
// repeated by any sandbox: a few wrong passwords lock the user.
const (
	probeNever  = 100 * 365 * 24 * time.Hour
	probeEvery  = time.Minute + 2*time.Second
	probeRarely = 16 * time.Minute
	readEvery   = 30 * time.Second // of the secret, while the breaker is open
)

// While nobody has shown that the service takes the credentials, one sandbox finds out.
const (
	tryWithin = 10 * time.Second // then another may try
	underWay  = 2 * time.Second  // so long the others put their messages off
)

// breaker is what all sandboxes of all functions share; *dynamoledger.Store is one.
type breaker interface {
	Breaker(ctx context.Context) (dynamoledger.Breaker, error)
	OpenBreaker(ctx context.Context, b dynamoledger.Break) error
	Probe(ctx context.Context, name string, next time.Time) (bool, error)
	StillRefused(ctx context.Context, name string, next time.Time) error
	CloseBreaker(ctx context.Context, proved string) error
}

// brake keeps the key from being locked, which the service does after five refused signatures in a row. Credentials
// that nobody has tried are tried by one sandbox alone, or all that start at once would each be refused. The breaker stops
// every sandbox; one of them probes now and then, with the credentials that are in the secret then. A sandbox whose
// credentials are not those that the service took last reads the secret again; one that was itself refused goes on only
// after a probe of its own.
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
	reads   time.Time // when it may read the secret again
}

// errUnderWay says that another sandbox is finding out whether the service takes the credentials.
var errUnderWay = errors.New("whether the service takes the credentials is being found out")

// Check tells why no message may be handled. While another sandbox is finding out, it is a *queue.RetryError.
func (b *brake) Check(ctx context.Context) error {
	s, err := b.store.Breaker(ctx)
	if err != nil && ctx.Err() == nil { // a sandbox that was frozen meanwhile has had no time for it
		s, err = b.store.Breaker(ctx)
	}
	if err != nil { // what cannot be read is open
		return err
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if s.Break == nil && b.refused == nil && s.Proved == b.auth.name() {
		return nil
	}
	if s, err = b.store.Breaker(ctx); err != nil { // it may have been another message's turn meanwhile
		return err
	}
	return b.check(ctx, s)
}

// check decides by the breaker as it is.
func (b *brake) check(ctx context.Context, s dynamoledger.Breaker) error {
	if s.Break == nil && s.Proved != "" && s.Proved != b.auth.name() { // ours may be old
		if _, err := b.reread(ctx); err != nil { // nor is anything asked with them: a refusal would stop those that have the others
			return fmt.Errorf("the service takes other credentials by now, which could not be read: %w", err)
		}
	}
	if b.refused != nil && b.now().Before(b.next) { // the client would hold the call back
		return b.refused
	}
	if s.Break != nil && !b.now().Before(b.reads) {
		if _, err := b.reread(ctx); err != nil { // the old ones were refused, or would only be
			return fmt.Errorf("%w; and the secret could not be read again: %w", refusedSince(s.Break), err)
		}
	}
	name := b.auth.name()
	taken := s.Break == nil && s.Proved == name
	wait := probeEvery
	switch {
	case taken && b.refused == nil:
		return nil
	case taken:
		return b.probed(ctx)
	case s.Break == nil:
		wait = tryWithin
	}
	mine, err := b.store.Probe(ctx, name, b.now().Add(wait))
	if err != nil {
		return err
	}
	if !mine {
		return b.others(s)
	}
	if err := b.probed(ctx); err != nil {
		if workspace.IsUnauthorized(err) {
			b.tell(ctx, s, name, err)
		}
		return err
	}
	if err := b.store.CloseBreaker(ctx, name); err != nil {
		return err
	}
	b.log.InfoContext(ctx, "the service takes the credentials")
	return nil
}

// tell tells the other sandboxes that the service refuses the credentials.
func (b *brake) tell(ctx context.Context, s dynamoledger.Breaker, name string, why error) {
	if s.Break == nil {
		b.open(ctx, why)
		return
	}
	wait := max(probeEvery, min(b.now().Sub(s.Break.At), probeRarely))
	if errors.Is(why, workspace.ErrLoginRefused) {
		wait = probeNever
	}
	if err := b.store.StillRefused(ctx, name, b.now().Add(wait)); err != nil { // then they are tried again in a minute
		b.log.WarnContext(ctx, "a probe that was refused could not be noted", "error", err)
	}
}

// others tells what another sandbox has found out, or is finding out.
func (b *brake) others(s dynamoledger.Breaker) error {
	if s.Break == nil {
		return queue.RetryAfter(underWay, errUnderWay)
	}
	why := refusedSince(s.Break)
	if trying := b.now().Sub(s.Trying); trying < tryWithin {
		return queue.RetryAfter(underWay, fmt.Errorf("%w: %w", errUnderWay, why))
	}
	return why
}

func refusedSince(b *dynamoledger.Break) error {
	return fmt.Errorf("the service refuses the credentials since %s: %s", b.At.Format(time.RFC3339), b.Reason)
}

// probed asks the service for very little.
func (b *brake) probed(ctx context.Context) error {
	err := b.probe(ctx)
	if err == nil {
		b.refused = nil
		return nil
	}
	if b.refused != nil || workspace.IsUnauthorized(err) { // else nothing is known of them, and any message may try again
		b.refused, b.next = err, b.now().Add(probeEvery)
	}
	return fmt.Errorf("the service refuses the credentials, or does not answer: %w", err)
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
	b.reads = b.now().Add(readEvery)
	others, err := credentials.Of(c, nil)
	if err != nil {
		return false, err
	}
	err = b.auth.replace(others, b.keys.version)
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
	b.open(ctx, why)
}

// open stops all sandboxes.
func (b *brake) open(ctx context.Context, why error) {
	until, wait := "until a probe shows that it takes them", probeEvery
	if errors.Is(why, workspace.ErrLoginRefused) {
		until, wait = "until the secret is put anew, with the right login", probeNever
	}
	b.log.ErrorContext(ctx, "the service refuses the credentials; no function calls it "+until, "error", why)
	err := b.store.OpenBreaker(ctx, dynamoledger.Break{Reason: why.Error(), By: b.by, At: b.now().UTC(), Probe: b.now().Add(wait).UTC(), Name: b.auth.name()})
	if err != nil {
		b.log.ErrorContext(ctx, "the other sandboxes could not be told", "error", err)
	}
}

// gate is what stands directly before each write: the freeze, and the breaker, which another sandbox may have opened
// since this message was begun.
type gate struct {
	store interface {
		ledger.Switch
		Breaker(ctx context.Context) (dynamoledger.Breaker, error)
	}
}

// Frozen tells the freeze in force. An open breaker is an error: the write must not be made now.
func (g gate) Frozen(ctx context.Context) (*ledger.Freeze, error) {
	b, err := g.store.Breaker(ctx)
	switch {
	case err != nil:
		return nil, err
	case b.Break != nil:
		return nil, refusedSince(b.Break)
	}
	return g.store.Frozen(ctx)
}
