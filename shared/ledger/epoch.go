package ledger

import (
	"errors"
	"slices"
)

// An epoch is one unbroken life of a store: from its first use, or from the moment at which an operator accepted that
// records were lost, until records are lost. A store that has lost records looks like a new one, and every command that
// it knew could be done a second time. So messages and the store's surroundings carry the epoch, and no write begins
// where it does not fit.

// ErrLost marks the error of a store that is gone, cut, or an older copy.
var ErrLost = errors.New("the ledger has lost records")

// LostError is why no write may begin. It is ErrLost by errors.Is.
type LostError struct {
	Reason string // what does not fit
	Accept string // the command that accepts the loss
}

func (e *LostError) Error() string {
	return "the ledger does not fit, and no write begins: " + e.Reason +
		". Records that are gone would let their commands be done a second time. Bring the whole ledger back; " +
		"or look at the desktops and at the commands that wait, and then accept the loss with: " + e.Accept
}

// Is makes it ErrLost.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// Epoch is what is kept of a store's life.
type Epoch struct {
	ID     string   `json:"id"`               // what messages carry
	Store  string   `json:"store"`            // names the very bucket or table
	Before []string `json:"before,omitempty"` // ids of epochs whose loss was accepted
}

// mostBefore is how many ended epochs are remembered: far more than messages outlive.
const mostBefore = 32

// Knows reports whether a message with this epoch id may be acted on: it is of this epoch, of one that ended with an
// accepted loss, or of none, as commands are and all messages before the first epoch.
func (e Epoch) Knows(id string) bool { return id == "" || id == e.ID || slices.Contains(e.Before, id) }

// Accepted reports whether a record may be missing that a message with this epoch id is about.
func (e Epoch) Accepted(id string) bool {
	return slices.Contains(e.Before, id) || id == "" && len(e.Before) > 0
}

// Ended is the list of the epochs that have ended, when this one and the others do.
func (e Epoch) Ended(others ...string) []string {
	before := slices.Clone(e.Before)
	for _, id := range append(others, e.ID) {
		if id != "" && !slices.Contains(before, id) {
			before = append(before, id)
		}
	}
	return before[max(0, len(before)-mostBefore):]
}
