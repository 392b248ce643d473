package safety

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/shared/store"
)

// KeyKey is the store's key for the state of the access key. (It is named after its first use.)
const KeyKey = "breaker"

// Refusal is why no process calls the service at present: it refused the credentials, and five refusals in a row would
// lock the access key.
type Refusal struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"` // the process that was refused
	At     time.Time `json:"at"` // since when, UTC
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the service refuses the credentials since %s: %s", r.At.Format(time.RFC3339), r.Reason)
}

// keyItem is the value under KeyKey. Its time At is zero unless the credentials are refused.
type keyItem struct {
	Refusal
	Probe  time.Time `json:"probe"`            // when the same credentials may be used again
	Name   string    `json:"name"`             // of the credentials that were used last
	Proved string    `json:"proved,omitempty"` // name of the last accepted credentials; not used while they are refused
	Trying time.Time `json:"trying,omitzero"`  // when a process last began to check; zero: the check has ended
}

func (i *keyItem) refused() bool { return !i.At.IsZero() }

// ReadRefusal returns why no process calls the service; nil if processes do. It blocks like the store.
func ReadRefusal(ctx context.Context, s store.Store) (*Refusal, error) {
	return (&keyPlace{s, KeyKey}).refusal(ctx)
}

// keyPlace is the place of the state of a key.
type keyPlace struct {
	store.Store
	key string
}

func (p *keyPlace) refusal(ctx context.Context) (*Refusal, error) {
	return p.refusalOf(get(ctx, p, p.key))
}

// refusalOf returns why no process calls the service, according to the value; nil if processes do.
func (p *keyPlace) refusalOf(v store.Value) (*Refusal, error) {
	state, _, err := p.decode(v)
	if err != nil || !state.refused() {
		return nil, err
	}
	return &state.Refusal, nil
}

func (p *keyPlace) read(ctx context.Context) (state keyItem, rev store.Revision, err error) {
	return p.decode(get(ctx, p, p.key))
}

func (p *keyPlace) decode(v store.Value) (state keyItem, rev store.Revision, err error) {
	switch {
	case errors.Is(v.Err, store.ErrNotFound):
		return state, 0, nil
	case v.Err != nil:
		return state, v.Revision, v.Err
	}
	if err := json.Unmarshal(v.Data, &state); err != nil {
		return keyItem{}, v.Revision, fmt.Errorf("read %s: %w: %w", p.key, store.ErrDamaged, err)
	}
	return state, v.Revision, nil
}

func (p *keyPlace) write(ctx context.Context, to keyItem, old store.Revision) (store.Revision, error) {
	data, err := json.Marshal(to)
	if err != nil {
		return 0, err
	}
	return p.Put(ctx, p.key, data, old)
}

// refuse stores a refusal, unless there is one already. It discards the last accepted credentials.
func (p *keyPlace) refuse(ctx context.Context, to keyItem) error {
	for {
		state, rev, err := p.read(ctx)
		if err != nil && !errors.Is(err, store.ErrDamaged) || err == nil && state.refused() {
			return err
		}
		if _, err = p.write(ctx, to, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// takeProbe claims the one call with the credentials of this name, of which it is unknown whether the service accepts
// them. It returns true for one caller at a time, when the time for the call has come or other credentials were used
// last, and then not before next. The revision is the one with which prove stores the result.
func (p *keyPlace) takeProbe(ctx context.Context, name string, now, next time.Time) (store.Revision, bool, error) {
	state, rev, err := p.read(ctx)
	if err != nil || now.Before(state.Probe) && state.Name == name {
		return 0, false, err
	}
	state.Probe, state.Name, state.Trying = next, name, now.UTC()
	rev, err = p.write(ctx, state, rev)
	if errors.Is(err, store.ErrConflict) {
		return 0, false, nil
	}
	return rev, err == nil, err
}

// putOff stores that the credentials of this name were refused once more, and must not be used before next. If others
// were used since, it changes nothing.
func (p *keyPlace) putOff(ctx context.Context, name string, next time.Time) error {
	state, rev, err := p.read(ctx)
	if err != nil || state.Name != name {
		return err
	}
	state.Probe, state.Trying = next, time.Time{}
	if _, err := p.write(ctx, state, rev); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// prove stores that the service accepts the credentials of this name. It replaces the item of the probe. A value that
// was stored since then stays; if it is a refusal, it is returned as the error.
func (p *keyPlace) prove(ctx context.Context, name string, probed store.Revision) error {
	_, err := p.write(ctx, keyItem{Proved: name}, probed)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	refusal, err := p.refusal(ctx)
	if err == nil && refusal != nil {
		return refusal
	}
	return err
}
