// Package config reads what the program is told by its environment: once, in the command, with every fault told at
// once. A secret may also stand in a file: X_FILE names the file for X. An empty variable is as good as none.
package config

import (
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/url"
	"strings"
	"time"
)

// DefaultNATS is where `recompose up` listens, and so where clients look unless they are told otherwise.
const DefaultNATS = "nats://127.0.0.1:4222"

// SignatureWindow is how old a signature the service takes. It is a fact of the service; only an emulator has another.
const SignatureWindow = 15 * time.Minute

// Config is all that can be set. The tags are the variable, for texts the variable that stands in for it where it is not
// set, its default, and whether it is a secret.
type Config struct {
	AccessKey         string `envconfig:"HUAWEICLOUD_SDK_AK" or:"HW_ACCESS_KEY" secret:"begin"`
	SecretKey         Secret `envconfig:"HUAWEICLOUD_SDK_SK" or:"HW_SECRET_KEY" secret:"all"`
	SecurityToken     Secret `envconfig:"HUAWEICLOUD_SDK_SECURITY_TOKEN" or:"HW_SECURITY_TOKEN" secret:"all"`
	ProjectID         string `envconfig:"HUAWEICLOUD_SDK_PROJECT_ID" or:"HW_PROJECT_ID"`
	AuthToken         Secret `envconfig:"RECOMPOSE_AUTH_TOKEN" secret:"all"`
	IAMEndpoint       URLs   `envconfig:"RECOMPOSE_IAM_ENDPOINT" secret:"url"`
	IAMUser           string `envconfig:"RECOMPOSE_IAM_USER"`
	IAMPassword       Secret `envconfig:"RECOMPOSE_IAM_PASSWORD" secret:"all"`
	IAMDomain         string `envconfig:"RECOMPOSE_IAM_DOMAIN"`
	Agency            string `envconfig:"RECOMPOSE_AGENCY"`
	MetadataEndpoint  URLs   `envconfig:"RECOMPOSE_METADATA_ENDPOINT" default:"http://169.254.169.254" secret:"url"`
	Region            string `envconfig:"RECOMPOSE_REGION" or:"HW_REGION_NAME"`
	WorkspaceEndpoint URLs   `envconfig:"RECOMPOSE_WORKSPACE_ENDPOINT" secret:"url"`

	HTTPSProxy Secret `envconfig:"HTTPS_PROXY" or:"https_proxy" secret:"proxy"` // of every HTTP client; Go reads the variables itself
	NoProxy    string `envconfig:"NO_PROXY" or:"no_proxy"`
	Proxy      string `envconfig:"RECOMPOSE_PROXY" default:"environment"`

	NATSURL      URLs   `envconfig:"NATS_URL" secret:"url"`
	NATSCreds    string `envconfig:"NATS_CREDS"` // a file by itself
	NATSUser     string `envconfig:"NATS_USER"`
	NATSPassword Secret `envconfig:"NATS_PASSWORD" secret:"all"`
	NATSCA       string `envconfig:"NATS_CA"`
	NATSCert     string `envconfig:"NATS_CERT"`
	NATSKey      string `envconfig:"NATS_KEY"`
	NATSInbox    string `envconfig:"NATS_INBOX_PREFIX"` // where answers come in; for users with rights of their own

	Deployment      string        `envconfig:"RECOMPOSE_DEPLOYMENT"`
	NATSReplicas    int           `envconfig:"RECOMPOSE_NATS_REPLICAS"` // 0: 3 where the server is clustered, else 1
	Setup           string        `envconfig:"RECOMPOSE_SETUP" default:"create"`
	Concurrency     int           `envconfig:"RECOMPOSE_CONCURRENCY" default:"8"` // messages of one function at once
	ReadsPerMinute  float64       `envconfig:"RECOMPOSE_READS_PER_MINUTE" default:"200"`
	WritesPerMinute float64       `envconfig:"RECOMPOSE_WRITES_PER_MINUTE" default:"100"`
	ImageDeadline   time.Duration `envconfig:"RECOMPOSE_IMAGE_DEADLINE" default:"2h"`
	RebuildDeadline time.Duration `envconfig:"RECOMPOSE_REBUILD_DEADLINE" default:"45m"` // plus the rebuild's delay_time
	CommandMaxAge   time.Duration `envconfig:"RECOMPOSE_COMMAND_MAX_AGE" default:"6h"`
	SignatureWindow time.Duration `envconfig:"RECOMPOSE_SIGNATURE_WINDOW" default:"15m"`
	Resend          string        `envconfig:"RECOMPOSE_RESEND" default:"proved"`
	ConflictWait    time.Duration `envconfig:"RECOMPOSE_CONFLICT_DEADLINE" default:"30m"` // how long a busy desktop is asked for again
	MaxDelayTime    int64         `envconfig:"RECOMPOSE_MAX_DELAY_TIME" default:"1440"`   // minutes that a rebuild may give its users
	AllowFile       string        `envconfig:"RECOMPOSE_ALLOW_DESKTOPS_FILE"`
	DenyFile        string        `envconfig:"RECOMPOSE_DENY_DESKTOPS_FILE"`
	BlankPersonal   bool          `envconfig:"RECOMPOSE_BLANK_PERSONAL" default:"false"` // what tells of people is left out of desktop.described
	HTTPListen      string        `envconfig:"RECOMPOSE_HTTP_LISTEN" default:"127.0.0.1:8088"`
	HTTPHosts       string        `envconfig:"RECOMPOSE_HTTP_HOSTS"` // names by which they may be asked, beside loopback and IP addresses
	LogLevel        string        `envconfig:"RECOMPOSE_LOG_LEVEL" default:"info"`

	TopicARN           string  `envconfig:"RECOMPOSE_TOPIC_ARN"`
	QueueURL           string  `envconfig:"RECOMPOSE_QUEUE_URL"`
	DeadLetterQueueURL string  `envconfig:"RECOMPOSE_DEAD_LETTER_QUEUE_URL"`
	Table              string  `envconfig:"RECOMPOSE_TABLE"`
	SecretARN          string  `envconfig:"RECOMPOSE_SECRET_ARN"`
	Sandboxes          int     `envconfig:"RECOMPOSE_SANDBOXES" default:"1"` // that share the limits of calls
	Pace               float64 `envconfig:"RECOMPOSE_PACE" default:"1"`      // divides the waits between looks at a job; for an emulator that runs fast

	settings []Setting
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
	Flags   map[string]string // variable → value given on the command line, which goes before the environment
}

// Load reads the environment. The error is an *Error with every fault; the Config then has what could be read, fit to
// be shown and not to be used.
func Load(o Options) (*Config, error) {
	c := &Config{}
	var faults Error
	c.read(o.Flags, &faults)
	if o.Flags["RECOMPOSE_REGION"] != "" && o.Flags["RECOMPOSE_WORKSPACE_ENDPOINT"] == "" {
		c.WorkspaceEndpoint = ""
		c.note("WorkspaceEndpoint", "", SourceNone)
	}
	if o.NATS == IfSet && c.NATSURL == "" {
		c.NATSURL = DefaultNATS
		c.note("NATSURL", DefaultNATS, SourceDefault)
	}
	c.check(o, &faults)
	for _, name := range c.Unknown() {
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
		if s.field == "Region" {
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
