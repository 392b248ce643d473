package config

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"

	"github.com/kelseyhightower/envconfig"
)

// Sources of a setting.
const (
	SourceFlag    = "flag"
	SourceEnv     = "environment"
	SourceFile    = "file"
	SourceDefault = "default"
	SourceNone    = "not set"
)

// Setting is one variable as it is in force. Value is fit to be shown: secrets are masked.
type Setting struct {
	Variable string `json:"variable"`
	Value    string `json:"value"`
	Source   string `json:"source"`
	From     string `json:"from,omitempty"` // the variable or file that it was taken from, where that is another
	Or       string `json:"-"`              // the variable that stands in for it where it is not set

	secret string
}

// Settings lists every variable in the order of Config.
func (c *Config) Settings() []Setting { return c.settings }

// IsDefault reports whether nobody has set a variable.
func (c *Config) IsDefault(variable string) bool {
	return slices.ContainsFunc(c.settings, func(s Setting) bool { return s.Variable == variable && s.Source == SourceDefault })
}

// maxSecretFile is more than any token has.
const maxSecretFile = 64 << 10

// read fills the struct, which has the defaults.
func (c *Config) read(flags map[string]string, faults *Error) error {
	problems, err := c.process()
	if err != nil {
		return err
	}
	rows := c.rows()
	c.settings = make([]Setting, 0, len(rows))
	for _, r := range rows {
		s := Setting{Variable: r.variable, Source: SourceNone, Or: r.or, secret: r.secret}
		problem := problems[r.variable]
		if r.text != nil {
			problem = s.find(r.text, flags)
			s.Value = mask(r.secret, *r.text)
		} else {
			s.describe(r.other, problem)
		}
		if problem != "" {
			faults.Faults = append(faults.Faults, Fault{r.variable, problem})
		}
		if inFile := r.variable + "_FILE"; !s.mayBeFile() && os.Getenv(inFile) != "" {
			faults.Faults = append(faults.Faults, Fault{inFile, "is set, but only secrets are read from files; set " + r.variable + " itself"})
		}
		c.settings = append(c.settings, s)
	}
	return nil
}

// reading keeps two calls of Load from meeting, while one of them hides variables from envconfig.
var reading sync.Mutex

// process has envconfig read the environment into the struct, and gives what is wrong by variable. envconfig takes an empty
// variable for a value, and stops at the first fault. So it is called without the variables that are empty, and after a
// fault once more without that one; at the end they are put back.
func (c *Config) process() (problems map[string]string, err error) {
	reading.Lock()
	defer reading.Unlock()
	hidden := map[string]string{}
	defer func() {
		for variable, value := range hidden {
			err = errors.Join(err, os.Setenv(variable, value))
		}
	}()
	for _, r := range c.rows() {
		if value, set := os.LookupEnv(r.variable); set && value == "" {
			hidden[r.variable] = value
			if err := os.Unsetenv(r.variable); err != nil {
				return nil, err
			}
		}
	}
	problems = map[string]string{}
	for {
		err := envconfig.Process("", c)
		wrong, ok := errors.AsType[*envconfig.ParseError](err)
		if !ok {
			return problems, err
		}
		problems[wrong.KeyName] = fmt.Sprintf("must be %s; got %q", kinds[wrong.TypeName], wrong.Value)
		hidden[wrong.KeyName] = wrong.Value
		if err := os.Unsetenv(wrong.KeyName); err != nil {
			return nil, err
		}
	}
}

var kinds = map[string]string{
	"int":           "a whole number",
	"int64":         "a whole number",
	"float64":       "a number",
	"bool":          "true or false",
	"time.Duration": "a duration like 90s, 45m or 2h",
}

// describe notes a value that is no text, and where it is from. No default is 0.
func (s *Setting) describe(value any, problem string) {
	given := os.Getenv(s.Variable)
	switch s.Value = fmt.Sprint(value); {
	case given != "":
		s.Source = SourceEnv
	case s.Value == "0":
		s.Value = ""
	default:
		s.Source = SourceDefault
	}
	if problem != "" {
		s.Value = given
	}
}

// find takes a text from where it is given first, and notes where that was. The field has what envconfig has read, or the
// default.
func (s *Setting) find(text *string, flags map[string]string) (problem string) {
	inFile := s.Variable + "_FILE"
	path := os.Getenv(inFile)
	if !s.mayBeFile() {
		path = ""
	}
	switch {
	case flags[s.Variable] != "":
		*text, s.Source = flags[s.Variable], SourceFlag
	case os.Getenv(s.Variable) != "" && path != "":
		*text, s.Source = "", SourceEnv
		return "is set, and so is " + inFile + "; give one of them"
	case os.Getenv(s.Variable) != "":
		s.Source = SourceEnv
	case path != "":
		s.Source, s.From = SourceFile, path
		*text, problem = readSecret(inFile, path)
	case s.Or != "" && os.Getenv(s.Or) != "":
		*text, s.Source, s.From = os.Getenv(s.Or), SourceEnv, s.Or
	case *text != "":
		s.Source = SourceDefault
	}
	return problem
}

// mayBeFile reports whether VARIABLE_FILE may hold the value.
func (s *Setting) mayBeFile() bool { return s.secret == "begin" || s.secret == "all" }

func readSecret(variable, path string) (secret, problem string) {
	info, err := os.Stat(path) //nolint:gosec // the operator names the file
	if err == nil && (!info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 || info.Size() > maxSecretFile) {
		return "", fmt.Sprintf("%s names %q, which is no file of at most %d bytes", variable, path, maxSecretFile)
	}
	text, err := os.ReadFile(path) //nolint:gosec // the operator names the file
	if err != nil {
		return "", fmt.Sprintf("%s names a file that cannot be read: %v", variable, err)
	}
	secret = strings.TrimRight(string(text), "\r\n")
	if secret == "" {
		return "", fmt.Sprintf("%s names %q, which is empty", variable, path)
	}
	return secret, ""
}

// note replaces what is shown of a setting.
func (c *Config) note(variable, value, source string) {
	for i := range c.settings {
		if s := &c.settings[i]; s.Variable == variable {
			s.Value, s.Source, s.From = mask(s.secret, value), source, ""
		}
	}
}

const masked = "***"

// mask makes a value fit to be shown.
func mask(how, value string) string {
	switch {
	case value == "" || how == "":
		return value
	case how == "begin" && len(value) >= 12: // an access key: its beginning tells people which one it is
		return value[:4] + masked
	case how == "url":
		return maskURLs(value)
	case how == "proxy": // one address, which may have commas in its password
		return maskURL(value)
	default:
		return masked
	}
}

// maskURLs takes user, password and token out of a list of URLs.
func maskURLs(list string) string {
	urls := strings.Split(list, ",")
	for i, u := range urls {
		urls[i] = maskURL(u)
	}
	return strings.Join(urls, ",")
}

func maskURL(u string) string {
	scheme, rest, ok := strings.Cut(u, "://")
	if !ok {
		scheme, rest = "", u
	}
	if at := strings.LastIndex(rest, "@"); at >= 0 {
		rest = masked + rest[at:]
	}
	if ok {
		rest = scheme + "://" + rest
	}
	return rest
}
