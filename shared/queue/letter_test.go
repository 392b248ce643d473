package queue_test

import (
	"context"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/queue"
)

// shelf has dead letters, of which some are removed after they were listed.
type shelf struct {
	queue.Letters
	ids  []string
	gone []int
}

func (s shelf) DeadLetters(_ context.Context, f queue.LetterFilter) ([]queue.Letter, error) {
	var listed []queue.Letter
	for i, id := range s.ids {
		if strings.HasPrefix(id, f.ID) {
			listed = append(listed, queue.Letter{ID: id, Number: uint64(i)})
		}
	}
	return listed, nil
}

func (s shelf) DeadLetter(_ context.Context, l queue.Letter) (queue.Letter, error) {
	if slices.Contains(s.gone, int(l.Number)) {
		return l, queue.ErrNoLetter
	}
	l.Body = []byte("body")
	return l, nil
}

func TestLettersOfLeavesOutWhatIsRemovedMeanwhile(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		id      string
		ids     []string
		gone    []int
		numbers []uint64
		fails   error
	}{
		"all are there":         {"a1", []string{"a1", "a1", "b"}, nil, []uint64{0, 1}, nil},
		"one is removed":        {"a1", []string{"a1", "a1", "a1"}, []int{1}, []uint64{0, 2}, nil},
		"the last is removed":   {"a1", []string{"a1", "a1"}, []int{1}, []uint64{0}, nil},
		"all are removed":       {"a1", []string{"a1", "a1"}, []int{0, 1}, nil, queue.ErrNoLetter},
		"a prefix":              {"a", []string{"a1", "b"}, nil, []uint64{0}, nil},
		"a prefix of several":   {"a", []string{"a1", "a2"}, nil, nil, queue.ErrManyLetters},
		"an id, and its prefix": {"a1", []string{"a1", "a12"}, nil, []uint64{0}, nil},
		"none":                  {"c", []string{"a1"}, nil, nil, queue.ErrNoLetter},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			letters, err := queue.LettersOf(t.Context(), shelf{ids: row.ids, gone: row.gone}, row.id)
			require.ErrorIs(t, err, row.fails)
			var numbers []uint64
			for _, l := range letters {
				require.NotEmpty(t, l.Body)
				numbers = append(numbers, l.Number)
			}
			require.Equal(t, row.numbers, numbers)
		})
	}
	_, err := queue.LettersOf(t.Context(), shelf{ids: []string{"a"}}, "")
	require.Error(t, err, "every id begins with it")
}
