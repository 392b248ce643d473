// Command bench measures the message path of recompose against peers that do the same job: bare loops on nats.go, and
// Watermill. Server, stub service and worker are processes of their own. Each round runs all peers in turn, and only
// ratios of passes of one round are compared: the machine may be loaded by others.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"time"
)

// settings are those of one run.
type settings struct {
	worker   string // the program recompose
	messages int    // of a pass
	rounds   int
	latency  time.Duration // how long a pass at a constant rate lasts; 0: none
	rate     int           // messages a second of that pass
	only     string        // a part of the name of the scenarios to run
	peers    string        // the names of the peers to run, by comma; "": all
	pprof    string        // address of the worker's profiles
	json     string
	short    bool
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	if len(args) > 0 {
		switch args[0] {
		case "server":
			return serve()
		case "stub":
			return serveStub(ctx, args[1:])
		case "bare":
			return runBare(ctx, args[1:])
		case "watermill":
			return runWatermill(ctx, args[1:])
		}
	}
	var s settings
	flags := flag.NewFlagSet("bench", flag.ContinueOnError)
	flags.StringVar(&s.worker, "worker", "../bin/recompose", "the program recompose")
	flags.IntVar(&s.messages, "messages", 10000, "messages of a pass")
	flags.IntVar(&s.rounds, "rounds", 3, "rounds; each runs all peers in turn")
	flags.DurationVar(&s.latency, "latency", 5*time.Second, "length of a pass at a constant rate; 0: none")
	flags.IntVar(&s.rate, "rate", 2000, "messages a second of a pass at a constant rate")
	flags.StringVar(&s.only, "only", "", "only the scenarios whose name has this text")
	flags.StringVar(&s.peers, "peers", "", "only the peers with these names, by comma; recompose is always one")
	flags.StringVar(&s.pprof, "pprof", "", "loopback address at which the worker serves its profiles")
	flags.StringVar(&s.json, "json", "../bin/bench.json", "the file that all figures are written to")
	flags.BoolVar(&s.short, "short", false, "one small pass of each peer, to prove that the benchmark works")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if s.short {
		s.messages, s.rounds, s.latency, s.rate = 200, 1, 500*time.Millisecond, 200
	}
	if s.messages < 100 || s.rounds < 1 {
		return errors.New("-messages must be at least 100 and -rounds at least 1")
	}
	return measure(ctx, s)
}
