package main

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"regexp"
	"slices"

	"recompose/shared/config"
	"recompose/shared/emulator"
	"recompose/shared/queue/awsqueue"
	"recompose/shared/workspace"
)

// ownEmulator starts an emulator in this process, with the state of --seed or with all that the event names.
func (f invokeFlags) ownEmulator(
	ctx context.Context, c *config.Config, batch awsqueue.Batch, people io.Writer,
) (*workspace.Client, func(), error) {
	n := names{}
	for i := range batch.Records {
		var body any
		if json.Unmarshal([]byte(batch.Records[i].Body), &body) == nil { // what is no JSON names nothing
			n.read(body)
		}
	}
	n.project = cmp.Or(n.project, emulator.DefaultProjectID)
	settings := emulator.Options{ProjectID: n.project, SignatureWindow: c.SignatureWindow}
	var err error
	if settings.Seed, err = n.seed(); f.seed != "" {
		settings.Seed, err = readSeed(f.seed)
	}
	if err != nil {
		return nil, nil, wrongUse(fmt.Errorf("read the seed: %w", err))
	}
	world, err := emulator.New(settings)
	if err != nil {
		return nil, nil, wrongUse(err)
	}
	site, err := serve(ctx, "the emulator on", "127.0.0.1:0", world)
	if err != nil {
		return nil, nil, err
	}
	done := func() {
		site.Close(ctx)
		_ = world.Close()
	}
	api, err := workspace.New(workspace.Options{
		Endpoint: site.URL, ProjectID: n.project, SignatureWindow: c.SignatureWindow, ReadsPerMinute: -1, WritesPerMinute: -1,
		Concurrency: c.Concurrency,
		Auth:        workspace.AKSK{AccessKey: emulator.DefaultAccessKey, SecretKey: emulator.DefaultSecretKey},
	})
	if err != nil {
		done()
		return nil, nil, wrongUse(fmt.Errorf("the project that the event names: %w", err))
	}
	say(people, "EMULATOR in this process, with %s", f.contents(n, len(world.DesktopIDs())))
	return api, done, nil
}

// contents describes what the emulator has.
func (f invokeFlags) contents(n names, desktops int) string {
	switch {
	case f.seed != "":
		return fmt.Sprintf("the %s of %s", count(desktops, "desktop"), foreign(f.seed))
	case len(n.desktops)+len(n.images) == 0:
		return count(desktops, "made-up desktop") + ": the event names none"
	case len(n.images) == 0:
		return fmt.Sprintf("the %s that the event names", count(len(n.desktops), "desktop"))
	default:
		return fmt.Sprintf("the %s and %s that the event names",
			count(len(n.desktops), "desktop"), count(len(n.images), "image"))
	}
}

// nameable is an id that the service can have; no function sends another.
var nameable = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// names are what messages name at the service, wherever it stands in them.
type names struct {
	project  string // the first one
	desktops []string
	images   []emulator.Image
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
		many, _ := v["desktop_ids"].([]any)
		for _, one := range append(many, v["desktop_id"]) {
			if id, _ := one.(string); nameable.MatchString(id) && !slices.Contains(n.desktops, id) {
				n.desktops = append(n.desktops, id)
			}
		}
		n.image(emulator.Image{
			ID: text("image_id"), ImageType: text("image_type"), OSType: text("os_type"),
			Name: cmp.Or(text("image_name"), "image-of-the-event"),
		})
		for _, name := range slices.Sorted(maps.Keys(v)) {
			n.read(v[name])
		}
	}
}

func (n *names) image(i emulator.Image) {
	if !nameable.MatchString(i.ID) || hasImage(n.images, i.ID) {
		return
	}
	if i.ImageType != "gold" && i.ImageType != "market" {
		i.ImageType = "private"
	}
	if i.OSType != "Linux" {
		i.OSType = "Windows"
	}
	n.images = append(n.images, i)
}

func hasImage(images []emulator.Image, id string) bool {
	return slices.ContainsFunc(images, func(i emulator.Image) bool { return i.ID == id })
}

// seed is the state of an emulator that has all that is named, and at least one desktop.
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
		if !hasImage(state.Images, i.ID) {
			state.Images = append(state.Images, i)
		}
	}
	return json.Marshal(state)
}
