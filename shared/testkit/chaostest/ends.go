package chaostest

import "recompose/events"

// EndsOf are the end events by command, each once. A job's end is that of the command behind it.
func EndsOf(said []events.Envelope) map[string][]events.Envelope {
	accepted := map[string]string{} // id of job.accepted → command
	for _, e := range said {
		if e.Type == events.TypeJobAccepted {
			accepted[e.ID] = e.Causation
		}
	}
	ends, seen := map[string][]events.Envelope{}, map[string]bool{}
	for _, e := range said {
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

// Open are the chains of these commands that have not ended, and what they wait for.
func Open(said []events.Envelope, roots []string) map[string][]events.Pending {
	byChain, open := map[string][]events.Envelope{}, map[string][]events.Pending{}
	for _, e := range said {
		byChain[e.Correlation] = append(byChain[e.Correlation], e)
	}
	for _, root := range roots {
		if pending := events.Open(events.Root{ID: root}, byChain[root]); len(pending) > 0 {
			open[root] = pending
		}
	}
	return open
}
