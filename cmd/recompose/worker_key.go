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
}

// open makes the key, in the store of the deployment.
func (k *workerKey) open(ctx context.Context, w *monitor, values store.Store) {
	k.Key = safety.NewKey(safety.KeyOptions{
		Store: values, Own: true, Credentials: fixedCredentials(k.name), Probe: k.probe, By: workerName(), Log: w.log, Now: time.Now,
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
	err := k.Key.Check(ctx)
	if _, soon := errors.AsType[*queue.RetryError](err); err == nil || soon || isKeyRefused(err) {
		return err
	}
	return queue.RetryAfter(checkKeyAfter, err)
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

// isKeyRefused reports whether an error is that the service refuses the credentials, of this worker or of another with the same.
func isKeyRefused(err error) bool {
	_, stored := errors.AsType[*safety.Refusal](err)
	return stored || workspace.IsUnauthorized(err)
}

// refusalAdvice is how a worker goes on that has stopped.
func refusalAdvice(why error) string {
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

// fixedCredentials are the credentials of a worker, by their name. It keeps them as long as it runs.
type fixedCredentials string

func (f fixedCredentials) Name() string                       { return string(f) }
func (fixedCredentials) Reload(context.Context) (bool, error) { return false, nil }

// credentialsName names the credentials of a worker. Those of an agency are of one server.
func credentialsName(c *config.Config, auth workspace.Auth) (string, error) {
	if !c.ByAgency() {
		return credentials.Name(auth, ""), nil
	}
	host, err := os.Hostname()
	return credentials.Name(auth, host), err
}

// safety is asked before each write: what people have set in the store of the deployment, the lists and the key of this
// worker.
func (w *monitor) safety(values store.Store, own events.Service) *safety.Safety {
	s := safety.New(safety.Options{Operators: &safety.Operators{Store: values}, Files: w.lists, Key: w.key.Key, Service: own})
	w.key.mu.Lock()
	defer w.key.mu.Unlock()
	w.key.safe = s
	return s
}
