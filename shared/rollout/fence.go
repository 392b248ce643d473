package rollout

import (
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// StaleError is why the command of a batch must not begin: its rollout or batch is not as the command expects.
type StaleError struct{ Reason string }

func (e *StaleError) Error() string { return e.Reason }

// MayStart decides directly before the call of a batch whether it may still begin. head is the record under the
// rollout's HeadKey, nil if there is none; attribute is the attribute rollout of the command. The error is a *StaleError
// by errors.As if the batch must not begin, now or later; any other error means that the head cannot be read.
func MayStart(head []byte, attribute string) error {
	stale := func(format string, args ...any) error { return &StaleError{fmt.Sprintf(format, args...)} }
	name, plan, batch, attempt, ok := ParseAttribute(attribute)
	if !ok {
		return stale("%q is not name/plan/batch/attempt", attribute)
	}
	if head == nil {
		return stale("there is no rollout %s", name)
	}
	var now struct {
		Name  string `json:"name"`
		Phase string `json:"phase"`
		Plan  int    `json:"plan"`
		Open  map[string]struct {
			Attempt int    `json:"attempt"`
			State   string `json:"state"`
		} `json:"open"`
	}
	if err := json.Unmarshal(head, &now); err != nil {
		return fmt.Errorf("the head of rollout %s: %w", name, err)
	}
	if now.Name != name {
		return fmt.Errorf("the head of rollout %s is that of %q", name, now.Name)
	}
	open, is := now.Open[strconv.Itoa(batch)]
	switch {
	case now.Phase != Running && now.Phase != RollingBack:
		return stale("rollout %s is %s", name, now.Phase)
	case now.Plan != plan:
		return stale("the command is of plan %d of rollout %s, and plan %d is in force", plan, name, now.Plan)
	case !is:
		return stale("batch %d of rollout %s is not open", batch, name)
	case open.Attempt != attempt:
		return stale("the command is attempt %d of batch %d of rollout %s, which is at attempt %d", attempt, batch, name, open.Attempt)
	case open.State != Sent:
		return stale("batch %d of rollout %s is %s", batch, name, open.State)
	}
	return nil
}

// ClaimPart is the part of the claims that has a desktop.
func ClaimPart(desktopID string) byte { return sha256.Sum256([]byte(desktopID))[0] }

// ParseAttribute reads the attribute rollout; false if it is none.
func ParseAttribute(text string) (name string, plan, batch, attempt int, ok bool) {
	parts := strings.Split(text, "/")
	if len(parts) != 4 || !nameForm.MatchString(parts[0]) {
		return "", 0, 0, 0, false
	}
	var numbers [3]int
	for i, p := range parts[1:] {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 || p != strconv.Itoa(n) {
			return "", 0, 0, 0, false
		}
		numbers[i] = n
	}
	return parts[0], numbers[0], numbers[1], numbers[2], true
}

var nameForm = regexp.MustCompile(`^[a-z0-9-]{1,40}$`)

// ClaimKeys are the keys of the records that can have claims of these desktops, each once.
func ClaimKeys(desktopIDs []string) []string {
	keys := make([]string, 0, len(desktopIDs))
	for _, id := range desktopIDs {
		keys = append(keys, ClaimKey(ClaimPart(id)))
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// HeldText describes desktops that a rollout has claimed, and what a person can do about it.
func HeldText(name string, desktopIDs []string) string {
	const most = 5
	text := strings.Join(desktopIDs[:min(len(desktopIDs), most)], ", ")
	if more := len(desktopIDs) - most; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return fmt.Sprintf("rollout %s holds %s: take them out with recompose rollout exclude, end it with recompose rollout "+
		"abort, or set override_rollout", name, text)
}
