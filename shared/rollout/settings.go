package rollout

import (
	"cmp"
	"fmt"
	"strings"
)

// Settings are what a set can change in a rollout.
type Settings struct {
	MaxUnavailable int     `json:"max_unavailable"`
	MaxFailed      Amount  `json:"max_failed"`
	Window         *Window `json:"window,omitempty"` // nil: at any time
}

func (s Spec) settings() Settings {
	return Settings{MaxUnavailable: s.Strategy.MaxUnavailable, MaxFailed: s.Strategy.MaxFailed, Window: s.Window}
}

// String is a window for people.
func (w *Window) String() string {
	if w == nil {
		return "at any time"
	}
	return fmt.Sprintf("%s, %s to %s %s", cmp.Or(strings.Join(w.Days, ", "), "every day"), w.From, w.To, w.Timezone)
}

// differences are the settings that are not those of the spec.
func (s Settings) differences(spec Settings) (texts []string) {
	for _, v := range [][3]string{
		{"max_unavailable", fmt.Sprint(s.MaxUnavailable), fmt.Sprint(spec.MaxUnavailable)},
		{"max_failed", s.MaxFailed.String(), spec.MaxFailed.String()},
		{"window", s.Window.String(), spec.Window.String()},
	} {
		if v[1] != v[2] {
			texts = append(texts, fmt.Sprintf("%s %s (spec: %s)", v[0], v[1], v[2]))
		}
	}
	return texts
}
