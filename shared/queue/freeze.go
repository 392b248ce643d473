package queue

import "time"

// Freeze is why no write begins at present.
type Freeze struct {
	Reason string    `json:"reason"` // as given by the person who froze
	By     string    `json:"by"`     // the person: user@host
	At     time.Time `json:"at"`     // since when, UTC
}
