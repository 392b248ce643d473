package main

import (
	"context"
	"errors"
	"os"
	"sync"
	"time"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/credentials"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/store"
	"recompose/shared/workspace"
)

// workerKey is the key of a worker, shared with all workers of the deployment that have the same credentials. Its name and
// probe are known before the store is.
type workerKey struct {
	*safety.Key // nil before open

	name  string
	probe func(context.Context) error

	safe *safety.Safety // nil before it is made
	mu   sync.Mutex
	same time.Time // when the deployment was last seen to work on the service of this worker

	checking sync.Mutex // held by the one that reads the state of the key for all messages
	taken    time.Time  // when a read of the state began that found the key taken; zero: this worker was refused since
	pulls    int        // how often this worker was refused
}

// open makes the key, in the store of the deployment.
func (k *workerKey) open(ctx context.Context, w *watch, values store.Store) {
	k.Key = safety.NewKey(safety.KeyOptions{
		Store: values, Own: true, Credentials: fixed(k.name), Probe: k.probe, By: workerName(), Log: w.log, Now: time.Now,
	})
	if err := k.Restarted(ctx); err != nil { // then it waits as long as without a restart
		w.log.WarnContext(ctx, "that this worker was restarted could not be stored beside the refused key", "error", err)
	}
}

// Check keeps a worker at work whose store or service does not answer: its message is retried soon. Only refused credentials
// stop it. A worker of another service than the deployment's by now handles no message: what it read would be about another
// service.
func (k *workerKey) Check(ctx context.Context) error {
	if err := k.sameService(ctx); err != nil {
		return queue.RetryAfter(once.StoreWait, err)
	}
	err := k.checkTaken(ctx)
	if _, soon := errors.AsType[*queue.RetryError](err); err == nil || soon || keyRefused(err) {
		return err
	}
	return queue.RetryAfter(checkKeyAfter, err)
}

// takenAgain is how long it counts that no worker was refused. It is no longer than a call usually lasts: the calls that are
// under way when the service begins to refuse the credentials are refused with this time or without it. A refusal of this
// worker itself counts at once.
const takenAgain = 100 * time.Millisecond

// refreshWithin is how long a read in the background may take.
const refreshWithin = 5 * time.Second

// checkTaken is Check of the key, which one message does for all that come within takenAgain. From half of that time on the
// state is read in the background, so that a busy worker never waits for it.
func (k *workerKey) checkTaken(ctx context.Context) error {
	age, _ := k.age()
	switch {
	case age < takenAgain/2:
		return nil
	case age < takenAgain:
		if k.checking.TryLock() {
			go func() {
				defer k.checking.Unlock()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
				defer cancel()
				_ = k.readTaken(ctx) // the next message finds the error, too
			}()
		}
		return nil
	}
	k.checking.Lock()
	defer k.checking.Unlock()
	if age, _ := k.age(); age < takenAgain {
		return nil
	}
	return k.readTaken(ctx)
}

// readTaken checks the key, and notes when that began if it is taken.
func (k *workerKey) readTaken(ctx context.Context) error {
	_, pulls := k.age()
	begin := time.Now()
	err := k.Key.Check(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil:
		k.taken = time.Time{}
	case k.pulls == pulls:
		k.taken = begin
	}
	return err
}

// age is how old the state is that was read last, and how often this worker was refused so far.
func (k *workerKey) age() (age time.Duration, pulls int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.taken), k.pulls
}

// Pull stops the handling of messages, at once in this worker.
func (k *workerKey) Pull(ctx context.Context, err error) {
	k.mu.Lock()
	k.taken = time.Time{}
	k.pulls++
	k.mu.Unlock()
	k.Key.Pull(ctx, err)
}

// sameAgain is how long it counts that the deployment works on the service of this worker: reads need not ask each time, for
// writes and the ends of jobs ask by themselves.
const sameAgain = time.Second

// sameService returns why nothing may be asked of the service of this worker. Where that cannot be read, only what writes
// waits, which asks by itself.
func (k *workerKey) sameService(ctx context.Context) error {
	k.mu.Lock()
	safe, fresh := k.safe, time.Since(k.same) < sameAgain
	k.mu.Unlock()
	if safe == nil || fresh {
		return nil
	}
	err := safe.SameService(ctx)
	if stop, ok := errors.AsType[*safety.Stop](err); ok && stop.Reason == safety.OtherService {
		return err
	}
	if err == nil {
		k.mu.Lock()
		k.same = time.Now()
		k.mu.Unlock()
	}
	return nil
}

// checkKeyAfter is when a message is retried of which it is not known whether its calls would be refused.
const checkKeyAfter = 5 * time.Second

// keyRefused reports whether an error is that the service refuses the credentials, of this worker or of another with the same.
func keyRefused(err error) bool {
	_, stored := errors.AsType[*safety.Refusal](err)
	return stored || workspace.IsUnauthorized(err)
}

// afterRefusal is how a worker goes on that has stopped.
func afterRefusal(why error) string {
	_, stored := errors.AsType[*safety.Refusal](why)
	switch {
	case errors.Is(why, workspace.ErrLoginRefused):
		return "it does not log in once more by itself: restart it with the right login"
	case stored:
		return "another worker with the same credentials was refused; one of them tries the service after a minute, then less and less often, " +
			"at most every 16 minutes, and this one goes on by itself; a refused login is not tried: restart with the right one"
	default:
		return "it tries the service after a minute, then less and less often, at most every 16 minutes, and goes on by itself"
	}
}

// fixed are the credentials of a worker, by their name. It keeps them as long as it runs.
type fixed string

func (f fixed) Name() string                       { return string(f) }
func (fixed) Reload(context.Context) (bool, error) { return false, nil }

// nameOf names the credentials of a worker. Those of an agency are of one server.
func nameOf(c *config.Config, auth workspace.Auth) (string, error) {
	if !c.ByAgency() {
		return credentials.Name(auth, ""), nil
	}
	host, err := os.Hostname()
	return credentials.Name(auth, host), err
}

// safety is asked before each write: what people have set in the store of the deployment, the lists and the key of this
// worker.
func (w *watch) safety(values store.Store, own events.Service) *safety.Safety {
	s := safety.New(safety.Options{Operators: &safety.Operators{Store: values}, Files: w.lists, Key: w.key.Key, Service: own})
	w.key.mu.Lock()
	defer w.key.mu.Unlock()
	w.key.safe = s
	return s
}
