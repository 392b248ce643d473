package main

import (
	"context"
	"errors"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// timeLimit is the flag --timeout: how long a command waits; 0 is no limit.
type timeLimit time.Duration

func (l *timeLimit) define(flags *pflag.FlagSet, usage string) {
	flags.Var(l, "timeout", usage+"; 0: no limit")
}

// within ends a context when the limit is over.
func (l timeLimit) within(ctx context.Context) (context.Context, context.CancelFunc) {
	if l == 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Duration(l))
}

var errNegative = errors.New("must not be negative; 0 is no limit")

// Set reads a limit.
func (l *timeLimit) Set(text string) error {
	d, err := time.ParseDuration(text)
	if err == nil && d < 0 {
		err = errNegative
	}
	*l = timeLimit(d)
	return err
}

func (l timeLimit) String() string {
	if l == 0 {
		return "0" // which help texts do not show as a default
	}
	return time.Duration(l).String()
}

// Type is shown in help texts.
func (l timeLimit) Type() string { return "duration" }

// listenAddress is a flag with an address to listen on.
type listenAddress string

// Set reads an address.
func (a *listenAddress) Set(text string) error {
	_, port, err := net.SplitHostPort(text)
	if err == nil {
		_, err = strconv.ParseUint(port, 10, 16)
	}
	*a = listenAddress(text)
	return err
}

func (a listenAddress) String() string { return string(a) }

// Type is shown in help texts.
func (a listenAddress) Type() string { return "host:port" }

// listFlag is a flag with several values: repeated, by comma, or one a line, as in "$(cat FILE)".
type listFlag struct{ items *[]string }

// Set adds the values of one occurrence.
func (l listFlag) Set(value string) error {
	*l.items = append(*l.items, splitList(value)...)
	return nil
}

func (l listFlag) String() string {
	if l.items == nil {
		return ""
	}
	return strings.Join(*l.items, ",")
}

// Type is shown in help texts.
func (l listFlag) Type() string { return "strings" }

// addList defines a list flag.
func addList(flags *pflag.FlagSet, items *[]string, name, usage string) {
	flags.Var(listFlag{items}, name, usage)
}

// splitList divides a list by comma and line. It skips empty lines. Between commas it keeps empty values, so that the
// caller can reject them.
func splitList(list string) []string {
	var items []string
	for line := range strings.SplitSeq(strings.ReplaceAll(list, "\r", "\n"), "\n") {
		if strings.TrimSpace(line) == "" {
			continue
		}
		for item := range strings.SplitSeq(line, ",") {
			items = append(items, strings.TrimSpace(item))
		}
	}
	return items
}
