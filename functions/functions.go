// Package functions is the routing table: which function handles which command, and to which events it reacts. Workers,
// streams and the deployment are made from it.
package functions

import (
	"recompose/functions/checkimages"
	"recompose/functions/desktoptoimage"
	"recompose/functions/getdesktop"
	"recompose/functions/listdesktops"
	"recompose/functions/listimages"
	"recompose/functions/rebuild"
	"recompose/functions/watchjob"
	"recompose/shared/config"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// New makes all functions of a worker. A program on Lambda makes its one function in the same way, from an engine with
// the settings, and does not link the others.
func New(c *config.Config, api *workspace.Client, o once.Options) []queue.Function {
	engine := once.New(c, api, o)
	return []queue.Function{
		checkimages.New(api, engine),
		desktoptoimage.New(api, engine),
		rebuild.New(api, engine),
		getdesktop.New(api, engine),
		watchjob.New(api, engine),
		listdesktops.New(api, engine),
		listimages.New(api, engine),
	}
}

// Routes returns the routing table: what each function handles and what it makes of an event. The functions returned
// must not be called to handle messages.
func Routes() []queue.Function { return New(config.Default(), nil, once.Options{}) }

// Names returns the tokens of all functions, in the order of the table.
func Names() []string {
	var names []string
	for _, f := range Routes() {
		names = append(names, f.Name)
	}
	return names
}
