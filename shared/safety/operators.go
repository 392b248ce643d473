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
	"recompose/shared/store"
)

// OperatorsKey is where the store has what people have set. (Its name is that of its first use.)
const OperatorsKey = "freeze"

// Freeze is why no write begins for now.
type Freeze struct {
	Reason string    `json:"reason"` // in the words of the person who froze
	By     string    `json:"by"`     // the person: user@host
	At     time.Time `json:"at"`     // since when, UTC
}

// Operators is what people have set for a deployment: the freeze and the lists of desktops. Its methods may be used at the
// same time. Each blocks as the store does; after an error other than those named, a change may have been stored, and it
// may be repeated.
type Operators struct {
	Store store.Store
	// Older reads lists where earlier versions put them, until a list is set or cleared: on AWS.
	Older bool
	Now   func() time.Time // nil: time.Now

	held held
}

// item is what stands under OperatorsKey. An item without lists, service and freeze is never stored.
type item struct {
	Reason string     `json:"reason,omitempty"`
	By     string     `json:"by,omitempty"`
	At     *time.Time `json:"at,omitempty"` // set: writes are frozen

	Lists   *lists          `json:"lists,omitempty"`   // nil: none were set since they are kept here
	Service *events.Service `json:"service,omitempty"` // that setup --accept-service named last

	older map[ListName]store.Value // headers where earlier versions put them; they count where Lists is nil
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

// lost is an item in the place of a damaged one: its lists are not known, and stop writes until they are set or cleared.
func lost() item {
	return item{Lists: &lists{Allow: &List{Lost: true}, Deny: &List{Lost: true}}}
}

// keys are those that the answer for a write depends on.
func (o *Operators) keys() []string {
	if o.Older {
		return []string{OperatorsKey, string(AllowList), string(DenyList)}
	}
	return []string{OperatorsKey}
}

// decode gives the item of the values of keys; an empty one where there is none. The error is store.ErrDamaged by errors.Is
// if something else stands there.
func (o *Operators) decode(values []store.Value) (item, error) {
	i, _, err := decodeItem(values[0])
	if o.Older {
		i.older = map[ListName]store.Value{AllowList: values[1], DenyList: values[2]}
	}
	return i, err
}

// read reads the item without the headers of earlier versions: a person who may only freeze may not read those.
func (o *Operators) read(ctx context.Context) (item, store.Revision, error) {
	return decodeItem(get(ctx, o.Store, OperatorsKey))
}

// readOlder adds the headers of earlier versions to the item, where they count.
func (o *Operators) readOlder(ctx context.Context, is item) item {
	if o.Older && is.Lists == nil {
		is.older = map[ListName]store.Value{}
		for _, name := range []ListName{AllowList, DenyList} {
			is.older[name] = get(ctx, o.Store, string(name))
		}
	}
	return is
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
	d.DisallowUnknownFields() // what this version does not know could be what stops a write
	err = d.Decode(&i)
	if _, more := d.Token(); err == nil && !errors.Is(more, io.EOF) {
		err = errors.New("something follows it")
	}
	if err == nil && i.At == nil && i.Lists == nil && i.Service == nil {
		err = errors.New("it has no content")
	}
	if err != nil {
		return item{}, v.Revision, fmt.Errorf("read %s: %w: %w", OperatorsKey, store.ErrDamaged, err)
	}
	return i, v.Revision, nil
}

// mend is read, with a damaged item taken for one whose lists are not known.
func (o *Operators) mend(ctx context.Context) (item, store.Revision, error) {
	is, rev, err := o.read(ctx)
	switch {
	case errors.Is(err, store.ErrDamaged):
		return lost(), rev, nil
	case err != nil:
		return item{}, 0, err
	}
	return is, rev, nil
}

// write stores the item, or removes one that has nothing.
func (o *Operators) write(ctx context.Context, i item, old store.Revision) error {
	if i.Lists != nil && *i.Lists == (lists{}) && !o.Older {
		i.Lists = nil
	}
	if i.At == nil && i.Lists == nil && i.Service == nil {
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
	is, _, err := o.read(ctx)
	if err != nil {
		return nil, fmt.Errorf("whether writes are frozen: %w", err)
	}
	return is.freeze(), nil
}

// rounds is how often a change is tried that others cross, or that is made by what a replica had a moment ago.
const rounds = 100

// SetFreeze freezes all writes of the deployment, in the place of a freeze in force. Where the item cannot be read, it
// freezes all the same if there is none.
func (o *Operators) SetFreeze(ctx context.Context, f Freeze) error {
	for range rounds {
		is, rev, unread := o.mend(ctx)
		is.setFreeze(&f)
		err := o.write(ctx, is, rev)
		switch {
		case errors.Is(err, store.ErrConflict) && unread == nil:
			continue
		case errors.Is(err, store.ErrConflict):
			return fmt.Errorf("freeze: a freeze or lists are there, and cannot be read: %w", unread)
		case err != nil:
			return fmt.Errorf("freeze: %w", err)
		}
		return nil
	}
	return fmt.Errorf("freeze: %w", store.ErrConflict)
}

// Thaw ends the freeze; without one it does nothing.
func (o *Operators) Thaw(ctx context.Context) error {
	for range rounds {
		is, rev, err := o.mend(ctx)
		if err != nil {
			return fmt.Errorf("thaw: %w", err)
		}
		if rev == 0 {
			return nil
		}
		is.setFreeze(nil)
		if err = o.write(ctx, is, rev); err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("thaw: %w", err)
		}
	}
	return fmt.Errorf("thaw: %w", store.ErrConflict)
}

// SetService has workers of another service begin no more writes.
func (o *Operators) SetService(ctx context.Context, s events.Service) error {
	for range rounds {
		is, rev, err := o.mend(ctx)
		if err != nil {
			return fmt.Errorf("stop the workers of another service: %w", err)
		}
		is.Service = &s
		if err = o.write(ctx, is, rev); err == nil {
			return nil
		}
		if !errors.Is(err, store.ErrConflict) {
			return fmt.Errorf("stop the workers of another service: %w", err)
		}
	}
	return fmt.Errorf("stop the workers of another service: %w", store.ErrConflict)
}
