package chaostest

import "recompose/events"

// EndsOf returns the end events by command, each once. The end of a job belongs to the command that started it.
func EndsOf(published []events.Envelope) map[string][]events.Envelope {
	accepted := map[string]string{} // id of job.accepted → command
	for _, e := range published {
		if e.Type == events.TypeJobAccepted {
			accepted[e.ID] = e.Causation
		}
	}
	ends, seen := map[string][]events.Envelope{}, map[string]bool{}
	for _, e := range published {
		if e.Type == events.TypeJobAccepted || events.IsNotice(e.Type) || seen[e.Identity()] {
			continue
		}
		seen[e.Identity()] = true
		about := e.Causation
		if c, ok := accepted[about]; ok {
			about = c
		}
		ends[about] = append(ends[about], e)
	}
	return ends
}

// Open returns the chains of these commands that have not ended, and what they wait for.
func Open(published []events.Envelope, roots []string) map[string][]events.Pending {
	byChain, open := map[string][]events.Envelope{}, map[string][]events.Pending{}
	for _, e := range published {
		byChain[e.Correlation] = append(byChain[e.Correlation], e)
	}
	for _, root := range roots {
		if pending := events.Open(events.Root{ID: root}, byChain[root]); len(pending) > 0 {
			open[root] = pending
		}
	}
	return open
}
