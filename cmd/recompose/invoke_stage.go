package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/ledger/dynamoledger"
	"recompose/shared/ledger/memledger"
	"recompose/shared/once"
	"recompose/shared/queue"
	"recompose/shared/safety"
	"recompose/shared/service"
	"recompose/shared/store/dynamostore"
	"recompose/shared/workspace"
)

// stage is the service and the ledger that the function works with, and what is said of them first. done ends them.
func (f invokeFlags) stage(
	cmd *cobra.Command, c *config.Config, in invocation,
) (api *workspace.Client, o once.Options, done func(), err error) {
	o = once.Options{Store: memledger.New(), Owner: owner(), Safety: safety.New(safety.Options{Files: listFiles(c, in.log)}), Log: in.log}
	if !c.ServiceChosen() {
		api, done, err = f.ownEmulator(cmd, c, in)
		return api, o, done, err
	}
	if f.seed != "" {
		return nil, o, nil, wrongUse(fmt.Errorf("--seed: is for an emulator of its own, and the settings name the service %s", c.Endpoint()))
	}
	own, err := configured(cmd.Context(), c)
	if err != nil {
		return nil, o, nil, err
	}
	say(in.people, "%s", own)
	if api, err = newClient(c, nil); err != nil {
		return nil, o, nil, err
	}
	if !own.Emulator() && in.fn.Writes {
		if err := f.realWrites(cmd, c, in, own, &o); err != nil {
			return nil, o, nil, err
		}
	}
	return api, o, func() {}, nil
}

// realWrites gives a function that writes to a real service the ledger that the deployed functions have, and asks.
func (f invokeFlags) realWrites(cmd *cobra.Command, c *config.Config, in invocation, own events.Service, o *once.Options) error {
	if c.Table == "" {
		return wrongUse(fmt.Errorf(`RECOMPOSE_TABLE is missing: %s writes to a real service, %s.
A record in memory would be forgotten, and the next invoke of the same file could wipe the same disks again. Name the
table of the deployed functions, with AWS_REGION and credentials of AWS; or try it on an emulator, without
RECOMPOSE_WORKSPACE_ENDPOINT and RECOMPOSE_REGION`, in.fn.Name, c.Endpoint()))
	}
	store, err := dynamoledger.New(dynamoledger.Options{Options: dynamostore.Options{Table: c.Table}})
	if err != nil {
		return wrongUse(err)
	}
	err = claim(cmd.Context(), store, own, nil)
	if _, other := errors.AsType[*service.OtherError](err); other { // any other error holds the write itself back
		return err
	}
	o.Store = store
	o.Safety = safety.New(safety.Options{Operators: &safety.Operators{Store: store.Values(), Older: true}, Service: own})
	if what := in.writes(); len(what) > 0 && !f.yes {
		return confirm(cmd, strings.Join(what, ".\n")+".\nWhat the function says of it is printed here and not published", "not invoked")
	}
	return nil
}

// alone is the data of a command without what would follow from its event, which is not published.
func alone(data json.RawMessage) json.RawMessage {
	var fields map[string]json.RawMessage
	if json.Unmarshal(data, &fields) != nil {
		return data
	}
	delete(fields, "then")
	rest, _ := json.Marshal(fields)
	return rest
}

func effectUnknown(typ string, data json.RawMessage) bool {
	var failed events.CommandFailed
	return typ == events.TypeCommandFailed && json.Unmarshal(data, &failed) == nil && failed.Effect == events.EffectUnknown
}

// ownEmulator starts an emulator in this process and tells of it.
func (f invokeFlags) ownEmulator(cmd *cobra.Command, c *config.Config, in invocation) (*workspace.Client, func(), error) {
	n := namesOfMessages(in.messages)
	settings := emulator.Options{ProjectID: n.project, SignatureWindow: c.SignatureWindow}
	var err error
	if f.seed != "" {
		settings.Seed, err = readSeed(f.seed)
	} else {
		settings.Seed, err = n.seed()
	}
	if err != nil {
		return nil, nil, wrongUse(fmt.Errorf("read the seed: %w", err))
	}
	world, err := emulator.New(settings)
	if err != nil {
		return nil, nil, wrongUse(err)
	}
	site, err := serve(cmd.Context(), "127.0.0.1:0", world)
	if err != nil {
		return nil, nil, err
	}
	done := func() {
		site.Close(cmd.Context())
		_ = world.Close()
	}
	project := n.project
	if project == "" {
		project = emulator.DefaultProjectID
	}
	api, err := workspace.New(workspace.Options{
		Endpoint: site.URL, ProjectID: project, SignatureWindow: c.SignatureWindow, ReadsPerMinute: -1, WritesPerMinute: -1,
		Concurrency: c.Concurrency,
		Auth:        workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	if err != nil {
		done()
		return nil, nil, wrongUse(fmt.Errorf("the project that the event names: %w", err))
	}
	say(in.people, "EMULATOR in this process, with %s", f.inhabitants(n, len(world.DesktopIDs())))
	return api, done, nil
}

// inhabitants says what there is in an emulator of this process.
func (f invokeFlags) inhabitants(n names, desktops int) string {
	switch {
	case f.seed != "":
		return fmt.Sprintf("the %s of %s", count(desktops, "desktop"), foreign(f.seed))
	case len(n.desktops) == 0 && len(n.images) == 0:
		return count(desktops, "made-up desktop") + ": the event names none"
	case len(n.images) == 0:
		return fmt.Sprintf("the %s that the event names", count(len(n.desktops), "desktop"))
	default:
		return fmt.Sprintf("the %s and %s that the event names", count(len(n.desktops), "desktop"), count(len(n.images), "image"))
	}
}

// nameable is an id that can be there; no function asks for any other.
var nameable = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// names are what messages name at the service.
type names struct {
	project  string // the first one
	desktops []string
	images   []emulator.Image
}

// namesOfMessages reads what messages name, wherever it stands in them. What cannot be read names nothing.
func namesOfMessages(ms []queue.Delivery) names {
	var n names
	for _, m := range ms {
		e, err := events.Decode(m.Headers, m.Body, m.Bare)
		if unreadable := new(events.UnreadableError); errors.As(err, &unreadable) {
			continue
		}
		var data any
		if json.Unmarshal(e.Data, &data) == nil {
			n.read(data)
		}
	}
	return n
}

func (n *names) read(v any) {
	switch v := v.(type) {
	case []any:
		for _, one := range v {
			n.read(one)
		}
	case map[string]any:
		text := func(name string) string { s, _ := v[name].(string); return s }
		if p := text("project_id"); n.project == "" && nameable.MatchString(p) {
			n.project = p
		}
		n.desktop(v["desktop_id"])
		if many, ok := v["desktop_ids"].([]any); ok {
			for _, id := range many {
				n.desktop(id)
			}
		}
		n.image(emulator.Image{ID: text("image_id"), ImageType: text("image_type"), Name: text("image_name"), OSType: text("os_type")})
		for _, name := range slices.Sorted(maps.Keys(v)) {
			n.read(v[name])
		}
	}
}

func (n *names) desktop(v any) {
	if id, _ := v.(string); nameable.MatchString(id) && !slices.Contains(n.desktops, id) {
		n.desktops = append(n.desktops, id)
	}
}

func (n *names) image(i emulator.Image) {
	if !nameable.MatchString(i.ID) || slices.ContainsFunc(n.images, func(other emulator.Image) bool { return other.ID == i.ID }) {
		return
	}
	if i.ImageType != "gold" && i.ImageType != "market" {
		i.ImageType = "private"
	}
	if i.Name == "" {
		i.Name = "image-of-the-event"
	}
	if i.OSType != "Linux" {
		i.OSType = "Windows"
	}
	n.images = append(n.images, i)
}

// seed is the state of a service in which all that is named is there.
func (n *names) seed() ([]byte, error) {
	made, err := emulator.New(emulator.Options{Desktops: max(1, len(n.desktops))})
	if err != nil {
		return nil, err
	}
	defer made.Close()
	state := made.State()
	for i, id := range n.desktops {
		state.Desktops[i].DesktopID = id
	}
	for _, i := range n.images {
		if !slices.ContainsFunc(state.Images, func(there emulator.Image) bool { return there.ID == i.ID }) {
			state.Images = append(state.Images, i)
		}
	}
	return json.Marshal(state)
}
