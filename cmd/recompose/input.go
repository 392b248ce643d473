package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"github.com/spf13/cobra"

	"recompose/events"
	"recompose/shared/safety"
	"recompose/shared/textfile"
)

// readIDFile reads the ids of a file, which names at least one; - is standard input.
func readIDFile(cmd *cobra.Command, path string) ([]string, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	return readIDs(in, path)
}

// readIDs reads the ids of one command, at least one: a command without ids is often about all desktops. One error reports all
// ids that are wrong.
func readIDs(in io.Reader, path string) ([]string, error) {
	path = inputName(path)
	ids, err := safety.ReadIDs(in)
	if err != nil {
		return nil, ofFile(path, err)
	}
	if len(ids) == 0 {
		return nil, fmt.Errorf("%s names no desktop", path)
	}
	seen, twice := make(map[string]bool, len(ids)), []string{}
	for _, id := range ids {
		if key := strings.ToLower(id); seen[key] {
			twice = append(twice, id)
		} else {
			seen[key] = true
		}
	}
	if len(twice) > 0 {
		return nil, fmt.Errorf("%s: desktops are in the file twice, if letter case is ignored; name each once: %s", path,
			some(twice))
	}
	return ids, nil
}

func validJSON(raw json.RawMessage) error {
	var into map[string]json.RawMessage
	if err := json.Unmarshal(raw, &into); err != nil {
		return fmt.Errorf("is neither a list of ids nor JSON: %w", err)
	}
	return nil
}

func notNil(ids []string) []string {
	if ids == nil {
		return []string{}
	}
	return ids
}

// readInput reads a file with data of a command; - is standard input.
func readInput(cmd *cobra.Command, path string) ([]byte, error) {
	return readAtMost(cmd, path, 4*events.MaxMessage)
}

// readAtMost reads the text of a file; - is standard input. A file with more bytes is an error.
func readAtMost(cmd *cobra.Command, path string, most int) ([]byte, error) {
	in, err := openInput(cmd, path)
	if err != nil {
		return nil, err
	}
	defer func() { _ = in.Close() }() // only read
	content, err := io.ReadAll(io.LimitReader(in, int64(most)+1))
	if err != nil {
		return nil, err
	}
	if len(content) > most {
		return nil, fmt.Errorf("%s has more than %d bytes, the limit", inputName(path), most)
	}
	if content, err = textfile.Decode(content); err != nil {
		return nil, fmt.Errorf("%s: %w", inputName(path), err)
	}
	return content, nil
}

// openInput opens a file; - is standard input, which a command reads once.
func openInput(cmd *cobra.Command, path string) (io.ReadCloser, error) {
	if path != "-" {
		return os.Open(path)
	}
	if cmd.Annotations[stdinTaken] != "" {
		return nil, errors.New("- is standard input, which is read once; put one of the two into a file")
	}
	cmd.Annotations = map[string]string{stdinTaken: "yes"} // no command has others
	return io.NopCloser(cmd.InOrStdin()), nil
}

// ofFile names the file of an error, unless the error names it.
func ofFile(path string, err error) error {
	if _, ok := errors.AsType[*fs.PathError](err); ok {
		return err
	}
	return fmt.Errorf("%s: %w", path, err)
}

// inputName names a file for people.
func inputName(path string) string {
	if path == "-" {
		return "standard input"
	}
	return path
}

// stdinTaken annotates a command that has opened standard input.
const stdinTaken = "stdin taken"
