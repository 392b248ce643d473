package rollout

import "time"

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
