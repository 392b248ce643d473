package chain

import (
	"cmp"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"recompose/events"
)

// FunctionOf returns the function that a command type or a source names: recompose.command.rebuild.v1,
// recompose/rebuild.
func FunctionOf(s string) string {
	if f, ok := strings.CutPrefix(s, "recompose/"); ok {
		return f
	}
	s = strings.TrimPrefix(s, "recompose.command.")
	name, _, _ := strings.Cut(s, ".")
	return name
}

// Describe puts an event into words: one line, and further lines for single desktops.
func Describe(e events.Envelope) []string {
	if slices.Contains(events.RolloutEventTypes, e.Type) {
		if lines := describeRollout(e); lines != nil {
			return lines
		}
	}
	switch e.Type {
	case events.TypeJobAccepted:
		return describe(e, describeAccepted)
	case events.TypeJobCompleted:
		return describe(e, describeCompleted)
	case events.TypeImagesChecked:
		return describe(e, describeChecked)
	case events.TypeDesktopDescribed:
		return describe(e, describeDesktop)
	case events.TypeDesktopsListed:
		return describe(e, describeDesktops)
	case events.TypeImagesListed:
		return describe(e, func(l events.ImagesListed) []string {
			return []string{pageText(Count(len(l.Images), "image"), l.Page, l.Last, l.Total)}
		})
	case events.TypeCommandSplit:
		return describe(e, describeSplit)
	case events.TypeCommandFailed:
		return describe(e, func(f events.CommandFailed) []string { return []string{failedText(f)} })
	case events.TypeJobProgress:
		return describe(e, func(p events.JobProgress) []string {
			return []string{fmt.Sprintf("job %s: %d %%", p.JobID, p.Percent)}
		})
	case events.TypeCommandUnclear:
		return describe(e, describeUnclear)
	case events.TypeServiceAccepted:
		return describe(e, describeService)
	case events.TypeLedgerAccepted:
		return describe(e, func(a events.LedgerAccepted) []string {
			return []string{"lost ledger records accepted by " + a.By + ": " + a.Reason}
		})
	}
	return []string{e.Type}
}

// describe puts the data of an event into words; its type if the data cannot be read.
func describe[T any](e events.Envelope, words func(T) []string) []string {
	var data T
	if json.Unmarshal(e.Data, &data) != nil {
		return []string{e.Type}
	}
	return words(data)
}

func describeSplit(s events.CommandSplit) []string {
	n := 0
	for _, p := range s.Parts {
		n += len(p.DesktopIDs)
	}
	return []string{fmt.Sprintf("%s are split into %s of at most %d", Count(n, "desktop"), Count(len(s.Parts), "command"),
		events.MaxRebuildCall)}
}

func describeUnclear(u events.CommandUnclear) []string {
	return []string{fmt.Sprintf("%s: it is not known whether the service accepted its call; the next check is at %s: %s",
		FunctionOf(u.Command.Type), u.NextLook.Local().Format("15:04:05"), u.Reason)}
}

func describeService(a events.ServiceAccepted) []string {
	before := "no known service"
	if a.Before != nil {
		before = a.Before.Name()
	}
	return []string{fmt.Sprintf("the deployment works on %s, before on %s; accepted by %s", a.Service.Name(), before, a.By)}
}

func describeAccepted(a events.JobAccepted) []string {
	if a.JobID == "" {
		return []string{"job.accepted without a job id"}
	}
	line := fmt.Sprintf("job %s accepted: ", a.JobID)
	if a.Function == events.FnDesktopToImage {
		line += fmt.Sprintf("image %s from desktop %s", a.ImageName, strings.Join(a.DesktopIDs, ", "))
	} else {
		line += fmt.Sprintf("%s from image %s", Count(len(a.DesktopIDs), "desktop"), a.ImageID)
	}
	if len(a.Skipped) > 0 {
		line += fmt.Sprintf("; %s skipped, which run it already", Count(len(a.Skipped), "desktop"))
	}
	if a.DelayTime > 0 {
		line += fmt.Sprintf("; begins after %s", Count(int(a.DelayTime), "minute"))
	}
	if a.Warning != nil {
		return []string{line, "the service warned" + because(a.Warning)}
	}
	return []string{line}
}

func describeCompleted(d events.JobCompleted) []string {
	line := fmt.Sprintf("%s: %s", jobText(d), d.Outcome)
	if d.Image != nil {
		line += fmt.Sprintf(", image %s has id %s (%s)", d.Image.ImageName, d.Image.ImageID, d.Image.ImageType)
	}
	tally := map[string]int{}
	unseen := 0
	var lines []string
	for _, r := range d.Desktops {
		tally[r.Outcome]++
		if r.Kind == events.KindUnknownOutcome && r.Outcome == events.Succeeded {
			unseen++
		}
		if r.Outcome != events.Succeeded && r.Outcome != events.Skipped {
			lines = append(lines, "desktop "+failedOf(r).String())
		}
	}
	if d.Outcome == events.Lost && d.JobID != "" {
		line = lostJobText(d)
	}
	switch {
	case len(d.Desktops) == 0 || d.Function != events.FnRebuild:
	case d.Outcome == events.Lost && tally[events.Missing] == len(d.Desktops):
		line += "; whether " + rebuiltText(len(d.Desktops)) + " is not known"
	default:
		line += fmt.Sprintf(", %d of %s rebuilt", tally[events.Succeeded], Count(len(d.Desktops), "desktop"))
		for _, o := range []string{events.Skipped, events.Failed, events.Missing, events.TimedOut} {
			if tally[o] > 0 {
				line += fmt.Sprintf(", %d %s", tally[o], strings.ReplaceAll(o, "_", " "))
			}
		}
	}
	if unseen > 0 {
		lines = append(lines,
			Count(unseen, "desktop")+" rebuilt since an earlier attempt of this command, by a job that is not known")
	}
	return append([]string{line + because(d.Error)}, lines...)
}

// lostJobText reports a job of which the service does not show the end.
func lostJobText(d events.JobCompleted) string {
	return fmt.Sprintf("job %s is lost: the service does not show how it ended", d.JobID)
}

func rebuiltText(desktops int) string {
	if desktops == 1 {
		return "1 desktop was rebuilt"
	}
	return Count(desktops, "desktop") + " were rebuilt"
}

// jobText names the job that has ended. Without one there was nothing to do, or the service does not show it.
func jobText(d events.JobCompleted) string {
	switch {
	case d.JobID != "":
		return "job " + d.JobID
	case slices.ContainsFunc(d.Desktops, func(r events.DesktopResult) bool { return r.Kind != "" }):
		return "no job was found"
	default:
		return "no job was needed"
	}
}

func describeChecked(c events.ImagesChecked) []string {
	if c.Expected == nil {
		lines := []string{fmt.Sprintf("%s checked, %d without an answer", Count(len(c.ImageInfos)+missingOnly(c), "desktop"),
			len(c.Missing))}
		for _, raw := range c.ImageInfos {
			var info events.ImageInfo
			if json.Unmarshal(raw, &info) == nil {
				lines = append(lines, fmt.Sprintf("desktop %s runs %s %s (%s)", info.DesktopID,
					cmp.Or(info.ImageID, "no known image"), info.ImageName, info.ImageType))
			}
		}
		for _, id := range c.Missing {
			lines = append(lines, "desktop "+id+": the service reports no image")
		}
		return lines
	}
	lines := []string{fmt.Sprintf("%d of %s run image %s", len(c.Matched),
		Count(len(c.Matched)+len(c.Mismatched), "desktop"), c.Expected.ImageID)}
	for _, id := range c.Mismatched {
		lines = append(lines, "desktop "+id+" does not run it")
	}
	return lines
}

// missingOnly counts the desktops for which there was no entry at all.
func missingOnly(c events.ImagesChecked) int {
	n := len(c.Missing)
	for _, raw := range c.ImageInfos {
		var info events.ImageInfo
		if json.Unmarshal(raw, &info) == nil && info.ImageID == "" {
			n--
		}
	}
	return max(n, 0)
}

func describeDesktops(l events.DesktopsListed) []string {
	lines := []string{pageText(Count(len(l.Desktops), "desktop"), l.Page, l.Last, l.Total)}
	for _, id := range l.Missing {
		lines = append(lines, "desktop "+id+": the service does not know it")
	}
	return lines
}

func pageText(rows string, page int, last bool, total int) string {
	switch {
	case !last:
		return fmt.Sprintf("page %d: %s", page, rows)
	case page == 1:
		return rows + " listed"
	}
	return fmt.Sprintf("page %d, the last: %s; %d listed in all", page, rows, total)
}

func describeDesktop(d events.DesktopDescribed) []string {
	var known struct {
		DesktopID    string `json:"desktop_id"`
		ComputerName string `json:"computer_name"`
		Status       string `json:"status"`
		TaskStatus   string `json:"task_status"`
	}
	_ = json.Unmarshal(d.Desktop, &known)
	line := fmt.Sprintf("desktop %s (%s): %s", known.DesktopID, known.ComputerName, known.Status)
	if known.TaskStatus != "" {
		line += ", " + known.TaskStatus
	}
	return []string{line + "; --json shows all"}
}

func (d FailedDesktop) String() string {
	return d.DesktopID + ": " + d.why()
}

func (d FailedDesktop) why() string {
	s := strings.ReplaceAll(d.Outcome, "_", " ")
	if d.ErrorCode != "" {
		s += ", " + d.ErrorCode
	}
	if d.FailReason != "" {
		s += ", " + d.FailReason
	}
	return s
}

// OpenText lists what a chain waits for.
func OpenText(open []events.Pending) string {
	var texts []string
	for _, p := range open {
		texts = append(texts, p.String())
	}
	return cmp.Or(First(texts, 3), "nothing")
}

// First joins texts, but at most this many, and counts the others.
func First(texts []string, most int) string {
	joined := strings.Join(texts[:min(len(texts), most)], ", ")
	if len(texts) > most {
		joined += fmt.Sprintf(" and %d more", len(texts)-most)
	}
	return joined
}

// Count returns "1 desktop", "2 desktops".
func Count(n int, thing string) string {
	if n == 1 {
		return "1 " + thing
	}
	return strconv.Itoa(n) + " " + thing + "s"
}

// failedText gives the reason of a failed command and its effect at the service.
func failedText(failed events.CommandFailed) string {
	what := FunctionOf(failed.Command.Type) + " failed" + because(&failed.Error)
	switch failed.Effect {
	case events.EffectUnknown:
		return what + ". Whether the service did it is unknown: check at the service before you repeat it"
	case events.EffectAccepted:
		return what + ". The service accepted it"
	default:
		return what + ". Nothing was done at the service"
	}
}

func because(f *events.Failure) string {
	if f == nil {
		return ""
	}
	s := " (" + f.Kind
	if f.HTTPStatus != 0 {
		s += fmt.Sprintf(", status %d", f.HTTPStatus)
	}
	if f.ErrorCode != "" {
		s += ", " + f.ErrorCode
	}
	s += ")"
	if f.ErrorMsg != "" {
		s += ": " + f.ErrorMsg
	}
	if f.RequestID != "" {
		s += " [request " + f.RequestID + "]"
	}
	return s
}
