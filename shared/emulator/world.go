package emulator

import (
	"fmt"
	"maps"
	"slices"
	"time"
)

// Status words of the API.
const (
	statusActive    = "ACTIVE"
	statusShutoff   = "SHUTOFF"
	statusError     = "ERROR"
	loginRegistered = "REGISTERED"
	loginUnregister = "UNREGISTER"
	osWindows       = "Windows"

	subWaiting = "WAITING"
	subRunning = "RUNNING"
	subSuccess = "SUCCESS"
	subFailed  = "FAILED"

	jobRunning  = "RUNNING"
	jobSuccess  = "SUCCESS"
	jobComplete = "COMPLETE"
	jobFail     = "FAIL"

	typeImage   = "desktopToImage"
	typeRebuild = "rebuildDesktops"
	typeReboot  = "rebootDesktops" // invented

	metaImageID   = "metering.image_id"
	metaImageType = "metering.imagetype"
	metaImageName = "image_name"
	metaOSType    = "os_type"
	metaOSVersion = "desktop_os_version"

	jobTime = "2006-01-02 15:04:05" // no zone; UTC
)

// world holds the desktops, images and jobs. It changes in few places only: accept adds a job, called makes a
// login due, and advance makes time pass. Maps and pointers inside a desktop are replaced, never written to, so that copies stay valid.
type world struct {
	desktops []*desktop
	byID     map[string]*desktop
	images   []*Image
	imageBy  map[string]*Image
	jobs     []*Job
	jobBy    map[string]*Job
	pending  []part
	logins   []login
}

// desktop is a desktop without its running task, and the last sub-job that changed it.
type desktop struct {
	Desktop
	last part
}

// part is a sub-job with its job.
type part struct {
	job *Job
	sub *SubJob
}

// newWorld builds a world from a state. public is true for a state of [Server.State], in which the desktops show their
// running tasks; in a state of raw they do not.
func newWorld(st State, public bool) (*world, error) {
	w := &world{byID: map[string]*desktop{}, imageBy: map[string]*Image{}, jobBy: map[string]*Job{}}
	for i := range st.Images {
		img := st.Images[i]
		if img.ID == "" || w.imageBy[img.ID] != nil {
			return nil, fmt.Errorf("images[%d]: id %q is empty or taken", i, img.ID)
		}
		w.addImage(&img)
	}
	for i := range st.Desktops {
		d := st.Desktops[i]
		if !validID.MatchString(d.DesktopID) || w.byID[d.DesktopID] != nil {
			return nil, fmt.Errorf("desktops[%d]: desktop_id %q is taken or not of the form [A-Za-z0-9][A-Za-z0-9_-]{0,254}", i, d.DesktopID)
		}
		rec := &desktop{Desktop: d}
		w.desktops = append(w.desktops, rec)
		w.byID[d.DesktopID] = rec
	}
	for i := range st.Jobs {
		j := st.Jobs[i]
		if j.ID == "" || w.jobBy[j.ID] != nil {
			return nil, fmt.Errorf("jobs[%d]: id %q is empty or taken", i, j.ID)
		}
		if j.Notes == nil || slices.ContainsFunc(j.SubJobs, func(s SubJob) bool { return s.Notes == nil }) {
			return nil, fmt.Errorf("jobs[%d]: without its _emulator plan", i)
		}
		w.accept(&j)
	}
	if public {
		for _, d := range w.desktops {
			if n := d.last.sub; n != nil && (!n.Notes.Settled || n.Notes.Registers.After(st.Now)) {
				d.TaskStatus, d.Process, d.LoginStatus = "", nil, loginRegistered
			}
		}
	}
	return w, nil
}

func (w *world) addImage(img *Image) {
	w.images = append(w.images, img)
	w.imageBy[img.ID] = img
}

// accept puts a planned job into the world.
func (w *world) accept(j *Job) {
	subs := slices.Clone(j.SubJobs)
	for i := range subs {
		notes := *subs[i].Notes
		subs[i].Notes = &notes
	}
	kept := *j
	kept.SubJobs = subs
	w.jobs = append(w.jobs, &kept)
	w.jobBy[kept.ID] = &kept
	for i := range kept.SubJobs {
		p := part{job: &kept, sub: &kept.SubJobs[i]}
		if d := w.byID[p.sub.Entities.DesktopID]; d != nil {
			d.last = p
		}
		if !p.sub.Notes.Settled {
			w.pending = append(w.pending, p)
		}
	}
}

// advance applies everything that is due at now, in order of time.
func (w *world) advance(now time.Time) {
	for {
		l, due := w.nextLogin(now)
		if !due {
			break
		}
		w.settleUntil(l.At)
		w.step(l)
	}
	w.settleUntil(now)
}

// settleUntil applies the sub-jobs that are due at now.
func (w *world) settleUntil(now time.Time) {
	var due []part
	rest := w.pending[:0]
	for _, p := range w.pending {
		if now.Before(p.sub.Notes.Settles) {
			rest = append(rest, p)
		} else {
			due = append(due, p)
		}
	}
	clear(w.pending[len(rest):])
	w.pending = rest
	slices.SortStableFunc(due, func(a, b part) int { return a.sub.Notes.Settles.Compare(b.sub.Notes.Settles) })
	for _, p := range due {
		w.settle(p)
	}
}

// settle applies a sub-job's result to its desktop, or adds its image to the list.
func (w *world) settle(p part) {
	plan := p.sub.Notes
	plan.Settled = true
	d := w.byID[p.sub.Entities.DesktopID]
	img := p.job.Notes.Image
	switch {
	case plan.Outcome == subFailed:
		if plan.Late && d != nil {
			d.Status, d.LoginStatus = statusError, loginUnregister
		}
	case p.sub.JobType == typeImage:
		if img != nil && w.imageBy[img.ID] == nil {
			made := *img
			w.addImage(&made)
		}
		if d != nil && plan.WipesUserData {
			notes := d.notes()
			notes.UserDataWiped = true
			d.Notes = &notes
		}
	case p.sub.JobType == typeReboot:
		if d != nil {
			d.LoginStatus = loginRegistered
		}
	case d != nil && img != nil:
		d.rebuilt(img, plan)
	}
}

func (d *desktop) rebuilt(img *Image, plan *SubJobNotes) {
	md := maps.Clone(d.Metadata)
	md[metaImageName], md[metaImageID], md[metaImageType] = img.Name, img.ID, img.ImageType
	md[metaOSType], md[metaOSVersion] = img.OSType, img.OSVersion
	d.Metadata, d.OSVersion = md, img.OSVersion
	d.Status, d.LoginStatus = statusActive, loginRegistered
	root := Volume{Type: "SAS", Size: max(img.MinDisk, 1), Device: "/dev/sda"}
	if d.RootVolume != nil {
		root = *d.RootVolume
	}
	root.VolumeID, root.ID = plan.VolumeID, plan.DiskID
	root.CreateTime = plan.Ends.UTC().Format(time.RFC3339)
	d.RootVolume = &root
	notes := d.notes()
	notes.Rebuilds++
	if plan.InUse {
		notes.RebuiltInUse++
	}
	d.Notes = &notes
}

func (d *desktop) notes() DesktopNotes {
	if d.Notes == nil {
		return DesktopNotes{}
	}
	return *d.Notes
}

// raw returns the state for the disk, with the desktops without their running tasks.
func (w *world) raw() State {
	return w.state(func(d *desktop) Desktop { return d.Desktop }, func(j *Job) Job { return *j })
}

// public returns the state at now as callers get it.
func (w *world) public(now time.Time) State {
	st := w.state(func(d *desktop) Desktop { return d.view(now) }, func(j *Job) Job { return viewJob(j, now) })
	st.Now = now.UTC()
	return st
}

func (w *world) state(ofDesktop func(*desktop) Desktop, ofJob func(*Job) Job) State {
	return State{
		Desktops: listOf(w.desktops, ofDesktop), Images: listOf(w.images, func(img *Image) Image { return *img }), Jobs: listOf(w.jobs, ofJob),
	}
}

func listOf[A, B any](items []A, of func(A) B) []B {
	list := make([]B, 0, len(items))
	for _, item := range items {
		list = append(list, of(item))
	}
	return list
}
