package main

import (
	"encoding/csv"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/config"
	"recompose/shared/rollout"
)

func driftCommand() *cobra.Command {
	var f rolloutFlags
	var list listFlags
	var path string
	var asCSV bool
	cmd := &cobra.Command{
		Use:   "drift -f FILE",
		Short: "Show which targets of a rollout's spec run another image",
		Long: `Read the fleet and count the targets of a rollout's spec by the image that they run. Nothing is
changed. If the spec makes its image of a desktop, the image is that of the rollout with the spec's name.`,
		Example: `  recompose drift -f november.yaml
  recompose drift -f november.yaml --csv > differ.csv`,
		Args: noArguments,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if asCSV && f.json {
				return wrongUse(errors.New("--csv and --json: give one of them"))
			}
			spec, err := readSpec(cmd, path)
			if err != nil {
				return err
			}
			conn, _, err := f.place.connect(cmd, config.Unused, "drift")
			if err != nil {
				return err
			}
			defer conn.close()
			s := &rolloutSession{cmd: cmd, ctx: cmd.Context(), f: &f, conn: conn}
			r, err := s.drift(spec, list)
			switch {
			case err != nil:
				return err
			case f.json:
				return printJSON(cmd.OutOrStdout(), r)
			case asCSV:
				rows := [][]string{{"desktop_id", "image_id", "image_type"}}
				for _, d := range r.Differ {
					rows = append(rows, []string{escape(d.DesktopID), escape(d.ImageID), escape(d.ImageType)})
				}
				return csv.NewWriter(cmd.OutOrStdout()).WriteAll(rows)
			}
			printLines(cmd.OutOrStdout(), r.Lines(20))
			return nil
		}),
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&path, "file", "f", "", "`FILE` with the spec; - is standard input")
	f.place.define(flags)
	list.limit(flags)
	flags.BoolVar(&f.json, "json", false, "print one JSON object")
	flags.BoolVar(&asCSV, "csv", false, "print the desktops that differ as CSV")
	return cmd
}

// drift reads the fleet, and compares it with the image of a spec.
func (s *rolloutSession) drift(spec specFile, list listFlags) (rollout.DriftReport, error) {
	in := rollout.PlanInput{Spec: spec.spec, IDs: spec.ids, Image: rollout.TargetImage{ID: spec.spec.Image.ImageID}}
	if in.Image.ID == "" {
		records, err := s.conn.rollouts(s.ctx)
		if err != nil {
			return rollout.DriftReport{}, err
		}
		h, err := rollout.ReadHead(s.ctx, records, spec.spec.Name)
		if err == nil && h.Image.ID == "" {
			err = fmt.Errorf("rollout %s has no image yet", spec.spec.Name)
		}
		if err != nil {
			return rollout.DriftReport{}, nothingDone(fmt.Errorf(
				"image.from_desktop: which image is meant is not known: %w; give image.image_id", err))
		}
		in.Image.ID = h.Image.ID
	}
	pages, err := listOne[events.DesktopsListed](&list, s.cmd, s.conn, events.FnListDesktops, events.TypeDesktopsListed,
		rollout.FleetCommand(spec.spec, spec.ids))
	if err != nil {
		return rollout.DriftReport{}, err
	}
	for _, p := range pages {
		for _, row := range p.Desktops {
			in.Fleet = append(in.Fleet, rollout.AsDesktop(row))
		}
	}
	return rollout.Drift(in), nil
}
