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
	is, _, err := readKey(ctx, s)
	if err != nil || !is.refused() {
		return nil, err
	}
	return &is.Refusal, nil
}

func readKey(ctx context.Context, s store.Store) (is keyItem, rev store.Revision, err error) {
	data, rev, err := s.Get(ctx, KeyKey)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return is, 0, nil
	case err != nil:
		return is, rev, err
	}
	if err := json.Unmarshal(data, &is); err != nil {
		return keyItem{}, rev, fmt.Errorf("read %s: %w: %w", KeyKey, store.ErrDamaged, err)
	}
	return is, rev, nil
}

func writeKey(ctx context.Context, s store.Store, to keyItem, old store.Revision) (store.Revision, error) {
	data, err := json.Marshal(to)
	if err != nil {
		return 0, err
	}
	return s.Put(ctx, KeyKey, data, old)
}

// refuseKey stores a refusal, unless there is one already. What was proved before is proved no more.
func refuseKey(ctx context.Context, s store.Store, to keyItem) error {
	for {
		is, rev, err := readKey(ctx, s)
		if err != nil && !errors.Is(err, store.ErrDamaged) || err == nil && is.refused() {
			return err
		}
		if _, err = writeKey(ctx, s, to, rev); !errors.Is(err, store.ErrConflict) {
			return err
		}
	}
}

// takeProbe asks for the one call that may be tried with the credentials of this name, of which it is not known whether the
// service takes them: true for one asker at a time, once the time for it has come or others were tried last, and then not
// again before next. The revision is that by which proveKey stores the result.
func takeProbe(ctx context.Context, s store.Store, name string, now, next time.Time) (store.Revision, bool, error) {
	is, rev, err := readKey(ctx, s)
	if err != nil || now.Before(is.Probe) && is.Name == name {
		return 0, false, err
	}
	is.Probe, is.Name, is.Trying = next, name, now.UTC()
	rev, err = writeKey(ctx, s, is, rev)
	if errors.Is(err, store.ErrConflict) {
		return 0, false, nil
	}
	return rev, err == nil, err
}

// putOff stores that the credentials of this name were refused once more, and may not be tried again before next. Where
// others were tried since, it changes nothing.
func putOff(ctx context.Context, s store.Store, name string, next time.Time) error {
	is, rev, err := readKey(ctx, s)
	if err != nil || is.Name != name {
		return err
	}
	is.Probe, is.Trying = next, time.Time{}
	if _, err := writeKey(ctx, s, is, rev); !errors.Is(err, store.ErrConflict) {
		return err
	}
	return nil
}

// proveKey stores that the service takes the credentials of this name, in the place of what stood there at the probe. What
// was stored since stays: it may be a refusal, which is the error then.
func proveKey(ctx context.Context, s store.Store, name string, probed store.Revision) error {
	_, err := writeKey(ctx, s, keyItem{Proved: name}, probed)
	if !errors.Is(err, store.ErrConflict) {
		return err
	}
	refusal, err := ReadRefusal(ctx, s)
	if err == nil && refusal != nil {
		return refusal
	}
	return err
}
