package lambdaboot

import (
	"context"
	"log/slog"
	"time"

	"recompose/shared/config"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
)

// Project is the id of the project of a function that makes no call of the service.
type Project string

// ProjectID returns the id.
func (p Project) ProjectID() string { return string(p) }

// MainWithoutCalls is Main for a function that makes no call of the service ([queue.Function.NoCalls]). It needs no
// credentials: its role may not read the secret.
func MainWithoutCalls(function func(Project, *once.Engine) queue.Function) {
	run(func(ctx context.Context, log *slog.Logger, m *meter) (*awsqueue.Handler, error) {
		return bootWithoutCalls(ctx, log, m, function)
	})
}

func bootWithoutCalls(
	ctx context.Context, log *slog.Logger, m *meter, function func(Project, *once.Engine) queue.Function,
) (*awsqueue.Handler, error) {
	account, err := environment()
	if err != nil {
		return nil, err
	}
	c, err := config.Load(config.Options{Service: config.Named, AWS: config.Required})
	if err != nil {
		return nil, err
	}
	owner := newOwner()
	store, err := dynamoledger.New(dynamoledger.Options{
		Options: dynamostore.Options{Config: account, Table: c.Table}, Worker: owner, Log: log,
	})
	if err != nil {
		return nil, err
	}
	own, err := service.Configured(ctx, c)
	if err != nil {
		return nil, err
	}
	safe := safety.New(safety.Options{
		Operators: &safety.Operators{Store: store.Values(), Older: true}, Service: own,
		Key:   safety.NewKey(safety.KeyOptions{Store: store.Values(), Log: log, Now: time.Now}), // to read its state alone
		Files: &safety.Files{AllowDesktopsFile: c.AllowDesktopsFile, DenyDesktopsFile: c.DenyDesktopsFile, Log: log},
	})
	f := function(Project(c.ProjectID), once.New(c, nil, once.Options{
		Store: store, Owner: owner, Log: log, Safety: safe, Rollouts: store.Values(),
	}))
	m.function, m.topic = f.Name, topicName(c)
	return awsqueue.New(f, options(account, c, log, m, store, nil))
}
