package config

import (
	"errors"
	"fmt"
	"os"
	"reflect"
	"slices"
	"strings"

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

	field  string
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

// read fills the struct. envconfig does the conversions: of all fields in one go, which is what a cold start feels, and
// where that finds a fault, of each field by itself, so that one fault does not hide the next.
func (c *Config) read(flags map[string]string, faults *Error) {
	whole := &Config{}
	right := envconfig.Process("", whole) == nil
	v, converted := reflect.ValueOf(c).Elem(), reflect.ValueOf(whole).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		if !f.IsExported() {
			continue
		}
		s := Setting{Variable: f.Tag.Get("envconfig"), Source: SourceNone, field: f.Name, secret: f.Tag.Get("secret")}
		value, problem := s.find(f, flags)
		switch {
		case problem != "" || s.Source == SourceNone:
		case f.Type.Kind() == reflect.String:
			v.Field(i).SetString(value)
		case right:
			v.Field(i).Set(converted.Field(i))
		default:
			problem = s.convert(f, v.Field(i))
		}
		if problem != "" {
			faults.Faults = append(faults.Faults, Fault{s.Variable, problem})
		}
		if s.Source != SourceNone {
			s.Value = s.show(v.Field(i))
		}
		c.settings = append(c.settings, s)
	}
}

func (s *Setting) show(v reflect.Value) string {
	if v.Kind() == reflect.String {
		return mask(s.secret, v.String())
	}
	return fmt.Sprint(v.Interface())
}

// find looks for the value, and notes where it was. A default is a value like any other.
func (s *Setting) find(f reflect.StructField, flags map[string]string) (value, problem string) {
	if given := flags[s.Variable]; given != "" {
		s.Source = SourceFlag
		return given, ""
	}
	inFile := s.Variable + "_FILE"
	path := os.Getenv(inFile)
	if !s.mayBeFile() {
		path = ""
	}
	switch or := f.Tag.Get("or"); {
	case os.Getenv(s.Variable) != "" && path != "":
		s.Source = SourceEnv
		return "", "is set, and so is " + inFile + "; give one of them"
	case os.Getenv(s.Variable) != "":
		s.Source = SourceEnv
		return os.Getenv(s.Variable), ""
	case path != "":
		s.Source, s.From = SourceFile, path
		return readSecret(inFile, path)
	case or != "" && os.Getenv(or) != "":
		s.Source, s.From = SourceEnv, or
		return os.Getenv(or), ""
	case f.Tag.Get("default") != "":
		s.Source = SourceDefault
		return f.Tag.Get("default"), ""
	}
	return "", ""
}

// mayBeFile reports whether VARIABLE_FILE may hold the value.
func (s *Setting) mayBeFile() bool { return s.secret == "begin" || s.secret == "all" }

// convert has envconfig fill the field from its variable, or from the default.
func (s *Setting) convert(f reflect.StructField, into reflect.Value) (problem string) {
	from := s.Variable
	if s.Source == SourceDefault {
		from = f.Name + " has no variable" // no variable has such a name: an empty one would be taken for a value
	}
	f.Tag = reflect.StructTag(fmt.Sprintf(`envconfig:%q default:%q`, from, f.Tag.Get("default")))
	one := reflect.New(reflect.StructOf([]reflect.StructField{f}))
	err := envconfig.Process("", one.Interface())
	if wrong := new(envconfig.ParseError); errors.As(err, &wrong) {
		return fmt.Sprintf("must be %s; got %q", kinds[f.Type.String()], wrong.Value)
	}
	if err != nil {
		return err.Error()
	}
	into.Set(one.Elem().Field(0))
	return ""
}

var kinds = map[string]string{
	"int":           "a whole number",
	"float64":       "a number",
	"bool":          "true or false",
	"time.Duration": "a duration like 90s, 45m or 2h",
}

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

// note replaces what is shown of a field.
func (c *Config) note(field, value, source string) {
	for i := range c.settings {
		if s := &c.settings[i]; s.field == field {
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
