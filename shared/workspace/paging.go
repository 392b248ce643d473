package workspace

import (
	"cmp"
	"context"
	"maps"
	"net/url"
	"strconv"
	"time"
)

// maxPages bounds a listing, whatever a server answers; the service's own limits need 51.
const maxPages = 120

// listing is a paged call.
type listing[T any] struct {
	call       call
	decode     func(body []byte) (page[T], error)
	id         func(T) string
	limit      int
	lastOffset int  // the greatest offset that the service accepts
	most       int  // pages; maxPages if it is 0
	enough     int  // a first page with so many items is not doubted; 0: none
	sure       bool // no page is the last one because the total is reached
}

// page is one answer of a listing.
type page[T any] struct {
	items []T
	size  int    // elements on the wire, nulls included
	total *int64 // total_count, nil if the page has none
}

// listed is the result of a listing.
type listed[T any] struct {
	items    []T
	complete bool
	date     time.Time
	passes   int  // how often the list was read
	counted  bool // the last page has a total
}

// pageWait is how long a page after the first may wait for the rate limit: without it all pages would be read anew, and a
// worker whose share of the limit is less than 12 reads a minute would never read a second page.
const pageWait = time.Minute

// passes is how often a list is read that changes during the reading.
const passes = 4

// reading is the state of one reading of a list.
type reading[T any] struct {
	listed[T]
	pages    int
	at       map[string]int // where an item is among the items, by its id
	total    *int64         // as the service reported it last
	moved    bool           // an item came twice, or the total changed
	shrunk   bool           // the total became less: items may have gone before they were read
	nameless bool           // an item has no id, so it may have come twice
	undated  bool
	first    int  // size of the first page
	ofPages  bool // each total so far is the number of items of its page
	noTotals bool // the totals are of the pages, not of the list
}

// listAll reads pages until the service has no more. complete is true only if the number of different items equals the
// last total_count, and the total never decreased; without a total, if the end was reached and no item came twice. A
// list that grows or is reordered during the reading is read once more from the beginning until that is so: items may
// have moved to pages that were already read, or new ones may have appeared there.
//
// A server that caps its pages may report the items of a page as the total. So a first page that looks capped does not
// end a list, and totals that equal their pages count as none.
func listAll[T any](ctx context.Context, c *Client, l listing[T]) (listed[T], error) {
	r := reading[T]{at: map[string]int{}}
	most := cmp.Or(l.most, maxPages)
	for pass := range passes {
		r.passes = pass + 1
		for offset := 0; r.pages < most && offset <= l.lastOffset; {
			if r.pages > 0 {
				l.call.patient = pageWait
			}
			p, a, err := l.page(ctx, c, offset)
			if err != nil {
				return r.listed, err
			}
			fresh := r.add(p, a.date, l.id)
			offset += p.size
			got := int64(len(r.items))
			all := r.total != nil && got == *r.total && !r.shrunk && (!r.moved || !r.nameless)
			switch {
			case all && (pass > 0 || !l.mayBeCapped(r, p.size)):
				r.complete = true
				return r.listed, nil
			case p.size == 0 && !r.moved:
				r.complete = r.total == nil || got >= *r.total
				return r.listed, nil
			case fresh == 0 && pass == 0 && p.size >= max(r.first, 1): // the offset is ignored, or it is past the end
				if r.total == nil || *r.total == got {
					r.complete, err = l.endsWith(ctx, c, r)
				}
				return r.listed, err
			}
			if p.size == 0 || r.moved && r.total != nil && int64(offset) >= *r.total {
				break
			}
		}
		if !r.moved || r.shrunk || r.nameless || r.total == nil || *r.total > int64(l.lastOffset+l.limit) {
			break // another pass would not show all either
		}
	}
	return r.listed, nil
}

// endsWith reports whether a list ends with its last item so far. A server may answer an offset past the end with its first
// page, as one that ignores the offset does; but only the former answers the offset of the last item with that item alone.
func (l listing[T]) endsWith(ctx context.Context, c *Client, r reading[T]) (bool, error) {
	last := len(r.items) - 1
	if last < 1 || r.nameless {
		return false, nil
	}
	p, _, err := l.page(ctx, c, last)
	return err == nil && p.size == 1 && len(p.items) == 1 && l.id(p.items[0]) == l.id(r.items[last]), err
}

// mayBeCapped reports whether more items may follow the last page, although it reaches the total.
func (l listing[T]) mayBeCapped(r reading[T], size int) bool {
	switch {
	case l.sure, size >= l.limit:
		return true
	case r.pages > 1 || l.enough > 0 && size >= l.enough:
		return false
	}
	return looksCapped(size)
}

// looksCapped reports whether a server may return at most so many items a page: the numbers that servers use.
func looksCapped(size int) bool { return size >= 10 && (size%5 == 0 || size%16 == 0) }

// page requests one page.
func (l listing[T]) page(ctx context.Context, c *Client, offset int) (page[T], answer, error) {
	request := l.call
	request.query = url.Values{"limit": {strconv.Itoa(l.limit)}, "offset": {strconv.Itoa(offset)}}
	maps.Copy(request.query, l.call.query)
	a, err := c.do(ctx, request)
	if err != nil {
		return page[T]{}, a, err
	}
	p, err := l.decode(a.body)
	if err != nil {
		return p, a, c.badAnswer(a, err)
	}
	return p, a, nil
}

// add adds a page, and returns how many of its items are new. An item that came before is replaced by the newer one.
func (r *reading[T]) add(p page[T], date time.Time, idOf func(T) string) (fresh int) {
	first := r.pages == 0
	r.pages++
	if first {
		r.first = p.size
	}
	switch {
	case date.IsZero():
		r.undated = true
	case first, date.Before(r.date):
		r.date = date
	}
	if r.undated {
		r.date = time.Time{}
	}
	r.ofPages = (first || r.ofPages) && p.total != nil && *p.total == int64(p.size)
	if r.noTotals = r.noTotals || !first && r.ofPages; r.noTotals {
		r.total, p.total = nil, nil
	}
	if !first && !sameTotal(r.total, p.total) {
		r.moved = true
		r.shrunk = r.shrunk || r.total == nil || p.total == nil || *p.total < *r.total
	}
	r.total, r.counted = p.total, p.total != nil
	for _, item := range p.items {
		id := idOf(item)
		if at, seen := r.at[id]; seen && id != "" {
			r.moved = true
			r.items[at] = item
			continue
		}
		r.nameless = r.nameless || id == ""
		r.at[id] = len(r.items)
		r.items = append(r.items, item)
		fresh++
	}
	return fresh
}

func sameTotal(a, b *int64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// decodePage reads a list and its total_count. An answer without both is empty.
func decodePage[T any](body []byte, name string) (page[T], error) {
	fields, err := answerFields(body)
	if err != nil {
		return page[T]{}, err
	}
	raw, listGiven := fields[name]
	count, countGiven := fields["total_count"]
	if !listGiven && !countGiven {
		return page[T]{}, errEmpty
	}
	var p page[T]
	if p.items, err = decodeList[T](name, raw); err != nil {
		return page[T]{}, err
	}
	elements, err := list(raw)
	if err != nil {
		return page[T]{}, err
	}
	p.size = len(elements)
	if countGiven && setInt(&p.total, count) && p.total != nil && *p.total < 0 {
		p.total = nil
	}
	return p, nil
}
