package main

import (
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"

	"recompose/shared/config"
	"recompose/shared/queue"
	"recompose/shared/safety"
)

// listFiles are the files that name which desktops may be written to.
func listFiles(c *config.Config, log *slog.Logger) *safety.Files {
	return &safety.Files{AllowDesktopsFile: c.AllowDesktopsFile, DenyDesktopsFile: c.DenyDesktopsFile, Log: log}
}

// owner names this process in the ledger, so that people find the worker that holds a command.
func owner() string {
	return workerName() + "/" + rand.Text()[:8]
}

// workerName names this process to people.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// only picks the functions with these names; all of them without a name.
func only(fns []queue.Function, names []string) []queue.Function {
	if len(names) == 0 {
		return fns
	}
	return slices.DeleteFunc(fns, func(f queue.Function) bool { return !slices.Contains(names, f.Name) })
}

// stopError says why a worker ended.
func stopError(err error) error {
	if stop := new(queue.StopError); errors.As(err, &stop) {
		return fmt.Errorf("the worker has stopped, because going on would do harm: %w\nNo message is lost; start it again when that is cured", stop.Err)
	}
	return err
}

func namesOf(fns []queue.Function) []string {
	names := make([]string, len(fns))
	for i, f := range fns {
		names[i] = f.Name
	}
	return names
}
