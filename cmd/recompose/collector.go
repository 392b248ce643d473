package main

import (
	"os"
	"runtime/debug"
)

// collectAt is the GOGC of a worker. Go's own, 100, takes more of its CPU; more than 200 saves little and needs much
// memory, see docs/performance.md.
const collectAt = 200

// tuneCollector sets how much memory the garbage collector trades for CPU, unless GOGC does.
func tuneCollector() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(collectAt)
	}
}
