package safety

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// Variables that name the files.
const (
	AllowVariable = "RECOMPOSE_ALLOW_DESKTOPS_FILE"
	DenyVariable  = "RECOMPOSE_DENY_DESKTOPS_FILE"
)

// AllAllowed is how it is reported that there is no allow list.
const AllAllowed = "every desktop of the project may be rebuilt"

// Files names two files with the ids of desktops, as ReadIDs reads them. Both are read afresh each time, so that a change
// holds for the very next write. A file of which one line cannot be read stops all writes.
type Files struct {
	AllowDesktopsFile string       // if set, no other desktop may be written to
	DenyDesktopsFile  string       // if set, none of these may be
	Log               *slog.Logger // reports a deny list that has become empty; nil: silent

	mu      sync.Mutex // of what follows
	denied  int        // how many desktops the deny list had when it last had any
	emptied time.Time  // when it was found empty after that; zero: it is not
}

// Refused gives the ids that may not be written to.
func (f *Files) Refused(ids []string) ([]string, error) {
	allow, deny, err := f.read()
	if err != nil {
		return nil, err
	}
	return Refuse(ids, allow, deny), nil
}

func (f *Files) read() (allow, deny *Set, err error) {
	if f.AllowDesktopsFile != "" {
		ids, err := readFile(AllowVariable, f.AllowDesktopsFile)
		if err != nil {
			return nil, nil, err
		}
		allow = Allow(ids)
	}
	if f.DenyDesktopsFile != "" {
		ids, err := readFile(DenyVariable, f.DenyDesktopsFile)
		if err != nil {
			return nil, nil, err
		}
		deny = Deny(ids)
		f.counted(len(ids))
	}
	return allow, deny, nil
}

// counted notes how many desktops the deny list has, and logs where it has become empty.
func (f *Files) counted(n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case n > 0:
		f.denied, f.emptied = n, time.Time{}
	case f.denied > 0 && f.emptied.IsZero():
		f.emptied = time.Now()
		if f.Log != nil {
			f.Log.Warn("the deny list has become empty: no desktop is denied", "variable", DenyVariable, "file", f.DenyDesktopsFile, "before", f.denied)
		}
	}
}

// FileError is a list that cannot be read.
type FileError struct {
	Variable string // names the file
	Path     string
	Err      error // a *LineError where one line is wrong
}

func (e *FileError) Error() string { return e.Variable + ": " + e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Place returns what is wrong without what stands in the file: for pages that show no ids.
func (e *FileError) Place() string {
	if line, ok := errors.AsType[*LineError](e.Err); ok {
		return fmt.Sprintf("%s: %s: line %d cannot be read; recompose config shows why", e.Variable, e.Path, line.Line)
	}
	return e.Error()
}

func readFile(variable, path string) ([]string, error) {
	file, err := os.Open(path)
	if failed, ok := errors.AsType[*os.PathError](err); ok {
		err = failed.Err // the path is named already
	}
	if err != nil {
		return nil, &FileError{variable, path, err}
	}
	defer func() { _ = file.Close() }() // only read
	ids, err := ReadIDs(file)
	if err != nil {
		return nil, &FileError{variable, path, err}
	}
	return ids, nil
}

// Problems returns what is wrong with the files, at most one error for each. It blocks only while files are read; a pipe is
// not read, because it gives what it has only once.
func (f *Files) Problems() []*FileError {
	var problems []*FileError
	for _, file := range [][2]string{{AllowVariable, f.AllowDesktopsFile}, {DenyVariable, f.DenyDesktopsFile}} {
		if file[1] == "" || isStream(file[1]) {
			continue
		}
		_, err := readFile(file[0], file[1])
		if problem, ok := errors.AsType[*FileError](err); ok {
			problems = append(problems, problem)
		}
	}
	return problems
}

// Describe reports in one line which desktops the files let be rebuilt. An error is a *FileError: nothing may be written. It blocks as Problems does.
func (f *Files) Describe() (string, error) {
	if f.AllowDesktopsFile == "" && isStream(f.DenyDesktopsFile) {
		return fmt.Sprintf("%s, except those of the deny list %s, which is read before each write", AllAllowed, f.DenyDesktopsFile), nil
	}
	if isStream(f.AllowDesktopsFile) || isStream(f.DenyDesktopsFile) {
		return fmt.Sprintf("the lists are read before each write: allow %q, deny %q", f.AllowDesktopsFile, f.DenyDesktopsFile), nil
	}
	allow, deny, err := f.read()
	if err != nil {
		return "", err
	}
	text := AllAllowed
	if allow != nil {
		text = fmt.Sprintf("only the desktops of %s may be rebuilt (%d)", f.AllowDesktopsFile, len(allow.ids))
	}
	if allow != nil && len(allow.ids) == 0 {
		text = fmt.Sprintf("no desktop may be rebuilt: the allow list %s is empty", f.AllowDesktopsFile)
	}
	if deny == nil {
		return text, nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch {
	case len(deny.ids) > 0:
		return fmt.Sprintf("%s, except those of the deny list %s (%d)", text, f.DenyDesktopsFile, len(deny.ids)), nil
	case !f.emptied.IsZero():
		return fmt.Sprintf("%s; the deny list %s is empty since %s (before: %d)", text, f.DenyDesktopsFile, f.emptied.UTC().Format(time.RFC3339), f.denied), nil
	default:
		return fmt.Sprintf("%s; the deny list %s is empty", text, f.DenyDesktopsFile), nil
	}
}

// isStream reports whether a path leads to something that can be read only once, or never ends.
func isStream(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0
}
