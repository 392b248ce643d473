package natsqueue

import "time"

// StoreFor sets how long storing a refused result is retried.
func (q *Queue) StoreFor(d time.Duration) { q.storeFor = d }
