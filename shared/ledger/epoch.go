package ledger

import (
	"errors"
	"slices"
)

// An epoch is one continuous life of a store: from its first use, or from the moment at which an operator accepted a
// loss of records, until records are lost. A store that has lost records looks like a new one, and every command that
// it knew could be executed a second time. So messages and the store's environment carry the epoch, and no write
// begins if it contradicts the store.

// ErrLost marks the error of a store that was deleted, truncated, or replaced by an older copy.
var ErrLost = errors.New("the ledger has lost records")

// ErrNoEpoch marks the error of a store that was not used for a write yet as far as is known, where this process has no
// right to record its first use.
var ErrNoEpoch = errors.New("the ledger has no epoch yet")

// LostError is the reason why no write may begin. It is ErrLost by errors.Is.
type LostError struct {
	Reason string // what is wrong with the ledger
	Accept string // the command that accepts the loss
}

func (e *LostError) Error() string {
	return "the ledger is incomplete, and no write begins: " + e.Reason +
		". The commands of lost records could be executed a second time. Restore the whole ledger; " +
		"or check the desktops and the waiting commands, and then accept the loss with: " + e.Accept
}

// Is makes the error an ErrLost.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// Epoch is the stored identity of a store's life.
type Epoch struct {
	ID     string   `json:"id"`               // what messages carry
	Store  string   `json:"store"`            // identifies the bucket or table
	Before []string `json:"before,omitempty"` // ids of epochs whose loss was accepted
}

// mostBefore is how many ended epochs are remembered: messages do not outlive nearly as many.
const mostBefore = 32

// Knows reports whether a message with this epoch id may be processed: it is of this epoch, of one that ended with an
// accepted loss, or of none. Commands have none, and so have all messages before the first epoch.
func (e Epoch) Knows(id string) bool { return id == "" || id == e.ID || slices.Contains(e.Before, id) }

// Accepted reports whether the record of a message with this epoch id may be missing.
func (e Epoch) Accepted(id string) bool {
	return slices.Contains(e.Before, id) || id == "" && len(e.Before) > 0
}

// Ended returns the list of ended epochs after this one and the others have ended.
func (e Epoch) Ended(others ...string) []string {
	before := slices.Clone(e.Before)
	for _, id := range append(others, e.ID) {
		if id != "" && !slices.Contains(before, id) {
			before = append(before, id)
		}
	}
	return before[max(0, len(before)-mostBefore):]
}
