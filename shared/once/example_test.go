package once_test

import (
	"fmt"
	"time"

	"recompose/events"
	"recompose/shared/ledger"
	"recompose/shared/once"
)

// What happens to a write command follows from its record in the ledger alone.
func ExampleStateOf() {
	var record ledger.Record
	fmt.Println(once.StateOf(record)) // no call was made yet

	record.SignedAt = time.Date(2026, 1, 15, 8, 30, 0, 0, time.UTC)
	fmt.Println(once.StateOf(record)) // a worker is about to make the call, or has made it

	record.JobID = "job-1"
	fmt.Println(once.StateOf(record)) // the service has accepted it

	record.End = &ledger.End{Type: events.TypeJobCompleted}
	fmt.Println(once.StateOf(record))
	// Output:
	// free
	// intent
	// accepted
	// ended
}
