package rollout

type PlanInput struct {
	Spec       Spec
	Image      TargetImage
	IDs        []string
	Fleet      []Desktop
	Images     map[string]bool
	NotAllowed map[string]bool
}
type Plan struct {
	Slots   []Slot
	LeftOut []LeftOut
	Waves   []Wave
	Digest  string
}

func MakePlan(in PlanInput) Plan {
	var p Plan
	for _, d := range in.Fleet {
		if d.Image == in.Image.ID {
			p.LeftOut = append(p.LeftOut, LeftOut{d.ID, Skipped, "current"})
			continue
		}
		p.Slots = append(p.Slots, Slot{ID: d.ID, Image: d.Image, ImageType: "private", Status: d.Status, Root: d.Root, Data: d.Data})
	}
	n := len(p.Slots)
	c := min(in.Spec.Strategy.Canary, n)
	if c > 0 {
		p.Waves = append(p.Waves, Wave{Kind: CanaryWave, From: 0, To: c})
	}
	at := c
	for _, to := range []int{n / 10, n / 2, n} {
		if to > at {
			p.Waves = append(p.Waves, Wave{Kind: PlainWave, From: at, To: to})
			at = to
		}
	}
	p.Digest = "d"
	return p
}
