package safety

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"

	"recompose/shared/store"
)

// ErrListChanged reports that another process set or cleared the list in the meantime.
var ErrListChanged = errors.New("another process has changed the list in the meantime, and its change is in force; " +
	"check the list and repeat the command if the change is still wanted")

// ErrListUnknown reports that either the old or the new list may be in force.
var ErrListUnknown = errors.New("it is unknown whether the change was stored; it is safe to repeat the command")

// Change is a list before and after a change.
type Change struct {
	Before  *List // nil if there was none, or it was damaged
	Damaged error // why it could not be read; it is still replaced
	Now     *List // nil if there is none
	Left    int   // number of pages of the old list that could not be removed; no process reads them
}

// SetList replaces a list as a whole: a concurrent reader gets either the old or the new list. The ids are sorted, and
// duplicates removed. A malformed id is an error. The error is ErrListChanged or ErrListUnknown by errors.Is; after
// any other error the old list is still in force.
func (o *Operators) SetList(ctx context.Context, name ListName, ids []string, by string) (Change, error) {
	c, err := o.setList(ctx, name, ids, by)
	if err != nil {
		err = fmt.Errorf("set the %s list of desktops: %w", name, err)
	}
	return c, err
}

func (o *Operators) setList(ctx context.Context, name ListName, ids []string, by string) (Change, error) {
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return Change{}, err
		}
	}
	ids = slices.Compact(slices.Sorted(slices.Values(ids)))
	pages, err := paginate(ids)
	if err != nil {
		return Change{}, err
	}
	first, err := o.seen(ctx, name)
	if err != nil {
		return Change{}, err
	}
	l := List{Generation: rand.Text(), Count: len(ids), By: by, At: o.now().UTC().Truncate(time.Second)}
	sum := sha256.New()
	for n, page := range pages {
		_, _ = sum.Write(page) // never fails
		l.Pages = n + 1        // a page whose put fails may have been stored
		if _, err := o.Store.Put(ctx, pageKey(name, l, n), page, 0); err != nil {
			o.removePages(ctx, name, place{List: &l})
			return Change{}, fmt.Errorf("page %d of %d: %w", n+1, len(pages), err)
		}
	}
	l.Digest = hex.EncodeToString(sum.Sum(nil))
	c, err := o.replace(ctx, name, &l, &first)
	if err != nil && !errors.Is(err, ErrListUnknown) {
		o.removePages(ctx, name, place{List: &l})
	}
	return c, err
}

// ClearList removes a list. It fails like SetList; without a list it does nothing.
func (o *Operators) ClearList(ctx context.Context, name ListName) (Change, error) {
	c, err := o.replace(ctx, name, nil, nil)
	if err != nil {
		err = fmt.Errorf("clear the %s list of desktops: %w", name, err)
	}
	return c, err
}

// seen reads the list that a change will replace. A damaged list is replaced, too.
func (o *Operators) seen(ctx context.Context, name ListName) (place, error) {
	state, _, err := o.mend(ctx)
	if err != nil {
		return place{}, err
	}
	p, err := o.readOlder(ctx, state).find(name)
	if errors.Is(err, store.ErrDamaged) {
		err = nil
	}
	return p, err
}

// replace puts a header in the place of the present one; nil removes it. If the present list is not the one in first,
// the error is ErrListChanged; if first is nil, the first list that replace reads takes its place.
func (o *Operators) replace(ctx context.Context, name ListName, to *List, first *place) (Change, error) {
	for range attempts {
		state, rev, err := o.mend(ctx)
		if err != nil {
			return Change{}, err
		}
		state = o.readOlder(ctx, state)
		before, damaged := state.find(name)
		if damaged != nil && !errors.Is(damaged, store.ErrDamaged) {
			return Change{}, damaged
		}
		switch {
		case first == nil || same(*first, before):
		case to != nil && same(place{List: to}, before): // stored by an earlier put, whose answer was lost
			return o.replaced(ctx, name, Change{Before: first.List, Now: to}, *first), nil
		default:
			return Change{}, ErrListChanged
		}
		first = &before
		c := Change{Damaged: damaged, Now: to}
		if damaged == nil {
			c.Before = before.List
		}
		if to == nil && before.List == nil && damaged == nil {
			return c, nil
		}
		if state.Lists, err = o.moveOther(ctx, state, name); err != nil {
			return c, err
		}
		state.Lists.set(name, to)
		err = o.write(ctx, state, rev)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue // a freeze or the other list may have been set
		case err != nil:
			return c, fmt.Errorf("%w: %w", ErrListUnknown, err)
		}
		return o.replaced(ctx, name, c, before), nil
	}
	return Change{}, store.ErrConflict
}

// replaced removes what a stored change has replaced.
func (o *Operators) replaced(ctx context.Context, name ListName, c Change, before place) Change {
	if c.Before != nil {
		c.Left = o.removePages(ctx, name, before)
	}
	o.removeOlder(ctx)
	return c
}

// same reports whether two places hold the same list.
func same(a, b place) bool {
	if a.List == nil || b.List == nil {
		return a.List == b.List
	}
	return a.Generation == b.Generation
}

// moveOther returns the headers of the item. If the lists are still under the keys of earlier versions, it copies the
// pages of the list that is not replaced to their new keys; a damaged list stays damaged.
func (o *Operators) moveOther(ctx context.Context, state item, name ListName) (*lists, error) {
	if state.Lists != nil {
		return state.Lists, nil
	}
	other := AllowList
	if name == AllowList {
		other = DenyList
	}
	all := &lists{}
	p, err := state.find(other)
	switch {
	case errors.Is(err, store.ErrDamaged):
		all.set(other, &List{Lost: true})
		return all, nil
	case err != nil:
		return nil, err
	case p.List == nil:
		return all, nil
	}
	for n := range p.Pages {
		page, _, err := o.Store.Get(ctx, p.key(other, n))
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) { // or the item was changed in the meantime
			all.set(other, &List{Lost: true})
			return all, nil
		}
		if err == nil {
			_, err = o.Store.Put(ctx, pageKey(other, *p.List, n), page, 0)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) { // otherwise an earlier attempt stored it
			return nil, fmt.Errorf("move the %s list of desktops: %w", other, err)
		}
	}
	all.set(other, p.List)
	return all, nil
}

// removeOlder removes the pages under the keys of earlier versions: no process of this version reads them once the
// item has lists. The headers stay, so that an earlier version does not conclude that there are no lists.
func (o *Operators) removeOlder(ctx context.Context) {
	was := o.readOlder(ctx, item{})
	for _, name := range []ListName{AllowList, DenyList} {
		if p, err := was.findOlder(name); err == nil && p.List != nil {
			o.removePages(ctx, name, p)
		}
	}
}

// removePages removes the pages of a list that is not in force, and returns how many remain. It does so even after ctx
// has ended, because no process would remove them later.
func (o *Operators) removePages(ctx context.Context, name ListName, p place) (left int) {
	for n := range p.Pages {
		if o.remove(ctx, p.key(name, n)) != nil {
			left++
		}
	}
	return left
}

func (o *Operators) remove(ctx context.Context, key string) error {
	ctx = context.WithoutCancel(ctx)
	_, rev, err := o.Store.Get(ctx, key)
	switch {
	case errors.Is(err, store.ErrNotFound):
		return nil
	case err != nil && !errors.Is(err, store.ErrDamaged):
		return err
	}
	return o.Store.Delete(ctx, key, rev)
}

// maxPage is the greatest size of a page in bytes of JSON.
const maxPage = store.MaxValue

// paginate divides ids into JSON arrays.
func paginate(ids []string) ([][]byte, error) {
	var pages [][]string
	size := maxPage
	for _, id := range ids {
		if size += len(id) + len(`"",`); size > maxPage { // an id needs no escape
			pages, size = append(pages, nil), len(id)+len(`[""],`)
		}
		pages[len(pages)-1] = append(pages[len(pages)-1], id)
	}
	texts := make([][]byte, len(pages))
	for n, page := range pages {
		var err error
		if texts[n], err = json.Marshal(page); err != nil {
			return nil, err
		}
	}
	return texts, nil
}

func (o *Operators) now() time.Time {
	if o.Now == nil {
		return time.Now()
	}
	return o.Now()
}
