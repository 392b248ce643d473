package ledger

import (
	"context"
	"time"
)

// Freeze is why no write is begun for now.
type Freeze struct {
	Reason string    `json:"reason"` // in the words of who froze
	By     string    `json:"by"`     // who: user@host
	At     time.Time `json:"at"`     // since when, UTC
}

// Switch is read directly before every write. While it is frozen no write is begun; what the service has accepted
// already goes on.
type Switch interface {
	// Frozen tells the freeze in force; nil if there is none. It reads what was last stored, never an older copy. Where
	// it cannot, the error says so, and the write must not be made.
	Frozen(ctx context.Context) (*Freeze, error)
}
