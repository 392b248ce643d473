package rollout

func (a Amount) Of(n int) int {
	if a.IsShare {
		return int(float64(n) * a.Percent / 100)
	}
	return a.Number
}
