package emulator

import (
	"cmp"
	"encoding/json"
	"fmt"
	"time"
)

// State holds all desktops, images and jobs of the emulator, in the form of GET /_emulator/state and of
// [Options.Seed].
type State struct {
	// Now is the emulator's time when the state was returned; a seed's is ignored.
	Now      time.Time `json:"now"`
	Desktops []Desktop `json:"desktops"`
	Images   []Image   `json:"images"`
	// Jobs has every job ever accepted, oldest first.
	Jobs []Job `json:"jobs"`
}

// JobNotes is the part of a job's plan that all its sub-jobs share. The plan is made when the job is accepted; what
// later requests show of it depends only on the time.
type JobNotes struct {
	Accepted time.Time `json:"accepted"`
	// Image is what a rebuild installs, or what an image job makes.
	Image *Image `json:"image,omitempty"`
	// Message and DelayTime are the rebuild's own.
	Message   string `json:"message,omitempty"`
	DelayTime int64  `json:"delay_time,omitempty"`
	// HiddenUntil is the time before which lists do not show the job.
	HiddenUntil time.Time `json:"hidden_until,omitzero"`
	// HistoryDeleted removes the job from lists after its end.
	HistoryDeleted bool `json:"history_deleted,omitempty"`
}

// SubJobNotes is the plan of one sub-job.
type SubJobNotes struct {
	// Starts and Ends bound RUNNING.
	Starts time.Time `json:"starts"`
	Ends   time.Time `json:"ends"`
	// Settles is when the desktop, or the list of images, shows the result.
	Settles time.Time `json:"settles"`
	// Registers is when a rebuilt desktop registers with the service once more.
	Registers time.Time `json:"registers,omitzero"`
	// Outcome is SUCCESS or FAILED, reached at Ends.
	Outcome string `json:"outcome"`
	// Late reports that the failure came after the disk was wiped, so the desktop is in ERROR.
	Late bool `json:"late,omitempty"`
	// VolumeID and DiskID are the new root volume of a rebuild.
	VolumeID string `json:"volume_id,omitempty"`
	DiskID   string `json:"disk_id,omitempty"`
	// TaskStatus is shown while an image job runs; "" by default.
	TaskStatus string `json:"task_status,omitempty"`
	// InUse reports that a user was logged in, or had left a session, when the service accepted the rebuild.
	InUse bool `json:"in_use,omitempty"`
	// WipesUserData reports that the image job removes the source's user data.
	WipesUserData bool `json:"wipes_user_data,omitempty"`
	// Settled reports that the result was applied to the desktop.
	Settled bool `json:"settled,omitempty"`
}

// parseSeed reads a state in the form of GET /_emulator/state.
func parseSeed(data []byte) (State, error) {
	var st State
	if err := json.Unmarshal(data, &st); err != nil {
		return State{}, fmt.Errorf("read seed: %w", err)
	}
	for i := range st.Jobs {
		if err := completeJob(&st.Jobs[i]); err != nil {
			return State{}, fmt.Errorf("read seed: jobs[%d]: %w", i, err)
		}
	}
	for i := range st.Desktops {
		completeDesktop(&st.Desktops[i])
	}
	return st, nil
}

// completeDesktop fills in the fields that a seed written by hand may omit.
func completeDesktop(d *Desktop) {
	d.Status = cmp.Or(d.Status, statusActive)
	d.LoginStatus = cmp.Or(d.LoginStatus, loginRegistered)
	if d.Metadata == nil {
		d.Metadata = map[string]string{}
	}
	if d.Tags == nil {
		d.Tags = []Tag{}
	}
}

// completeJob gives a finished job without a plan a plan that is over. An unfinished job needs its plan: its future
// cannot be derived.
func completeJob(j *Job) error {
	begin := time.Unix(0, 0).UTC()
	if j.BeginTime != "" {
		t, err := time.Parse(jobTime, j.BeginTime)
		if err != nil {
			return fmt.Errorf("begin_time %q is not of the form %q", j.BeginTime, jobTime)
		}
		begin = t
	}
	if j.Notes == nil {
		j.Notes = &JobNotes{Accepted: begin}
	}
	for i := range j.SubJobs {
		sub := &j.SubJobs[i]
		if sub.Notes != nil {
			continue
		}
		if sub.Status != subSuccess && sub.Status != subFailed {
			return fmt.Errorf("sub_jobs[%d] is %q and has no _emulator plan; only finished sub-jobs may omit it", i, sub.Status)
		}
		end := begin
		if sub.EndTime != "" {
			t, err := time.Parse(jobTime, sub.EndTime)
			if err != nil {
				return fmt.Errorf("sub_jobs[%d]: end_time %q is not of the form %q", i, sub.EndTime, jobTime)
			}
			end = t
		}
		sub.Notes = &SubJobNotes{Starts: begin, Ends: end, Settles: end, Outcome: sub.Status, Settled: true}
	}
	return nil
}
