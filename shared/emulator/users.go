package emulator

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// Login words of the API beside those of every desktop.
const (
	loginConnected    = "CONNECTED"
	loginDisconnected = "DISCONNECTED"
)

// User lets users log in or off. Without At and AfterCall it happens at once. A step that the login state of a desktop
// does not allow at that time does not happen: no user can log in while a desktop is rebuilt.
type User struct {
	// DesktopID names one desktop, Every each n-th of the fleet; one of them is given.
	DesktopID string `json:"desktop_id,omitempty"`
	Every     int    `json:"every,omitempty"`
	// At is a time after the control call, in seconds, divided by the speed.
	At float64 `json:"at,omitempty"`
	// AfterCall is one of the Call constants: it happens once, directly after the next answer about this desktop.
	AfterCall string `json:"after_call,omitempty"`
	// LoginStatus is what follows: REGISTERED, CONNECTED, DISCONNECTED or UNREGISTER.
	LoginStatus string `json:"login_status"`
}

// login is a step of one desktop that has not happened yet.
type login struct {
	DesktopID string    `json:"desktop_id"`
	At        time.Time `json:"at,omitzero"`
	AfterCall string    `json:"after_call,omitempty"`
	Status    string    `json:"login_status"`
}

// logins are the steps from each login state.
var logins = map[string][]string{
	loginUnregister:   {loginRegistered},
	loginRegistered:   {loginConnected, loginUnregister},
	loginConnected:    {loginDisconnected, loginRegistered, loginUnregister},
	loginDisconnected: {loginConnected, loginRegistered, loginUnregister},
}

// SetUsers replaces all steps of users that have not happened. If one of them could never happen, the error names it
// and nothing changes.
func (s *Server) SetUsers(users []User) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.now()
	s.world.advance(now)
	steps := []login{}
	for i, u := range users {
		ids, err := s.desktopsOf(u.DesktopID, u.Every)
		switch {
		case err != nil:
		case logins[u.LoginStatus] == nil:
			err = fmt.Errorf("login_status %q is not UNREGISTER, REGISTERED, CONNECTED or DISCONNECTED", u.LoginStatus)
		case u.At < 0 || u.At > longest.Seconds():
			err = fmt.Errorf("at: %v seconds are out of range", u.At)
		case u.At > 0 && u.AfterCall != "":
			err = fmt.Errorf("at and after_call: give one of them")
		case u.AfterCall != "" && !slices.Contains(calls, u.AfterCall):
			err = fmt.Errorf("after_call %q is unknown; known are %s", u.AfterCall, strings.Join(calls, ", "))
		}
		if err != nil {
			return fmt.Errorf("users[%d]: %w", i, err)
		}
		for _, id := range ids {
			step := login{DesktopID: id, AfterCall: u.AfterCall, Status: u.LoginStatus}
			if u.AfterCall == "" {
				step.At = now.Add(s.scaled(time.Duration(u.At * float64(time.Second))))
			}
			steps = append(steps, step)
		}
	}
	if err := s.commit(record{Logins: &steps}); err != nil {
		return err
	}
	s.world.advance(now)
	return nil
}

// desktopsOf returns one desktop, or each n-th of the fleet.
func (s *Server) desktopsOf(id string, every int) ([]string, error) {
	switch {
	case (id == "") == (every == 0):
		return nil, fmt.Errorf("desktop_id and every: give one of them")
	case id != "" && s.world.byID[id] == nil:
		return nil, fmt.Errorf("desktop_id: there is no desktop %s", id)
	case id != "":
		return []string{id}, nil
	case every < 0:
		return nil, fmt.Errorf("every: must be at least 1; got %d", every)
	}
	var ids []string
	for i := every - 1; i < len(s.world.desktops); i += every {
		ids = append(ids, s.world.desktops[i].DesktopID)
	}
	return ids, nil
}

// called makes the steps due that follow a call about these desktops, or one that names none and so is about all.
func (w *world) called(call string, ids []string, now time.Time) {
	for i := range w.logins {
		l := &w.logins[i]
		if l.AfterCall != "" && (l.AfterCall == call || l.AfterCall == CallAny) && (len(ids) == 0 || slices.Contains(ids, l.DesktopID)) {
			l.AfterCall, l.At = "", now
		}
	}
}

// nextLogin removes the earliest step that is due at now.
func (w *world) nextLogin(now time.Time) (login, bool) {
	first := -1
	for i, l := range w.logins {
		if l.AfterCall == "" && !l.At.After(now) && (first < 0 || l.At.Before(w.logins[first].At)) {
			first = i
		}
	}
	if first < 0 {
		return login{}, false
	}
	l := w.logins[first]
	w.logins = slices.Delete(w.logins, first, first+1)
	return l, true
}

// step changes the login state of a desktop, if its present one allows that.
func (w *world) step(l login) {
	d := w.byID[l.DesktopID]
	if d != nil && slices.Contains(logins[d.view(l.At).LoginStatus], l.Status) && d.task(l.At) != typeRebuild {
		d.LoginStatus = l.Status
	}
}

// inUse reports whether a person may work on the desktop, or have left programs open.
func (d *desktop) inUse(now time.Time) bool {
	status := d.view(now).LoginStatus
	return status == loginConnected || status == loginDisconnected
}
