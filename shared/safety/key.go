package safety

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"recompose/shared/queue"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// ProbeEvery is how long nothing is asked of the service after it has refused the credentials: a little longer than the
// client itself holds calls back. The same credentials are tried again after twice as long each time, at most probeRarely:
// what helps most often is other credentials, and those are tried at once. A login that IAM has refused is not repeated by
// any process: a few wrong passwords lock the user.
const (
	ProbeEvery  = time.Minute + 2*time.Second
	probeRarely = 16 * time.Minute
	probeNever  = 100 * 365 * 24 * time.Hour
	readEvery   = 30 * time.Second // of the credentials, while they are refused
)

// While it is not known whether the service takes the credentials, one process finds out.
const (
	tryWithin = 10 * time.Second // then another may try
	underWay  = 2 * time.Second  // so long the others put their messages off
)

// Credentials are those of one process.
type Credentials interface {
	// Name is the same in all processes that have the same credentials, and does not show what they are.
	Name() string
	// Reload reads them once more from where they come from; true where they are others than before.
	Reload(ctx context.Context) (bool, error)
}

// KeyOptions are the options of a Key. All but Own and Every are required.
type KeyOptions struct {
	Store       store.Store // shared by all processes that have the same key
	Own         bool        // only processes with the very same credentials share the state of the key: others go on
	Credentials Credentials
	Probe       func(ctx context.Context) error // asks the service for very little
	By          string                          // names this process
	Log         *slog.Logger
	Now         func() time.Time
	Every       time.Duration // zero: ProbeEvery
}

// Key keeps the access key from being locked, which the service does after five refused signatures in a row. Credentials
// that were never tried are tried by one process alone, or all that start at once would each be refused. A refusal stops
// every process that shares the store; one of them probes, less and less often, with the credentials that it can read then.
// A process whose credentials are not those that the service took last reads them again; one that was itself refused goes on
// only after a probe of its own.
type Key struct {
	o     KeyOptions
	place *keyPlace

	mu      sync.Mutex
	refused error     // this process was refused, and not taken since
	next    time.Time // when it may probe for itself
	reads   time.Time // when it may read the credentials again
}

// NewKey makes a Key.
func NewKey(o KeyOptions) *Key {
	if o.Every == 0 {
		o.Every = ProbeEvery
	}
	place := &keyPlace{o.Store, KeyKey}
	if o.Own {
		place.key += "/" + o.Credentials.Name()
	}
	return &Key{o: o, place: place, reads: o.Now().Add(readEvery)}
}

// errUnderWay reports that another process is finding out whether the service takes the credentials.
var errUnderWay = errors.New("whether the service takes the credentials is being found out")

// Refusal returns why no process may call the service; nil if they may. It asks the store alone, and blocks as it does.
func (k *Key) Refusal(ctx context.Context) (*Refusal, error) { return k.place.refusal(ctx) }

// Check returns why no message may be handled; nil if messages may be. It may be what finds out that the service takes the
// credentials: then it calls the service once. While another process does so, the error is a *queue.RetryError. It may be
// repeated, and blocks until the store and the service have answered or ctx ends.
func (k *Key) Check(ctx context.Context) error {
	is, _, err := k.place.read(ctx)
	if err != nil && ctx.Err() == nil { // a sandbox that was frozen meanwhile has had no time for it
		is, _, err = k.place.read(ctx)
	}
	if err != nil { // what cannot be read holds messages back
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !is.refused() && k.refused == nil && is.Proved == k.o.Credentials.Name() {
		return nil
	}
	if is, _, err = k.place.read(ctx); err != nil { // it may have been another message's turn meanwhile
		return err
	}
	return k.check(ctx, is)
}

// check decides by the item as it is.
func (k *Key) check(ctx context.Context, is keyItem) error {
	now := k.o.Now()
	if !is.refused() && is.Proved != "" && is.Proved != k.o.Credentials.Name() { // ours may be old
		if err := k.reload(ctx); err != nil { // nor is anything asked with them: a refusal would stop those that have the others
			return fmt.Errorf("the service takes other credentials by now, which could not be read: %w", err)
		}
	}
	if k.refused != nil && now.Before(k.next) { // the client would hold the call back
		return k.refused
	}
	if is.refused() && !now.Before(k.reads) {
		if err := k.reload(ctx); err != nil { // the old ones were refused, or would only be
			return fmt.Errorf("%w; and the credentials could not be read again: %w", &is.Refusal, err)
		}
	}
	name := k.o.Credentials.Name()
	taken := !is.refused() && is.Proved == name
	wait := k.o.Every
	switch {
	case taken && k.refused == nil:
		return nil
	case taken:
		return k.probed(ctx)
	case !is.refused():
		wait = tryWithin
	}
	probed, mine, err := k.place.takeProbe(ctx, name, now, now.Add(wait))
	if err != nil {
		return err
	}
	if !mine {
		return others(is, now)
	}
	if err := k.probed(ctx); err != nil {
		switch {
		case workspace.IsUnauthorized(err):
			k.share(ctx, is, name, err)
		case !is.refused(): // nothing was found out, and no process need wait
			if err := k.place.putOff(ctx, name, now); err != nil {
				k.o.Log.WarnContext(ctx, "that a probe found nothing out could not be stored", "error", err)
			}
		}
		return err
	}
	if err := k.place.prove(ctx, name, probed); err != nil {
		return err
	}
	k.o.Log.InfoContext(ctx, "the service takes the credentials")
	return nil
}

// share stores that a probe was refused.
func (k *Key) share(ctx context.Context, is keyItem, name string, why error) {
	if !is.refused() {
		k.stop(ctx, why)
		return
	}
	now := k.o.Now()
	wait := max(k.o.Every, min(now.Sub(is.At), probeRarely))
	if errors.Is(why, workspace.ErrLoginRefused) {
		wait = probeNever
	}
	if err := k.place.putOff(ctx, name, now.Add(wait)); err != nil { // then they are tried again in a minute
		k.o.Log.WarnContext(ctx, "a probe that was refused could not be stored", "error", err)
	}
}

// others is what another process has found out, or is finding out.
func others(is keyItem, now time.Time) error {
	if !is.refused() {
		return queue.RetryAfter(underWay, errUnderWay)
	}
	if now.Sub(is.Trying) < tryWithin {
		return queue.RetryAfter(underWay, fmt.Errorf("%w: %w", errUnderWay, &is.Refusal))
	}
	return &is.Refusal
}

// probed asks the service for very little.
func (k *Key) probed(ctx context.Context) error {
	err := k.o.Probe(ctx)
	if err == nil {
		k.refused = nil
		return nil
	}
	if k.refused != nil || workspace.IsUnauthorized(err) { // else nothing is known of them, and any message may try again
		k.refused, k.next = err, k.o.Now().Add(k.o.Every)
	}
	return fmt.Errorf("the service refuses the credentials, or does not answer: %w", err)
}

func (k *Key) reload(ctx context.Context) error {
	changed, err := k.o.Credentials.Reload(ctx)
	if err != nil {
		return err
	}
	k.reads = k.o.Now().Add(readEvery)
	if changed {
		k.o.Log.InfoContext(ctx, "there are new credentials")
	}
	return nil
}

// Restarted lets a refused login be tried once more by one process, because this one was started anew: that is how a person
// reports that it may be taken by now. It is tried no sooner than with any other refused credentials, so that restarts in a
// row do not lock the user. It changes nothing else, and may be repeated.
func (k *Key) Restarted(ctx context.Context) error {
	for {
		is, rev, err := k.place.read(ctx)
		if err != nil || !is.refused() || is.Probe.Sub(k.o.Now()) <= probeRarely {
			return err
		}
		is.Probe = is.Probe.Add(probeRarely - probeNever)
		if _, err = k.place.write(ctx, is, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Refuse stops the handling of messages because of a 401. If there are other credentials by now, only this process waits;
// else all do.
func (k *Key) Refuse(ctx context.Context, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused, k.next = why, k.o.Now().Add(k.o.Every)
	changed, err := k.o.Credentials.Reload(ctx)
	switch {
	case err != nil:
		k.o.Log.WarnContext(ctx, "the credentials could not be read again", "error", err)
	case changed:
		k.o.Log.InfoContext(ctx, "there are new credentials")
		return
	}
	k.stop(ctx, why)
}

// stop stops all processes.
func (k *Key) stop(ctx context.Context, why error) {
	until, wait := "until a probe shows that it takes them", k.o.Every
	if errors.Is(why, workspace.ErrLoginRefused) {
		until, wait = "until the right login is put in the secret, or the worker is restarted with it", probeNever
	}
	k.o.Log.ErrorContext(ctx, "the service refuses the credentials; no function calls it "+until, "error", why)
	now := k.o.Now().UTC()
	err := k.place.refuse(ctx, keyItem{
		Refusal: Refusal{Reason: why.Error(), By: k.o.By, At: now}, Probe: now.Add(wait), Name: k.o.Credentials.Name(),
	})
	if err != nil {
		k.o.Log.ErrorContext(ctx, "the refusal could not be stored for the other processes", "error", err)
	}
}
