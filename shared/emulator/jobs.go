package emulator

import (
	"math"
	"time"
)

// Durations of the service, before Speed. See docs/emulator.md.
const (
	rebuildTime  = 10 * time.Minute
	imageTime    = 20 * time.Minute
	rebootTime   = 2 * time.Minute
	dispatchTime = 5 * time.Second  // in WAITING before RUNNING
	lagTime      = 20 * time.Second // between a job's end and the visibility of its result
	longLag      = 5 * time.Minute  // the same with quirk desktop-lag or image-lag
	hideTime     = time.Minute      // with quirk sub-jobs-empty on a write
	earlyFailure = 0.3              // the part of the run after which an early failure occurs
	longest      = 100 * 365 * 24 * time.Hour
)

// scaled returns d divided by the speed, at most a century.
func (s *Server) scaled(d time.Duration) time.Duration {
	return clampDuration(float64(d) / s.cfg.Speed)
}

// minutes returns n minutes divided by the speed, at most a century.
func (s *Server) minutes(n int64) time.Duration {
	return clampDuration(float64(n) * float64(time.Minute) / s.cfg.Speed)
}

func clampDuration(f float64) time.Duration {
	return time.Duration(math.Min(f, float64(longest)))
}

// failure is a fault's decision that a sub-job will fail.
type failure struct {
	code, reason string
	late         bool
}

// order is an accepted write before it becomes a job.
type order struct {
	jobType  string
	desktops []*desktop
	image    *Image
	delay    int64 // minutes
	message  string
	wipes    bool
	failures map[string]failure
	quirks   quirkSet
}

// plan makes the job of an order: all its future events, with times.
func (s *Server) plan(o order, now time.Time) *Job {
	job := &Job{
		ID: randomID(), JobType: o.jobType, BeginTime: now.UTC().Format(jobTime), Status: jobRunning,
		SubJobsTotal: len(o.desktops),
		Notes:        &JobNotes{Accepted: now, Image: o.image, Message: o.message, DelayTime: o.delay},
	}
	if o.quirks.has(quirkSubJobsEmpty) {
		job.Notes.HiddenUntil = now.Add(s.scaled(hideTime))
	}
	job.Notes.HistoryDeleted = o.quirks.has(quirkHistoryDeleted)
	run, lag := rebuildTime, lagTime
	switch o.jobType {
	case typeImage:
		run = imageTime
	case typeReboot:
		run = rebootTime
	}
	run = s.cfg.JobTime.of(run)
	if o.jobType == typeImage && o.quirks.has(quirkImageLag) || o.jobType == typeRebuild && o.quirks.has(quirkDesktopLag) {
		lag = longLag
	}
	begin := now.Add(s.minutes(o.delay))
	for _, d := range o.desktops {
		n := &SubJobNotes{
			Starts: begin.Add(s.scaled(dispatchTime)), Ends: begin.Add(s.scaled(run)), Outcome: subSuccess,
			InUse: o.jobType == typeRebuild && d.inUse(now), WipesUserData: o.wipes,
		}
		job.SubJobs = append(job.SubJobs, SubJob{
			ID: randomID(), JobID: job.ID, JobType: o.jobType, BeginTime: job.BeginTime, Status: subWaiting,
			Entities:    Entities{DesktopID: d.DesktopID, ProductID: d.ProductID, UserName: d.UserName, DesktopName: d.ComputerName, IPAddress: d.IPv4},
			DesktopName: d.ComputerName, ProjectID: s.cfg.ProjectID, AttachUser: d.UserName, IPAddress: d.IPv4,
			MACAddress: d.mac(), Notes: n,
		})
		if o.jobType == typeImage && o.quirks.has(quirkImageTaskStatus) {
			n.TaskStatus = "rebooting"
		}
		if f, fails := o.failures[d.DesktopID]; fails {
			job.SubJobs[len(job.SubJobs)-1].fail(f)
			continue
		}
		n.Settles = n.Ends.Add(s.scaled(lag))
		if o.jobType == typeRebuild {
			n.VolumeID, n.DiskID = randomID(), randomHex()
			n.Registers = n.Settles.Add(s.scaled(lag))
		}
	}
	if o.jobType == typeImage {
		o.image.CreatedAt = job.SubJobs[0].Notes.Ends.UTC().Format(time.RFC3339)
		o.image.Notes.JobID = job.ID
	}
	return job
}

// fail changes the plan of a sub-job: it will fail.
func (p *SubJob) fail(f failure) {
	p.ErrorCode, p.FailReason, p.Message = f.code, f.reason, f.reason
	n := p.Notes
	n.Outcome, n.Late, n.WipesUserData = subFailed, f.late, false
	if !f.late {
		n.Ends = n.Starts.Add(time.Duration(earlyFailure * float64(n.Ends.Sub(n.Starts))))
	}
	n.Settles = n.Ends
}

func (d *desktop) mac() string {
	for _, list := range d.Addresses {
		for _, a := range list {
			return a.MAC
		}
	}
	return ""
}

// state returns the sub-job's status at now, and its progress in percent.
func (p *SubJobNotes) state(now time.Time) (string, int) {
	switch {
	case now.Before(p.Starts):
		return subWaiting, 0
	case now.Before(p.Ends):
		return subRunning, min(int(100*p.fraction(now)), 99)
	case p.Outcome == subFailed:
		return subFailed, int(100 * p.reached())
	default:
		return subSuccess, 100
	}
}

// fraction is how far the work has progressed, 0 to 1.
func (p *SubJobNotes) fraction(now time.Time) float64 {
	run := p.Ends.Sub(p.Starts)
	if run <= 0 {
		return 1
	}
	return float64(now.Sub(p.Starts)) / float64(run) * p.reached()
}

// reached is how far the work will have progressed at its end.
func (p *SubJobNotes) reached() float64 {
	switch {
	case p.Outcome != subFailed:
		return 1
	case p.Late:
		return 0.95
	default:
		return earlyFailure
	}
}

// view returns the desktop as it appears at now, with the task that runs on it.
func (d *desktop) view(now time.Time) Desktop {
	v := d.Desktop
	if d.last.sub == nil {
		return v
	}
	n := d.last.sub.Notes
	status, process := n.state(now)
	switch {
	case status == subWaiting:
	case status == subRunning && d.last.sub.JobType == typeReboot:
		v.TaskStatus, v.Process, v.LoginStatus = "rebooting", &process, loginUnregister
	case status == subRunning && d.last.sub.JobType == typeImage:
		v.TaskStatus, v.Process, v.LoginStatus = n.TaskStatus, &process, loginUnregister
	case status == subRunning:
		v.TaskStatus, v.Process, v.LoginStatus = rebuildTask(n.fraction(now)), &process, loginUnregister
	case d.last.sub.JobType != typeRebuild:
	case now.Before(n.Settles):
		v.TaskStatus, v.Process, v.LoginStatus = "rebooting", &process, loginUnregister
	case now.Before(n.Registers):
		v.LoginStatus = loginUnregister
	}
	return v
}

// rebuildTask returns the task_status of a rebuild with this progress. It is "" at first, as on the service, so ""
// does not show that no task runs.
func rebuildTask(done float64) string {
	switch {
	case done < 0.05:
		return ""
	case done < 0.25:
		return "rebuilding"
	case done < 0.55:
		return "rebuild_block_device_mapping"
	case done < 0.9:
		return "rebuild_spawning"
	default:
		return "rebooting"
	}
}

// task returns the task of a desktop at now, "" if there is none.
func (d *desktop) task(now time.Time) string {
	if p := d.last.sub; p != nil {
		free := p.Notes.Ends
		if p.JobType == typeRebuild {
			free = p.Notes.Settles
		}
		if now.Before(free) {
			return p.JobType
		}
	}
	return d.TaskStatus
}

// viewSub returns the sub-job as it appears at now.
func viewSub(sub *SubJob, now time.Time) SubJob {
	v := *sub
	v.Status, v.Process = sub.Notes.state(now)
	if now.Before(sub.Notes.Ends) {
		v.EndTime = ""
	} else {
		v.EndTime = sub.Notes.Ends.UTC().Format(jobTime)
	}
	if v.Status != subFailed {
		v.ErrorCode, v.FailReason, v.Message = "", "", ""
	}
	notes := *sub.Notes
	v.Notes = &notes
	return v
}

// viewJob returns the job as it appears at now.
func viewJob(j *Job, now time.Time) Job {
	v := *j
	v.SubJobs = make([]SubJob, 0, len(j.SubJobs))
	v.ErrorCode, v.FailReason, v.EndTime = "", "", ""
	ended, failed := 0, 0
	var end time.Time
	for i := range j.SubJobs {
		sub := viewSub(&j.SubJobs[i], now)
		v.SubJobs = append(v.SubJobs, sub)
		if sub.Status != subSuccess && sub.Status != subFailed {
			continue
		}
		ended++
		if sub.Notes.Ends.After(end) {
			end = sub.Notes.Ends
		}
		if sub.Status == subFailed {
			failed++
			if v.ErrorCode == "" {
				v.ErrorCode, v.FailReason = sub.ErrorCode, sub.FailReason
			}
		}
	}
	v.SubJobsTotal = len(v.SubJobs)
	switch {
	case ended < len(v.SubJobs):
		v.Status, v.ErrorCode, v.FailReason = jobRunning, "", ""
		return v
	case failed == 0:
		v.Status = jobSuccess
	case failed == len(v.SubJobs):
		v.Status = jobFail
	default:
		v.Status = jobComplete
	}
	v.EndTime = end.UTC().Format(jobTime)
	return v
}

// shown reports whether the lists of jobs contain the job at now.
func (j *Job) shown(now time.Time) bool {
	if now.Before(j.Notes.HiddenUntil) {
		return false
	}
	if !j.Notes.HistoryDeleted {
		return true
	}
	for i := range j.SubJobs {
		if now.Before(j.SubJobs[i].Notes.Ends) {
			return true
		}
	}
	return false
}
