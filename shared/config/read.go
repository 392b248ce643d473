package config

import (
	"errors"
	"fmt"
	"iter"
	"os"
	"reflect"
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

// Setting is the effective value of one variable. Value may be shown: secrets are masked.
type Setting struct {
	Variable string `json:"variable"`
	Value    string `json:"value"`
	Source   string `json:"source"`
	From     string `json:"from,omitempty"` // the variable or file that the value was read from, if it is another
	Or       string `json:"-"`              // the variable that is read if this one is not set

	mask string // see mask
}

// row is a field of Config with its tags.
type row struct {
	variable string
	or       string // the variable that is read if this one is not set
	mask     string // how its value is shown, see mask
	field    reflect.Value
}

// isText reports whether the field is a text, which can also be given by a flag, by a file if it is a secret, or by
// another variable.
func (r row) isText() bool { return r.field.Kind() == reflect.String }

// rows yields all settings, in the order in which they are shown.
func (c *Config) rows() iter.Seq[row] {
	return func(yield func(row) bool) {
		for f, v := range reflect.ValueOf(c).Elem().Fields() {
			r := row{variable: f.Tag.Get("envconfig"), or: f.Tag.Get("or"), mask: f.Tag.Get("mask"), field: v}
			if r.variable != "" && !yield(r) {
				return
			}
		}
	}
}

// Settings lists every variable in the order of Config.
func (c *Config) Settings() []Setting { return c.settings }

// IsDefault reports whether a variable has its default because it is not set.
func (c *Config) IsDefault(variable string) bool {
	return slices.ContainsFunc(c.settings, func(s Setting) bool { return s.Variable == variable && s.Source == SourceDefault })
}

// maxSecretFile is larger than any token.
const maxSecretFile = 64 << 10

// read sets the fields of the struct, which has the defaults.
func (c *Config) read(flags map[string]string, faults *Error) error {
	problems, err := c.process()
	if err != nil {
		return err
	}
	c.settings = nil
	for r := range c.rows() {
		s := Setting{Variable: r.variable, Source: SourceNone, Or: r.or, mask: r.mask}
		problem := problems[r.variable]
		if r.isText() {
			var text string
			text, problem = s.find(r.field.String(), flags)
			r.field.SetString(text)
			s.Value = mask(r.mask, text)
		} else {
			s.describe(r.field.Interface(), problem)
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

// reading serializes calls of Load, because a call hides variables from envconfig for a while.
var reading sync.Mutex

// process makes envconfig read the environment into the struct, and returns the problems by variable. envconfig
// treats an empty variable as a value, and stops at the first fault. So it is called without the empty variables, and
// after a fault once more without the faulty one; at the end all of them are restored.
func (c *Config) process() (problems map[string]string, err error) {
	reading.Lock()
	defer reading.Unlock()
	hidden := map[string]string{}
	defer func() {
		for variable, value := range hidden {
			err = errors.Join(err, os.Setenv(variable, value))
		}
	}()
	for r := range c.rows() {
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

// describe records the value and the source of a setting that is not a text. No default is 0.
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

// find reads a text from the source with the highest precedence, and records the source. It is given the value that
// envconfig has read, or the default.
func (s *Setting) find(text string, flags map[string]string) (found, problem string) {
	inFile := s.Variable + "_FILE"
	path := os.Getenv(inFile)
	if !s.mayBeFile() {
		path = ""
	}
	switch {
	case flags[s.Variable] != "":
		s.Source = SourceFlag
		return flags[s.Variable], ""
	case os.Getenv(s.Variable) != "" && path != "":
		s.Source = SourceEnv
		return "", "is set, and so is " + inFile + "; give one of them"
	case os.Getenv(s.Variable) != "":
		s.Source = SourceEnv
	case path != "":
		s.Source, s.From = SourceFile, path
		return readSecret(inFile, path)
	case s.Or != "" && os.Getenv(s.Or) != "":
		s.Source, s.From = SourceEnv, s.Or
		return os.Getenv(s.Or), ""
	case text != "":
		s.Source = SourceDefault
	}
	return text, ""
}

// mayBeFile reports whether VARIABLE_FILE may name a file with the value.
func (s *Setting) mayBeFile() bool { return s.mask == "begin" || s.mask == "all" }

func readSecret(variable, path string) (secret, problem string) {
	info, err := os.Stat(path) //nolint:gosec // the operator names the file
	if err == nil && (!info.Mode().IsRegular() && info.Mode()&os.ModeNamedPipe == 0 || info.Size() > maxSecretFile) {
		return "", fmt.Sprintf("%s names %q, which is not a file of at most %d bytes", variable, path, maxSecretFile)
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

// note replaces the shown value of a setting.
func (c *Config) note(variable, value, source string) {
	for i := range c.settings {
		if s := &c.settings[i]; s.Variable == variable {
			s.Value, s.Source, s.From = mask(s.mask, value), source, ""
		}
	}
}

const masked = "***"

// mask makes a value safe to show.
func mask(kind, value string) string {
	switch {
	case value == "" || kind == "":
		return value
	case kind == "begin" && len(value) >= 12: // an access key: its beginning identifies it
		return value[:4] + masked
	case kind == "url":
		return maskURLs(value)
	case kind == "proxy": // one address, which may have commas in its password
		return maskURL(value)
	default:
		return masked
	}
}

// maskURLs removes user, password and token from a list of URLs.
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
