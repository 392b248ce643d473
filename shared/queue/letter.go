package queue

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"recompose/events"
)

// Letter is a dead letter as a transport keeps it. Texts of senders are stored unchanged: escape them before they are
// printed.
type Letter struct {
	ID       string // names the dead letter; command.failed has the same id. A command given up on twice has two dead letters with one id
	Function string // that gave up
	Class    string // unreadable, permanent, attempts_used_up; or ClassUndelivered
	Reason   string // readable text
	Attempts int    // deliveries of the message
	First    time.Time
	Last     time.Time // when the message was given up; zero if the transport does not record it. First is when the message was stored

	Number   uint64 // on NATS: number of the dead letter in the stream of dead letters
	Stream   string // where the message was
	Sequence uint64 // its sequence number there
	Subject  string

	MessageID string // on AWS: id of the dead letter in its queue

	// Command is the command of the message, or the one that an event implied. Command and Correlation are zero if
	// the message could not be read.
	Command     events.CommandRef
	Correlation string
	Cut         string // what could not be stored of the message; "" if it is complete

	Headers  events.Headers // of the message itself
	Size     int            // of its body
	Body     []byte         // nil in lists
	BareType string         // the command type of a message without an envelope; "" if the transport does not know it
}

// ClassUndelivered is the class of a dead letter that no function gave up on: the transport itself could not deliver
// the message.
const ClassUndelivered = "undelivered"

// LetterFilter selects dead letters. The zero value selects all.
type LetterFilter struct {
	ID       string // this id, or ids that begin with it
	Class    string
	Function string
	Since    time.Time // given up then or later, or at an unknown time
}

// Matches reports whether the filter selects the dead letter.
func (f LetterFilter) Matches(l Letter) bool {
	return strings.HasPrefix(l.ID, f.ID) && (f.Class == "" || f.Class == l.Class) &&
		(f.Function == "" || f.Function == l.Function) && (l.Last.IsZero() || !l.Last.Before(f.Since))
}

// ErrNoLetter reports that the dead letter does not exist, or no longer.
var ErrNoLetter = errors.New("no such dead letter")

// ErrManyLetters reports that several dead letters have ids with the given prefix.
var ErrManyLetters = errors.New("several ids begin with it")

// LettersOf picks the dead letters of one id from a list of those whose ids begin with it: one, or several where a
// command was given up on more than once. The error is ErrNoLetter or ErrManyLetters by errors.Is.
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
		return nil, fmt.Errorf("read dead letter %q: %w: %s; give a longer prefix", id, ErrManyLetters, few(ids))
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
