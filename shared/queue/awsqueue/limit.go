package awsqueue

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"

	"recompose/events"
	"recompose/shared/queue"
	"recompose/shared/telemetry/logging"
)

// maxWrite is the largest message of a write. The messages that follow from it repeat its then and must fit on the
// topic; 5,000 ids, the most that a command may have, need less.
const maxWrite = maxPublished - 16*1024

// limited makes a function that refuses a write whose events might not fit on the topic, before it is begun.
func limited(f queue.Function) queue.Function {
	if !f.Writes {
		return f
	}
	handle := f.Handle
	f.Handle = func(ctx context.Context, c queue.Command) ([]queue.Outcome, error) {
		if n := len(c.Envelope.Data); !c.IsReaction() && !c.IsDelayed() && n > maxWrite {
			return nil, queue.Failed(events.KindInvalid, "the data of a %s command may have at most %d bytes behind SQS, or what follows could not be published; got %d", f.Name, maxWrite, n)
		}
		return handle(ctx, c)
	}
	return f
}

// fitting returns an event as it is published, and its message for the topic. An event that is too large is
// shortened, or else replaced by a command.failed with the reason, which answers the same message: a reader that
// waits for an end gets one.
func (h *Handler) fitting(e events.Envelope, r received) (events.Envelope, message, error) {
	m, err := h.stamped(e, r)
	if err != nil || m.size() <= maxPublished {
		return e, m, err
	}
	size := m.size()
	if short, ok := shortened(e); ok {
		if m, err = h.stamped(short, r); err != nil || m.size() <= maxPublished {
			h.log.Warn("an event was shortened for the topic", "type", e.Type, "id", e.ID, logging.KeyCorrelation, e.Correlation, "bytes", size)
			return short, m, err
		}
	}
	h.log.Error("an event is too large for the topic", "type", e.Type, "id", e.ID, logging.KeyCorrelation, e.Correlation, "bytes", size)
	about := cmp.Or(e.Answered(), events.CommandRef{Type: h.fn.BareType(r.delivery.Type), ID: e.Causation})
	failed := events.CommandFailed{
		Command: about, Attempts: 1, Effect: events.EffectNone,
		Error: events.Failure{Kind: events.KindInvalid, ErrorMsg: fmt.Sprintf(
			"%s has %d bytes and a topic accepts %d; use fewer desktops per command", e.Type, size, maxPublished)},
	}
	if h.fn.Writes || e.Type == events.TypeJobAccepted || e.Type == events.TypeJobCompleted {
		failed.Effect, failed.Error.Kind = events.EffectUnknown, events.KindInternal
	}
	instead := e
	instead.ID, instead.Type = events.Derive(e.Identity(), "too large"), events.TypeCommandFailed
	if command, err := events.Decode(r.delivery.Headers, r.delivery.Body, r.delivery.Bare); err == nil {
		failed.DesktopIDs = events.DesktopIDs(command.Data)
	}
	if instead.Data, err = json.Marshal(failed); err != nil {
		return e, m, err
	}
	if m, err = h.stamped(instead, r); err != nil || m.size() <= maxPublished {
		return instead, m, err
	}
	instead, _ = shortened(instead)
	m, err = h.stamped(instead, r)
	return instead, m, err
}

// shortened returns an images.checked with only the ids of each desktop and image, or a command.failed without its
// desktops.
func shortened(e events.Envelope) (events.Envelope, bool) {
	var failed events.CommandFailed
	if e.Type == events.TypeCommandFailed && json.Unmarshal(e.Data, &failed) == nil {
		failed.DesktopIDs = nil
		data, err := json.Marshal(failed)
		e.Data = data
		return e, err == nil
	}
	var checked events.ImagesChecked
	if e.Type != events.TypeImagesChecked || json.Unmarshal(e.Data, &checked) != nil {
		return e, false
	}
	checked.Shortened = true
	for i, raw := range checked.ImageInfos {
		var info events.ImageInfo
		if json.Unmarshal(raw, &info) != nil {
			return e, false
		}
		short, err := json.Marshal(events.ImageInfo{DesktopID: info.DesktopID, ImageID: info.ImageID})
		if err != nil {
			return e, false
		}
		checked.ImageInfos[i] = short
	}
	data, err := json.Marshal(checked)
	if err != nil {
		return e, false
	}
	e.Data = data
	return e, true
}
