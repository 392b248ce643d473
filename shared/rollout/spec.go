package rollout

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// Spec is what a person asks for: one image for a set of desktops, in waves. ParseSpec reads it from YAML or JSON.
type Spec struct {
	Name     string   `json:"name"` // [a-z0-9-], 1 to 40; used once
	Image    Image    `json:"image"`
	Targets  Targets  `json:"targets"`
	Strategy Strategy `json:"strategy"`
	Users    Users    `json:"users"`
	Window   *Window  `json:"window,omitempty"` // none: at any time
	Approval Approval `json:"approval"`
	Options  Options  `json:"options"`
}

// Image is the image to bring to the desktops: one that exists, or one to be made of a desktop.
type Image struct {
	FromDesktop    string `json:"from_desktop,omitempty"`
	ExecuteSysprep *bool  `json:"execute_sysprep,omitempty"` // must be given with from_desktop
	ImageID        string `json:"image_id,omitempty"`
	ImageType      string `json:"image_type,omitempty"`
	OSType         string `json:"os_type,omitempty"`
}

// Targets selects the desktops by exactly one of ids, file and selector; Except protects some of them. More than 5,000
// ids, from a file, go ahead of the start as pages.
type Targets struct {
	DesktopIDs []string `json:"desktop_ids,omitempty"`
	File       string   `json:"file,omitempty"` // a CSV file, which the command line reads
	Where      *Where   `json:"where,omitempty"`
	Except     *Except  `json:"except,omitempty"`
}

// Where selects desktops that meet every condition.
type Where struct {
	ImageID             string            `json:"image_id,omitempty"`
	Tags                map[string]string `json:"tags,omitempty"`
	PoolID              string            `json:"pool_id,omitempty"`
	EnterpriseProjectID string            `json:"enterprise_project_id,omitempty"`
	UserAttached        *bool             `json:"user_attached,omitempty"`
	Status              string            `json:"status,omitempty"`
}

// Except protects desktops: those with one of these ids, and those with one of these tags.
type Except struct {
	DesktopIDs []string          `json:"desktop_ids,omitempty"`
	Tags       map[string]string `json:"tags,omitempty"`
}

// Strategy is how fast and how carefully.
type Strategy struct {
	Canary          int      `json:"canary"`
	CanaryMaxFailed int      `json:"canary_max_failed"`
	Waves           []string `json:"waves"` // cumulative percents, ascending; the last is 100%
	MaxUnavailable  int      `json:"max_unavailable"`
	MaxFailed       Amount   `json:"max_failed"`
	Soak            Duration `json:"soak"`
}

// Users is what happens to a desktop that somebody uses.
type Users struct {
	Connected    string   `json:"connected"`            // skip, defer or force
	DelayTime    int64    `json:"delay_time,omitempty"` // minutes that users have to save their work
	Message      string   `json:"message,omitempty"`
	MaxDeferrals int      `json:"max_deferrals"`
	DeferFor     Duration `json:"defer_for"`
	Then         string   `json:"then"` // skip or force, after max_deferrals
}

// Policies for a desktop in use.
const (
	Skip  = "skip"
	Defer = "defer"
	Force = "force"
)

// Window is when batches may run, in local time. A day is the day on which the window opens.
type Window struct {
	Days     []string `json:"days,omitempty"` // mon to sun; none: every day
	From     string   `json:"from"`           // hh:mm
	To       string   `json:"to"`             // hh:mm; before From: on the next day
	Timezone string   `json:"timezone"`       // IANA name
}

// Approval is whether a person must approve the plan.
type Approval struct {
	Required bool     `json:"required"`
	Within   Duration `json:"within"` // after it the plan expires
}

// Options are the remaining fields of a rebuild.
type Options struct {
	OrderID             string `json:"order_id,omitempty"`
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	EncryptType         string `json:"encrypt_type,omitempty"`
	KMSID               string `json:"kms_id,omitempty"`
	HandleType          string `json:"handle_type,omitempty"`
	SkipCurrent         *bool  `json:"skip_current,omitempty"` // default true: desktops that run the image are skipped
	AllowOSChange       bool   `json:"allow_os_change,omitempty"`
}

// Defaults is a spec with every default value: ParseSpec fills in what is absent. Approval.Within is used only where an
// approval is required.
func Defaults() Spec {
	yes := true
	return Spec{
		Strategy: Strategy{
			Canary:          5,
			CanaryMaxFailed: 0,
			Waves:           []string{"10%", "50%", "100%"},
			MaxUnavailable:  100,
			MaxFailed:       Amount{IsShare: true, Percent: 2},
			Soak:            Duration(10 * time.Minute),
		},
		Users: Users{
			Connected:    Defer,
			MaxDeferrals: 5,
			DeferFor:     Duration(20 * time.Minute),
			Then:         Skip,
		},
		Approval: Approval{Within: Duration(48 * time.Hour)},
		Options:  Options{SkipCurrent: &yes},
	}
}

// Duration is a time.Duration that is written as text, such as "10m".
type Duration time.Duration

var errDuration = errors.New("must be a duration with a unit, such as 10m or 1h30m")

// ParseDuration reads a duration that is not negative.
func ParseDuration(text string) (Duration, error) {
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 || text == "0" {
		return 0, errDuration
	}
	return Duration(d), nil
}

// String is the duration without units that are zero: 10m, not 10m0s.
func (d Duration) String() string {
	text := time.Duration(d).String()
	if strings.HasSuffix(text, "m0s") {
		text = strings.TrimSuffix(text, "0s")
	}
	if strings.HasSuffix(text, "h0m") {
		text = strings.TrimSuffix(text, "0m")
	}
	return text
}

// MarshalText writes the duration as String does.
func (d Duration) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads what MarshalText writes.
func (d *Duration) UnmarshalText(text []byte) (err error) {
	*d, err = ParseDuration(string(text))
	return err
}

// Amount is a number of desktops, or a share of them such as "2%", which is rounded down.
type Amount struct {
	Number  int
	Percent float64 // at most two decimals
	IsShare bool
}

var errAmount = errors.New(`must be a whole number, or a share from "0%" to "100%" with at most two decimals`)

// ParseAmount reads a number of desktops or a share of them.
func ParseAmount(text string) (Amount, error) {
	if share, ok := strings.CutSuffix(text, "%"); ok {
		hundredths, ok := parsePercent(share)
		if !ok {
			return Amount{}, errAmount
		}
		return Amount{IsShare: true, Percent: float64(hundredths) / 100}, nil
	}
	n, ok := parseWhole(text, math.MaxInt32)
	if !ok {
		return Amount{}, errAmount
	}
	return Amount{Number: int(n)}, nil
}

// Of is the amount for n desktops. A share is rounded down.
func (a Amount) Of(n int) int {
	if !a.IsShare {
		return a.Number
	}
	return n * int(math.Round(a.Percent*100)) / 10_000
}

// String is the amount as ParseAmount reads it.
func (a Amount) String() string {
	if !a.IsShare {
		return strconv.Itoa(a.Number)
	}
	return strconv.FormatFloat(a.Percent, 'f', -1, 64) + "%"
}

// MarshalJSON writes a number, or a share as a string.
func (a Amount) MarshalJSON() ([]byte, error) {
	if !a.IsShare {
		return json.Marshal(a.Number)
	}
	return json.Marshal(a.String())
}

// UnmarshalJSON reads a number or a string.
func (a *Amount) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	parsed, err := ParseAmount(text)
	if err != nil {
		return fmt.Errorf("%w; got %.60q", err, text)
	}
	*a = parsed
	return nil
}

// parsePercent reads a percentage from 0 to 100 with at most two decimals, in hundredths: exact where a float is not.
func parsePercent(text string) (hundredths int, ok bool) {
	whole, decimals, dot := strings.Cut(text, ".")
	if len(whole) > 3 || len(decimals) > 2 || dot && decimals == "" {
		return 0, false
	}
	n, ok := parseWhole(whole+(decimals + "00")[:2], 100_00)
	return int(n), ok && whole != ""
}

// parseWhole reads a whole number from 0 to most: digits only.
func parseWhole(text string, most int64) (int64, bool) {
	if text == "" || strings.Trim(text, "0123456789") != "" {
		return 0, false
	}
	n, err := strconv.ParseInt(text, 10, 64)
	return n, err == nil && n <= most
}

// waveShares are the waves in hundredths of a percent; false for one that is not a percentage.
func (s Strategy) waveShares() ([]int, bool) {
	shares := make([]int, len(s.Waves))
	for i, wave := range s.Waves {
		text, percent := strings.CutSuffix(wave, "%")
		var ok bool
		if shares[i], ok = parsePercent(text); !ok || !percent {
			return nil, false
		}
	}
	return shares, true
}
