package worker

import (
	"context"
	"errors"
	"log/slog"
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

// key is the access key of a worker. Its state is shared by all workers of the deployment with the same
// credentials. Its name and probe are set before the store is open.
type key struct {
	*safety.Key // nil before open

	name  string
	probe func(context.Context) error

	safe *safety.Safety // nil before it is made
	mu   sync.Mutex
	same time.Time // latest check that the deployment works on the service of this worker

	checking sync.Mutex // held while the state of the key is read for all messages
	usable   time.Time  // start of the latest check that found the key usable; zero: there was a refusal since
	refusals int        // refusals of this worker
}

// open opens the state of the key in the store of the deployment.
func (k *key) open(ctx context.Context, values store.Store, log *slog.Logger) {
	k.Key = safety.NewKey(safety.KeyOptions{
		Store: values, Own: true, Credentials: fixedCredentials(k.name), Probe: k.probe, By: name(),
		Log: log, Now: time.Now,
	})
	if err := k.Restarted(ctx); err != nil { // then the key waits as if there had been no restart
		log.WarnContext(ctx, "the restart of this worker could not be stored with the refused key", "error", err)
	}
}

// Check returns an error if no call may be made now. Only refused credentials stop the worker; if the store or the
// service does not answer, the message is retried soon. If the deployment has changed to another service, the worker
// handles no message, because it would read from the wrong service.
func (k *key) Check(ctx context.Context) error {
	if err := k.sameService(ctx); err != nil {
		return queue.RetryAfter(once.StoreWait, err)
	}
	err := k.checkUsable(ctx)
	if _, soon := errors.AsType[*queue.RetryError](err); err == nil || soon || isKeyRefused(err) {
		return err
	}
	return queue.RetryAfter(checkKeyAfter, err)
}

// usableFor is how long a check of the key counts. It is no longer than a call usually lasts: calls that are in flight
// when the service begins to refuse the credentials are refused in any case. A refusal of this worker ends it at once.
const usableFor = 100 * time.Millisecond

// refreshWithin is how long a check in the background may take.
const refreshWithin = 5 * time.Second

// checkUsable checks the key, once for all messages within usableFor. After half of that time the check is repeated in
// the background, so that the messages of a busy worker do not wait for it.
func (k *key) checkUsable(ctx context.Context) error {
	age, _ := k.age()
	switch {
	case age < usableFor/2:
		return nil
	case age < usableFor:
		if k.checking.TryLock() {
			go func() {
				defer k.checking.Unlock()
				ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), refreshWithin)
				defer cancel()
				_ = k.checkKey(ctx) // the next message gets the error
			}()
		}
		return nil
	}
	k.checking.Lock()
	defer k.checking.Unlock()
	if age, _ := k.age(); age < usableFor {
		return nil
	}
	return k.checkKey(ctx)
}

// checkKey checks the key and records the time if it is usable.
func (k *key) checkKey(ctx context.Context) error {
	_, refusals := k.age()
	begin := time.Now()
	err := k.Key.Check(ctx)
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case err != nil:
		k.usable = time.Time{}
	case k.refusals == refusals:
		k.usable = begin
	}
	return err
}

// age is the age of the latest check that found the key usable, and the number of refusals of this worker.
func (k *key) age() (age time.Duration, refusals int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return time.Since(k.usable), k.refusals
}

// Refuse stops the handling of messages, in this worker at once.
func (k *key) Refuse(ctx context.Context, err error) {
	k.mu.Lock()
	k.usable = time.Time{}
	k.refusals++
	k.mu.Unlock()
	k.Key.Refuse(ctx, err)
}

// sameServiceFor is how long a check of the deployment's service counts. It is for reads: writes and ends of jobs
// check by themselves.
const sameServiceFor = time.Second

// sameService returns an error if the deployment works on another service than this worker. If that cannot be read it
// returns nil: writes check it by themselves.
func (k *key) sameService(ctx context.Context) error {
	k.mu.Lock()
	safe, fresh := k.safe, time.Since(k.same) < sameServiceFor
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

// checkKeyAfter delays a message while it is not known whether the key is refused.
const checkKeyAfter = 5 * time.Second

// isKeyRefused reports whether the service refuses the credentials of this worker, or of another with the same ones.
func isKeyRefused(err error) bool {
	_, stored := errors.AsType[*safety.Refusal](err)
	return stored || workspace.IsUnauthorized(err)
}

// refusalAdvice explains how a stopped worker resumes.
func refusalAdvice(why error) string {
	_, stored := errors.AsType[*safety.Refusal](why)
	switch {
	case errors.Is(why, workspace.ErrLoginRefused):
		return "it does not retry the login by itself: restart it with the right login"
	case stored:
		return "another worker with the same credentials was refused; one of them tries the service after a minute, " +
			"then less and less often, at most every 16 minutes, and this one resumes by itself; a refused login is not retried: restart with the right one"
	default:
		return "it tries the service after a minute, then less and less often, at most every 16 minutes, and resumes by itself"
	}
}

// fixedCredentials is the name of credentials that a worker keeps as long as it runs.
type fixedCredentials string

func (f fixedCredentials) Name() string                       { return string(f) }
func (fixedCredentials) Reload(context.Context) (bool, error) { return false, nil }

// credentialsName returns the name of the credentials of a worker. Credentials of an agency belong to one server.
func credentialsName(c *config.Config, auth workspace.Auth) (string, error) {
	if !c.ByAgency() {
		return credentials.Name(auth, ""), nil
	}
	host, err := os.Hostname()
	return credentials.Name(auth, host), err
}

// safety returns the checks before each write: freeze and lists of the deployment, and the lists and key of this
// worker.
func (w *Worker) safety(values store.Store, own events.Service) *safety.Safety {
	s := safety.New(safety.Options{Operators: &safety.Operators{Store: values}, Files: w.lists, Key: w.key.Key,
		Service: own})
	w.key.mu.Lock()
	defer w.key.mu.Unlock()
	w.key.safe = s
	return s
}
