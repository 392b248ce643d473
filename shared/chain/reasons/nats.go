package reasons

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"recompose/shared/queue/natsqueue"
	"recompose/shared/safety"
)

// NATS finds reasons with the workers and the streams on NATS. It does not repeat a call that lacks a right.
type NATS struct {
	Queue     *natsqueue.Queue
	Operators func(context.Context) (*safety.Operators, error) // opens the freeze of the deployment

	denied map[string]string // texts of missing rights, by call
}

// call runs do, unless an earlier call lacked a right for it.
func (w *NATS) call(what string, do func() error) (lacks string, err error) {
	if text, known := w.denied[what]; known {
		return text, nil
	}
	err = do()
	if denied, ok := errors.AsType[*natsqueue.DeniedError](err); ok {
		if w.denied == nil {
			w.denied = map[string]string{}
		}
		w.denied[what] = fmt.Sprintf("%s is not known: %v", what, denied)
		return w.denied[what], nil
	}
	return "", err
}

// Why returns why a chain is quiet.
func (w *NATS) Why(ctx context.Context, q Work) []string {
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
		workers, err = w.Queue.Workers(ctx, q.Correlation)
		return err
	})
	known := lacks == "" && err == nil
	addMissing(lacks, state, err)
	now := time.Now()
	if q.Write {
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
	why = appendText(why, unreachedText(workers, now), throttledText(workers, now))
	if len(why) == 0 { // a worker reports the same reason for each command that waits
		why = q.waiting(workers)
	}
	why = appendText(why, stoppedText(workers, now))
	if q.Unanswered {
		const what = "whether a worker has taken the command"
		var untaken string
		lacks, err := w.call(what, func() (err error) {
			untaken, err = w.untaken(ctx, q, workers)
			return err
		})
		addMissing(lacks, what, err)
		if untaken == "" && lacks == "" && err == nil && q.Number > 0 && len(why) == 0 {
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
func (w *NATS) frozen(ctx context.Context, now time.Time) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	s, err := w.Operators(ctx)
	if err == nil {
		var f *safety.Freeze
		if f, err = s.Frozen(ctx); err == nil && f != nil {
			return frozenText(*f, now), nil
		}
	}
	return "", w.Queue.Denied(err, "$JS.API.DIRECT.GET.KV_", "$JS.API.STREAM.INFO.KV_", "$JS.API.STREAM.MSG.GET.KV_")
}

// untaken reports why the first command is still in the stream of commands; "" if a worker has taken it.
func (w *NATS) untaken(ctx context.Context, q Work, workers []natsqueue.WorkerStatus) (string, error) {
	var waiting []string
	var ahead uint64
	served := false
	for _, function := range q.Functions {
		e, err := w.Queue.Entrance(ctx, function)
		if err != nil {
			return "", err
		}
		served = served || e.Asking || slices.ContainsFunc(workers, func(s natsqueue.WorkerStatus) bool {
			return slices.Contains(s.Functions, function)
		})
		if q.Number > e.Taken || q.Number == 0 && e.Waiting > 0 {
			waiting, ahead = append(waiting, function), e.Waiting
		}
	}
	of := strings.Join(waiting, ", ")
	switch {
	case len(waiting) == 0:
		return "", nil
	case q.Number == 0 && !served:
		return fmt.Sprintf("%s commands wait, and no worker takes them now; start one with recompose run", of), nil
	case q.Number == 0:
		return "", nil // these may be commands of other chains
	case !served:
		return fmt.Sprintf("no worker has taken the command: none takes %s commands now; start one with recompose run",
			of), nil
	case stoppedText(workers, time.Now()) != "":
		return "no worker has taken the command", nil
	}
	return "no worker has taken the command yet: all workers are busy, and " + commandsWait(int(ahead), of), nil
}
