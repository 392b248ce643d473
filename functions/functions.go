// Package functions is the routing table: which function takes which command, and which events it reacts to. Workers,
// streams and the deployment are made from it.
package functions

import (
	"recompose/functions/checkimages"
	"recompose/functions/desktoptoimage"
	"recompose/functions/getdesktop"
	"recompose/functions/rebuild"
	"recompose/functions/watchjob"
	"recompose/shared/config"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// New makes all functions of a worker. A program on Lambda makes its function in the same way: from an engine, which has
// the settings. It does not link the others.
func New(c *config.Config, api *workspace.Client, o once.Options) []queue.Function {
	engine := once.New(c, api, o)
	return []queue.Function{
		checkimages.New(api, engine),
		desktoptoimage.New(api, engine),
		rebuild.New(api, engine),
		getdesktop.New(api, engine),
		watchjob.New(api, engine),
	}
}

// Routes is the routing table: what each function takes and what it makes of an event. These functions handle nothing.
func Routes() []queue.Function { return New(config.Default(), nil, once.Options{}) }

// Names are the tokens of all functions, in the order of the table.
func Names() []string {
	var names []string
	for _, f := range Routes() {
		names = append(names, f.Name)
	}
	return names
}
