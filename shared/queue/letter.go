package queue

import (
	"context"
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

// Letters are the dead letters of a transport.
type Letters interface {
	// DeadLetters lists the stored dead letters, oldest first, without their bodies. It blocks until all are read.
	DeadLetters(ctx context.Context, f LetterFilter) ([]Letter, error)
	// DeadLetter reads a dead letter of a list with its body. The error is ErrNoLetter by errors.Is if it was removed.
	DeadLetter(ctx context.Context, l Letter) (Letter, error)
	// CheckRedrive reports whether a complete dead letter can be redriven, and what its function will read. The envelope
	// is zero, and the error nil, if the message cannot be read: it is then redriven as its unchanged bytes.
	CheckRedrive(l Letter) (events.Envelope, error)
	// Redrive returns a dead letter to its function: it stores the message for the function, and removes the dead letter
	// once that is confirmed. The message keeps its identity, so a write that was carried out is not carried out a second
	// time, and its age. It blocks until both steps are done, and may be repeated. The error is ErrNoLetter by errors.Is
	// if the dead letter was removed, or the reason why it cannot be redriven. After any other error it may have been
	// redriven.
	Redrive(ctx context.Context, l Letter) error
	// Drop removes a dead letter permanently, and blocks until that is done. It may be repeated: it succeeds if the dead
	// letter does not exist.
	Drop(ctx context.Context, l Letter) error
	// Hidden is how many dead letters the latest list lacks because other readers have received them.
	Hidden() int
}

// ErrNoLetter reports that the dead letter does not exist, or no longer.
var ErrNoLetter = errors.New("no such dead letter; recompose dead list shows them")

// ErrManyLetters reports that several dead letters have ids with the given prefix.
var ErrManyLetters = errors.New("several ids begin with it")

// LettersOf reads the complete dead letters of one id, oldest first: one, or several if a command was given up on more
// than once. A prefix of an id is accepted if no other id begins with it. One that is removed meanwhile is left out. The
// error is ErrNoLetter or ErrManyLetters by errors.Is.
func LettersOf(ctx context.Context, from Letters, id string) ([]Letter, error) {
	if id == "" { // it would be the prefix of every id
		return nil, errors.New("read a dead letter: an id must be given")
	}
	listed, err := from.DeadLetters(ctx, LetterFilter{ID: id})
	if err != nil {
		return nil, err
	}
	var ids []string
	meant := map[string][]Letter{}
	for _, l := range listed {
		if meant[l.ID] == nil {
			ids = append(ids, l.ID)
		}
		meant[l.ID] = append(meant[l.ID], l)
	}
	if meant[id] != nil {
		ids = []string{id}
	}
	if len(ids) > 1 {
		return nil, fmt.Errorf("read dead letter %q: %w: %s; give a longer prefix", id, ErrManyLetters, few(ids))
	}
	var letters []Letter
	for _, one := range ids {
		for _, l := range meant[one] {
			l, err := from.DeadLetter(ctx, l)
			if errors.Is(err, ErrNoLetter) {
				continue
			}
			if err != nil {
				return nil, err
			}
			letters = append(letters, l)
		}
	}
	if len(letters) == 0 {
		return nil, fmt.Errorf("read dead letter %q: %w", id, ErrNoLetter)
	}
	return letters, nil
}

func few(ids []string) string {
	const most = 4
	if len(ids) > most {
		return strings.Join(ids[:most], ", ") + fmt.Sprintf(" and %d more", len(ids)-most)
	}
	return strings.Join(ids, ", ")
}
