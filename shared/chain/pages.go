package chain

import (
	"encoding/json"
	"fmt"

	"recompose/events"
)

// Pages returns the pages of a list of a type, such as events.DesktopsListed, in order. The events may come in any order
// and twice. It is not whole while a page is missing; a chain that has ended without a list is whole, and has no page.
func Pages[T any](all []events.Envelope, typ string) (pages []T, whole bool, err error) {
	byNumber := map[int]T{}
	last := 0
	for _, e := range all {
		if e.Type != typ {
			continue
		}
		var place struct {
			Page int  `json:"page"`
			Last bool `json:"last"`
		}
		var page T
		err := json.Unmarshal(e.Data, &place)
		if err == nil {
			err = json.Unmarshal(e.Data, &page)
		}
		if err != nil {
			return nil, false, fmt.Errorf("read %s: %w", typ, err)
		}
		byNumber[place.Page] = page
		if place.Last {
			last = place.Page
		}
	}
	for n := 1; n <= last; n++ {
		page, ok := byNumber[n]
		if !ok {
			return nil, false, nil
		}
		pages = append(pages, page)
	}
	return pages, last > 0 || len(byNumber) == 0, nil
}
