package safety

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"recompose/shared/store"
)

// ListName is the name of a list of desktops.
//
// A list is a header in the item of the operators, and pages, each a JSON array of ids. The header decides which list
// is in force: it is put last, and has the digest of the pages, which never change. So a list is replaced as a whole,
// and a process reads the pages of a header only once.
type ListName string

// The two lists. Without a header the list does not exist; an empty allow list allows nothing.
const (
	AllowList ListName = "allow" // only these desktops may be written to
	DenyList  ListName = "deny"  // these desktops must not be written to
)

// List is the header of a list.
type List struct {
	Generation string    `json:"generation,omitempty"` // of its pages; unique for each list
	Pages      int       `json:"pages,omitempty"`
	Count      int       `json:"count,omitempty"`  // of ids
	Digest     string    `json:"digest,omitempty"` // SHA-256 of the texts of all pages
	By         string    `json:"by,omitempty"`     // the person who set it: user@host
	At         time.Time `json:"at,omitzero"`      // when, UTC
	Lost       bool      `json:"lost,omitempty"`   // it was damaged: its content is unknown
}

func (l *lists) get(name ListName) *List {
	if name == AllowList {
		return l.Allow
	}
	return l.Deny
}

func (l *lists) set(name ListName, to *List) {
	if name == AllowList {
		l.Allow = to
	} else {
		l.Deny = to
	}
}

// PageKeys is the prefix of the keys of pages.
const PageKeys = "lists."

func pageKey(name ListName, l List, n int) string {
	return fmt.Sprintf("%s%s.%s.%d", PageKeys, name, l.Generation, n)
}

// listCache caches the lists that were read, by name. An entry is used only if a header has its digest.
type listCache struct {
	mu   sync.Mutex // guards sets
	sets map[ListName]cachedSet
}

type cachedSet struct {
	digest string // of the pages: the same digest, the same ids
	set    *Set
}

func (c *listCache) find(name ListName, digest string) *Set {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s := c.sets[name]; s.digest == digest {
		return s.set
	}
	return nil
}

func (c *listCache) keep(name ListName, digest string, s *Set) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil {
		c.sets = map[ListName]cachedSet{}
	}
	c.sets[name] = cachedSet{digest, s}
}

// place is a list and its place in the store.
type place struct {
	*List // nil if there is none
	older bool
}

func (p place) key(name ListName, n int) string {
	if p.older { // where the key of the header is the name of the list
		return fmt.Sprintf("%s/%s/%d", name, p.Generation, n)
	}
	return pageKey(name, *p.List, n)
}

// check returns why the header is invalid.
func (p place) check() error {
	if l := p.List; l != nil && (l.Lost || l.Generation == "" || l.Pages < 0 || l.Digest == "") {
		return fmt.Errorf("%w; set or clear it", store.ErrDamaged)
	}
	return nil
}

// find finds the header of a list. The error is store.ErrDamaged by errors.Is if the header is invalid.
func (i item) find(name ListName) (place, error) {
	if i.Lists == nil {
		return i.findOlder(name)
	}
	p := place{List: i.Lists.get(name)}
	return p, p.check()
}

// findOlder is find for the keys of earlier versions. A header stays there when the list is moved, so a concurrent
// reader that has read the item just before always finds a list.
func (i item) findOlder(name ListName) (place, error) {
	v, looked := i.older[name]
	p := place{older: true}
	switch {
	case !looked || errors.Is(v.Err, store.ErrNotFound):
		return place{}, nil
	case errors.Is(v.Err, store.ErrDamaged):
		p.List = &List{}
		return p, v.Err
	case v.Err != nil:
		return place{}, v.Err
	}
	p.List = &List{}
	if err := json.Unmarshal(v.Data, p.List); err != nil {
		return p, fmt.Errorf("%w: %w; set or clear it", store.ErrDamaged, err)
	}
	return p, p.check()
}

// sets returns the lists in force; nil for a list that does not exist.
func (o *Operators) sets(ctx context.Context, state item) (allow, deny *Set, err error) {
	if allow, err = o.inForce(ctx, state, AllowList, Allow); err == nil {
		deny, err = o.inForce(ctx, state, DenyList, Deny)
	}
	return allow, deny, err
}

func (o *Operators) inForce(ctx context.Context, state item, name ListName, form func([]string) *Set) (*Set, error) {
	if p, err := state.find(name); err == nil && p.List != nil {
		if set := o.cache.find(name, p.Digest); set != nil {
			return set, nil
		}
	}
	p, ids, err := o.list(ctx, state, name)
	if err == nil {
		err = checkIDs(ids)
	}
	if err != nil {
		return nil, fmt.Errorf("the %s list of desktops: %w", name, err)
	}
	if p.List == nil {
		return nil, nil
	}
	set := form(ids)
	o.cache.keep(name, p.Digest, set)
	return set, nil
}

// list reads the list of the item and its ids. If the list was replaced in the meantime, it reads the new one.
func (o *Operators) list(ctx context.Context, state item, name ListName) (p place, ids []string, err error) {
	before := ""
	for {
		if p, err = state.find(name); err != nil || p.List == nil {
			return p, nil, err
		}
		ids, err = o.pages(ctx, name, p)
		if !errors.Is(err, store.ErrNotFound) {
			return p, ids, err
		}
		if p.Generation == before {
			return p, nil, fmt.Errorf("%w: a page is missing; set the list once more", store.ErrDamaged)
		}
		before = p.Generation
		if state, _, err = o.read(ctx); err != nil {
			return p, nil, err
		}
		state = o.readOlder(ctx, state)
	}
}

// checkIDs refuses a list with an id that no desktop can have: it is not the list that was intended.
func checkIDs(ids []string) error {
	for _, id := range ids {
		if err := CheckID(id); err != nil {
			return fmt.Errorf("%w: %w; set the list once more", store.ErrDamaged, err)
		}
	}
	return nil
}

// pages reads the ids of a list, and verifies that they are complete.
func (o *Operators) pages(ctx context.Context, name ListName, p place) ([]string, error) {
	var ids []string
	sum := sha256.New()
	for n := range p.Pages {
		page, _, err := o.Store.Get(ctx, p.key(name, n))
		if err != nil {
			return nil, err
		}
		var some []string
		if err := json.Unmarshal(page, &some); err != nil {
			return nil, fmt.Errorf("%w: %w", store.ErrDamaged, err)
		}
		_, _ = sum.Write(page) // never fails
		ids = append(ids, some...)
	}
	if hex.EncodeToString(sum.Sum(nil)) != p.Digest || len(ids) != p.Count {
		return nil, fmt.Errorf("%w: its pages do not match its header; set the list once more", store.ErrDamaged)
	}
	return ids, nil
}

// ListIDs reads a list and its ids, in their order; nil if there is none.
func (o *Operators) ListIDs(ctx context.Context, name ListName) (*List, []string, error) {
	state, _, err := o.read(ctx)
	var p place
	var ids []string
	if err == nil {
		p, ids, err = o.list(ctx, o.readOlder(ctx, state), name)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("the %s list of desktops: %w", name, err)
	}
	return p.List, ids, nil
}
