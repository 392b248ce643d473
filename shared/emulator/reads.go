package emulator

import (
	"cmp"
	"net/http"
	"slices"
	"time"
)

// checkImages returns which image each desktop runs. A desktop that does not exist is left out; one whose image no
// longer exists has no image_id.
func (s *Server) checkImages(req *request, now time.Time) (*answer, *refusal) {
	f, bad := parseBody(req.body)
	if bad != nil {
		return nil, bad
	}
	f.require("desktop_ids")
	ids := f.ids("desktop_ids", 1, 500)
	if f.err != nil {
		return nil, f.err
	}
	infos := make([]DesktopImage, 0, len(ids))
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		d := s.world.byID[id]
		if d == nil || seen[id] {
			continue
		}
		seen[id] = true
		v := d.view(now)
		info := DesktopImage{DesktopID: id, OSType: v.Metadata[metaOSType]}
		if img := s.world.imageBy[v.Metadata[metaImageID]]; img != nil {
			info.ImageID, info.ImageName, info.ImageType = img.ID, img.Name, img.ImageType
		}
		infos = append(infos, info)
	}
	return &answer{status: http.StatusOK, body: map[string]any{"image_infos": infos}}, nil
}

// getDesktop returns one desktop.
func (s *Server) getDesktop(req *request, now time.Time) (*answer, *refusal) {
	if len(req.target) > 255 {
		return nil, invalid("Parameter desktop_id must have at most 255 characters.")
	}
	d := s.world.byID[req.target]
	if d == nil {
		return nil, noDesktop(req.target)
	}
	v := d.view(now)
	v.Notes, v.PoolID = nil, ""
	return &answer{status: http.StatusOK, body: map[string]any{"desktop": v}}, nil
}

// sysprep returns whether an image can be made of a desktop with sysprep.
func (s *Server) sysprep(req *request, inj injection) (*answer, *refusal) {
	if s.world.byID[req.target] == nil {
		return nil, noDesktop(req.target)
	}
	body := map[string]any{"sysprep_version": "1.0.0.1", "support_create_image": !inj.quirks.has(quirkNoSysprep)}
	if inj.quirks.has(quirkSysprepMissing) {
		delete(body, "support_create_image")
	}
	return &answer{status: http.StatusOK, body: body}, nil
}

// listSubJobs lists sub-jobs, newest first. An empty job_id filters nothing.
func (s *Server) listSubJobs(req *request, now time.Time) (*answer, *refusal) {
	q, bad := parseQuery(req.rawQuery)
	if bad != nil {
		return nil, bad
	}
	jobID, jobType := q.text("job_id", 255), q.text("job_type", 255)
	pool := q.text("desktop_pool_id", 255)
	limit, offset := q.number("limit", 1000, 1000), q.number("offset", 0, 10000)
	var statuses []string
	for _, st := range q.values["status"] {
		if len(st) > 255 {
			q.fail("Parameter status must have at most 255 characters.")
		}
		if st != "" {
			statuses = append(statuses, st)
		}
	}
	if q.err != nil {
		return nil, q.err
	}
	list := []SubJob{}
	for _, j := range slices.Backward(s.world.jobs) {
		if jobID != "" && j.ID != jobID || jobType != "" && j.JobType != jobType || pool != "" || !j.shown(now) {
			continue
		}
		for i := range j.SubJobs {
			sub := viewSub(&j.SubJobs[i], now)
			sub.Notes = nil
			if len(statuses) == 0 || slices.Contains(statuses, sub.Status) {
				list = append(list, sub)
			}
		}
	}
	return &answer{status: http.StatusOK, body: map[string]any{"total_count": len(list), "jobs": page(list, offset, limit)}}, nil
}

// showJob returns one whole job.
func (s *Server) showJob(req *request, now time.Time) (*answer, *refusal) {
	if len(req.target) > 255 {
		return nil, invalid("Parameter job_id must have at most 255 characters.")
	}
	j := s.world.jobBy[req.target]
	if j == nil || !j.shown(now) {
		return nil, noJob(req.target)
	}
	v := viewJob(j, now)
	v.Notes = nil
	for i := range v.SubJobs {
		v.SubJobs[i].Notes = nil
	}
	return &answer{status: http.StatusOK, body: v}, nil
}

// listImages lists gold and private images, the newest first by default. There is no filter by name.
func (s *Server) listImages(req *request) (*answer, *refusal) {
	q, bad := parseQuery(req.rawQuery)
	if bad != nil {
		return nil, bad
	}
	osType, imageID := q.text("os_type", 255), q.text("image_id", 255)
	imageType := q.text("image_type", 255, "gold", "private")
	arch := q.text("architecture", 10, "arm", "x86")
	q.text("platform", 255)
	q.text("package_type", 255)
	field := q.text("sort_field", 255, "name", "created_at")
	direction := q.text("sort_type", 255, "asc", "desc")
	limit, offset := q.number("limit", 100, 100), q.number("offset", 0, 5000)
	if q.err != nil {
		return nil, q.err
	}
	list := []Image{}
	for _, img := range s.world.images {
		if img.ImageType != "gold" && img.ImageType != "private" ||
			osType != "" && img.OSType != osType || imageID != "" && img.ID != imageID ||
			imageType != "" && img.ImageType != imageType || arch != "" && img.Architecture != arch {
			continue
		}
		shown := *img
		shown.Notes = nil
		list = append(list, shown)
	}
	slices.SortStableFunc(list, func(a, b Image) int {
		c := cmp.Compare(a.CreatedAt, b.CreatedAt)
		if field == "name" {
			c = cmp.Compare(a.Name, b.Name)
		}
		if direction == "desc" || direction == "" && field != "name" {
			c = -c
		}
		return c
	})
	return &answer{status: http.StatusOK, body: map[string]any{"images": page(list, offset, limit), "total_count": len(list)}}, nil
}

func noJob(id string) *refusal {
	return refuse(http.StatusNotFound, codeNoJob, "The job %s does not exist.", id)
}
