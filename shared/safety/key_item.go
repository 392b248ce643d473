package safety

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"recompose/shared/store"
)

// KeyKey is where the store has what is known of the access key. (Its name is that of its first use.)
const KeyKey = "breaker"

// Refusal is why no process calls the service for now: it refused the credentials, and five refusals in a row would lock
// the access key.
type Refusal struct {
	Reason string    `json:"reason"`
	By     string    `json:"by"` // the process that was refused
	At     time.Time `json:"at"` // since when, UTC
}

func (r *Refusal) Error() string {
	return fmt.Sprintf("the service refuses the credentials since %s: %s", r.At.Format(time.RFC3339), r.Reason)
}

// keyItem is what stands under KeyKey. Where the credentials are not refused, it has no time since when they are.
type keyItem struct {
	Refusal
	Probe  time.Time `json:"probe"`            // when the same credentials may be tried again
	Name   string    `json:"name"`             // of the credentials that were tried last
	Proved string    `json:"proved,omitempty"` // names the credentials that the service took last; of no use while they are refused
	Trying time.Time `json:"trying,omitzero"`  // when a process last began to find out; zero: it was found out
}

func (i *keyItem) refused() bool { return !i.At.IsZero() }

// ReadRefusal reads why no process calls the service; nil if they do. It blocks as the store does.
func ReadRefusal(ctx context.Context, s store.Store) (*Refusal, error) {
	return (&keyPlace{s, KeyKey}).refusal(ctx)
}

// keyPlace is where the state of a key is.
type keyPlace struct {
	store.Store
	key string
}

func (p *keyPlace) refusal(ctx context.Context) (*Refusal, error) {
	return p.refusalOf(get(ctx, p, p.key))
}

// refusalOf gives why no process calls the service, by the value in the place; nil if they do.
func (p *keyPlace) refusalOf(v store.Value) (*Refusal, error) {
	is, _, err := p.decode(v)
	if err != nil || !is.refused() {
		return nil, err
	}
	return &is.Refusal, nil
}

func (p *keyPlace) read(ctx context.Context) (is keyItem, rev store.Revision, err error) {
	return p.decode(get(ctx, p, p.key))
}

func (p *keyPlace) decode(v store.Value) (is keyItem, rev store.Revision, err error) {
	switch {
	case errors.Is(v.Err, store.ErrNotFound):
		return is, 0, nil
	case v.Err != nil:
		return is, v.Revision, v.Err
	}
	if err := json.Unmarshal(v.Data, &is); err != nil {
		return keyItem{}, v.Revision, fmt.Errorf("read %s: %w: %w", p.key, store.ErrDamaged, err)
	}
	return is, v.Revision, nil
}

func (p *keyPlace) write(ctx context.Context, to keyItem, old store.Revision) (store.Revision, error) {
	data, err := json.Marshal(to)
	if err != nil {
		return 0, err
	}
	return p.Put(ctx, p.key, data, old)
}

// refuse stores a refusal, unless there is one already. What was proved before is proved no more.
func (p *keyPlace) refuse(ctx context.Context, to keyItem) error {
	for {
		is, rev, err := p.read(ctx)
		if err != nil && !errors.Is(err, store.ErrDamaged) || err == nil && is.refused() {
			return err
		}
		if _, err = p.write(ctx, to, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// takeProbe asks for the one call that may be tried with the credentials of this name, of which it is not known whether the
// service takes them: true for one asker at a time, once the time for it has come or others were tried last, and then not
// again before next. The revision is that by which prove stores the result.
func (p *keyPlace) takeProbe(ctx context.Context, name string, now, next time.Time) (store.Revision, bool, error) {
	is, rev, err := p.read(ctx)
	if err != nil || now.Before(is.Probe) && is.Name == name {
		return 0, false, err
	}
	is.Probe, is.Name, is.Trying = next, name, now.UTC()
	rev, err = p.write(ctx, is, rev)
	if errors.Is(err, store.ErrConflict) {
		return 0, false, nil
	}
	return rev, err == nil, err
}

// putOff stores that the credentials of this name were refused once more, and may not be tried again before next. Where
// others were tried since, it changes nothing.
func (p *keyPlace) putOff(ctx context.Context, name string, next time.Time) error {
	is, rev, err := p.read(ctx)
	if err != nil || is.Name != name {
		return err
	}
	is.Probe, is.Trying = next, time.Time{}
	if _, err := p.write(ctx, is, rev); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// prove stores that the service takes the credentials of this name, in the place of what stood there at the probe. What
// was stored since stays: it may be a refusal, which is the error then.
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
