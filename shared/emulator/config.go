package emulator

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"math"
	"math/rand/v2"
	"strings"
	"time"
)

// The default credentials of [Options]. They are made up.
const (
	DefaultAccessKey   = "EMULATORACCESSKEY001"
	DefaultSecretKey   = "emulator-secret-key-not-a-real-one-0001"
	DefaultProjectID   = "e0e0e0e0e0e0e0e0e0e0e0e0e0e0e001"
	DefaultIAMUser     = "emulator-user"
	DefaultIAMPassword = "emulator-password"
	DefaultIAMDomain   = "emulator-domain"
)

// Options are the settings of a [Server]. The zero value works.
type Options struct {
	// AccessKey, SecretKey and ProjectID are what callers must use; each has a default.
	AccessKey, SecretKey, ProjectID string
	// SecurityToken, if set, is required with every signed request, as with temporary credentials.
	SecurityToken string
	// Tokens are accepted as X-Auth-Token, in addition to those that the token call issues, and never expire.
	Tokens []string
	// IAMUser, IAMPassword and IAMDomain are what the token call accepts.
	IAMUser, IAMPassword, IAMDomain string
	// TokenLifetime is how long an issued token is valid, 24 h by default.
	TokenLifetime time.Duration
	// Agency serves the metadata of a server with an agency, which issues temporary keys. KeyLifetime is how long a set
	// of them is valid, 24 h by default; the next set is issued when a third of it remains.
	Agency      bool
	KeyLifetime time.Duration
	// Desktops is the size of the generated fleet, 10 by default.
	Desktops int
	// Seed replaces the generated world: a state in the form of GET /_emulator/state.
	Seed []byte
	// Speed divides durations of the service (jobs, delay_time, lags), 1 by default. The clock, signatures, token
	// lifetimes and delays of faults are not scaled.
	Speed float64
	// Pace is what control calls report in their header Recompose-Pace, and workers divide their waits by; Speed by
	// default. Tests set it: workers that poll as fast as jobs pass would only measure the machine.
	Pace float64
	// JobTime is how long a job takes before Speed, the same for all its desktops. Zero: 10 min for a rebuild, 20 min for
	// an image.
	JobTime JobTime
	// SignatureWindow is how far X-Sdk-Date may be off, 15 min by default.
	SignatureWindow time.Duration
	// DataDir keeps everything on disk; "" keeps it in memory. If the folder has data already, Desktops and Seed are
	// ignored.
	DataDir string
	// Now is the clock, time.Now by default. ClockSkew is added to it; positive is ahead. Dates, begin_time and the ages
	// of signatures follow the sum.
	Now       func() time.Time
	ClockSkew time.Duration
	// ReadsPerMinute and WritesPerMinute throttle; 0 is unlimited.
	ReadsPerMinute, WritesPerMinute int
	// Hosts are additional host names that requests may use, besides those of loopback and every IP address.
	Hosts []string
	// JournalSize is how many requests the journal keeps, 10000 by default.
	JournalSize int
	// PartialBatches lets a rebuild continue with the desktops that can be rebuilt. By default one bad desktop refuses
	// the batch.
	PartialBatches bool
	// Log receives internal errors; they are discarded by default.
	Log *slog.Logger
}

// JobTime is the range of times that jobs take: each job takes a random one of it.
type JobTime struct{ Least, Most time.Duration }

// ParseJobTime reads one duration, or two with ".." between them: 10m, 3m..60m.
func ParseJobTime(text string) (JobTime, error) {
	least, most, isRange := strings.Cut(text, "..")
	if !isRange {
		most = least
	}
	var t JobTime
	var err, errMost error
	t.Least, err = time.ParseDuration(least)
	t.Most, errMost = time.ParseDuration(most)
	if err != nil || errMost != nil || t.Least <= 0 || t.Most < t.Least {
		return JobTime{}, fmt.Errorf("must be a duration or a range such as 3m..60m, more than 0; got %q", text)
	}
	return t, nil
}

// of is how long the next job takes; usual unless a range is set.
func (t JobTime) of(usual time.Duration) time.Duration {
	if t == (JobTime{}) {
		return usual
	}
	return t.Least + rand.N(t.Most-t.Least+1) //nolint:gosec // how long a job takes is no secret
}

// complete sets the defaults and checks the values.
func (c *Options) complete() error {
	c.AccessKey = cmp.Or(c.AccessKey, DefaultAccessKey)
	c.SecretKey = cmp.Or(c.SecretKey, DefaultSecretKey)
	c.ProjectID = cmp.Or(c.ProjectID, DefaultProjectID)
	c.IAMUser = cmp.Or(c.IAMUser, DefaultIAMUser)
	c.IAMPassword = cmp.Or(c.IAMPassword, DefaultIAMPassword)
	c.IAMDomain = cmp.Or(c.IAMDomain, DefaultIAMDomain)
	c.Desktops = cmp.Or(c.Desktops, 10)
	c.Speed = cmp.Or(c.Speed, 1)
	c.Pace = cmp.Or(c.Pace, c.Speed)
	c.TokenLifetime = cmp.Or(c.TokenLifetime, 24*time.Hour)
	c.KeyLifetime = cmp.Or(c.KeyLifetime, 24*time.Hour)
	c.SignatureWindow = cmp.Or(c.SignatureWindow, 15*time.Minute)
	c.JournalSize = cmp.Or(c.JournalSize, 10000)
	c.Log = cmp.Or(c.Log, slog.New(slog.DiscardHandler))
	if c.Now == nil {
		c.Now = time.Now
	}
	switch {
	case c.Desktops < 0:
		return fmt.Errorf("desktops: %d is negative", c.Desktops)
	case !(c.Speed > 0) || math.IsInf(c.Speed, 0):
		return fmt.Errorf("speed: %v is not a positive number", c.Speed)
	case !(c.Pace > 0) || math.IsInf(c.Pace, 0):
		return fmt.Errorf("pace: %v is not a positive number", c.Pace)
	case c.JobTime != (JobTime{}) && (c.JobTime.Least <= 0 || c.JobTime.Most < c.JobTime.Least):
		return fmt.Errorf("job time: %v to %v is no range of positive durations", c.JobTime.Least, c.JobTime.Most)
	case c.SignatureWindow < 0:
		return fmt.Errorf("signature window: %v is negative", c.SignatureWindow)
	case c.TokenLifetime < 0 || c.KeyLifetime < 0:
		return fmt.Errorf("token lifetime %v or key lifetime %v is negative", c.TokenLifetime, c.KeyLifetime)
	case c.JournalSize < 0:
		return fmt.Errorf("journal size: %d is negative", c.JournalSize)
	case c.ReadsPerMinute < 0 || c.WritesPerMinute < 0:
		return errors.New("reads and writes per minute must not be negative")
	}
	return nil
}
