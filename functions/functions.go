// Package functions is the routing table: which function takes which command, and which events it reacts to. Workers,
// streams and the deployment are made from it.
package functions

import (
	"log/slog"
	"time"

	"recompose/functions/checkimages"
	"recompose/functions/desktoptoimage"
	"recompose/functions/getdesktop"
	"recompose/functions/rebuild"
	"recompose/functions/watchjob"
	"recompose/shared/ledger"
	"recompose/shared/once"
	"recompose/shared/permit"
	"recompose/shared/queue"
	"recompose/shared/workspace"
)

// Settings are what the functions of a worker work with.
type Settings struct {
	API    *workspace.Client
	Ledger ledger.Store
	Owner  string // names this worker in the ledger

	ImageDeadline   time.Duration // zero: 2 hours
	RebuildDeadline time.Duration // zero: 45 minutes, and the delay_time of the rebuild
	CommandMaxAge   time.Duration // zero: 6 hours
	MaxDelayTime    int64         // minutes; zero: 1,440
	Lists           permit.Lists  // which desktops may be written to; nil: all
	BlankPersonal   bool          // leave users, addresses, sid and tags out of what is said of a desktop

	Window   time.Duration     // how old a signature the service takes; zero: 15 minutes
	Resend   bool              // make a call once more that was proved lost; never with a token, which does not expire soon enough
	Switch   ledger.Switch     // stops all writes; nil: there is none
	Searched func(what string) // is told what the search for a lost call came to: unknown, adopted, resent

	ConflictDeadline time.Duration // how long a busy desktop is asked for again; zero: 30 minutes

	Pace float64          // divides the waits between looks at a job; zero: 1. More suits an emulator that runs fast
	Now  func() time.Time // zero: time.Now
	Log  *slog.Logger     // zero: silent
}

// All is the routing table.
func All(s Settings) []queue.Function {
	if s.Now == nil {
		s.Now = time.Now
	}
	serviceNow := s.Now
	if s.API != nil {
		serviceNow = s.API.ServiceNow
	}
	o := once.Options{
		Store: s.Ledger, Owner: s.Owner, Now: s.Now, ServiceNow: serviceNow, Log: s.Log, Window: s.Window, Resend: s.Resend,
		OnRecovery: s.Searched, MaxAge: s.CommandMaxAge, MaxDelayTime: s.MaxDelayTime, Switch: s.Switch, Pace: s.Pace,
		ConflictDeadline: s.ConflictDeadline, Lists: s.Lists,
	}
	if s.API != nil {
		o.ProjectID, o.Undated = s.API.ProjectID(), !s.API.SignaturesExpire()
		o.Resend = s.Resend && !o.Undated
	}
	engine := once.New(o)
	return []queue.Function{
		engine.Read(checkimages.New(s.API, checkimages.Settings{Pace: s.Pace}), nil),
		desktoptoimage.New(s.API, desktoptoimage.Settings{Engine: engine, Deadline: s.ImageDeadline}),
		rebuild.New(s.API, rebuild.Settings{Engine: engine, Deadline: s.RebuildDeadline}),
		engine.Read(getdesktop.New(s.API, getdesktop.Settings{BlankPersonal: s.BlankPersonal}), getdesktop.Kept),
		watchjob.New(s.API, watchjob.Settings{Engine: engine, Pace: s.Pace, Now: s.Now, Log: s.Log}),
	}
}

// Names are the tokens of all functions, in the order of the table.
func Names() []string {
	var names []string
	for _, f := range All(Settings{}) {
		names = append(names, f.Name)
	}
	return names
}
