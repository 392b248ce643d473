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

// listFiles returns the files with the allow and deny lists of a worker.
func listFiles(c *config.Config, log *slog.Logger) *safety.Files {
	return &safety.Files{AllowDesktopsFile: c.AllowDesktopsFile, DenyDesktopsFile: c.DenyDesktopsFile, Log: log}
}

// owner returns the name of this process in the ledger, by which people find the worker that holds a command.
func owner() string {
	return workerName() + "/" + rand.Text()[:8]
}

// workerName returns the name of this process for people.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown-host"
	}
	return fmt.Sprintf("%s/%d", host, os.Getpid())
}

// only returns the functions with these names, or all if there are no names.
func only(fns []queue.Function, names []string) []queue.Function {
	if len(names) == 0 {
		return fns
	}
	return slices.DeleteFunc(fns, func(f queue.Function) bool { return !slices.Contains(names, f.Name) })
}

// stopError explains why a worker ended.
func stopError(err error) error {
	if stop := new(queue.StopError); errors.As(err, &stop) {
		return fmt.Errorf("the worker stopped to protect its access key: %w\nNo message is lost; fix it and restart",
			stop.Err)
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
