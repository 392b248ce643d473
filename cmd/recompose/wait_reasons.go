package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
)

// openWork describes what a quiet chain waits for.
type openWork struct {
	root      bool     // the first command has no answer yet
	functions []string // those that the first command may be for
	number    uint64   // of the first command in the stream of commands; 0 if not known
	write     bool     // what it waits for may be a write that has not begun

	correlation string
	first       events.Root // without ID if not known
	open        []string    // ids of commands and events that are not answered
}

// reasonsFunc returns why a chain is quiet. A lookup that fails is reported too, with the right that is missing.
type reasonsFunc func(ctx context.Context, q openWork) []string

// reasonsTimeout bounds a lookup of reasons.
const reasonsTimeout = 5 * time.Second

// openWork returns what the chain waits for.
func (t target) openWork(open []events.Pending) openWork {
	q := openWork{number: t.number, functions: sendableNames(), correlation: t.chain.Correlation, first: t.chain.Root}
	if t.function != "" {
		q.functions = []string{t.function}
	}
	for _, p := range open {
		q.open = append(q.open, p.ID)
		switch {
		case p.JobID != "":
		case p.Function == "": // the first command
			q.root = true
			q.write = q.write || slices.ContainsFunc(q.functions, isWrite)
		default:
			q.write = q.write || isWrite(p.Function)
		}
	}
	return q
}

func isWrite(function string) bool {
	command, _ := sendableOf(function)
	return command.writes
}

func frozenText(f safety.Freeze, now time.Time) string {
	return fmt.Sprintf("writes are frozen since %s by %s: %s", chain.Clock(f.At, now), f.By, f.Reason)
}

// natsReasons reads reasons from the workers and the streams on NATS. It does not repeat a call that lacks a right.
type natsReasons struct {
	queue     *natsqueue.Queue
	operators func(context.Context) (*safety.Operators, error)

	denied map[string]string // texts of missing rights, by call
}

// call runs do, unless an earlier call lacked a right for it.
func (w *natsReasons) call(what string, do func() error) (lacks string, err error) {
	if text, known := w.denied[what]; known {
		return text, nil
	}
	err = do()
	if denied := new(natsqueue.DeniedError); errors.As(err, &denied) {
		w.denied[what] = fmt.Sprintf("%s is not known: %v", what, denied)
		return w.denied[what], nil
	}
	return "", err
}

func (w *natsReasons) why(ctx context.Context, q openWork) []string {
	var why, missing []string
	addMissing := func(lacks string, what string, err error) {
		switch {
		case lacks != "":
			missing = append(missing, lacks)
		case err != nil:
			missing = append(missing, fmt.Sprintf("%s is not known: %v", what, err))
		}
	}
	var workers []natsqueue.WorkerStatus
	const state = "whether a worker is stopped or throttled"
	lacks, err := w.call(state, func() (err error) {
		workers, err = w.queue.Workers(ctx, q.correlation)
		return err
	})
	known := lacks == "" && err == nil
	addMissing(lacks, state, err)
	now := time.Now()
	if q.write {
		if len(workers) == 0 {
			const what = "whether writes are frozen"
			var frozen string
			lacks, err := w.call(what, func() (err error) {
				frozen, err = w.frozen(ctx, now)
				return err
			})
			addMissing(lacks, what, err)
			why = appendText(why, frozen)
		}
		why = append(why, heldWriteReasons(workers, now)...)
	}
	why = appendText(why, throttledText(workers, now))
	if len(why) == 0 { // a worker reports the same reason for each command that waits
		why = q.waiting(workers)
	}
	why = appendText(why, stoppedText(workers, now))
	if q.root {
		const what = "whether a worker has taken the command"
		var untaken string
		lacks, err := w.call(what, func() (err error) {
			untaken, err = w.untaken(ctx, q, workers)
			return err
		})
		addMissing(lacks, what, err)
		if untaken == "" && lacks == "" && err == nil && q.number > 0 && len(why) == 0 {
			untaken = "a worker has taken the command, and no event of it is published yet"
		}
		why = appendText(why, untaken)
	} else if known && len(workers) == 0 {
		why = append(why, "no worker responds: start one with recompose run")
	}
	return append(why, missing...)
}

func appendText(list []string, texts ...string) []string {
	for _, t := range texts {
		if t != "" {
			list = append(list, t)
		}
	}
	return list
}

// frozen reads the freeze from the store, if no worker reports it.
func (w *natsReasons) frozen(ctx context.Context, now time.Time) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := w.operators(ctx)
	if err == nil {
		var f *safety.Freeze
		if f, err = s.Frozen(ctx); err == nil && f != nil {
			return frozenText(*f, now), nil
		}
	}
	return "", w.queue.Denied(err, "$JS.API.DIRECT.GET.KV_", "$JS.API.STREAM.INFO.KV_", "$JS.API.STREAM.MSG.GET.KV_")
}

// untaken reports why the first command is still in the stream of commands; "" if a worker has taken it.
func (w *natsReasons) untaken(ctx context.Context, q openWork, workers []natsqueue.WorkerStatus) (string, error) {
	var waiting []string
	var ahead uint64
	served := false
	for _, function := range q.functions {
		e, err := w.queue.Entrance(ctx, function)
		if err != nil {
			return "", err
		}
		served = served || e.Asking || slices.ContainsFunc(workers, func(s natsqueue.WorkerStatus) bool {
			return slices.Contains(s.Functions, function)
		})
		if q.number > e.Taken || q.number == 0 && e.Waiting > 0 {
			waiting, ahead = append(waiting, function), e.Waiting
		}
	}
	of := strings.Join(waiting, ", ")
	switch {
	case len(waiting) == 0:
		return "", nil
	case q.number == 0 && !served:
		return fmt.Sprintf("%s commands wait, and no worker takes them now; start one with recompose run", of), nil
	case q.number == 0:
		return "", nil // these may be commands of other chains
	case !served:
		return fmt.Sprintf("no worker has taken the command: none takes %s commands now; start one with recompose run",
			of), nil
	case stoppedText(workers, time.Now()) != "":
		return "no worker has taken the command", nil
	}
	return fmt.Sprintf("no worker has taken the command yet: all workers are busy, and %s",
		chain.Count(int(ahead), of+" command")+" wait"), nil
}
