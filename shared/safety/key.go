package safety

import (
	"cmp"
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

// ProbeEvery is the time without calls after the service has refused the credentials: a little longer than the client
// itself delays calls. Unchanged credentials are retried after ProbeEvery, then after waits that double up to
// probeRarely. Changed credentials are tried at once: most often they are the repair. A refused login is never retried: a
// few wrong passwords lock the user.
const (
	ProbeEvery  = time.Minute + 2*time.Second
	probeRarely = 16 * time.Minute
	probeNever  = 100 * 365 * 24 * time.Hour
	readEvery   = 30 * time.Second // between two reloads of the credentials while they are refused
)

// While it is unknown whether the service accepts the credentials, one process checks it.
const (
	tryWithin = 10 * time.Second // then another process may check
	underWay  = 2 * time.Second  // delay of the other processes' messages
)

// Credentials are the credentials of one process.
type Credentials interface {
	// Name is equal in all processes with the same credentials, and does not reveal them.
	Name() string
	// Reload reads the credentials once more from their source; it returns true if they have changed.
	Reload(ctx context.Context) (bool, error)
}

// KeyOptions are the options of a Key. All but Own and Every are required.
type KeyOptions struct {
	Store       store.Store // shared by all processes that have the same key
	Own         bool        // only processes with the same credentials share the state of the key; others are not affected
	Credentials Credentials
	Probe       func(ctx context.Context) error // makes a small read
	By          string                          // the name of this process
	Log         *slog.Logger
	Now         func() time.Time
	Every       time.Duration // zero: ProbeEvery
}

// Key prevents the lock of the access key, which the service imposes after more than 5 refused signatures in a row. One
// process alone makes the first call with new credentials; otherwise every process that starts at the same time would
// be refused. A refusal stops every process that shares the store; one of them probes, at growing intervals, with the
// credentials that it can read then. A process whose credentials are not the last accepted ones reloads them; a
// process that was itself refused continues only after a probe of its own.
type Key struct {
	o     KeyOptions
	place *keyPlace

	mu      sync.Mutex
	refused error     // this process was refused, and not accepted since
	next    time.Time // when it may probe for itself
	reads   time.Time // when it may reload the credentials
}

// NewKey makes a Key.
func NewKey(o KeyOptions) *Key {
	o.Every = cmp.Or(o.Every, ProbeEvery)
	place := &keyPlace{o.Store, KeyKey}
	if o.Own {
		place.key += "/" + o.Credentials.Name()
	}
	return &Key{o: o, place: place, reads: o.Now().Add(readEvery)}
}

// errUnderWay reports that another process is checking whether the service accepts the credentials.
var errUnderWay = errors.New("another process is checking whether the service accepts the credentials")

// Refusal returns why no process may call the service; nil if they may. It reads only the store, and blocks like it.
func (k *Key) Refusal(ctx context.Context) (*Refusal, error) { return k.place.refusal(ctx) }

// Check returns why no message may be handled; nil if messages may be. It calls the service once if this process has
// to check whether the service accepts the credentials. While another process does so, the error is a
// *queue.RetryError. Check may be repeated, and blocks until the store and the service have answered or ctx ends.
func (k *Key) Check(ctx context.Context) error {
	state, _, err := k.place.read(ctx)
	if err != nil && ctx.Err() == nil { // a sandbox that was frozen during the read ran out of time
		state, _, err = k.place.read(ctx)
	}
	if err != nil { // an unreadable state stops messages
		return err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if !state.refused() && k.refused == nil && state.Proved == k.o.Credentials.Name() {
		return nil
	}
	if state, _, err = k.place.read(ctx); err != nil { // another message may have changed the state while this one waited for mu
		return err
	}
	return k.check(ctx, state)
}

// check decides by the present item.
func (k *Key) check(ctx context.Context, state keyItem) error {
	now := k.o.Now()
	if !state.refused() && state.Proved != "" && state.Proved != k.o.Credentials.Name() { // ours may be outdated
		if err := k.reload(ctx); err != nil { // make no call with outdated ones: a refusal would stop the processes with the new ones
			return fmt.Errorf("the service accepts other credentials now, and reloading the credentials failed: %w", err)
		}
	}
	if k.refused != nil && now.Before(k.next) { // the client would hold the call back
		return k.refused
	}
	if state.refused() && !now.Before(k.reads) {
		if err := k.reload(ctx); err != nil { // the old ones were refused, or would be
			return fmt.Errorf("%w; and reloading the credentials failed: %w", &state.Refusal, err)
		}
	}
	name := k.o.Credentials.Name()
	taken := !state.refused() && state.Proved == name
	wait := k.o.Every
	switch {
	case taken && k.refused == nil:
		return nil
	case taken:
		return k.probed(ctx)
	case !state.refused():
		wait = tryWithin
	}
	probed, mine, err := k.place.takeProbe(ctx, name, now, now.Add(wait))
	if err != nil {
		return err
	}
	if !mine {
		return others(state, now)
	}
	if err := k.probed(ctx); err != nil {
		switch {
		case workspace.IsUnauthorized(err):
			k.share(ctx, state, name, err)
		case !state.refused(): // no decision, so no process needs to wait
			if err := k.place.putOff(ctx, name, now); err != nil {
				k.o.Log.WarnContext(ctx, "cannot store the end of a probe without a decision", "error", err)
			}
		}
		return err
	}
	if err := k.place.prove(ctx, name, probed); err != nil {
		return err
	}
	k.o.Log.InfoContext(ctx, "the service accepts the credentials")
	return nil
}

// share stores that a probe was refused.
func (k *Key) share(ctx context.Context, state keyItem, name string, why error) {
	if !state.refused() {
		k.stop(ctx, why)
		return
	}
	now := k.o.Now()
	wait := max(k.o.Every, min(now.Sub(state.At), probeRarely))
	if errors.Is(why, workspace.ErrLoginRefused) {
		wait = probeNever
	}
	if err := k.place.putOff(ctx, name, now.Add(wait)); err != nil { // then unchanged credentials are retried in a minute
		k.o.Log.WarnContext(ctx, "cannot store the refusal of a probe", "error", err)
	}
}

// others returns the finding of another process, or that it is still checking.
func others(state keyItem, now time.Time) error {
	if !state.refused() {
		return queue.RetryAfter(underWay, errUnderWay)
	}
	if now.Sub(state.Trying) < tryWithin {
		return queue.RetryAfter(underWay, fmt.Errorf("%w: %w", errUnderWay, &state.Refusal))
	}
	return &state.Refusal
}

// probed makes a small read.
func (k *Key) probed(ctx context.Context) error {
	err := k.o.Probe(ctx)
	if err == nil {
		k.refused = nil
		return nil
	}
	if k.refused != nil || workspace.IsUnauthorized(err) { // otherwise there is no decision, and any message may probe
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
		k.o.Log.InfoContext(ctx, "reloaded changed credentials")
	}
	return nil
}

// Restarted allows one process to repeat a refused login, because this process was restarted: a restart is how an
// operator reports that IAM may accept the login now. The login is repeated no sooner than other refused credentials
// would be, so that restarts in a row do not lock the user. Restarted changes nothing else, and may be repeated.
func (k *Key) Restarted(ctx context.Context) error {
	for {
		state, rev, err := k.place.read(ctx)
		if err != nil || !state.refused() || state.Probe.Sub(k.o.Now()) <= probeRarely {
			return err
		}
		state.Probe = state.Probe.Add(probeRarely - probeNever)
		if _, err = k.place.write(ctx, state, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// Refuse stops the handling of messages because of a 401. If the reloaded credentials are others, only this process
// waits; otherwise all processes do.
func (k *Key) Refuse(ctx context.Context, why error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.refused, k.next = why, k.o.Now().Add(k.o.Every)
	changed, err := k.o.Credentials.Reload(ctx)
	switch {
	case err != nil:
		k.o.Log.WarnContext(ctx, "cannot reload the credentials", "error", err)
	case changed:
		k.o.Log.InfoContext(ctx, "reloaded changed credentials")
		return
	}
	k.stop(ctx, why)
}

// stop stops all processes.
func (k *Key) stop(ctx context.Context, why error) {
	until, wait := "until a probe shows that it accepts them", k.o.Every
	if errors.Is(why, workspace.ErrLoginRefused) {
		until, wait = "until the right login is put in the secret, or the worker is restarted with it", probeNever
	}
	k.o.Log.ErrorContext(ctx, "the service refuses the credentials; no function calls it "+until, "error", why)
	now := k.o.Now().UTC()
	err := k.place.refuse(ctx, keyItem{
		Refusal: Refusal{Reason: why.Error(), By: k.o.By, At: now}, Probe: now.Add(wait), Name: k.o.Credentials.Name(),
	})
	if err != nil {
		k.o.Log.ErrorContext(ctx, "cannot store the refusal for the other processes", "error", err)
	}
}
