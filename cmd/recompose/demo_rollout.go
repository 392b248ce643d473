package main

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/emulator"
	"recompose/shared/rollout"
)

// demoRollout shows a rollout on the emulator: a canary, two waves, a desktop that fails, a halt, a retry, the end, and
// the way back of one desktop.
func demoRollout(cmd *cobra.Command, desktops int) error {
	site, err := openDemo(cmd, desktops)
	if err != nil {
		return err
	}
	defer site.close()
	image, before := demoImage(site.world.State())
	bad := slices.Max(site.ids) // the canary begins with the lowest ids
	if err := site.world.SetFaults([]emulator.Fault{{Call: emulator.CallRebuild, DesktopID: bad, Times: 1, Do: emulator.Do{
		Job: "fail", ErrorCode: "WKS.00010050", ErrorMsg: "The system disk could not be attached (made up by recompose demo)",
	}}}); err != nil {
		return err
	}
	spec, err := demoSpec(image, site.ids)
	if err != nil {
		return err
	}
	if err := site.sendRollout(fmt.Sprintf("rollout start: image %s to %s", image.ID, chain.Count(len(site.ids), "desktop")),
		events.TypeRolloutStart, events.RolloutCommand{Spec: spec}); err != nil {
		return fmt.Errorf("send the command: %w", err)
	}
	back := site.ids[0]
	if err := site.followRollout(back); err != nil {
		return &exitError{exitUnknown, fmt.Errorf("the demo did not end: %w", err)}
	}
	v, wrong := site.view, 0
	for _, d := range site.world.State().Desktops {
		want := image.ID
		if d.DesktopID == back {
			want = before[back]
		}
		if d.Metadata["metering.image_id"] != want {
			wrong++
			v.line("", "desktop %s runs image %s, not %s", d.DesktopID, d.Metadata["metering.image_id"], want)
		}
	}
	if wrong > 0 {
		return &exitError{exitFailed, nil}
	}
	v.line("", "%s run the new image, and %s runs its earlier one. API: %s: %s", chain.Count(len(site.ids)-1, "desktop"), back,
		chain.Count(total(v.calls), "call"), tally(v.calls))
	return nil
}

// demoName is the name of the rollout.
const demoName = "demo"

// demoSpec is the rollout of an image to all desktops.
func demoSpec(image emulator.Image, ids []string) (json.RawMessage, error) {
	spec := rollout.Defaults()
	spec.Name = demoName
	spec.Image.ImageID, spec.Image.ImageType = image.ID, image.ImageType
	spec.Targets.DesktopIDs = ids
	spec.Strategy.Canary, spec.Strategy.Waves = 2, []string{"50%", "100%"}
	spec.Strategy.MaxUnavailable, spec.Strategy.MaxFailed = len(ids), rollout.Amount{}
	spec.Strategy.Soak = rollout.Duration(time.Second)
	spec.Approval = rollout.Approval{}
	return json.Marshal(spec)
}

// sendRollout sends a command of the rollout and shows it.
func (s *demoSite) sendRollout(what, typ string, c events.RolloutCommand) error {
	data, err := json.Marshal(c)
	if err != nil {
		return err
	}
	id := uuid.NewString()
	s.view.line("send", "%s", what)
	_, err = s.queue.Send(s.ctx, events.Envelope{
		ID: id, Source: "recompose/demo", Type: typ, Time: time.Now().UTC(), Correlation: id, Data: data,
	})
	return err
}

// followRollout shows the rollout to its end: it sends a retry after a halt, and at the end the way back of one desktop.
func (s *demoSite) followRollout(back string) error {
	retried, ended, seen := false, false, map[string]bool{}
	return s.read(func(e events.Envelope) (bool, error) {
		if seen[e.ID] || !slices.Contains(events.RolloutEventTypes, e.Type) {
			return true, nil
		}
		seen[e.ID] = true
		s.view.event(e)
		var r events.Rollout
		err := json.Unmarshal(e.Data, &r)
		if err != nil {
			return false, fmt.Errorf("read %s: %w", e.Type, err)
		}
		switch e.Type {
		case events.TypeRolloutHalted:
			if retried {
				return false, fmt.Errorf("the rollout halted once more: %s", r.Reason)
			}
			retried = true
			err = s.sendRollout("rollout retry: the desktop that failed, anew", events.TypeRolloutRetry,
				events.RolloutCommand{Name: demoName})
		case events.TypeRolloutCompleted:
			err = s.sendRollout("rollout rollback: desktop "+back+" back to its own earlier image", events.TypeRolloutRollback,
				events.RolloutCommand{Name: demoName, DesktopIDs: []string{back}})
		case events.TypeRolloutRejected, events.TypeRolloutAborted:
			err = fmt.Errorf("the rollout ended: %s", r.Reason)
		case events.TypeRolloutRolledBack:
			ended = true
		}
		return !ended, err
	})
}

// demoImage is an image that no desktop runs, and the image that each runs.
func demoImage(state emulator.State) (emulator.Image, map[string]string) {
	runs, used := map[string]string{}, map[string]bool{}
	for _, d := range state.Desktops {
		runs[d.DesktopID] = d.Metadata["metering.image_id"]
		used[d.Metadata["metering.image_id"]] = true
	}
	for _, image := range state.Images {
		if !used[image.ID] {
			return image, runs
		}
	}
	return emulator.Image{}, runs
}
