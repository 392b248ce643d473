package main

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/google/uuid"
	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/emulator"
)

// demoSpeed divides the durations of jobs: 20 minutes for an image become 6 seconds, 10 minutes for a rebuild 3
// seconds.
const demoSpeed = 200

// demoWithin ends a demo that hangs.
const demoWithin = 3 * time.Minute

func demoCommand() *cobra.Command {
	var desktops, fail int
	var asRollout bool
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Run the whole workflow on this machine, without settings",
		Long: `Capture a desktop as an image, rebuild a fleet from it and check every desktop: with NATS, all functions and an
emulator of the Workspace API in this process. It needs no settings and no network, and leaves no files.

Exit code 0, or 1 if a desktop failed.`,
		Example: `  recompose demo
  recompose demo --desktops 250 --fail 3
  recompose demo --rollout`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			switch {
			case desktops < 1 || desktops > events.MaxDesktops:
				return wrongUse(fmt.Errorf("--desktops: must be 1 to %d; got %d", events.MaxDesktops, desktops))
			case fail < 0 || fail > desktops:
				return wrongUse(fmt.Errorf("--fail: must be 0 to the number of desktops, %d; got %d", desktops, fail))
			}
			if asRollout {
				return demoRollout(cmd, desktops)
			}
			return demo(cmd, desktops, fail)
		}),
	}
	cmd.Flags().IntVar(&desktops, "desktops", 12, "desktops to rebuild, besides the captured one")
	cmd.Flags().IntVar(&fail, "fail", 0, "number of desktops whose rebuild fails")
	cmd.Flags().BoolVar(&asRollout, "rollout", false,
		"show a rollout instead: a canary, two waves, a desktop that fails, a halt, a retry, and the way back of one desktop")
	exclusive(cmd, "rollout", "fail")
	return cmd
}

func demo(cmd *cobra.Command, desktops, fail int) error {
	site, err := openDemo(cmd, desktops+1)
	if err != nil {
		return err
	}
	defer site.close()
	golden, fleet := site.ids[0], site.ids[1:]
	if err := site.world.SetFaults(demoFaults(fleet, fail)); err != nil {
		return err
	}
	e, err := demoCommandEnvelope(golden, fleet)
	if err != nil {
		return err
	}
	v := site.view
	if _, err := site.queue.Send(site.ctx, e); err != nil {
		return fmt.Errorf("send the command: %w", err)
	}
	v.line("send", "desktoptoimage command %s: capture desktop %s, then rebuild %s", e.ID, golden,
		chain.Count(len(fleet), "other desktop"))

	watched := chain.New(e.Correlation, rootOf(e))
	watched.Fleet = fleet
	err = site.read(func(e events.Envelope) (bool, error) {
		if watched.Add(e) {
			v.event(e)
		}
		return len(watched.Open()) > 0, nil
	})
	if err != nil {
		return &exitError{exitUnknown, fmt.Errorf("the demo did not end: %w; still open: %s", err,
			chain.OpenText(watched.Open()))}
	}
	v.summary(watched.Result(), golden, len(watched.Events()))
	if !watched.Result().OK() {
		return &exitError{exitFailed, nil}
	}
	return nil
}

// demoCommandEnvelope returns the command that starts the demo.
func demoCommandEnvelope(golden string, fleet []string) (events.Envelope, error) {
	now := time.Now().UTC()
	data, err := json.Marshal(events.DesktopToImage{
		ImageName: "golden-" + now.Format("20060102-150405"), DesktopID: golden, ExecuteSysprep: true,
		Then: &events.Then{Rebuild: &events.ThenRebuild{DesktopIDs: fleet}},
	})
	id := uuid.NewString()
	return events.Envelope{ID: id, Source: "recompose/demo", Type: events.TypeDesktopToImage, Time: now, Correlation: id,
		Data: data}, err
}

// demoFaults lets the last of the fleet fail.
func demoFaults(fleet []string, fail int) []emulator.Fault {
	faults := make([]emulator.Fault, 0, fail)
	for _, id := range fleet[len(fleet)-fail:] {
		faults = append(faults, emulator.Fault{Call: emulator.CallRebuild, DesktopID: id, Do: emulator.Do{
			Job: "fail", ErrorCode: "WKS.00010050", ErrorMsg: "The system disk could not be attached (made up by recompose " +
				"demo --fail)",
		}})
	}
	return faults
}
