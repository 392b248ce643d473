package rollout

import "time"

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

// Targets selects the desktops: ids, or a selector. More than 5,000 ids go ahead of the start as pages.
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

// Duration is a time.Duration that is written as text, such as "10m".
type Duration time.Duration

// Amount is a number of desktops, or a share of them such as "2%", which is rounded down.
type Amount struct {
	Number  int
	Percent float64
	IsShare bool
}
