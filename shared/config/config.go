// Package config reads the environment of a program: once, in the command, with every fault in one error. A secret
// may also be in a file: X_FILE names the file for X. An empty variable counts as not set.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"slices"
	"strings"
	"time"
)

// DefaultNATS is where `recompose up` listens, and the default address for clients.
const DefaultNATS = "nats://127.0.0.1:4222"

// SignatureWindow is the age up to which the service accepts a signature. It is a fact of the service; only an
// emulator has another.
const SignatureWindow = 15 * time.Minute

// Config has all settings. envconfig reads the variables in the tags; [Default] has the defaults. The tag "or" names
// the variable that is read if the first is not set, and "mask" how the value is shown, see mask. A field has the name
// of its variable, so that a search for one name finds every use.
type Config struct {
	AK                string `envconfig:"HUAWEICLOUD_SDK_AK" or:"HW_ACCESS_KEY" mask:"begin"`
	SK                Secret `envconfig:"HUAWEICLOUD_SDK_SK" or:"HW_SECRET_KEY" mask:"all"`
	SecurityToken     Secret `envconfig:"HUAWEICLOUD_SDK_SECURITY_TOKEN" or:"HW_SECURITY_TOKEN" mask:"all"`
	ProjectID         string `envconfig:"HUAWEICLOUD_SDK_PROJECT_ID" or:"HW_PROJECT_ID"`
	AuthToken         Secret `envconfig:"RECOMPOSE_AUTH_TOKEN" mask:"all"`
	IAMEndpoint       URLs   `envconfig:"RECOMPOSE_IAM_ENDPOINT" mask:"url"`
	IAMUser           string `envconfig:"RECOMPOSE_IAM_USER"`
	IAMPassword       Secret `envconfig:"RECOMPOSE_IAM_PASSWORD" mask:"all"`
	IAMDomain         string `envconfig:"RECOMPOSE_IAM_DOMAIN"`
	Agency            string `envconfig:"RECOMPOSE_AGENCY"`
	MetadataEndpoint  URLs   `envconfig:"RECOMPOSE_METADATA_ENDPOINT" mask:"url"`
	Region            string `envconfig:"RECOMPOSE_REGION" or:"HW_REGION_NAME"`
	WorkspaceEndpoint URLs   `envconfig:"RECOMPOSE_WORKSPACE_ENDPOINT" mask:"url"`

	// Of every HTTP client; Go reads these variables itself.
	HTTPSProxy Secret `envconfig:"HTTPS_PROXY" or:"https_proxy" mask:"proxy"`
	NoProxy    string `envconfig:"NO_PROXY" or:"no_proxy"`
	Proxy      string `envconfig:"RECOMPOSE_PROXY"`

	NATSURL         URLs   `envconfig:"NATS_URL" mask:"url"`
	NATSCreds       string `envconfig:"NATS_CREDS"` // the path of a credentials file
	NATSUser        string `envconfig:"NATS_USER"`
	NATSPassword    Secret `envconfig:"NATS_PASSWORD" mask:"all"`
	NATSCA          string `envconfig:"NATS_CA"`
	NATSCert        string `envconfig:"NATS_CERT"`
	NATSKey         string `envconfig:"NATS_KEY"`
	NATSInboxPrefix string `envconfig:"NATS_INBOX_PREFIX"` // prefix of the subjects of answers; for users with restricted rights

	Deployment        string        `envconfig:"RECOMPOSE_DEPLOYMENT"`
	NATSReplicas      int           `envconfig:"RECOMPOSE_NATS_REPLICAS"` // 0: 3 where the server is clustered, else 1
	Setup             string        `envconfig:"RECOMPOSE_SETUP"`
	Concurrency       int           `envconfig:"RECOMPOSE_CONCURRENCY"` // messages of one function at once
	ReadsPerMinute    float64       `envconfig:"RECOMPOSE_READS_PER_MINUTE"`
	WritesPerMinute   float64       `envconfig:"RECOMPOSE_WRITES_PER_MINUTE"`
	ImageDeadline     time.Duration `envconfig:"RECOMPOSE_IMAGE_DEADLINE"`
	RebuildDeadline   time.Duration `envconfig:"RECOMPOSE_REBUILD_DEADLINE"` // plus the rebuild's delay_time
	CommandMaxAge     time.Duration `envconfig:"RECOMPOSE_COMMAND_MAX_AGE"`
	SignatureWindow   time.Duration `envconfig:"RECOMPOSE_SIGNATURE_WINDOW"`
	Resend            string        `envconfig:"RECOMPOSE_RESEND"`
	ConflictDeadline  time.Duration `envconfig:"RECOMPOSE_CONFLICT_DEADLINE"` // how long the call for a busy desktop is retried
	MaxDelayTime      int64         `envconfig:"RECOMPOSE_MAX_DELAY_TIME"`    // minutes that a rebuild may give its users
	AllowDesktopsFile string        `envconfig:"RECOMPOSE_ALLOW_DESKTOPS_FILE"`
	DenyDesktopsFile  string        `envconfig:"RECOMPOSE_DENY_DESKTOPS_FILE"`
	BlankPersonal     bool          `envconfig:"RECOMPOSE_BLANK_PERSONAL"` // fields with personal data are omitted from desktop.described
	HTTPListen        string        `envconfig:"RECOMPOSE_HTTP_LISTEN"`
	HTTPHosts         string        `envconfig:"RECOMPOSE_HTTP_HOSTS"` // host names that requests may use, beside loopback and IP addresses
	LogLevel          string        `envconfig:"RECOMPOSE_LOG_LEVEL"`

	TopicARN           string  `envconfig:"RECOMPOSE_TOPIC_ARN"`
	QueueURL           string  `envconfig:"RECOMPOSE_QUEUE_URL"`
	DeadLetterQueueURL string  `envconfig:"RECOMPOSE_DEAD_LETTER_QUEUE_URL"`
	Table              string  `envconfig:"RECOMPOSE_TABLE"`
	SecretARN          string  `envconfig:"RECOMPOSE_SECRET_ARN"`
	Sandboxes          int     `envconfig:"RECOMPOSE_SANDBOXES"`    // number of sandboxes that share the limits of calls
	ReadsShare         float64 `envconfig:"RECOMPOSE_READS_SHARE"`  // the function's share of ReadsPerMinute, in percent
	WritesShare        float64 `envconfig:"RECOMPOSE_WRITES_SHARE"` // and of WritesPerMinute

	// Pace divides the waits between polls of a job. It is not a setting: an emulator that runs fast reports it, and it
	// is 1 for every other service.
	Pace float64 `ignored:"true"`

	settings []Setting
}

// Default returns the defaults. They are here and not in tags, because envconfig reads tags only together with the
// environment, and demo and tests must not depend on the environment.
func Default() *Config {
	return &Config{
		MetadataEndpoint: "http://169.254.169.254",
		Proxy:            ProxyEnvironment,
		Setup:            SetupCreate,
		Concurrency:      16,
		ReadsPerMinute:   200,
		WritesPerMinute:  100,
		ImageDeadline:    2 * time.Hour,
		RebuildDeadline:  45 * time.Minute,
		CommandMaxAge:    6 * time.Hour,
		SignatureWindow:  SignatureWindow,
		Resend:           ResendProved,
		ConflictDeadline: 30 * time.Minute,
		MaxDelayTime:     24 * 60, // a day is a plausible limit; the service accepts up to 2147483647
		HTTPListen:       "127.0.0.1:8088",
		LogLevel:         "info",
		Sandboxes:        1,
		ReadsShare:       100,
		WritesShare:      100,
		Pace:             1,
	}
}

// Need is how much a command depends on a group of settings.
type Need int

// Needs.
const (
	Unused   Need = iota // not read: faults in it are not reported
	IfSet                // checked if it is set
	Required             // must be set
	Named                // for the service: its address and project must be set; no credentials
)

// Options are the settings that a command needs.
type Options struct {
	Service Need
	NATS    Need              // IfSet: DefaultNATS if it is not set
	AWS     Need              // the topic, queues and table of a function
	Flags   map[string]string // text variable → value given on the command line, which takes precedence over the environment
}

// Load reads the environment. The error is an *Error with every fault; the Config then has the values that could be
// read, to be shown but not to be used.
func Load(o Options) (*Config, error) {
	c := Default()
	var faults Error
	if err := c.read(o.Flags, &faults); err != nil {
		return c, err
	}
	if o.Flags["RECOMPOSE_REGION"] != "" && o.Flags["RECOMPOSE_WORKSPACE_ENDPOINT"] == "" {
		c.WorkspaceEndpoint = ""
		c.note("RECOMPOSE_WORKSPACE_ENDPOINT", "", SourceNone)
	}
	if o.NATS == IfSet && c.NATSURL == "" {
		c.NATSURL = DefaultNATS
		c.note("NATS_URL", DefaultNATS, SourceDefault)
	}
	c.check(o, &faults)
	for _, name := range c.Unknown() {
		if faults.has(name) {
			continue
		}
		faults.Faults = append(faults.Faults, Fault{name, fmt.Sprintf("is unknown; did you mean %s?", c.nearest(name))})
	}
	if len(faults.Faults) > 0 {
		return c, &faults
	}
	return c, nil
}

// Fault is the fault of one variable. Problem never contains a secret.
type Fault struct {
	Variable string `json:"variable"`
	Problem  string `json:"problem"`
}

// Error has every fault of the configuration.
type Error struct{ Faults []Fault }

func (e *Error) has(variable string) bool {
	return slices.ContainsFunc(e.Faults, func(f Fault) bool { return f.Variable == variable })
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = "  " + f.Variable + ": " + f.Problem
	}
	return "invalid configuration:\n" + strings.Join(lines, "\n")
}

// Endpoint is the base URL of the Workspace service: the configured one, else that of the region; "" without either.
func (c *Config) Endpoint() string {
	switch {
	case c.WorkspaceEndpoint != "":
		return strings.TrimRight(string(c.WorkspaceEndpoint), "/")
	case c.Region != "":
		return "https://workspace." + c.Region + ".myhuaweicloud.com"
	default:
		return ""
	}
}

// ServiceChosen reports whether the configuration selects a Workspace service. HW_REGION_NAME alone does not: it is a
// variable of Terraform, and may be set for another purpose.
func (c *Config) ServiceChosen() bool {
	if c.WorkspaceEndpoint != "" {
		return true
	}
	for _, s := range c.settings {
		if s.Variable == "RECOMPOSE_REGION" {
			return c.Region != "" && s.From == ""
		}
	}
	return false
}

// Secret is a string that is never printed. Convert it to use it.
type Secret string

// Format prints a mask for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask("all", string(s))) }

// LogValue returns a mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask("all", string(s))) }

// MarshalText returns a mask, so that no encoder shows the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask("all", string(s))), nil }

// URLs is a list of addresses by comma, printed without the user, password or token in them. Convert it to use it.
type URLs string

// Format prints the addresses for every verb.
func (u URLs) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, maskURLs(string(u))) }

// LogValue returns the addresses without credentials.
func (u URLs) LogValue() slog.Value { return slog.StringValue(maskURLs(string(u))) }

// MarshalText returns the addresses without credentials.
func (u URLs) MarshalText() ([]byte, error) { return []byte(maskURLs(string(u))), nil }

// Loopback reports whether a URL's host is this machine, so that a request to it never reaches a network.
func Loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
