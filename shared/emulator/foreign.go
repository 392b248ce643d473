package emulator

import (
	"cmp"
	"fmt"
	"time"
)

// ForeignJob is a job that others start at the service: a person in the console, or a schedule.
type ForeignJob struct {
	// Type is rebuild or reboot.
	Type string `json:"type"`
	// DesktopID names one desktop, Every each n-th of the fleet; one of them is given.
	DesktopID string `json:"desktop_id,omitempty"`
	Every     int    `json:"every,omitempty"`
	// ImageID is what a rebuild installs; by default the image that the first desktop runs.
	ImageID string `json:"image_id,omitempty"`
}

// StartJobs starts jobs of others. If one of them cannot start, the error names it, and the ones before it have started.
func (s *Server) StartJobs(jobs []ForeignJob) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.world.advance(now)
	for i, j := range jobs {
		if err := s.startJob(j, now); err != nil {
			return fmt.Errorf("jobs[%d]: %w", i, err)
		}
	}
	return nil
}

func (s *Server) startJob(j ForeignJob, now time.Time) error {
	ids, err := s.desktopsOf(j.DesktopID, j.Every)
	if err != nil {
		return err
	}
	o := order{jobType: typeReboot}
	for _, id := range ids {
		d := s.world.byID[id]
		if task := d.task(now); task != "" {
			return fmt.Errorf("desktop %s has the task %s", id, task)
		}
		o.desktops = append(o.desktops, d)
	}
	switch {
	case len(o.desktops) == 0:
		return fmt.Errorf("every: the fleet has fewer desktops")
	case j.Type == "reboot" && j.ImageID == "":
	case j.Type == "rebuild":
		o.jobType = typeRebuild
		id := cmp.Or(j.ImageID, o.desktops[0].Metadata[metaImageID])
		img := s.world.imageBy[id]
		if img == nil {
			return fmt.Errorf("image_id: there is no image %s", id)
		}
		target := *img
		o.image = &target
	default:
		return fmt.Errorf("type %q is not rebuild or reboot, or image_id is given for a reboot", j.Type)
	}
	return s.commit(record{Job: s.plan(o, now)})
}
