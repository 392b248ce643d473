package safety

import (
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"
)

// Names of the variables for the files.
const (
	AllowVariable = "RECOMPOSE_ALLOW_DESKTOPS_FILE"
	DenyVariable  = "RECOMPOSE_DENY_DESKTOPS_FILE"
)

// AllAllowed is the text that reports the absence of an allow list.
const AllAllowed = "every desktop of the project may be rebuilt"

// settle is how long a list must stay as it is before it is used, if it allows more desktops than before, or if it is the
// first one and was changed a moment ago. A list that is written in place is shorter meanwhile, and a deny list that is
// shorter allows more.
const settle = 5 * time.Second

// Files names two files with the ids of desktops, in the format of ReadIDs. Both are read each time, so a change
// applies to the next write. A file with an unreadable line stops all writes, and so does one that allows more desktops
// than before, for the time of settle.
type Files struct {
	AllowDesktopsFile string       // if set, only these desktops may be rebuilt or captured
	DenyDesktopsFile  string       // if set, these desktops must not be rebuilt or captured
	Log               *slog.Logger // reports a deny list that has become empty; nil: silent

	mu      sync.Mutex          // guards the fields below
	used    map[string]usedList // by variable
	denied  int                 // size of the deny list when it last had entries
	emptied time.Time           // when it was found empty after that; zero if it is not
}

// usedList is the list of a file that was used last, nil if none was, and what the file has had since if that must not be
// used yet.
type usedList struct {
	path  string
	list  *Set
	next  *Set
	since time.Time
}

// Refused returns the ids that must not be written to.
func (f *Files) Refused(ids []string) ([]string, error) {
	allow, deny, err := f.read(f.use)
	if err != nil {
		return nil, err
	}
	return NotAllowedIDs(ids, allow, deny), nil
}

// read reads the lists. use returns an error for one that must not be used yet.
func (f *Files) read(use func(fileOfIDs, *Set, func(before *Set) bool) error) (allow, deny *Set, err error) {
	if f.AllowDesktopsFile != "" {
		file, err := readFile(AllowVariable, f.AllowDesktopsFile)
		if err != nil {
			return nil, nil, err
		}
		allow = Allow(file.ids)
		if err := use(file, allow, allow.within); err != nil {
			return nil, nil, err
		}
	}
	if f.DenyDesktopsFile != "" {
		file, err := readFile(DenyVariable, f.DenyDesktopsFile)
		if err != nil {
			return nil, nil, err
		}
		deny = Deny(file.ids)
		if err := use(file, deny, func(before *Set) bool { return before.within(deny) }); err != nil {
			return nil, nil, err
		}
		f.counted(len(file.ids))
	}
	return allow, deny, nil
}

// show is use for a reader who only describes a list: the first one is described though it was changed a moment ago.
func (f *Files) show(file fileOfIDs, now *Set, asStrict func(before *Set) bool) error {
	f.mu.Lock()
	last := f.used[file.variable]
	f.mu.Unlock()
	if last.list == nil || last.path != file.path {
		return nil
	}
	return f.use(file, now, asStrict)
}

// use returns an error for a list that must not be used yet. asStrict reports whether it allows no more than another.
func (f *Files) use(file fileOfIDs, now *Set, asStrict func(before *Set) bool) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.used == nil {
		f.used = map[string]usedList{}
	}
	last, why := f.used[file.variable], ""
	if last.path != file.path {
		last = usedList{path: file.path}
	}
	switch {
	case last.list == nil && time.Since(file.changed) < settle:
		why = "it was changed a moment ago"
	case last.list != nil && !asStrict(last.list):
		why = "it allows more desktops than before"
	}
	if why != "" {
		if last.next == nil || !last.next.within(now) || !now.within(last.next) {
			last.next, last.since = now, time.Now()
			f.used[file.variable] = last
		}
		if time.Since(last.since) < settle {
			return &FileError{file.variable, file.path, fmt.Errorf("%s, and may be half written: it is used once it has been unchanged for %v",
				why, settle)}
		}
	}
	f.used[file.variable] = usedList{path: file.path, list: now}
	return nil
}

// counted records the size of the deny list, and logs when it has become empty.
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

// FileError is the error of a list that cannot be read.
type FileError struct {
	Variable string // the variable that names the file
	Path     string
	Err      error // a *LineError if a line is wrong
}

func (e *FileError) Error() string { return e.Variable + ": " + e.Path + ": " + e.Err.Error() }
func (e *FileError) Unwrap() error { return e.Err }

// Redacted returns the error without content of the file: for pages that show no ids.
func (e *FileError) Redacted() string {
	if line, ok := errors.AsType[*LineError](e.Err); ok {
		return fmt.Sprintf("%s: %s: line %d cannot be read; recompose config shows why", e.Variable, e.Path, line.Line)
	}
	return e.Error()
}

// fileOfIDs is what was read of a file.
type fileOfIDs struct {
	variable, path string
	ids            []string
	changed        time.Time // zero for a pipe
}

func readFile(variable, path string) (fileOfIDs, error) {
	read, err := fileOfIDs{variable: variable, path: path}, rereadable(path)
	if err == nil {
		err = read.read()
	}
	if failed, ok := errors.AsType[*os.PathError](err); ok {
		err = failed.Err // the message names the path already
	}
	if err != nil {
		return read, &FileError{variable, path, err}
	}
	return read, nil
}

func (f *fileOfIDs) read() error {
	file, err := os.Open(f.path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }() // opened for reading
	if f.ids, err = ReadIDs(file); err != nil {
		return err
	}
	info, err := file.Stat() // after the reading: a change during it counts
	if err == nil && info.Mode().IsRegular() {
		f.changed = info.ModTime()
	}
	return err
}

// Problems returns the errors of the files, at most one for each. It blocks only while files are read. It does not
// read a pipe, because the content of a pipe can be read only once.
func (f *Files) Problems() []*FileError {
	var problems []*FileError
	for _, file := range [][2]string{{AllowVariable, f.AllowDesktopsFile}, {DenyVariable, f.DenyDesktopsFile}} {
		if file[1] == "" {
			continue
		}
		err := error(nil)
		if !isStream(file[1]) {
			_, err = readFile(file[0], file[1])
		} else if why := rereadable(file[1]); why != nil {
			err = &FileError{file[0], file[1], why}
		}
		if problem, ok := errors.AsType[*FileError](err); ok {
			problems = append(problems, problem)
		}
	}
	return problems
}

// Describe returns one line about the desktops that the files allow. A *FileError means that nothing may be written.
// It blocks like Problems.
func (f *Files) Describe() (string, error) {
	for _, file := range [][2]string{{AllowVariable, f.AllowDesktopsFile}, {DenyVariable, f.DenyDesktopsFile}} {
		if err := rereadable(file[1]); err != nil {
			return "", &FileError{file[0], file[1], err}
		}
	}
	if f.AllowDesktopsFile == "" && isStream(f.DenyDesktopsFile) {
		return fmt.Sprintf("%s, except those of the deny list %s, which is read before each write", AllAllowed, f.DenyDesktopsFile), nil
	}
	if isStream(f.AllowDesktopsFile) || isStream(f.DenyDesktopsFile) {
		return fmt.Sprintf("the lists are read before each write: allow %q, deny %q", f.AllowDesktopsFile, f.DenyDesktopsFile), nil
	}
	allow, deny, err := f.read(f.show)
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

// isStream reports whether a path names something that can be read only once, or that never ends.
func isStream(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeCharDevice) != 0
}

// rereadable returns an error for a file that cannot be read before each write: a device, a socket, or a pipe of the
// shell such as <(cmd), which has its content once and is an empty list from then on.
func rereadable(path string) error {
	info, _ := os.Stat(path) // opening the file returns the error
	if info == nil || info.Mode()&(os.ModeNamedPipe|os.ModeSocket|os.ModeDevice|os.ModeCharDevice) == 0 {
		return nil
	}
	target, err := filepath.EvalSymlinks(path)
	lasting := err == nil && info.Mode()&os.ModeNamedPipe != 0 && !strings.HasPrefix(target, "/dev/") && !strings.HasPrefix(target, "/proc/")
	if !lasting {
		return errors.New("must be a file that can be read before each write, not a device or a pipe of the shell")
	}
	return nil
}
