// Package config reads what the program is told by its environment: once, in the command, with every fault told at
// once. A secret may also stand in a file: X_FILE names the file for X. An empty variable is as good as none.
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

// DefaultNATS is where `recompose up` listens, and so where clients look unless they are told otherwise.
const DefaultNATS = "nats://127.0.0.1:4222"

// SignatureWindow is how old a signature the service takes. It is a fact of the service; only an emulator has another.
const SignatureWindow = 15 * time.Minute

// Config is all that can be set. envconfig reads the variables in the tags; [Default] has the defaults, and rows what else
// there is to a setting. A field has the name of its variable, so that one name leads from there to its use.
type Config struct {
	AK                string `envconfig:"HUAWEICLOUD_SDK_AK"`
	SK                Secret `envconfig:"HUAWEICLOUD_SDK_SK"`
	SecurityToken     Secret `envconfig:"HUAWEICLOUD_SDK_SECURITY_TOKEN"`
	ProjectID         string `envconfig:"HUAWEICLOUD_SDK_PROJECT_ID"`
	AuthToken         Secret `envconfig:"RECOMPOSE_AUTH_TOKEN"`
	IAMEndpoint       URLs   `envconfig:"RECOMPOSE_IAM_ENDPOINT"`
	IAMUser           string `envconfig:"RECOMPOSE_IAM_USER"`
	IAMPassword       Secret `envconfig:"RECOMPOSE_IAM_PASSWORD"`
	IAMDomain         string `envconfig:"RECOMPOSE_IAM_DOMAIN"`
	Agency            string `envconfig:"RECOMPOSE_AGENCY"`
	MetadataEndpoint  URLs   `envconfig:"RECOMPOSE_METADATA_ENDPOINT"`
	Region            string `envconfig:"RECOMPOSE_REGION"`
	WorkspaceEndpoint URLs   `envconfig:"RECOMPOSE_WORKSPACE_ENDPOINT"`

	HTTPSProxy Secret `envconfig:"HTTPS_PROXY"` // of every HTTP client; Go reads the variables itself
	NoProxy    string `envconfig:"NO_PROXY"`
	Proxy      string `envconfig:"RECOMPOSE_PROXY"`

	NATSURL         URLs   `envconfig:"NATS_URL"`
	NATSCreds       string `envconfig:"NATS_CREDS"` // a file by itself
	NATSUser        string `envconfig:"NATS_USER"`
	NATSPassword    Secret `envconfig:"NATS_PASSWORD"`
	NATSCA          string `envconfig:"NATS_CA"`
	NATSCert        string `envconfig:"NATS_CERT"`
	NATSKey         string `envconfig:"NATS_KEY"`
	NATSInboxPrefix string `envconfig:"NATS_INBOX_PREFIX"` // where answers come in; for users with rights of their own

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
	ConflictDeadline  time.Duration `envconfig:"RECOMPOSE_CONFLICT_DEADLINE"` // how long a busy desktop is asked for again
	MaxDelayTime      int64         `envconfig:"RECOMPOSE_MAX_DELAY_TIME"`    // minutes that a rebuild may give its users
	AllowDesktopsFile string        `envconfig:"RECOMPOSE_ALLOW_DESKTOPS_FILE"`
	DenyDesktopsFile  string        `envconfig:"RECOMPOSE_DENY_DESKTOPS_FILE"`
	BlankPersonal     bool          `envconfig:"RECOMPOSE_BLANK_PERSONAL"` // what tells of people is left out of desktop.described
	HTTPListen        string        `envconfig:"RECOMPOSE_HTTP_LISTEN"`
	HTTPHosts         string        `envconfig:"RECOMPOSE_HTTP_HOSTS"` // names for it, beside loopback and IP addresses
	LogLevel          string        `envconfig:"RECOMPOSE_LOG_LEVEL"`

	TopicARN           string  `envconfig:"RECOMPOSE_TOPIC_ARN"`
	QueueURL           string  `envconfig:"RECOMPOSE_QUEUE_URL"`
	DeadLetterQueueURL string  `envconfig:"RECOMPOSE_DEAD_LETTER_QUEUE_URL"`
	Table              string  `envconfig:"RECOMPOSE_TABLE"`
	SecretARN          string  `envconfig:"RECOMPOSE_SECRET_ARN"`
	Sandboxes          int     `envconfig:"RECOMPOSE_SANDBOXES"`    // that share the limits of calls
	ReadsShare         float64 `envconfig:"RECOMPOSE_READS_SHARE"`  // of a function in ReadsPerMinute, in percent
	WritesShare        float64 `envconfig:"RECOMPOSE_WRITES_SHARE"` // and in WritesPerMinute
	Pace               float64 `envconfig:"RECOMPOSE_PACE"`         // divides the waits between looks at a job; for an emulator that runs fast

	settings []Setting
}

// Default is what holds where nothing is set. Defaults stand here and not in tags, because envconfig reads those only
// together with the environment, and demo and tests must not depend on it.
func Default() *Config {
	return &Config{
		MetadataEndpoint: "http://169.254.169.254",
		Proxy:            ProxyEnvironment,
		Setup:            SetupCreate,
		Concurrency:      8,
		ReadsPerMinute:   200,
		WritesPerMinute:  100,
		ImageDeadline:    2 * time.Hour,
		RebuildDeadline:  45 * time.Minute,
		CommandMaxAge:    6 * time.Hour,
		SignatureWindow:  SignatureWindow,
		Resend:           ResendProved,
		ConflictDeadline: 30 * time.Minute,
		MaxDelayTime:     24 * 60, // a day is what a person can mean; the service takes up to 2147483647
		HTTPListen:       "127.0.0.1:8088",
		LogLevel:         "info",
		Sandboxes:        1,
		ReadsShare:       100,
		WritesShare:      100,
		Pace:             1,
	}
}

// Need says how much a command depends on a group of settings.
type Need int

// Needs.
const (
	Unused   Need = iota // not looked at: faults in it are not told
	IfSet                // checked if it is set
	Required             // must be there
	Named                // of the service: where it is and which project must be there; no credentials
)

// Options say what a command needs.
type Options struct {
	Service Need
	NATS    Need              // IfSet: DefaultNATS where nothing is set
	AWS     Need              // the topic, queues and table of a function
	Flags   map[string]string // variable of a text → value given on the command line, which goes before the environment
}

// Load reads the environment. The error is an *Error with every fault; the Config then has what could be read, fit to
// be shown and not to be used.
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
	if o.AWS == Unused {
		c.Pace = 1 // commands have a flag for it, and use it on an emulator alone
	}
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

// Fault is what is wrong with one variable. Problem never has a secret in it.
type Fault struct {
	Variable string `json:"variable"`
	Problem  string `json:"problem"`
}

// Error has every fault of the settings.
type Error struct{ Faults []Fault }

func (e *Error) has(variable string) bool {
	return slices.ContainsFunc(e.Faults, func(f Fault) bool { return f.Variable == variable })
}

func (e *Error) Error() string {
	lines := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		lines[i] = "  " + f.Variable + ": " + f.Problem
	}
	return "the settings are not complete and right:\n" + strings.Join(lines, "\n")
}

// Endpoint is the base URL of the Workspace service: the one that is set, else that of the region; "" without either.
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

// ServiceChosen reports whether somebody said which Workspace service recompose shall use. HW_REGION_NAME alone does not
// say it: it is Terraform's, and may be there for another purpose.
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

// Secret is a string that no way of printing shows. Convert it to use it.
type Secret string

// Format prints a mask for every verb.
func (s Secret) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, mask("all", string(s))) }

// LogValue is a mask.
func (s Secret) LogValue() slog.Value { return slog.StringValue(mask("all", string(s))) }

// MarshalText is a mask, so that no encoder shows the secret.
func (s Secret) MarshalText() ([]byte, error) { return []byte(mask("all", string(s))), nil }

// URLs is a list of addresses by comma, printed without the user, password or token in them. Convert it to use it.
type URLs string

// Format prints the addresses for every verb.
func (u URLs) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, maskURLs(string(u))) }

// LogValue is the addresses without credentials.
func (u URLs) LogValue() slog.Value { return slog.StringValue(maskURLs(string(u))) }

// MarshalText is the addresses without credentials.
func (u URLs) MarshalText() ([]byte, error) { return []byte(maskURLs(string(u))), nil }

// Loopback reports whether a URL's host is this machine, so that what is sent there never reaches a network.
func Loopback(raw string) bool {
	u, err := url.Parse(raw)
	if err != nil {
		return false
	}
	host := u.Hostname()
	ip := net.ParseIP(host)
	return host == "localhost" || (ip != nil && ip.IsLoopback())
}
