package main

import (
	"bytes"
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"io"
	"net/http"
	"time"

	"recompose/events"
	"recompose/shared/workspace"
)

// Credentials and project of the stub service.
const (
	accessKey, secretKey = "BENCHBENCHBENCHBENCH", "benchbenchbenchbenchbenchbenchbenchbench"
	project              = "0123456789abcdef0123456789abcdef"
)

// peer is what a bare loop or Watermill does for each message: decode the command, make the product's own signed call,
// and make the event. It is written as an engineer would write it without a library of ours.
type peer struct {
	nats, service, function string
	concurrency             int
	variant                 string
	http                    *http.Client
	auth                    workspace.AKSK
}

func newPeer(args []string) (*peer, error) {
	p := &peer{auth: workspace.AKSK{AccessKey: accessKey, SecretKey: secretKey}}
	flags := flag.NewFlagSet("peer", flag.ContinueOnError)
	flags.StringVar(&p.nats, "nats", "", "URL of the NATS server")
	flags.StringVar(&p.service, "service", "", "URL of the stub service")
	flags.StringVar(&p.function, "function", "", "the function whose job to do")
	flags.StringVar(&p.variant, "variant", "", "of the peer")
	flags.IntVar(&p.concurrency, "concurrency", 1, "messages at a time")
	err := flags.Parse(args)
	p.http = &http.Client{Transport: &http.Transport{MaxIdleConns: p.concurrency, MaxIdleConnsPerHost: p.concurrency}}
	return p, err
}

// wire is a CloudEvents envelope.
type wire struct {
	SpecVersion string          `json:"specversion"`
	ID          string          `json:"id"`
	Source      string          `json:"source"`
	Type        string          `json:"type"`
	Time        time.Time       `json:"time"`
	ContentType string          `json:"datacontenttype"`
	Correlation string          `json:"correlationid"`
	Causation   string          `json:"causationid,omitempty"`
	Data        json.RawMessage `json:"data"`
}

// command is a decoded command.
type command struct {
	wire
	data struct {
		DesktopID  string   `json:"desktop_id"`
		DesktopIDs []string `json:"desktop_ids"`
		ImageType  string   `json:"image_type"`
		ImageID    string   `json:"image_id"`
	}
}

func decode(body []byte) (*command, error) {
	c := &command{}
	if err := json.Unmarshal(body, &c.wire); err != nil {
		return nil, err
	}
	return c, json.Unmarshal(c.Data, &c.data)
}

// call makes the call of the function.
func (p *peer) call(ctx context.Context, c *command) ([]byte, error) {
	method, path := http.MethodPost, "/v2/"+project+"/desktops/"
	var body []byte
	var err error
	switch p.function {
	case events.FnGetDesktop:
		method, path = http.MethodGet, path+c.data.DesktopID
	case events.FnCheckImages:
		path += "check-images"
		body, err = json.Marshal(map[string]any{"desktop_ids": c.data.DesktopIDs})
	default:
		path += "rebuild"
		body, err = json.Marshal(map[string]any{
			"desktop_ids": c.data.DesktopIDs, "image_type": c.data.ImageType, "image_id": c.data.ImageID,
		})
	}
	if err != nil {
		return nil, err
	}
	r, err := http.NewRequestWithContext(ctx, method, p.service+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Content-Type", "application/json")
	r.Header.Set("X-Project-Id", project)
	if err := p.auth.Apply(ctx, r, body, time.Now()); err != nil {
		return nil, err
	}
	answer, err := p.http.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = answer.Body.Close() }()
	content, err := io.ReadAll(answer.Body)
	if err == nil && answer.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %s", answer.Status)
	}
	return content, err
}

// event makes the event of an answer.
func (p *peer) event(c *command, answer []byte) (body []byte, id string, err error) {
	var read map[string]json.RawMessage
	if err := json.Unmarshal(answer, &read); err != nil {
		return nil, "", err
	}
	read["command"], err = json.Marshal(events.CommandRef{Type: c.Type, ID: c.ID, Source: c.Source})
	if err != nil {
		return nil, "", err
	}
	data, err := json.Marshal(read)
	if err != nil {
		return nil, "", err
	}
	id = events.Derive(events.Identity(c.Source, c.ID), "end")
	body, err = json.Marshal(wire{
		SpecVersion: "1.0", ID: id, Source: "recompose/" + p.function, Type: endOf(p.function), Time: time.Now().UTC(),
		ContentType: "application/json", Correlation: c.Correlation, Causation: c.ID, Data: data,
	})
	return body, id, err
}

// endOf is the type of the event that a function publishes.
func endOf(function string) string {
	switch function {
	case events.FnGetDesktop:
		return events.TypeDesktopDescribed
	case events.FnCheckImages:
		return events.TypeImagesChecked
	}
	return events.TypeJobAccepted
}
