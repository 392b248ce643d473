// Package deadletters decides what a redrive of dead letters would do.
//
// A [Planner] makes a [Plan] of each letter from the letter itself, the ledger of its deployment and the clock.
package deadletters
