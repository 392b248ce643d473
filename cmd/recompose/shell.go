package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
)

var needsNoQuotes = regexp.MustCompile(`^[A-Za-z0-9_@%+=:,./-]+$`)

// quoted quotes an argument for the shell of this system.
func quoted(s string) string {
	switch {
	case needsNoQuotes.MatchString(s):
		return s
	case runtime.GOOS == "windows": // PowerShell
		return "'" + strings.ReplaceAll(s, "'", "''") + "'"
	default:
		return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
	}
}

// exportLine returns the shell line that sets an environment variable.
func exportLine(name, value string) string {
	if runtime.GOOS == "windows" {
		return "$env:" + name + " = '" + strings.ReplaceAll(value, "'", "''") + "'"
	}
	return "export " + name + "=" + quoted(value)
}

// uniqueName returns shell text that expands to another name each second, so that a pasted line can be repeated.
func uniqueName(prefix string) string {
	if runtime.GOOS == "windows" {
		return `"` + prefix + `$(Get-Date -UFormat %s)"`
	}
	return `"` + prefix + `$(date +%s)"`
}

// programName returns how a shell starts this program: by name if it is on the PATH, else by path.
func programName() string {
	self, err := os.Executable()
	if err != nil {
		return "recompose"
	}
	if found, err := exec.LookPath("recompose"); err == nil && sameFile(found, self) {
		return "recompose"
	}
	name := quoted(self)
	if runtime.GOOS == "windows" && name != self {
		name = "& " + name
	}
	return name
}

func sameFile(a, b string) bool {
	x, errX := os.Stat(a)
	y, errY := os.Stat(b)
	return errX == nil && errY == nil && os.SameFile(x, y)
}

// absolute returns a path that is valid in every terminal.
func absolute(path string) string {
	if abs, err := filepath.Abs(path); err == nil {
		return abs
	}
	return path
}
