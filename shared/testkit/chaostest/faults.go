package chaostest

import (
	"math/rand/v2"
	"time"

	"recompose/shared/emulator"
)

// Between returns a random duration between two others.
func Between(rnd *rand.Rand, least, most time.Duration) time.Duration {
	return least + time.Duration(rnd.Int64N(int64(most-least)))
}

// SlowWrites delays the answers to accepted writes, long enough for other faults to happen in the meantime.
func SlowWrites(rnd *rand.Rand, window time.Duration) []emulator.Fault {
	return []emulator.Fault{
		{Call: emulator.CallRebuild, Times: 4, Do: emulator.Do{Delay: Between(rnd, time.Second, window)}},
		{Call: emulator.CallDesktopToImage, Times: 2, Do: emulator.Do{Delay: Between(rnd, time.Second, window)}},
	}
}

// Kind makes a fault of one kind.
type Kind func(rnd *rand.Rand) emulator.Fault

// FalseRefusals are answers to an accepted write that look like refusals: a gateway that loses the first answer and
// delivers the write a second time, and a 200 with an error_code.
func FalseRefusals() []Kind {
	twice := func(rnd *rand.Rand) emulator.Fault {
		return emulator.Fault{Call: write(rnd), Do: emulator.Do{Quirk: "deliver-twice"}}
	}
	taken := func(rnd *rand.Rand) emulator.Fault {
		return emulator.Fault{Call: write(rnd), Do: emulator.Do{Quirk: "taken-200-error"}}
	}
	return []Kind{twice, twice, taken}
}

func write(rnd *rand.Rand) string {
	if rnd.IntN(3) == 0 {
		return emulator.CallDesktopToImage
	}
	return emulator.CallRebuild
}

// Faults returns up to four faults, each for a few calls, of the usual kinds and the given ones. Slow ones take up to
// half of the signature window.
func Faults(rnd *rand.Rand, window time.Duration, more ...Kind) []emulator.Fault {
	write := func() string { return write(rnd) }
	reads := []string{emulator.CallCheckImages, emulator.CallGetDesktop, emulator.CallListSubJobs, emulator.CallListImages}
	slow := func() time.Duration { return Between(rnd, 50*time.Millisecond, window/2) }
	kinds := []func() emulator.Fault{
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropAfter}} },
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropBefore}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Drop: emulator.DropAfter, Delay: slow()}}
		},
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Delay: slow()}} },
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Delay: slow()}} },
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Status: []int{500, 502, 503, 504}[rnd.IntN(4)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Status: 429, RetryAfter: "1"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "html-502"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "empty-answer"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: write(), Do: emulator.Do{Quirk: "sub-jobs-empty"}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallRebuild, Do: emulator.Do{Quirk: []string{"rebuild-200-error", "rebuild-200-both", "throttled"}[rnd.IntN(3)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallDesktopToImage, Do: emulator.Do{Quirk: "image-200-no-job"}}
		},
		func() emulator.Fault { return emulator.Fault{Call: write(), Do: emulator.Do{Job: emulator.JobFail}} },
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallListSubJobs, Do: emulator.Do{Quirk: []string{"sub-jobs-empty", "job-type-typo", "end-time-while-running"}[rnd.IntN(3)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[rnd.IntN(len(reads))], Do: emulator.Do{Status: []int{500, 503}[rnd.IntN(2)]}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[rnd.IntN(len(reads))], Do: emulator.Do{Drop: emulator.DropBefore}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: reads[rnd.IntN(len(reads))], Do: emulator.Do{Delay: slow()}}
		},
		func() emulator.Fault {
			return emulator.Fault{Call: emulator.CallGetDesktop, Do: emulator.Do{Quirk: []string{"desktop-array", "task-status-null", "times-without-zone", "status-lower-case"}[rnd.IntN(4)]}}
		},
	}
	for _, kind := range more {
		kinds = append(kinds, func() emulator.Fault { return kind(rnd) })
	}
	var faults []emulator.Fault
	for range 1 + rnd.IntN(4) {
		f := kinds[rnd.IntN(len(kinds))]()
		f.Skip, f.Times = rnd.IntN(3), 1+rnd.IntN(6)
		faults = append(faults, f)
	}
	return faults
}
