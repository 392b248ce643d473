// Package safety decides directly before each write whether it may be sent.
//
// [Safety.Check] examines everything that can delay or refuse a write: the freeze by an operator, a key that the
// service refuses, the service of the deployment, and the lists of desktops. [Operators] are the operators' settings,
// in one item of the deployment's store; [Files] are lists in files; [Key] is the policy for a refused key.
package safety

import (
	"context"
	"fmt"
	"strings"

	"recompose/events"
	"recompose/shared/store"
)

// Reasons why a write waits.
const (
	Frozen       = "frozen"        // by an operator
	KeyRefused   = "key_refused"   // by the service
	OtherService = "other_service" // the deployment works on another service than this worker
	Unreadable   = "unreadable"    // a possible reason to stop cannot be read
)

// Stop is why no write may be sent now. A write waits until the reason is over.
type Stop struct {
	Reason string // one of the reasons above
	Err    error
}

func (s *Stop) Error() string { return s.Err.Error() }
func (s *Stop) Unwrap() error { return s.Err }

// NotAllowed reports that the lists do not allow a write to some desktops. A retry does not help.
type NotAllowed struct{ Desktops []string }

func (n *NotAllowed) Error() string {
	const most = 5
	text := strings.Join(n.Desktops[:min(len(n.Desktops), most)], ", ")
	if len(n.Desktops) > most {
		text += fmt.Sprintf(" and %d more", len(n.Desktops)-most)
	}
	return events.NotAllowedMsg + text
}

// Options of a Safety. The zero value allows everything.
type Options struct {
	Operators *Operators     // the settings of the deployment; nil: none
	Files     *Files         // lists of this worker only; nil: none
	Key       *Key           // in the same store as Operators; nil: a refused key stops nothing
	Service   events.Service // of this worker
}

// Safety decides for one worker. Its methods are safe for concurrent use.
type Safety struct{ o Options }

// New makes a Safety.
func New(o Options) *Safety { return &Safety{o} }

// Check returns nil if a write to these desktops may be sent now. The error is a *NotAllowed by errors.As if the lists
// refuse some of them, and a *Stop if the write must wait. Anything that cannot be read stops writes. Check reads the
// present values: the store in one round trip, the pages of lists if they are new, and the files. It blocks until
// there are answers or ctx ends.
func (s *Safety) Check(ctx context.Context, desktops []string) error {
	state, err := s.stopped(ctx)
	if err != nil {
		return err
	}
	refused, err := s.refused(ctx, state, desktops)
	if err != nil || len(refused) == 0 {
		return err
	}
	return &NotAllowed{refused}
}

// Refused returns the desktops that the lists refuse, in their order, also while writes are stopped. The error is a
// *Stop if a list cannot be read. It blocks like Check.
func (s *Safety) Refused(ctx context.Context, desktops []string) ([]string, error) {
	var state item
	if o := s.o.Operators; o != nil {
		var err error
		if state, err = o.decode(o.Store.GetAll(ctx, o.keys()...)); err != nil {
			return nil, &Stop{Unreadable, fmt.Errorf("read the lists of desktops: %w", err)}
		}
	}
	return s.refused(ctx, state, desktops)
}

func (s *Safety) refused(ctx context.Context, state item, desktops []string) ([]string, error) {
	var allow, deny *Set
	if s.o.Operators != nil {
		var err error
		if allow, deny, err = s.o.Operators.sets(ctx, state); err != nil {
			return nil, &Stop{Unreadable, err}
		}
	}
	denied := map[string]bool{}
	for _, id := range NotAllowedIDs(desktops, allow, deny) {
		denied[id] = true
	}
	if s.o.Files != nil {
		some, err := s.o.Files.Refused(desktops)
		if err != nil {
			return nil, &Stop{Unreadable, err}
		}
		for _, id := range some {
			denied[id] = true
		}
	}
	var refused []string
	for _, id := range desktops {
		if denied[id] {
			refused = append(refused, id)
		}
	}
	return refused, nil
}

// Stopped is Check without the lists, which need not be read while no write can be sent: it returns a *Stop, or nil.
func (s *Safety) Stopped(ctx context.Context) error {
	_, err := s.stopped(ctx)
	return err
}

func (s *Safety) stopped(ctx context.Context) (state item, err error) {
	key, set := s.read(ctx)
	if s.o.Key != nil {
		refusal, err := s.o.Key.place.refusalOf(key)
		if err != nil {
			return state, &Stop{Unreadable, fmt.Errorf("read whether the service refuses the key: %w", err)}
		}
		if refusal != nil {
			return state, &Stop{KeyRefused, refusal}
		}
	}
	if s.o.Operators == nil {
		return state, nil
	}
	if state, err = s.o.Operators.decode(set); err != nil {
		return state, &Stop{Unreadable, fmt.Errorf("read whether writes are frozen: %w", err)}
	}
	if f := state.freeze(); f != nil {
		return state, &Stop{Frozen, fmt.Errorf("writes are frozen by %s: %s", f.By, f.Reason)}
	}
	return state, s.otherService(state)
}

// read reads the state of the key and the operators' settings, in one round trip.
func (s *Safety) read(ctx context.Context) (key store.Value, set []store.Value) {
	switch k, o := s.o.Key, s.o.Operators; {
	case o == nil && k == nil:
		return key, nil
	case o == nil:
		return get(ctx, k.place, k.place.key), nil
	case k == nil:
		return key, o.Store.GetAll(ctx, o.keys()...)
	default:
		values := o.Store.GetAll(ctx, append([]string{k.place.key}, o.keys()...)...)
		return values[0], values[1:]
	}
}

// SameService returns a *Stop while the deployment works on another service than this worker, or while that cannot be
// read: the jobs that this worker reads then belong to another service. It blocks like Check.
func (s *Safety) SameService(ctx context.Context) error {
	if s.o.Operators == nil {
		return nil
	}
	state, _, err := s.o.Operators.read(ctx)
	if err != nil {
		return &Stop{Unreadable, fmt.Errorf("read whether the deployment works on another service: %w", err)}
	}
	return s.otherService(state)
}

func (s *Safety) otherService(state item) error {
	if state.Service == nil || *state.Service == s.o.Service {
		return nil
	}
	return &Stop{OtherService, fmt.Errorf("the deployment works on %s, and this worker on %s: stop this worker, "+
		"or change the deployment's service with recompose setup --accept-service", state.Service.Name(), s.o.Service.Name())}
}

// Frozen returns the freeze in force; nil if there is none. It blocks like Check.
func (s *Safety) Frozen(ctx context.Context) (*Freeze, error) {
	if s.o.Operators == nil {
		return nil, nil
	}
	return s.o.Operators.Frozen(ctx)
}

// Describe returns one line about the desktops that the lists allow. The error is a *FileError by errors.As if a file
// cannot be read: then nothing may be written. It blocks like Check.
func (s *Safety) Describe(ctx context.Context) (string, error) {
	text, set := AllAllowed, false
	if s.o.Files != nil {
		described, err := s.o.Files.Describe()
		if err != nil {
			return "", err
		}
		text, set = described, described != AllAllowed
	}
	if s.o.Operators == nil {
		return text, nil
	}
	state, _, err := s.o.Operators.read(ctx)
	if err != nil {
		return "", fmt.Errorf("the lists of desktops: %w", err)
	}
	allow, deny, err := s.o.Operators.sets(ctx, s.o.Operators.readOlder(ctx, state))
	if err != nil {
		return "", err
	}
	var lists []string
	if allow != nil {
		lists = append(lists, fmt.Sprintf("only those of the deployment's allow list (%d)", len(allow.ids)))
	}
	if deny != nil {
		lists = append(lists, fmt.Sprintf("none of its deny list (%d)", len(deny.ids)))
	}
	switch own := strings.Join(lists, ", "); {
	case own == "":
		return text, nil
	case set:
		return text + "; and " + own, nil
	default:
		return own + " may be rebuilt", nil
	}
}
