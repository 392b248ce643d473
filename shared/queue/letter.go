package queue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"recompose/events"
)

// Letter is a dead letter as a transport keeps it. What came from others is as it came: escape it before it is printed.
type Letter struct {
	ID       string // names it; command.failed has the same. A command given up on twice has two letters of one id
	Function string // that gave up
	Class    string // unreadable, permanent, attempts_used_up; or ClassUndelivered
	Reason   string // in words
	Attempts int    // deliveries of the message
	First    time.Time
	Last     time.Time // when it was given up; zero where nothing says. First is when the message was stored

	Number   uint64 // on NATS: of this very letter on the stream of dead letters
	Stream   string // where the message was
	Sequence uint64 // its number there
	Subject  string

	MessageID string // on AWS: of this very letter in its queue

	// Command is the command that the message was, or that an event implied; zero where it could not be read. So is
	// Correlation.
	Command     events.CommandRef
	Correlation string
	Cut         string // what could not be kept of it; "" where it is whole

	Headers  events.Headers // of the message itself
	Size     int            // of its body
	Body     []byte         // nil in lists
	BareType string         // of the command that it is without an envelope; "" where nothing says
}

// ClassUndelivered is the class of a letter that no function gave up on: the transport itself could not hand it over.
const ClassUndelivered = "undelivered"

// LetterFilter chooses dead letters. The zero value chooses all.
type LetterFilter struct {
	ID       string // this id, or ids that begin so
	Class    string
	Function string
	Since    time.Time // given up then or later, or nobody knows when
}

// Takes reports whether the filter chooses the letter.
func (f LetterFilter) Takes(l Letter) bool {
	return strings.HasPrefix(l.ID, f.ID) && (f.Class == "" || f.Class == l.Class) &&
		(f.Function == "" || f.Function == l.Function) && (l.Last.IsZero() || !l.Last.Before(f.Since))
}

// ErrNoLetter says that there is no such dead letter, or no longer.
var ErrNoLetter = errors.New("no such dead letter")

// ErrManyLetters says that the beginning of an id is that of several.
var ErrManyLetters = errors.New("several ids begin so")

// LettersOf picks those of one id from the letters whose ids begin so: one, or several where a command was given up on
// more than once. The error is ErrNoLetter or ErrManyLetters by errors.Is.
func LettersOf(id string, listed []Letter) ([]Letter, error) {
	var ids []string
	meant := map[string][]Letter{}
	for _, l := range listed {
		if meant[l.ID] == nil {
			ids = append(ids, l.ID)
		}
		meant[l.ID] = append(meant[l.ID], l)
	}
	switch {
	case id == "":
		return nil, errors.New("read a dead letter: an id must be given")
	case meant[id] != nil:
		return meant[id], nil
	case len(ids) == 1:
		return meant[ids[0]], nil
	case len(ids) > 1:
		return nil, fmt.Errorf("read dead letter %q: %w: %s; give more of it", id, ErrManyLetters, few(ids))
	}
	return nil, fmt.Errorf("read dead letter %q: %w", id, ErrNoLetter)
}

func few(ids []string) string {
	const most = 4
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return strings.Join(ids, ", ")
}
