package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"recompose/events"
)

// product is the name of recompose in tables.
const product = "recompose"

// scenarios are all jobs, with who does them. The first is always recompose, the second the bare loop.
func scenarios(short bool) []scenario {
	reads := []contestant{
		{Name: product}, {Name: "bare", role: "bare"}, {Name: "bare+record", role: "bare", variant: variantRecord},
		{Name: "watermill", role: "watermill", variant: variantPush}, {Name: "watermill-pull", role: "watermill", variant: variantPull},
	}
	writes := []contestant{{Name: product}, {Name: "bare+2writes", role: "bare", variant: variantWrite}}
	if short {
		return []scenario{
			{events.FnGetDesktop, 64, 512, reads}, {events.FnCheckImages, 64, 512, reads[:1]}, {events.FnRebuild, 64, 512, writes},
		}
	}
	var all []scenario
	for _, function := range []string{events.FnGetDesktop, events.FnCheckImages} {
		for _, concurrency := range []int{64, 256} {
			for _, size := range []int{512, 2048} {
				all = append(all, scenario{function, concurrency, size, reads})
			}
		}
	}
	return append(all, scenario{events.FnRebuild, 64, 512, writes})
}

// row has the figures of one contestant in one scenario: the medians of its passes, and recompose's figures against its
// own, as the medians of the ratios of each round.
type row struct {
	Scenario string    `json:"scenario"`
	Peer     string    `json:"peer"`
	Median   figures   `json:"median"`
	Ratio    *figures  `json:"recompose_to_peer,omitempty"`
	Passes   []figures `json:"passes"`
}

// report is what is written as JSON.
type report struct {
	At         time.Time `json:"at"`
	Go         string    `json:"go"`
	Processors int       `json:"processors"`
	Messages   int       `json:"messages"`
	Rounds     int       `json:"rounds"`
	Rate       int       `json:"constant_rate"`
	Rows       []row     `json:"rows"`
}

func measure(ctx context.Context, s settings) error {
	r := report{
		At: time.Now().UTC(), Go: runtime.Version(), Processors: runtime.NumCPU(), Messages: s.messages, Rounds: s.rounds, Rate: s.rate,
	}
	for _, sc := range scenarios(s.short) {
		if !strings.Contains(sc.name(), s.only) {
			continue
		}
		sc.peers = slices.DeleteFunc(slices.Clone(sc.peers), func(c contestant) bool {
			return s.peers != "" && c.Name != product && !slices.Contains(strings.Split(s.peers, ","), c.Name)
		})
		rows, err := compete(ctx, s, sc)
		if err != nil {
			return err
		}
		r.Rows = append(r.Rows, rows...)
	}
	fmt.Fprintln(os.Stderr)
	if err := table(os.Stdout, r); err != nil {
		return err
	}
	raw, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(s.json), 0o750); err != nil {
		return err
	}
	return os.WriteFile(s.json, append(raw, '\n'), 0o600)
}

// compete runs all rounds of a scenario.
func compete(ctx context.Context, s settings, sc scenario) ([]row, error) {
	stub, err := helper(ctx, "stub", "-size", fmt.Sprint(sc.size))
	if err != nil {
		return nil, err
	}
	defer stub.stop()
	rows := make([]row, len(sc.peers))
	for round := range s.rounds {
		for i := range sc.peers {
			at := (i + round) % len(sc.peers) // another one begins each round
			p := &pass{settings: s, scenario: sc, who: sc.peers[at], stub: stub}
			if sc.function == events.FnRebuild {
				p.latency = 0
			}
			f, err := p.run(ctx)
			if err != nil {
				return nil, fmt.Errorf("%s of %s: %w", p.who.Name, sc.name(), err)
			}
			rows[at].Passes = append(rows[at].Passes, f)
			fmt.Fprintf(os.Stderr, "round %d  %-24s %-15s %6.0f/s %6.1f µs %5.1f MiB  p50 %.1f ms  p99 %.1f ms\n",
				round+1, sc.name(), p.who.Name, f.Rate, f.CPU, f.Memory, f.P50, f.P99)
		}
	}
	for i, who := range sc.peers {
		rows[i].Scenario, rows[i].Peer = sc.name(), who.Name
		rows[i].Median = medians(s.rounds, func(n int) figures { return rows[i].Passes[n] })
		if i > 0 {
			ratio := medians(s.rounds, func(n int) figures { return rows[0].Passes[n].over(rows[i].Passes[n]) })
			rows[i].Ratio = &ratio
		}
	}
	return rows, nil
}

// over divides each figure by that of a peer.
func (f figures) over(peer figures) figures {
	divide := func(a, b float64) float64 {
		if b == 0 {
			return 0
		}
		return a / b
	}
	return figures{
		divide(f.Rate, peer.Rate), divide(f.CPU, peer.CPU), divide(f.Memory, peer.Memory), divide(f.P50, peer.P50), divide(f.P99, peer.P99),
	}
}

func medians(n int, of func(int) figures) figures {
	median := func(field func(figures) float64) float64 {
		values := make([]float64, n)
		for i := range values {
			values[i] = field(of(i))
		}
		slices.Sort(values)
		return (values[(n-1)/2] + values[n/2]) / 2
	}
	return figures{
		median(func(f figures) float64 { return f.Rate }), median(func(f figures) float64 { return f.CPU }),
		median(func(f figures) float64 { return f.Memory }), median(func(f figures) float64 { return f.P50 }),
		median(func(f figures) float64 { return f.P99 }),
	}
}

// table writes the medians, with the ratios of recompose to each peer.
func table(to io.Writer, r report) error {
	w := tabwriter.NewWriter(to, 0, 0, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "scenario\tpeer\tmsgs/s\tCPU µs/msg\tMiB\tp50 ms\tp99 ms\trate\tCPU\tp99\t")
	for _, row := range r.Rows {
		m := row.Median
		fmt.Fprintf(w, "%s\t%s\t%.0f\t%.0f\t%.0f\t%.1f\t%.1f\t", row.Scenario, row.Peer, m.Rate, m.CPU, m.Memory, m.P50, m.P99)
		if row.Ratio == nil {
			fmt.Fprintln(w, "\t\t\t")
			continue
		}
		fmt.Fprintf(w, "%.2f\t%.2f\t%.2f\t\n", row.Ratio.Rate, row.Ratio.CPU, row.Ratio.P99)
	}
	fmt.Fprintf(w, "\n")
	if err := w.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintf(to, "The last three columns are recompose over the peer: rate more is better, CPU and p99 less. %d processors, %s, "+
		"%d messages a pass, medians of %d rounds; p50 and p99 at %d messages/s.\n", r.Processors, r.Go, r.Messages, r.Rounds, r.Rate)
	return err
}
