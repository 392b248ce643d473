package emulator

import (
	"cmp"
	"encoding/json"
	"maps"
	"regexp"
	"slices"
)

// SeedFor makes a seed with the project, the desktops and the images that JSON texts name in fields like desktop_id, at any
// depth, and returns the project. A text that is not JSON is ignored. If the texts name no desktop, the seed has one
// generated desktop; if they name no project, it is DefaultProjectID.
func SeedFor(texts ...string) (seed []byte, projectID string, err error) {
	var n names
	for _, text := range texts {
		var v any
		if json.Unmarshal([]byte(text), &v) == nil {
			n.read(v)
		}
	}
	made, err := New(Options{Desktops: max(1, len(n.desktops))})
	if err != nil {
		return nil, "", err
	}
	defer made.Close()
	state := made.State()
	for i, id := range n.desktops {
		state.Desktops[i].DesktopID = id
	}
	for _, i := range n.images {
		if !slices.ContainsFunc(state.Images, func(has Image) bool { return has.ID == i.ID }) {
			state.Images = append(state.Images, i)
		}
	}
	seed, err = json.Marshal(state)
	return seed, cmp.Or(n.project, DefaultProjectID), err
}

// validID matches ids that are valid in the service.
var validID = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$`)

// names are the project, desktops and images that texts name.
type names struct {
	project  string // the first one
	desktops []string
	images   []Image
}

func (n *names) read(v any) {
	switch v := v.(type) {
	case []any:
		for _, item := range v {
			n.read(item)
		}
	case map[string]any:
		text := func(name string) string { s, _ := v[name].(string); return s }
		if p := text("project_id"); n.project == "" && validID.MatchString(p) {
			n.project = p
		}
		several, _ := v["desktop_ids"].([]any)
		for _, item := range append(several, v["desktop_id"]) {
			if id, _ := item.(string); validID.MatchString(id) && !slices.Contains(n.desktops, id) {
				n.desktops = append(n.desktops, id)
			}
		}
		if i := (Image{ID: text("image_id"), ImageType: text("image_type"), OSType: text("os_type")}); validID.MatchString(i.ID) {
			i.Name = cmp.Or(text("image_name"), "image-of-the-event")
			i.ImageType = oneOf(i.ImageType, "private", "gold", "market")
			i.OSType = oneOf(i.OSType, "Windows", "Linux")
			n.images = append(n.images, i)
		}
		for _, name := range slices.Sorted(maps.Keys(v)) {
			n.read(v[name])
		}
	}
}

// oneOf returns word if it is known, else the first known word.
func oneOf(word string, known ...string) string {
	if slices.Contains(known, word) {
		return word
	}
	return known[0]
}
