package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/chain"
	"recompose/shared/rollout"
)

// specFile is a spec of a file, with its targets.
type specFile struct {
	spec rollout.Spec
	ids  []string // targets by id, of the spec or its file
}

// onlySpec refuses arguments: the spec is given with -f.
func onlySpec(cmd *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	return fmt.Errorf("%s takes no argument %q; use -f %s", cmd.Name(), args[0], quoted(args[0]))
}

// readSpec reads and checks a spec and the file of its targets, whose path is relative to the spec's folder.
func readSpec(cmd *cobra.Command, path string) (specFile, error) {
	if path == "" {
		return specFile{}, wrongUse(errors.New("-f is missing: a file with the spec, in YAML or JSON; - is standard input"))
	}
	content, err := readInput(cmd, path)
	if err != nil {
		return specFile{}, nothingDone(fmt.Errorf("-f: %w", err))
	}
	spec, err := rollout.ParseSpec(content)
	if err != nil {
		return specFile{}, nothingDone(inFile("-f", path, err))
	}
	s := specFile{spec, spec.Targets.DesktopIDs}
	if targets := spec.Targets.File; targets != "" {
		if path != "-" && !filepath.IsAbs(targets) {
			targets = filepath.Join(filepath.Dir(path), targets)
		}
		if s.ids, err = readTargets(targets); err != nil {
			return s, nothingDone(inFile("targets.file", targets, err))
		}
		if err := spec.CheckRoom(len(s.ids)); err != nil {
			return s, nothingDone(inFile("-f", path, err))
		}
	}
	return s, nil
}

// inFile names the file of an error. Errors about lines begin on a line of their own.
func inFile(what, path string, err error) error {
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, fs.ErrPermission): // they name it
		return fmt.Errorf("%s: %w", what, err)
	case strings.HasPrefix(err.Error(), "line "):
		return fmt.Errorf("%s: %s:\n%w", what, path, err)
	}
	return fmt.Errorf("%s: %s: %w", what, path, err)
}

func readTargets(path string) ([]string, error) {
	file, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }() // only read
	return rollout.ReadTargets(file)
}

// pageIDs is the number of ids of a page of targets.
const pageIDs = events.MaxDesktops

// data is the data of a start. A list of ids that is too long for a message is sent ahead.
func (s specFile) data(planOnly bool) (events.RolloutCommand, error) {
	c := events.RolloutCommand{PlanOnly: planOnly}
	spec := s.spec
	switch {
	case len(s.ids) > pageIDs:
		spec.Targets.DesktopIDs, spec.Targets.File = nil, "pages"
		c.Targets = &events.RolloutPages{
			Pages: int64((len(s.ids) + pageIDs - 1) / pageIDs), SHA256: rollout.TargetsSHA256(s.ids),
		}
	case spec.Targets.File != "":
		spec.Targets.DesktopIDs, spec.Targets.File = s.ids, ""
	}
	raw, err := json.Marshal(spec)
	if err != nil {
		return c, fmt.Errorf("write the spec: %w", err)
	}
	c.Spec = raw
	return c, nil
}

// sendAhead sends the pages of a long list of targets.
func (s *rolloutSession) sendAhead(spec specFile) error {
	if len(spec.ids) <= pageIDs {
		return nil
	}
	page := 0
	for ids := range slices.Chunk(spec.ids, pageIDs) {
		page++
		e, err := rolloutMessage(s.cmd, events.TypeRolloutTargets, "",
			events.RolloutCommand{Name: spec.spec.Name, By: whoAmI(), Page: page, DesktopIDs: ids})
		if err != nil {
			return err
		}
		if _, err := s.send(e); err != nil {
			return err
		}
		printLine(s.people(), "page %d of the targets is stored: %s", page, chain.Count(len(ids), "desktop"))
	}
	return nil
}

// start sends a start and returns its answer: the plan, or the rejection as an error.
func (s *rolloutSession) start(spec specFile, planOnly bool, id string) (answer, error) {
	if err := s.sendAhead(spec); err != nil {
		return answer{}, err
	}
	data, err := spec.data(planOnly)
	if err != nil {
		return answer{}, err
	}
	e, err := rolloutMessage(s.cmd, events.TypeRolloutStart, id, data)
	if err != nil {
		return answer{}, err
	}
	return s.send(e)
}

// confirmCapture asks before a desktop is captured, which every plan with image.from_desktop does first.
func (s *rolloutSession) confirmCapture(spec specFile) error {
	image := spec.spec.Image
	if image.FromDesktop == "" {
		return nil
	}
	what := fmt.Sprintf("This captures desktop %s, which restarts and cannot be used meanwhile", image.FromDesktop)
	if image.ExecuteSysprep != nil && *image.ExecuteSysprep {
		what += "; the user profiles on it are deleted"
	}
	return s.confirmReal(what)
}

func rolloutPlanCommand() *cobra.Command {
	var f rolloutFlags
	var path string
	var asCSV bool
	cmd := &cobra.Command{
		Use:   "plan -f FILE",
		Short: "Make and show a plan, and run nothing",
		Long: `Make the plan of a rollout and show it: waves, desktops that are left out with their reasons,
the images that the desktops run now, and a forecast. No desktop is rebuilt. If the spec has image.from_desktop, the
image is captured first: a plan needs it.

--csv prints every desktop: its id, what becomes of it, its wave, the image that it runs now and the reason.`,
		Example: `  recompose rollout plan -f november.yaml
  recompose rollout plan -f november.yaml --csv > fates.csv`,
		Args: onlySpec,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			if asCSV && f.json {
				return wrongUse(errors.New("--csv and --json: give one of them"))
			}
			spec, err := readSpec(cmd, path)
			if err != nil {
				return err
			}
			asJSON := f.json
			f.json = f.json || asCSV // text for people goes to standard error
			s, err := f.openForWork(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			if err := s.confirmCapture(spec); err != nil {
				return err
			}
			plan, h, err := s.plan(spec, f.id)
			if err != nil {
				return err
			}
			summary := plan.Summary(h)
			switch {
			case asCSV:
				err = printFates(cmd, plan.Fates(h))
			case asJSON:
				err = printJSON(cmd.OutOrStdout(), summary)
			default:
				printLines(cmd.OutOrStdout(), summary.Lines(time.Now()))
			}
			if err != nil {
				return err
			}
			return barred(summary)
		}),
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "`FILE` with the spec; - is standard input")
	f.define(cmd, true, false)
	cmd.Flags().BoolVar(&asCSV, "csv", false, "print every desktop with what becomes of it as CSV")
	return cmd
}

// plan makes a plan that does not run, and reads it.
func (s *rolloutSession) plan(spec specFile, id string) (plan rollout.PlanRecords, h *rollout.Head, err error) {
	if _, err = s.start(spec, true, id); err != nil {
		return plan, nil, err
	}
	if h, err = rollout.ReadHead(s.ctx, s.store, spec.spec.Name); err == nil {
		plan, err = rollout.ReadPlan(s.ctx, s.store, h)
	}
	if err != nil {
		err = &exitError{exitUnknown, fmt.Errorf("the plan is made, and cannot be read: %w", err)}
	}
	return plan, h, err
}

// barred is the error of a plan that can rebuild no desktop although some should be; nil for another plan.
func barred(s rollout.PlanSummary) error {
	if !s.Barred() {
		return nil
	}
	return fmt.Errorf("rollout %s can rebuild no desktop: those that should be are refused", s.Name)
}

func printFates(cmd *cobra.Command, fates []rollout.Fate) error {
	w := csv.NewWriter(cmd.OutOrStdout())
	rows := [][]string{{"desktop_id", "fate", "wave", "image_id", "reason"}}
	for _, f := range fates {
		wave := ""
		if f.Wave > 0 {
			wave = strconv.Itoa(f.Wave)
		}
		rows = append(rows, []string{escape(f.DesktopID), f.State, wave, escape(f.ImageID), escape(f.Reason)})
	}
	return w.WriteAll(rows)
}

func rolloutStartCommand() *cobra.Command {
	var f rolloutFlags
	var path string
	cmd := &cobra.Command{
		Use:   "start -f FILE",
		Short: "Start a rollout",
		Long: `Start a rollout: the fleet is read and the plan made; then it runs, or waits for approval if the
spec requires one. A name is used once.

On a real service the plan is made first and shown, and nothing runs before you confirm it. If the plan that is then
started differs from the one that you confirmed, the rollout is paused before its first batch, or waits for approval if
the spec requires one; the exit code is 4.`,
		Example: `  recompose rollout start -f november.yaml
  recompose rollout start -f november.yaml --aws recompose --yes --wait --timeout 12h`,
		Args: onlySpec,
		RunE: action(func(cmd *cobra.Command, _ []string) error {
			spec, err := readSpec(cmd, path)
			if err != nil {
				return err
			}
			s, err := f.openForWork(cmd)
			if err != nil {
				return err
			}
			defer s.close()
			return s.startConfirmed(spec)
		}),
	}
	cmd.Flags().StringVarP(&path, "file", "f", "", "`FILE` with the spec; - is standard input")
	f.define(cmd, true, true)
	return cmd
}

// startConfirmed starts a rollout; on a real service only after a person has read its plan, or with --yes.
func (s *rolloutSession) startConfirmed(spec specFile) error {
	digest := ""
	if !s.service.Emulator() && !s.f.yes {
		if !isTerminal(s.cmd.InOrStdin()) {
			return s.confirmReal("This rebuilds desktops of a real service: the data on their system disks is lost")
		}
		if err := s.confirmCapture(spec); err != nil {
			return err
		}
		plan, h, err := s.plan(spec, "")
		if err != nil {
			return err
		}
		if spec.spec.Image.FromDesktop != "" { // it was captured for the plan; the start uses that image
			spec.spec.Image = rollout.Image{ImageID: h.Image.ID, ImageType: h.Image.Type, OSType: h.Image.OSType}
			if plan, h, err = s.plan(spec, ""); err != nil {
				return err
			}
		}
		if wanted, err := s.confirmPlan(plan.Summary(h)); err != nil || !wanted {
			return err
		}
		digest = h.Digest
	}
	a, err := s.start(spec, false, s.f.id)
	if err != nil {
		return err
	}
	if err := s.report(a); err != nil {
		return err
	}
	name := spec.spec.Name
	if err := s.checkBarred(a); err != nil {
		return err
	}
	if digest != "" && a.Rollout.Digest != digest {
		return s.pauseChanged(name)
	}
	if s.f.wait {
		return s.await(name, a.Revision)
	}
	if !a.Until.IsZero() {
		printLine(s.people(), "To approve it: %s", s.line("rollout", "approve", name, "--plan-sha256", a.Rollout.Digest))
	}
	printLine(s.people(), "To watch it: %s", s.line("rollout", "status", name, "--watch"))
	return nil
}

// confirmPlan shows a plan and asks whether to start it. wanted is false if there is nothing to ask: no desktop is rebuilt.
func (s *rolloutSession) confirmPlan(p rollout.PlanSummary) (wanted bool, err error) {
	printLines(s.people(), p.Lines(time.Now()))
	if err := barred(p); err != nil {
		return false, err
	}
	if p.Planned == 0 {
		printLine(s.people(), "The rollout is not started, because it would rebuild no desktop. If that is wrong, correct the targets; "+
			"rollout plan with --csv prints each desktop with its reason.")
		return false, nil
	}
	return true, s.confirmReal(fmt.Sprintf("This rebuilds %s: the data on their system disks is lost",
		chain.Count(p.Planned, "desktop")))
}

// checkBarred returns the error of a rollout that has started and can rebuild no desktop.
func (s *rolloutSession) checkBarred(a answer) error {
	if a.Counts[rollout.Refused] == 0 || a.Counts[rollout.Pending] > 0 {
		return nil
	}
	h, err := s.head(a.Name)
	if err != nil {
		return err
	}
	plan, err := rollout.ReadPlan(s.ctx, s.store, h)
	if err != nil {
		return err
	}
	summary := plan.Summary(h)
	if err = barred(summary); err == nil {
		return nil
	}
	printLines(s.people(), summary.LeftOutLines())
	if !summary.Until.IsZero() { // it waits for an approval that would do nothing
		err = fmt.Errorf("%w\nTo end it: %s", err, s.line("rollout", "abort", a.Name, "--reason", "no desktop can be rebuilt"))
	}
	return err
}

// pauseChanged pauses a rollout whose plan is not the one that was confirmed. The first batch begins no sooner than a
// minute after the plan.
func (s *rolloutSession) pauseChanged(name string) error {
	h, err := rollout.ReadHead(s.ctx, s.store, name)
	if err == nil && h.Phase == rollout.Planned { // a pause is not needed: it waits for approval
		return &exitError{exitPerson, fmt.Errorf("the plan differs from the one that you confirmed: the fleet has changed. "+
			"It waits for approval.\nTo read it: %s\nTo approve it: %s\nTo end it: %s", s.line("rollout", "status", name),
			s.line("rollout", "approve", name, "--plan-sha256", h.Digest),
			s.line("rollout", "abort", name, "--reason", "the plan changed"))}
	}
	s.f.id = ""
	e, err := rolloutMessage(s.cmd, events.TypeRolloutPause, "", events.RolloutCommand{
		Name: name, By: whoAmI(), Reason: "the fleet has changed since the plan that was confirmed",
	})
	if err != nil {
		return err
	}
	a, err := s.send(e)
	if err != nil {
		return err
	}
	if err := s.report(a); err != nil {
		return err
	}
	return &exitError{exitPerson, fmt.Errorf("the fleet has changed since the plan that you confirmed, so the rollout is "+
		"paused.\nTo read it: %s\nTo go on: %s\nTo end it: %s", s.line("rollout", "status", name),
		s.line("rollout", "resume", name),
		s.line("rollout", "abort", name, "--reason", "the plan changed"))}
}
