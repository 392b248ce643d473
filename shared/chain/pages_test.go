package chain

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/events"
)

func TestPagesOfAList(t *testing.T) {
	t.Parallel()
	page := func(n int, last bool) events.Envelope {
		return events.Envelope{Type: events.TypeImagesListed, Data: fmt.Appendf(nil, `{"page": %d, "last": %t, "images": [{"id": "i%d"}]}`, n, last, n)}
	}
	other := events.Envelope{Type: events.TypeDesktopsListed, Data: []byte(`{"page": 9, "last": true}`)}
	for name, c := range map[string]struct {
		all   []events.Envelope
		want  []int
		whole bool
	}{
		"no list":               {[]events.Envelope{other}, nil, true},
		"one page":              {[]events.Envelope{page(1, true)}, []int{1}, true},
		"in order":              {[]events.Envelope{page(1, false), page(2, true)}, []int{1, 2}, true},
		"the last one first":    {[]events.Envelope{page(3, true), page(1, false), page(2, false)}, []int{1, 2, 3}, true},
		"twice":                 {[]events.Envelope{page(2, true), page(1, false), page(1, false), page(2, true)}, []int{1, 2}, true},
		"without the first":     {[]events.Envelope{page(2, true)}, nil, false},
		"without the middle":    {[]events.Envelope{page(1, false), page(3, true)}, nil, false},
		"without the last":      {[]events.Envelope{page(1, false), page(2, false)}, nil, false},
		"among other events":    {[]events.Envelope{other, page(1, true)}, []int{1}, true},
		"the last one twice":    {[]events.Envelope{page(1, true), page(1, true)}, []int{1}, true},
		"nothing was published": {nil, nil, true},
	} {
		pages, whole, err := Pages[events.ImagesListed](c.all, events.TypeImagesListed)
		require.NoError(t, err, name)
		require.Equal(t, c.whole, whole, name)
		var numbers []int
		for _, p := range pages {
			numbers = append(numbers, p.Page)
			require.Equal(t, fmt.Sprintf("i%d", p.Page), p.Images[0].ID, name)
		}
		require.Equal(t, c.want, numbers, name)
	}
	for _, data := range []string{"{", `{"page": "1"}`, `{"page": 1, "last": true, "images": 7}`} {
		_, whole, err := Pages[events.ImagesListed]([]events.Envelope{{Type: events.TypeImagesListed, Data: []byte(data)}}, events.TypeImagesListed)
		require.ErrorContains(t, err, "read "+events.TypeImagesListed)
		require.False(t, whole)
	}
}
