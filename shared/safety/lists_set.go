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

// ErrListChanged reports that another process set or cleared the list meanwhile.
var ErrListChanged = errors.New("the list was changed by another process meanwhile, and that change holds; " +
	"look at the list and repeat the command if it is still wanted")

// ErrListUnknown reports that the list may hold as it was or as it should be.
var ErrListUnknown = errors.New("whether it was stored is not known; it is safe to repeat it")

// Change is how a list was and is.
type Change struct {
	Before  *List // nil: there was none, or it was damaged
	Damaged error // why it could not be read; it is replaced all the same
	Now     *List // nil: there is none
	Left    int   // pages of the list before that could not be removed; no process reads them
}

// SetList puts ids in the place of a list, as a whole: a process that reads meanwhile finds the one or the other. Ids that
// are given twice are kept once, sorted. An id that is not well-formed is an error. The error is ErrListChanged or
// ErrListUnknown by errors.Is; after any other the list is as it was.
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
		l.Pages = n + 1        // the last one may have been stored, where its put fails
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

// ClearList removes a list: then there is none. It fails as SetList does; without a list it does nothing.
func (o *Operators) ClearList(ctx context.Context, name ListName) (Change, error) {
	c, err := o.replace(ctx, name, nil, nil)
	if err != nil {
		err = fmt.Errorf("clear the %s list of desktops: %w", name, err)
	}
	return c, err
}

// seen finds the list that a change is to replace. A damaged one is replaced, too.
func (o *Operators) seen(ctx context.Context, name ListName) (place, error) {
	is, _, err := o.mend(ctx)
	if err != nil {
		return place{}, err
	}
	p, err := o.readOlder(ctx, is).find(name)
	if errors.Is(err, store.ErrDamaged) {
		err = nil
	}
	return p, err
}

// replace puts a header in the place of the one that is there; nil: none. If another list than the first one is there, the
// error is ErrListChanged; nil: the first one is what it reads first.
func (o *Operators) replace(ctx context.Context, name ListName, to *List, first *place) (Change, error) {
	for range rounds {
		is, rev, err := o.mend(ctx)
		if err != nil {
			return Change{}, err
		}
		is = o.readOlder(ctx, is)
		before, damaged := is.find(name)
		if damaged != nil && !errors.Is(damaged, store.ErrDamaged) {
			return Change{}, damaged
		}
		if first != nil && !same(*first, before) {
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
		if is.Lists, err = o.moveOther(ctx, is, name); err != nil {
			return c, err
		}
		is.Lists.set(name, to)
		err = o.write(ctx, is, rev)
		switch {
		case errors.Is(err, store.ErrConflict):
			continue // a freeze or the other list may have been set
		case err != nil:
			return c, fmt.Errorf("%w: %w", ErrListUnknown, err)
		}
		if c.Before != nil {
			c.Left = o.removePages(ctx, name, before)
		}
		o.removeOlder(ctx)
		return c, nil
	}
	return Change{}, store.ErrConflict
}

// same reports whether two places have the same list.
func same(a, b place) bool {
	if a.List == nil || b.List == nil {
		return a.List == b.List
	}
	return a.Generation == b.Generation
}

// moveOther gives the headers of the item. Where those are still where earlier versions put them, it brings the pages of
// the list that is not replaced to where they are now; a damaged one stays damaged.
func (o *Operators) moveOther(ctx context.Context, is item, name ListName) (*lists, error) {
	if is.Lists != nil {
		return is.Lists, nil
	}
	other := AllowList
	if name == AllowList {
		other = DenyList
	}
	all := &lists{}
	p, err := is.find(other)
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
		if errors.Is(err, store.ErrNotFound) || errors.Is(err, store.ErrDamaged) { // or the item is another one by now
			all.set(other, &List{Lost: true})
			return all, nil
		}
		if err == nil {
			_, err = o.Store.Put(ctx, pageKey(other, *p.List, n), page, 0)
		}
		if err != nil && !errors.Is(err, store.ErrConflict) { // else it is there from an earlier try
			return nil, fmt.Errorf("move the %s list of desktops: %w", other, err)
		}
	}
	all.set(other, p.List)
	return all, nil
}

// removeOlder removes the pages of lists from where earlier versions put them: no process of this version reads them once the
// item has lists. The headers stay, so that no version takes the lists for none.
func (o *Operators) removeOlder(ctx context.Context) {
	was := o.readOlder(ctx, item{})
	for _, name := range []ListName{AllowList, DenyList} {
		if p, err := was.findOlder(name); err == nil && p.List != nil {
			o.removePages(ctx, name, p)
		}
	}
}

// removePages removes the pages of a list that does not hold, and returns how many are left. It does so even when ctx has
// ended: what no process reads should not stay.
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

// maxPage is how many bytes of JSON one page has at most.
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
