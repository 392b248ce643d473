// Package logging makes the loggers of the program and names the keys of log lines, so that one search finds a command
// in all parts. Bodies, credentials, and names, addresses and tags of users are never logged.
package logging

import (
	"fmt"
	"io"
	"log/slog"
)

// Keys of log lines, the same everywhere.
const (
	KeyFunction    = "function"
	KeyCommand     = "command_id"
	KeyCorrelation = "correlation_id" // of each line about a message
)

// Forms of a log.
const (
	Text = "text" // key=value, for people
	JSON = "json" // one object a line, for machines
)

// New returns a logger that writes lines of the level and above to w, in the form Text or JSON. An unknown level or
// form is an error.
func New(w io.Writer, level, form string) (*slog.Logger, error) {
	var least slog.Level
	if err := least.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("log level %q: must be debug, info, warn or error", level)
	}
	options := &slog.HandlerOptions{Level: least}
	switch form {
	case Text:
		return slog.New(Contextual(slog.NewTextHandler(w, options))), nil
	case JSON:
		return slog.New(Contextual(slog.NewJSONHandler(w, options))), nil
	default:
		return nil, fmt.Errorf("must be %s or %s; got %q", Text, JSON, form)
	}
}

// Silent returns a logger that writes nothing.
func Silent() *slog.Logger { return slog.New(slog.DiscardHandler) }
