package dynamoledger

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"time"

	"recompose/shared/ledger"
	"recompose/shared/permit"
)

// ListName is the key of a list of desktops.
//
// A list is a header item of this key and pages "<name>/<generation>/<n>", each a JSON array of ids. The header decides
// what holds: it is put last, and its digest is that of the pages, which never change. So a list is replaced as a whole, and
// who has read the pages of a header once need not read them again.
type ListName string

// The two lists. Without a header there is no such list; an empty allow list allows nothing.
const (
	Allow ListName = "allow" // no other desktop may be written to
	Deny  ListName = "deny"  // none of these may be
)

// List is a list as its header has it.
type List struct {
	Generation string    `json:"generation"` // of its pages; no two lists have the same
	Pages      int       `json:"pages"`
	Count      int       `json:"count"`  // of ids
	Digest     string    `json:"digest"` // SHA-256 of the texts of all pages
	By         string    `json:"by"`     // who set it: user@host
	At         time.Time `json:"at"`     // when, UTC
}

func (l List) page(name ListName, n int) string {
	return fmt.Sprintf("%s/%s/%d", name, l.Generation, n)
}

// held is what was read of the lists, by name. It is used only where a header says that it still holds.
type held struct {
	mu   sync.Mutex // of sets
	sets map[ListName]heldSet
}

type heldSet struct {
	digest string // of the pages: the same digest, the same ids
	set    *permit.Set
}

func (h *held) find(name ListName, digest string) *permit.Set {
	h.mu.Lock()
	defer h.mu.Unlock()
	if s := h.sets[name]; s.digest == digest {
		return s.set
	}
	return nil
}

func (h *held) keep(name ListName, digest string, s *permit.Set) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sets == nil {
		h.sets = map[ListName]heldSet{}
	}
	h.sets[name] = heldSet{digest, s}
}

// Refused gives the ids that the two lists do not let be written to, in their order. Both headers are read, strongly
// consistent, and pages where they are new. It blocks until there are answers, at most five seconds for each or until
// ctx ends. An error means that a list could not be read whole: then nothing may be written.
func (s *Store) Refused(ctx context.Context, ids []string) ([]string, error) {
	allow, err := s.inForce(ctx, Allow, permit.Allow)
	if err != nil {
		return nil, err
	}
	deny, err := s.inForce(ctx, Deny, permit.Deny)
	if err != nil {
		return nil, err
	}
	return permit.Refuse(ids, allow, deny), nil
}

// inForce is the list in force; nil if there is none.
func (s *Store) inForce(ctx context.Context, name ListName, form func([]string) *permit.Set) (*permit.Set, error) {
	var set *permit.Set
	l, ids, err := s.read(ctx, name, func(l List) bool { set = s.lists.find(name, l.Digest); return set == nil })
	if err != nil || l == nil {
		return nil, err
	}
	if set == nil {
		if err := checkIDs(ids); err != nil {
			return nil, fmt.Errorf("read the %s list of desktops: %w: %w; set the list anew", name, errDamaged, err)
		}
		set = form(ids)
		s.lists.keep(name, l.Digest, set)
	}
	return set, nil
}

// checkIDs refuses a list with an id that no desktop can have: it would not be the list that was meant.
func checkIDs(ids []string) error {
	for _, id := range ids {
		if err := permit.CheckID(id); err != nil {
			return err
		}
	}
	return nil
}

// List reads the header of a list, strongly consistent; nil if there is none. It blocks as Frozen does.
func (s *Store) List(ctx context.Context, name ListName) (*List, error) {
	l, _, err := s.read(ctx, name, func(List) bool { return false })
	return l, err
}

// ListIDs reads a list with its ids, in their order; nil if there is none. It blocks as Refused does.
func (s *Store) ListIDs(ctx context.Context, name ListName) (*List, []string, error) {
	return s.read(ctx, name, func(List) bool { return true })
}

// read reads the header, and the ids where they are wanted. Pages that are gone were replaced: then it reads the header anew.
func (s *Store) read(ctx context.Context, name ListName, wanted func(List) bool) (*List, []string, error) {
	before := ""
	for {
		var l List
		_, err := s.get(ctx, string(name), &l)
		switch {
		case errors.Is(err, ledger.ErrNotFound):
			return nil, nil, nil
		case err == nil && (l.Generation == "" || l.Pages < 0 || l.Digest == ""):
			err = fmt.Errorf("%w: it names no pages", errDamaged)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the %s list of desktops: %w", name, err)
		}
		if !wanted(l) {
			return &l, nil, nil
		}
		ids, err := s.pages(ctx, name, l)
		if errors.Is(err, ledger.ErrNotFound) && l.Generation != before {
			before = l.Generation
			continue
		}
		if errors.Is(err, ledger.ErrNotFound) {
			err = fmt.Errorf("%w: a page is missing; set the list anew", errDamaged)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("read the %s list of desktops: %w", name, err)
		}
		return &l, ids, nil
	}
}

// pages reads the ids of a list, and proves that they are all of them.
func (s *Store) pages(ctx context.Context, name ListName, l List) ([]string, error) {
	var ids []string
	sum := sha256.New()
	for n := range l.Pages {
		page, err := s.fetch(ctx, l.page(name, n))
		if err != nil {
			return nil, err
		}
		var some []string
		if err := page.read(&some); err != nil {
			return nil, err
		}
		_, _ = sum.Write([]byte(page.data)) // never fails
		ids = append(ids, some...)
	}
	if hex.EncodeToString(sum.Sum(nil)) != l.Digest || len(ids) != l.Count {
		return nil, fmt.Errorf("%w: its pages are not those that were set; set the list anew", errDamaged)
	}
	return ids, nil
}

// maxPage is how many bytes of JSON one page has at most: below DynamoDB's limit of an item, with room for the rest of it.
const maxPage = 300 << 10

// paginate divides ids.
func paginate(ids []string) ([][]string, error) {
	var pages [][]string
	size := maxPage
	for _, id := range ids {
		text, err := json.Marshal(id)
		if err != nil {
			return nil, err
		}
		if size += len(text) + len(","); size > maxPage {
			pages, size = append(pages, nil), len(text)+len("[,]")
		}
		pages[len(pages)-1] = append(pages[len(pages)-1], id)
	}
	return pages, nil
}

// newList names a list that nobody has set yet.
func (s *Store) newList(by string) List {
	return List{Generation: rand.Text(), By: by, At: s.now().UTC().Truncate(time.Second)}
}
