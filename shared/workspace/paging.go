package workspace

import (
	"context"
	"net/url"
	"strconv"
	"time"
)

// maxPages bounds a listing whatever a server says; the service's own limits need 51.
const maxPages = 120

// listing is a paged call.
type listing[T any] struct {
	call       call
	decode     func(body []byte) (page[T], error)
	id         func(T) string
	limit      int
	lastOffset int // the greatest offset that the service takes
}

// page is one answer of a listing.
type page[T any] struct {
	items []T
	size  int    // elements on the wire, nulls included
	total *int64 // total_count, nil if not told
}

// listed is all that a listing gave.
type listed[T any] struct {
	items    []T
	complete bool
	date     time.Time
}

// listAll reads pages until the service has no more. complete is true only if the end was seen (an empty page, or
// a page that is not full, with as many items as total_count says) and nothing along the way contradicted it: a page that repeats
// items or a total that changes means that the list moved under us.
func listAll[T any](ctx context.Context, c *Client, l listing[T]) (listed[T], error) {
	var out listed[T]
	var total *int64
	seen := make(map[string]bool)
	consistent, undated := true, false
	for offset, n := 0, 0; n < maxPages && offset <= l.lastOffset; n++ {
		request := l.call
		request.query = url.Values{"limit": {strconv.Itoa(l.limit)}, "offset": {strconv.Itoa(offset)}}
		for key, values := range l.call.query {
			request.query[key] = values
		}
		a, err := c.do(ctx, request)
		if err != nil {
			return out, err
		}
		p, err := l.decode(a.body)
		if err != nil {
			return out, c.badAnswer(a, err)
		}
		if a.date.IsZero() {
			undated = true
		}
		if n == 0 {
			out.date, total = a.date, p.total
		} else if a.date.Before(out.date) {
			out.date = a.date
		}
		if undated {
			out.date = time.Time{}
		}
		if !sameTotal(total, p.total) {
			consistent = false
		}
		fresh := 0
		for _, item := range p.items {
			id := l.id(item)
			if id != "" && seen[id] {
				consistent = false
				continue
			}
			seen[id] = true
			fresh++
			out.items = append(out.items, item)
		}
		offset += p.size
		got := int64(len(out.items))
		switch {
		case p.size == 0:
			out.complete = consistent && (total == nil || got >= *total)
			return out, nil
		case fresh == 0:
			return out, nil
		case total != nil && got == *total && p.size < l.limit:
			out.complete = consistent
			return out, nil
		}
	}
	return out, nil
}

func sameTotal(a, b *int64) bool {
	if a == nil || b == nil {
		return a == b
	}
	return *a == *b
}

// decodePage reads a list and its total_count. An answer with neither is empty.
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
