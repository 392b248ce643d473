package config

import (
	"fmt"
	"net"
	"net/url"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Compiled when they are first used: a Lambda program needs at most one of them, and starts often.
var (
	idRule         = rule(`^[A-Za-z0-9][A-Za-z0-9_-]*$`)
	regionRule     = rule(`^[a-z0-9]+(-[a-z0-9]+)+$`)
	deploymentRule = rule(`^[a-z0-9][a-z0-9-]{0,31}$`)
	inboxRule      = rule(`^(_INBOX[A-Za-z0-9_-]*(\.[A-Za-z0-9_-]+)*)?$`)
)

func rule(expression string) func() *regexp.Regexp {
	return sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expression) })
}

// maxID is how long an id may be.
const maxID = 255

// Values of RECOMPOSE_SETUP.
const (
	SetupCreate = "create" // workers create and change streams and consumers as needed
	SetupVerify = "verify" // they only check that all exist; `recompose setup` creates
)

// HTTPOff as RECOMPOSE_HTTP_LISTEN turns health and metrics off.
const HTTPOff = "off"

// LogLevels are the values of RECOMPOSE_LOG_LEVEL.
var LogLevels = []string{"debug", "info", "warn", "error"}

// Values of RECOMPOSE_RESEND.
const (
	ResendProved = "proved" // a call of unknown outcome is retried once it is proved that the service did not accept it
	ResendNever  = "never"  // a call of unknown outcome is never retried
)

// Values of RECOMPOSE_PROXY.
const (
	ProxyEnvironment = "environment" // HTTPS_PROXY and NO_PROXY hold for every HTTP client
	ProxyOff         = "off"         // no client uses a proxy
)

const maxReplicas, maxConcurrency = 5, 1000

// reporter adds the fault of a variable.
type reporter func(variable, problem string, args ...any)

// check adds every fault of the configuration.
func (c *Config) check(o Options, faults *Error) {
	bad := func(variable, problem string, args ...any) {
		if !faults.has(variable) {
			faults.Faults = append(faults.Faults, Fault{variable, fmt.Sprintf(problem, args...)})
		}
	}
	if o.Service == Required || o.Service == IfSet && c.ServiceChosen() {
		c.checkService(o, bad)
	}
	if o.Service == Named {
		c.checkProject(bad)
		c.checkEndpoint(bad)
	}
	c.checkNATSQuotes(bad) // the embedded server, too, would require the quotes in the password
	if o.NATS != Unused {
		c.checkNATS(bad)
	}
	if o.AWS == Required {
		c.checkAWS(bad)
	}
	c.checkProxy(bad)
	c.checkBehaviour(bad)
}

func (c *Config) checkService(o Options, bad reporter) {
	c.checkCredentials(o, bad)
	c.checkProject(bad)
	c.checkEndpoint(bad)
	if c.SignatureWindow < SignatureWindow && !Loopback(c.Endpoint()) {
		bad("RECOMPOSE_SIGNATURE_WINDOW", "may be shorter than %v only with an emulator on this machine: the real service accepts older signatures, so a command could be carried out twice; got %v", SignatureWindow, c.SignatureWindow)
	}
}

// standsIn names the other variable or the file that a value was read from.
func (c *Config) standsIn(variable string) string {
	for _, s := range c.settings {
		if s.Variable == variable && s.From != "" {
			return " (it was taken from " + s.From + ")"
		}
	}
	return ""
}

func (c *Config) checkProject(bad reporter) {
	switch {
	case c.ProjectID == "":
		bad("HUAWEICLOUD_SDK_PROJECT_ID", "is missing: the id of the project that the desktops are in (or HW_PROJECT_ID)")
	case len(c.ProjectID) > maxID || !idRule().MatchString(c.ProjectID):
		bad("HUAWEICLOUD_SDK_PROJECT_ID", "must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got %q", c.ProjectID)
	}
}

func (c *Config) checkEndpoint(bad reporter) {
	switch u, err := url.Parse(string(c.WorkspaceEndpoint)); {
	case c.WorkspaceEndpoint == "" && c.Region == "":
		bad("RECOMPOSE_REGION", "is missing: the region, like ap-southeast-1 (or HW_REGION_NAME); or the complete address in RECOMPOSE_WORKSPACE_ENDPOINT")
	case c.WorkspaceEndpoint == "" && !regionRule().MatchString(c.Region):
		bad("RECOMPOSE_REGION", "must be a region like ap-southeast-1; got %q", c.Region)
	case c.WorkspaceEndpoint == "":
	case os.Getenv("RECOMPOSE_REGION") != "" && os.Getenv("RECOMPOSE_WORKSPACE_ENDPOINT") != "":
		bad("RECOMPOSE_WORKSPACE_ENDPOINT", "is set, and so is RECOMPOSE_REGION; give one of them")
	default:
		checkURL(bad, "RECOMPOSE_WORKSPACE_ENDPOINT", "workspace", c.WorkspaceEndpoint, u, err)
	}
}

// checkURL adds a fault unless endpoint is an address of a service that credentials may be sent to.
func checkURL(bad reporter, variable, service string, endpoint URLs, u *url.URL, err error) {
	switch {
	case err != nil || u.User != nil || u.Host == "" || (u.Path != "" && u.Path != "/") || u.RawQuery != "" || u.Fragment != "":
		bad(variable, "must be a scheme and a host like https://%s.ap-southeast-1.myhuaweicloud.com, and nothing else", service)
	case u.Scheme == "http" && !Loopback(string(endpoint)):
		bad(variable, "must begin with https://: plain http only to this machine; got %s", endpoint)
	case u.Scheme != "http" && u.Scheme != "https":
		bad(variable, "must begin with https://; got %s", endpoint)
	}
}

// checkProxy adds a fault for an address that no client could use. Go's own error would show the address, and with it
// a password.
func (c *Config) checkProxy(bad reporter) {
	if c.Proxy != ProxyEnvironment && c.Proxy != ProxyOff {
		bad("RECOMPOSE_PROXY", "must be %s or %s; got %q", ProxyEnvironment, ProxyOff, c.Proxy)
	}
	if c.HTTPSProxy == "" || c.Proxy == ProxyOff {
		return
	}
	address := string(c.HTTPSProxy)
	if !strings.Contains(address, "://") {
		address = "http://" + address
	}
	u, err := url.Parse(address)
	if err != nil || u.Hostname() == "" || !slices.Contains([]string{"http", "https", "socks5", "socks5h"}, u.Scheme) {
		bad("HTTPS_PROXY", "must be an address like http://proxy.example.org:3128, without quotes; or set RECOMPOSE_PROXY to %s", ProxyOff)
	}
}

func (c *Config) checkNATS(bad reporter) {
	if c.NATSURL == "" {
		bad("NATS_URL", "is missing: where the NATS servers are, like nats://127.0.0.1:4222 (several by comma)")
	}
	own := false
	for one := range strings.SplitSeq(string(c.NATSURL), ",") {
		one = strings.TrimSpace(one)
		if !strings.Contains(one, "://") {
			one = "nats://" + one
		}
		u, err := url.Parse(one)
		if c.NATSURL != "" && (err != nil || u.Host == "" || !slices.Contains([]string{"nats", "tls", "ws", "wss"}, u.Scheme)) {
			bad("NATS_URL", "must be addresses like nats://host:4222 or tls://host:4222, several by comma; got %s", c.NATSURL)
		}
		own = own || err == nil && u.User != nil
	}
	kinds := 0
	for _, given := range []bool{c.NATSCreds != "", c.NATSUser != "" || c.NATSPassword != "", own} {
		if given {
			kinds++
		}
	}
	if kinds > 1 {
		bad("NATS_CREDS", "more than one kind of NATS credentials is set; give one of NATS_CREDS, NATS_USER with NATS_PASSWORD, or a user in NATS_URL")
	}
	if (c.NATSUser == "") != (c.NATSPassword == "") {
		bad("NATS_USER", "NATS_USER and NATS_PASSWORD must be set together")
	}
	if !inboxRule().MatchString(c.NATSInboxPrefix) {
		bad("NATS_INBOX_PREFIX", "must begin with _INBOX, like _INBOX_worker, and have letters, digits, _, - and single dots within only; got %q", c.NATSInboxPrefix)
	}
	if (c.NATSCert == "") != (c.NATSKey == "") {
		bad("NATS_CERT", "NATS_CERT and NATS_KEY must be set together")
	}
	readable(bad, "NATS_CREDS", c.NATSCreds)
	readable(bad, "NATS_CA", c.NATSCA)
	readable(bad, "NATS_CERT", c.NATSCert)
	readable(bad, "NATS_KEY", c.NATSKey)
	if c.NATSReplicas < 0 || c.NATSReplicas > maxReplicas {
		bad("RECOMPOSE_NATS_REPLICAS", "must be 1 to %d; got %d", maxReplicas, c.NATSReplicas)
	}
}

// checkNATSQuotes adds a fault for quotes around a value, as in an env file. Quotes within a password belong to it.
func (c *Config) checkNATSQuotes(bad reporter) {
	for _, one := range []struct{ variable, value string }{{"NATS_USER", c.NATSUser}, {"NATS_PASSWORD", string(c.NATSPassword)}} {
		if inQuotes(one.value) {
			bad(one.variable, "has quotes around its value; give it without quotes: those of an env file are not removed%s", c.standsIn(one.variable))
		}
	}
}

func (c *Config) checkAWS(bad reporter) {
	for _, required := range []struct{ variable, value, what string }{
		{"RECOMPOSE_TOPIC_ARN", c.TopicARN, "the ARN of the topic that carries all messages"},
		{"RECOMPOSE_QUEUE_URL", c.QueueURL, "the URL of the function's own queue"},
		{"RECOMPOSE_DEAD_LETTER_QUEUE_URL", c.DeadLetterQueueURL, "the URL of the function's dead-letter queue"},
		{"RECOMPOSE_TABLE", c.Table, "the name of the table that the ledger is in"},
	} {
		if required.value == "" {
			bad(required.variable, "is missing: %s", required.what)
		}
	}
	if c.Sandboxes < 1 || c.Sandboxes > maxConcurrency {
		bad("RECOMPOSE_SANDBOXES", "must be 1 to %d; got %d", maxConcurrency, c.Sandboxes)
	}
	for _, share := range []struct {
		variable string
		percent  float64
	}{{"RECOMPOSE_READS_SHARE", c.ReadsShare}, {"RECOMPOSE_WRITES_SHARE", c.WritesShare}} {
		if !(share.percent > 0 && share.percent <= 100) {
			bad(share.variable, "must be a part in percent, more than 0 and at most 100; got %v", share.percent)
		}
	}
}

func (c *Config) checkBehaviour(bad reporter) {
	if c.Setup != SetupCreate && c.Setup != SetupVerify {
		bad("RECOMPOSE_SETUP", "must be %s or %s; got %q", SetupCreate, SetupVerify, c.Setup)
	}
	if c.Concurrency < 1 || c.Concurrency > maxConcurrency {
		bad("RECOMPOSE_CONCURRENCY", "must be 1 to %d; got %d", maxConcurrency, c.Concurrency)
	}
	for _, rate := range []struct {
		variable string
		value    float64
	}{{"RECOMPOSE_READS_PER_MINUTE", c.ReadsPerMinute}, {"RECOMPOSE_WRITES_PER_MINUTE", c.WritesPerMinute}} {
		if !(rate.value > 0 && rate.value <= 1e6) {
			bad(rate.variable, "must be more than 0 and at most 1000000; got %v", rate.value)
		}
	}
	for _, d := range []struct {
		variable string
		value    time.Duration
	}{
		{"RECOMPOSE_IMAGE_DEADLINE", c.ImageDeadline},
		{"RECOMPOSE_REBUILD_DEADLINE", c.RebuildDeadline},
		{"RECOMPOSE_COMMAND_MAX_AGE", c.CommandMaxAge},
		{"RECOMPOSE_SIGNATURE_WINDOW", c.SignatureWindow},
		{"RECOMPOSE_CONFLICT_DEADLINE", c.ConflictDeadline},
	} {
		if d.value < time.Second || d.value > 365*24*time.Hour {
			bad(d.variable, "must be 1s to a year; got %v", d.value)
		}
	}
	if c.Resend != ResendProved && c.Resend != ResendNever {
		bad("RECOMPOSE_RESEND", "must be %s or %s; got %q", ResendProved, ResendNever, c.Resend)
	}
	if c.MaxDelayTime < 1 || c.MaxDelayTime > 1<<31-1 {
		bad("RECOMPOSE_MAX_DELAY_TIME", "must be 1 to 2147483647 minutes; got %d", c.MaxDelayTime)
	}
	if c.Deployment != "" && !deploymentRule().MatchString(c.Deployment) {
		bad("RECOMPOSE_DEPLOYMENT", "must be 1 to 32 lower-case letters, digits and -, beginning with a letter or digit; got %q", c.Deployment)
	}
	readable(bad, "RECOMPOSE_ALLOW_DESKTOPS_FILE", c.AllowDesktopsFile)
	readable(bad, "RECOMPOSE_DENY_DESKTOPS_FILE", c.DenyDesktopsFile)
	if _, port, err := net.SplitHostPort(c.HTTPListen); c.HTTPListen != HTTPOff {
		if _, number := strconv.ParseUint(port, 10, 16); err != nil || number != nil {
			bad("RECOMPOSE_HTTP_LISTEN", "must be host:port like 127.0.0.1:8088 (port 0 for any free one), or %s; got %q", HTTPOff, c.HTTPListen)
		}
	}
	if !slices.Contains(LogLevels, c.LogLevel) {
		bad("RECOMPOSE_LOG_LEVEL", "must be one of %s; got %q", strings.Join(LogLevels, ", "), c.LogLevel)
	}
}

func readable(bad reporter, variable, path string) {
	if path == "" {
		return
	}
	info, err := os.Stat(path)
	if err == nil && info.IsDir() {
		err = fmt.Errorf("%s is a folder", path)
	}
	if err != nil {
		bad(variable, "must name a file that can be read: %v", err)
	}
}
