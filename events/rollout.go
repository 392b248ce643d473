package events

import (
	"fmt"
	"strconv"
	"strings"
)

// RolloutRef names an attempt at a batch of a rollout. Its text, name/plan/batch/attempt, is the extension attribute
// rollout: a rollout sets it on its commands, and everything that follows from them has it, too.
type RolloutRef struct {
	Name    string
	Plan    int
	Batch   int
	Attempt int
}

func (r RolloutRef) String() string {
	return fmt.Sprintf("%s/%d/%d/%d", r.Name, r.Plan, r.Batch, r.Attempt)
}

// MaxRolloutName is the longest name of a rollout.
const MaxRolloutName = 40

// ParseRolloutRef reads the attribute rollout. Each reference has one text.
func ParseRolloutRef(text string) (RolloutRef, error) {
	name, numbers, _ := strings.Cut(text, "/")
	r := RolloutRef{Name: name}
	valid := IsRolloutName(name)
	for _, to := range []*int{&r.Plan, &r.Batch, &r.Attempt} {
		var n string
		n, numbers, _ = strings.Cut(numbers, "/")
		var err error
		*to, err = strconv.Atoi(n)
		valid = valid && err == nil && *to >= 0 && *to < 1_000_000_000
	}
	if !valid || r.String() != text {
		return RolloutRef{}, fmt.Errorf("must be name/plan/batch/attempt, such as win11-november/1/0/1, with a name of 1 to %d of a-z, 0-9 and -", MaxRolloutName)
	}
	return r, nil
}

// IsRolloutName reports whether a text can be the name of a rollout: 1 to 40 of a-z, 0-9 and -.
func IsRolloutName(name string) bool {
	return name != "" && len(name) <= MaxRolloutName && strings.Trim(name, "abcdefghijklmnopqrstuvwxyz0123456789-") == ""
}
