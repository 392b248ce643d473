package rollout

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
)

// digestWave is a wave in a digest.
type digestWave struct {
	Kind string `json:"kind"`
	From int    `json:"from"`
	To   int    `json:"to"`
}

// digestSlot is a planned desktop with its baseline in a digest.
type digestSlot struct {
	ID        string `json:"id"`
	Image     string `json:"image"`
	ImageType string `json:"image_type"`
	ImageGone bool   `json:"image_gone"`
	Status    string `json:"status"`
	Root      string `json:"root"`
	Data      string `json:"data"`
}

// digest is the SHA-256 of a plan: of lines of JSON, each with a newline behind it. The first line has spec and image;
// then each wave, each desktop that is left out and each planned one has a line. It does not depend on how records are
// stored, so an approval stays valid when their form changes.
func digest(spec Spec, image TargetImage, plan Plan) string {
	sum := sha256.New()
	lines := json.NewEncoder(sum) // the order of fields is fixed, keys of maps are sorted
	lines.SetEscapeHTML(false)
	line := func(v any) { _ = lines.Encode(v) } // texts and numbers; a hash takes everything
	line(struct {
		Spec  Spec        `json:"spec"`
		Image TargetImage `json:"image"`
	}{spec, image})
	for _, w := range plan.Waves {
		line(digestWave{w.Kind, w.From, w.To})
	}
	for _, out := range plan.LeftOut {
		line(out)
	}
	for _, s := range plan.Slots {
		line(digestSlot{s.ID, s.Image, s.ImageType, s.ImageGone, s.Status, s.Root, s.Data})
	}
	return hex.EncodeToString(sum.Sum(nil))
}
