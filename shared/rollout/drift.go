package rollout

import (
	"recompose/events"
	"recompose/shared/chain"
)

// DriftReport is which images the targets of a spec run.
type DriftReport struct {
	ImageID string       `json:"image_id"` // the image of the spec
	Total   int          `json:"total"`
	Same    int          `json:"same"`
	Images  []ImageCount `json:"images"`
	Differ  []Drifted    `json:"differ"`
	Unknown []string     `json:"unknown"` // ids that the service does not list
}

// Drifted is a desktop that runs another image than that of the spec.
type Drifted struct {
	DesktopID string `json:"desktop_id"`
	ImageID   string `json:"image_id"` // "": not known
	ImageType string `json:"image_type,omitempty"`
}

// Drift compares the targets of a spec with its image. Desktops that the spec excepts count as well.
func Drift(in PlanInput) DriftReport {
	r := DriftReport{ImageID: in.Image.ID, Differ: []Drifted{}, Unknown: []string{}}
	images := map[ImageCount]int{}
	for _, t := range in.targets() {
		if r.Total++; t.unknown {
			r.Unknown = append(r.Unknown, t.ID)
			continue
		}
		images[ImageCount{ImageID: t.Image, ImageType: t.ImageType}]++
		if sameImage(t.Image, in.Image.ID) {
			r.Same++
		} else {
			r.Differ = append(r.Differ, Drifted{t.ID, t.Image, t.ImageType})
		}
	}
	r.Images = imageCounts(images)
	return r
}

// Lines describe the report, with at most so many desktops that differ.
func (r DriftReport) Lines(most int) []Line {
	lines := []Line{
		line("image", "%s", r.ImageID),
		line("targets", "%d: %d run it, %d differ, %d are not known to the service", r.Total, r.Same,
			len(r.Differ), len(r.Unknown)),
	}
	for _, image := range r.Images {
		name := image.ImageID
		if name == "" {
			name = "not known"
		}
		if image.ImageType != "" {
			name += " (" + image.ImageType + ")"
		}
		lines = append(lines, line("", "%6d  %s", image.Count, name))
	}
	for i, d := range r.Differ {
		if i == most {
			lines = append(lines, line("", "and %d more; --csv and --json list all", len(r.Differ)-most))
			break
		}
		name := d.ImageID
		if name == "" {
			name = "an image that is not known"
		}
		lines = append(lines, line(map[bool]string{true: "differ"}[i == 0], "%s runs %s", d.DesktopID, name))
	}
	if len(r.Unknown) > 0 {
		lines = append(lines, line("unknown", "%s", chain.First(r.Unknown, 10)))
	}
	return lines
}

// FleetCommand is the command that reads the desktops among which the targets of a spec are. ids are the targets by id.
func FleetCommand(spec Spec, ids []string) events.ListDesktops {
	list := events.ListDesktops{Fields: planFields}
	if w := spec.Targets.Where; w != nil {
		list.Status, list.EnterpriseProjectID, list.PoolID = w.Status, w.EnterpriseProjectID, w.PoolID
		list.ImageID, list.UserAttached, list.Tags = w.ImageID, w.UserAttached, w.Tags
	}
	if len(ids) <= events.MaxListed {
		list.DesktopIDs = ids
	}
	return list
}
