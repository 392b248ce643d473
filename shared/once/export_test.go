package once

// For the tests that hold the code to the table.
var (
	Transitions = transitions
	Allowed     = inTable
)
