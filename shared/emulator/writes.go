package emulator

import (
	"cmp"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// desktopToImage accepts an image job.
func (s *Server) desktopToImage(req *request, inj injection, now time.Time) (*answer, *refusal) {
	f, bad := parseBody(req.body)
	if bad != nil {
		return nil, bad
	}
	f.require("image_name", "desktop_id")
	name := f.text("image_name", 1, 128)
	id := f.text("desktop_id", 1, 255)
	notes := &ImageNotes{
		Description:         f.text("image_description", 0, 1024),
		EnterpriseProjectID: f.text("enterprise_project_id", 0, 255),
		Tags:                f.tags("image_tags"),
		Sysprep:             f.flag("execute_sysprep", true, inj.quirks.has(quirkSysprepString)),
		ClearData:           f.flag("is_clear_data", false, false),
		MaxRAM:              f.text("max_ram", 0, 255),
		SourceDesktopID:     id,
	}
	minRAM := f.text("min_ram", 0, 255)
	if !plainText(name) || strings.Trim(name, asciiSpace) != name {
		f.fail("Parameter image_name has a character that is not allowed, or white space at an end.")
	}
	if !plainText(notes.Description) {
		f.fail("Parameter image_description has a character that is not allowed.")
	}
	if f.err != nil {
		return nil, f.err
	}
	d := s.world.byID[id]
	if d == nil {
		return nil, noDesktop(id)
	}
	states := []string{statusActive}
	if inj.quirks.has(quirkShutoffAllowed) {
		states = append(states, statusShutoff)
	}
	if bad := d.refuse("CREATE_IMAGE", now, states...); bad != nil {
		return nil, bad
	}
	img := &Image{
		ID: randomID(), ImageType: "private", OSType: d.Metadata[metaOSType], OSVersion: d.OSVersion,
		Architecture: "x86", DiskFormat: "zvhd2", Name: name, MinDisk: 80, Notes: notes,
	}
	if running := s.world.imageBy[d.Metadata[metaImageID]]; running != nil {
		img.Architecture, img.MinDisk = running.Architecture, running.MinDisk
	}
	if d.RootVolume != nil {
		img.MinDisk = d.RootVolume.Size
	}
	if n, err := strconv.Atoi(minRAM); err == nil && n >= 0 {
		img.MinRAM = n
	}
	job := s.plan(order{
		jobType: typeImage, desktops: []*desktop{d}, image: img, wipes: notes.Sysprep || notes.ClearData,
		failures: inj.failures, quirks: inj.quirks,
	}, now)
	return accepted(job), nil
}

// rebuild accepts a rebuild job of one or more desktops.
func (s *Server) rebuild(req *request, inj injection, now time.Time) (*answer, *refusal) {
	f, bad := parseBody(req.body)
	if bad != nil {
		return nil, bad
	}
	o := order{jobType: typeRebuild, failures: inj.failures, quirks: inj.quirks}
	f.require("desktop_ids", "image_type", "image_id")
	ids := f.ids("desktop_ids", 1, 100)
	imageType := f.text("image_type", 0, 255)
	imageID := f.text("image_id", 1, 255)
	f.text("os_type", 0, 255)
	o.delay = f.int32("delay_time")
	o.message = f.text("message", 0, 400)
	f.text("order_id", 0, 255)
	f.text("enterprise_project_id", 0, 36)
	f.text("handle_type", 0, 255)
	kms := f.text("kms_id", 0, maxBody)
	switch f.text("encrypt_type", 0, 255) {
	case "", "KEEP", "UNENCRYPTED":
	case "ENCRYPTED":
		if kms == "" {
			f.fail("Parameter kms_id is mandatory if encrypt_type is ENCRYPTED.")
		}
	default:
		f.fail("Parameter encrypt_type must be one of KEEP, UNENCRYPTED, ENCRYPTED.")
	}
	if twice := duplicate(ids); twice != "" {
		f.fail("Parameter desktop_ids names %s twice.", twice)
	}
	if f.err != nil {
		return nil, f.err
	}
	var missing *refusal
	for _, id := range ids {
		if d := s.world.byID[id]; d != nil {
			o.desktops = append(o.desktops, d)
		} else {
			missing = cmp.Or(missing, noDesktop(id))
		}
	}
	if missing != nil && !s.cfg.PartialBatches {
		return nil, missing
	}
	img := s.world.imageBy[imageID]
	if img == nil {
		return nil, refuse(http.StatusNotFound, codeNoImage, "The image %s does not exist.", imageID)
	}
	if img.ImageType != imageType {
		return nil, refuse(http.StatusBadRequest, codeImageType, "The image %s is not of the type %s.", imageID, imageType)
	}
	target := *img
	o.image = &target
	var busy *refusal
	o.desktops, busy = rebuildable(o.desktops, inj.quirks, now)
	if first := cmp.Or(missing, busy); first != nil && (!s.cfg.PartialBatches || len(o.desktops) == 0) {
		return nil, first
	}
	return accepted(s.plan(o, now)), nil
}

// rebuildable returns the desktops that can be rebuilt now, and the refusal of the first that cannot.
func rebuildable(desktops []*desktop, quirks quirkSet, now time.Time) (free []*desktop, first *refusal) {
	states := []string{statusActive, statusError, statusShutoff}
	if quirks.has(quirkShutoffRefused) {
		states = states[:2]
	}
	for _, d := range desktops {
		if bad := d.refuse("REBUILD", now, states...); bad != nil {
			first = cmp.Or(first, bad)
		} else {
			free = append(free, d)
		}
	}
	return free, first
}

func accepted(job *Job) *answer {
	return &answer{status: http.StatusOK, body: map[string]any{"job_id": job.ID}, job: job}
}

func noDesktop(id string) *refusal {
	return refuse(http.StatusNotFound, codeNoDesktop, "The desktop %s does not exist.", id)
}

// refuse returns the refusal of an operation by the desktop: it is busy, or in none of the states that allow the
// operation. It returns nil if the desktop allows it.
func (d *desktop) refuse(operation string, now time.Time, states ...string) *refusal {
	task, state := d.task(now), d.Status
	if task == "" && slices.ContainsFunc(states, func(st string) bool { return strings.EqualFold(st, state) }) {
		return nil
	}
	if task != "" {
		state += " (" + task + ")"
	}
	return refuse(http.StatusConflict, codeBusy,
		"The current state %s does not allow the operation %s. Resource id: %s.", state, operation, d.DesktopID)
}

func duplicate(ids []string) string {
	seen := make(map[string]bool, len(ids))
	for _, id := range ids {
		if seen[id] {
			return id
		}
		seen[id] = true
	}
	return ""
}
