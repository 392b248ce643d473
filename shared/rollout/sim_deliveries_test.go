package rollout

import (
	"encoding/json"
	"time"

	"recompose/events"
)

type delivery struct {
	at    time.Time
	seq   int
	name  string
	e     Event
	retry bool
	do    func()
}

type deliveries []delivery

func (t deliveries) Len() int { return len(t) }
func (t deliveries) Less(i, j int) bool {
	return t[i].at.Before(t[j].at) || t[i].at.Equal(t[j].at) && t[i].seq < t[j].seq
}
func (t deliveries) Swap(i, j int) { t[i], t[j] = t[j], t[i] }
func (t *deliveries) Push(x any)   { *t = append(*t, x.(delivery)) }
func (t *deliveries) Pop() any {
	last := (*t)[len(*t)-1]
	*t = (*t)[:len(*t)-1]
	return last
}

// ending changes the ends of all jobs before they are delivered.
func (w *world) ending(change func(*events.JobCompleted)) {
	w.drop = func(e Event) bool {
		var d events.JobCompleted
		if e.Type != events.TypeJobCompleted || json.Unmarshal(e.Data, &d) != nil {
			return false
		}
		change(&d)
		e.Data, _ = json.Marshal(d)
		w.deliver("r", 0, e, false)
		return true
	}
}
