package main

import (
	"errors"

	"recompose/events"
	"recompose/shared/service"
	"recompose/shared/store"
)

// recordedService is the service that the workers of a deployment recorded. If it is not known, it counts as a real
// one.
type recordedService struct {
	events.Service
	unknown string // why it is not known
}

// String returns the first line that `send` prints.
func (b recordedService) String() string {
	if b.unknown != "" {
		return "REAL (" + escape(b.unknown) + ", so it counts as a real service)"
	}
	return escape(b.Service.String())
}

// serviceOf returns the service of a record that was read.
func serviceOf(r service.Record, _ store.Revision, err error) recordedService {
	switch {
	case errors.Is(err, store.ErrNotFound):
		return recordedService{unknown: "no worker has recorded yet which service it works on"}
	case err != nil:
		return recordedService{unknown: err.Error()}
	}
	return recordedService{Service: r.Service}
}
