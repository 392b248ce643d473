package safety

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/store"
)

// OperatorsKey is the store's key for the operators' settings. (It is named after its first use.)
const OperatorsKey = "freeze"

// Freeze is why no write begins at present.
type Freeze = queue.Freeze

// Operators are the operators' settings for a deployment: the freeze and the lists of desktops. Its methods are safe
// for concurrent use. Each blocks like the store; after an error other than the named ones a change may have been
// stored, and it may be repeated.
type Operators struct {
	Store store.Store
	// Older reads lists under the keys of earlier versions, until a list is set or cleared: on AWS.
	Older bool
	Now   func() time.Time // nil: time.Now

	cache listCache
}

// item is the value under OperatorsKey. An item without lists, service and freeze is never stored.
type item struct {
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"by,omitempty"`
	At     *time.Time `json:"at,omitempty"` // set: writes are frozen

	Lists   *lists          `json:"lists,omitempty"`   // nil: no list was set since lists are kept here
	Service *events.Service `json:"service,omitempty"` // the last one of setup --accept-service

	older map[ListName]store.Value // headers under the keys of earlier versions; used if Lists is nil
}

type lists struct {
	Allow *List `json:"allow,omitempty"`
	Deny  *List `json:"deny,omitempty"`
}

func (i *item) freeze() *Freeze {
	if i.At == nil {
		return nil
	}
	return &Freeze{Reason: i.Reason, By: i.By, At: *i.At}
}

func (i *item) setFreeze(f *Freeze) {
	i.Reason, i.By, i.At = "", "", nil
	if f != nil {
		i.Reason, i.By, i.At = f.Reason, f.By, &f.At
	}
}

// keys returns the keys of the values that decide about a write.
func (o *Operators) keys() []string {
	if o.Older {
		return []string{OperatorsKey, string(AllowList), string(DenyList)}
	}
	return []string{OperatorsKey}
}

// decode decodes the item from the values of keys; it is empty if there is none. The error is store.ErrDamaged by
// errors.Is for a value that is not an item.
func (o *Operators) decode(values []store.Value) (item, error) {
	i, _, err := decodeItem(values[0])
	if o.Older {
		i.older = map[ListName]store.Value{AllowList: values[1], DenyList: values[2]}
	}
	return i, err
}

// read reads the item without the headers of earlier versions: an operator who may only freeze may have no right to
// read those.
func (o *Operators) read(ctx context.Context) (item, store.Revision, error) {
	return decodeItem(get(ctx, o.Store, OperatorsKey))
}

// readOlder adds the headers of earlier versions to the item, if they are in use.
func (o *Operators) readOlder(ctx context.Context, state item) item {
	if o.Older && state.Lists == nil {
		state.older = map[ListName]store.Value{}
		for _, name := range []ListName{AllowList, DenyList} {
			state.older[name] = get(ctx, o.Store, string(name))
		}
	}
	return state
}

func get(ctx context.Context, s store.Store, key string) (v store.Value) {
	v.Data, v.Revision, v.Err = s.Get(ctx, key)
	return v
}

func decodeItem(v store.Value) (i item, rev store.Revision, err error) {
	switch {
	case errors.Is(v.Err, store.ErrNotFound):
		return item{}, 0, nil
	case v.Err != nil:
		return item{}, v.Revision, v.Err
	}
	d := json.NewDecoder(bytes.NewReader(v.Data))
	d.DisallowUnknownFields() // an unknown field could be a reason to stop writes
	err = d.Decode(&i)
	if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("it has trailing data")
	}
	if err == nil && i.At == nil && i.Lists == nil && i.Service == nil {
		err = errors.New("it has no content")
	}
	if err != nil {
		return item{}, v.Revision, fmt.Errorf("read %s: %w: %w", OperatorsKey, store.ErrDamaged, err)
	}
	return i, v.Revision, nil
}

// mend is read, except that a damaged item is replaced by one whose lists are unknown: they stop writes until they are
// set or cleared.
func (o *Operators) mend(ctx context.Context) (item, store.Revision, error) {
	state, rev, err := o.read(ctx)
	switch {
	case errors.Is(err, store.ErrDamaged):
		return item{Lists: &lists{Allow: &List{Lost: true}, Deny: &List{Lost: true}}}, rev, nil
	case err != nil:
		return item{}, 0, err
	}
	return state, rev, nil
}

// write stores the item, or removes an empty one if there is one.
func (o *Operators) write(ctx context.Context, i item, old store.Revision) error {
	if i.Lists != nil && *i.Lists == (lists{}) && !o.Older {
		i.Lists = nil
	}
	if i.At == nil && i.Lists == nil && i.Service == nil {
		if old == 0 {
			return nil
		}
		return o.Store.Delete(ctx, OperatorsKey, old)
	}
	data, err := json.Marshal(i)
	if err == nil {
		_, err = o.Store.Put(ctx, OperatorsKey, data, old)
	}
	return err
}

// Frozen returns the freeze in force; nil if there is none. A freeze that cannot be read is an error, never nil.
func (o *Operators) Frozen(ctx context.Context) (*Freeze, error) {
	state, _, err := o.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("read whether writes are frozen: %w", err)
	}
	return state.freeze(), nil
}

// attempts limits the attempts of a change that loses against concurrent changes, or that is based on the stale value of
// a replica.
const attempts = 100

// SetFreeze freezes all writes of the deployment, and replaces a freeze in force. It also works without the right to
// read, if nothing is stored yet.
func (o *Operators) SetFreeze(ctx context.Context, f Freeze) error {
	for range attempts {
		state, rev, unread := o.mend(ctx)
		state.setFreeze(&f)
		err := o.write(ctx, state, rev)
		switch {
		case errors.Is(err, store.ErrConflict) && unread == nil:
			continue
		case errors.Is(err, store.ErrConflict):
			return fmt.Errorf("freeze: the stored freeze or lists cannot be read: %w", unread)
		case err != nil:
			return fmt.Errorf("freeze: %w", err)
		}
		return nil
	}
	return fmt.Errorf("freeze: %w", store.ErrConflict)
}

// Thaw ends the freeze; without one it does nothing.
func (o *Operators) Thaw(ctx context.Context) error {
	return o.update(ctx, "thaw", func(i *item) { i.setFreeze(nil) })
}

// SetService prevents workers of another service from beginning further writes.
func (o *Operators) SetService(ctx context.Context, s events.Service) error {
	return o.update(ctx, "stop the workers of another service", func(i *item) { i.Service = &s })
}

// update changes the item, also a damaged one. purpose begins its errors.
func (o *Operators) update(ctx context.Context, purpose string, change func(*item)) error {
	for range attempts {
		state, rev, err := o.mend(ctx)
		if err == nil {
			change(&state)
			err = o.write(ctx, state, rev)
		}
		switch {
		case err == nil:
			return nil
		case !errors.Is(err, store.ErrConflict):
			return fmt.Errorf("%s: %w", purpose, err)
		}
	}
	return fmt.Errorf("%s: %w", purpose, store.ErrConflict)
}
