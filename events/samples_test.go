package events_test

import (
	"encoding/json"
	"maps"
	"time"

	"recompose/events"
)

const (
	captured = "21616aa6-061d-4b2f-bd83-b230d7a9a14c"
	first    = "f77db5cd-c020-47d4-bbbe-9b979a38d18c"
	second   = "f77db5cd-c020-47d4-bbbe-9b979a38d18b"
	third    = "a130ab3a-72bf-4b71-baa9-af4987c8e338"
	oldImage = "39efed30-a0db-4520-8134-19a086e14c7e"
	newImage = "b669106a-1395-4f24-92af-d884c227e558"
	project  = "0bec5db98280d2d02fd6c00c2de791ce"
	sender   = "https://ci.example.com/golden-image"
)

// morning is the time of the first sample; the others follow it by minutes.
var morning = time.Date(2026, 2, 10, 6, 0, 0, 0, time.UTC)

func minutes(n int) time.Time { return morning.Add(time.Duration(n) * time.Minute) }

// answering is an event of a function that answers a command or an event.
func answering(cause events.Envelope, function, typ, about string, at time.Time, data any) events.Envelope {
	return events.Envelope{
		ID: events.Derive(cause.Identity(), about), Source: events.Source(function), Type: typ, Time: at,
		Correlation: cause.Correlation, Causation: cause.ID, Data: mustJSON(data),
	}
}

// notice is an event about a command or job that it does not answer.
func notice(about events.Envelope, function, typ string, words []string, at time.Time, data any) events.Envelope {
	e := answering(about, function, typ, "", at, data)
	e.ID, e.Causation = events.Derive(about.Identity(), words...), ""
	return e
}

func command(function, id string, data any) events.Envelope {
	return events.Envelope{
		ID: id, Source: sender, Type: events.CommandType(function), Time: morning, Correlation: id, Data: mustJSON(data),
	}
}

func ref(e events.Envelope) events.CommandRef {
	return events.CommandRef{Type: e.Type, ID: e.ID, Source: e.Source, Digest: e.Digest()}
}

// read is the end of a command that only reads: its id includes the digest, because no ledger record keeps it.
func read(cause events.Envelope, function, typ, about string, at time.Time, data any) events.Envelope {
	e := answering(cause, function, typ, about, at, data)
	e.ID = events.Derive(cause.Identity(), about, cause.Digest())
	return e
}

func mustJSON(v any) json.RawMessage {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return b
}

// implied is the command that an event implies.
func implied(e events.Envelope, function string, data any) events.Envelope {
	c, err := e.Implies(function, data)
	if err != nil {
		panic(err)
	}
	return c
}

// goldenChain is one whole chain: the desktop is captured, the image made, two desktops rebuilt and verified. Events
// only; the commands between them are implied.
func goldenChain() (root events.Envelope, published map[string]events.Envelope) {
	then := &events.Then{Rebuild: &events.ThenRebuild{
		DesktopIDs:     []string{first, second},
		RebuildOptions: events.RebuildOptions{DelayTime: 15, Message: "Your desktop will be rebuilt in 15 minutes. Save your work."},
	}}
	image := events.Image{ImageID: newImage, ImageName: "office-2026-02", ImageType: "private", OSType: "Windows"}
	root = command(events.FnDesktopToImage, "golden-office-2026-02", events.DesktopToImage{
		ImageName: image.ImageName, ImageDescription: "office image of February", DesktopID: captured, ExecuteSysprep: true,
		ImageTags: []events.Tag{{Key: "team", Value: "workplace"}}, EnterpriseProjectID: "0", MaxRAM: "65536", MinRAM: "4096", Then: then,
	})
	root.Expiry = minutes(60)
	published = map[string]events.Envelope{}
	add := func(name string, e events.Envelope) events.Envelope {
		e.Expiry = root.Expiry
		published[name] = e
		return e
	}
	accepted := add("job.accepted.v1", answering(root, events.FnDesktopToImage, events.TypeJobAccepted, "job.accepted", minutes(1), events.JobAccepted{
		Function: events.FnDesktopToImage, Command: ref(root), JobID: "ff8080828c1b4f9a018c1d2e3f4a0001", AcceptedAt: minutes(1),
		Deadline: minutes(121), DesktopIDs: []string{captured}, ImageName: image.ImageName, Then: then,
		RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f001",
	}))
	made := add("job.completed.v1", answering(accepted, events.FnWatchJob, events.TypeJobCompleted, "job.completed", minutes(41), events.JobCompleted{
		Function: events.FnDesktopToImage, Command: ref(root), JobID: "ff8080828c1b4f9a018c1d2e3f4a0001", Outcome: events.Succeeded,
		Image: &image, Then: then,
	}))
	rebuild := implied(made, events.FnRebuild, then.Rebuild.WithImage(image.ImageID, image.ImageType))
	accepted = add("job.accepted.v1.rebuild", answering(rebuild, events.FnRebuild, events.TypeJobAccepted, "job.accepted", minutes(42), events.JobAccepted{
		Function: events.FnRebuild, Command: ref(rebuild), JobID: "ff8080828c1b4f9a018c1d2e3f4a0002", AcceptedAt: minutes(42),
		Deadline: minutes(102), DesktopIDs: []string{first, second}, ImageID: image.ImageID, ImageType: image.ImageType, DelayTime: 15,
		Previous: []events.ImageInfo{
			{DesktopID: first, ImageID: oldImage, ImageName: "office-2026-01", ImageType: "private", OSType: "Windows"},
			{DesktopID: second, ImageType: "market", OSType: "Windows"},
		},
		RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f002",
	}))
	rebuilt := add("job.completed.v1.rebuild", answering(accepted, events.FnWatchJob, events.TypeJobCompleted, "job.completed", minutes(70), events.JobCompleted{
		Function: events.FnRebuild, Command: ref(rebuild), JobID: "ff8080828c1b4f9a018c1d2e3f4a0002", Outcome: events.Succeeded,
		ImageID: image.ImageID, ImageType: image.ImageType,
		Desktops: []events.DesktopResult{{DesktopID: first, Outcome: events.Succeeded}, {DesktopID: second, Outcome: events.Succeeded}},
	}))
	check := implied(rebuilt, events.FnCheckImages, events.CheckImages{DesktopIDs: []string{first, second}})
	add("images.checked.v1.rebuild", read(check, events.FnCheckImages, events.TypeImagesChecked, "images.checked", minutes(72), events.ImagesChecked{
		Command: ref(check), ImageInfos: []json.RawMessage{imageInfo(first, newImage, "office-2026-02"), imageInfo(second, newImage, "office-2026-02")},
		Expected: &events.Expected{ImageID: newImage}, Matched: []string{first, second},
	}))
	return root, published
}

func imageInfo(desktop, image, name string) json.RawMessage {
	return mustJSON(events.ImageInfo{DesktopID: desktop, ImageID: image, ImageName: name, ImageType: "private", OSType: "Windows"})
}

// samples are the golden envelopes by file name without .json: the type, and a variant where there are several.
func samples() map[string]events.Envelope {
	root, published := goldenChain()
	all := map[string]events.Envelope{events.TypeDesktopToImage: root}
	for name, e := range published {
		all["recompose.event."+name] = e
	}
	check := command(events.FnCheckImages, "check-2026-02-10", events.CheckImages{DesktopIDs: []string{first, second}})
	get := command(events.FnGetDesktop, "get-2026-02-10", events.GetDesktop{ProjectID: project, DesktopID: captured})
	get.Subject, get.TraceParent = captured, "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
	rebuild := command(events.FnRebuild, "rebuild-2026-02-10", events.Rebuild{
		DesktopIDs: []string{first, second, third}, ImageType: "gold", ImageID: newImage,
		RebuildOptions: events.RebuildOptions{
			OSType: "Windows", DelayTime: 15, Message: "请保存您的工作", OrderID: "CS2201211457G0PUY", EnterpriseProjectID: "0",
			EncryptType: "ENCRYPTED", KMSID: "0d0466b0-e727-4d9c-b35d-f84bb474a37f", HandleType: "FOR_EXPAND_AND_IDLE", RebuildCurrent: true,
		},
	})
	capture := command(events.FnDesktopToImage, "capture-2026-02-10", events.DesktopToImage{ImageName: "office", DesktopID: captured, IsClearData: true})
	all[events.TypeCheckImages], all[events.TypeGetDesktop], all[events.TypeRebuild] = check, get, rebuild
	all[events.TypeDesktopToImage+".clear_data"] = capture
	all[events.TypeRebuild+".rollout"] = inRollout(rebuild)
	all[events.TypeRebuild+".os_change"] = command(events.FnRebuild, "linux-2026-02-10", events.Rebuild{
		DesktopIDs: []string{first}, ImageType: "private", ImageID: newImage, RebuildOptions: events.RebuildOptions{OSType: "Linux", AllowOSChange: true},
	})
	all[events.TypeRebuild+".override_rollout"] = command(events.FnRebuild, "urgent-2026-02-10", events.Rebuild{
		DesktopIDs: []string{first}, ImageType: "private", ImageID: newImage,
		RebuildOptions: events.RebuildOptions{WhenBusy: events.BusyFails, OverrideRollout: true},
	})

	all[events.TypeImagesChecked] = read(check, events.FnCheckImages, events.TypeImagesChecked, "images.checked", minutes(1), events.ImagesChecked{
		Command: ref(check), ImageInfos: []json.RawMessage{imageInfo(first, oldImage, "office-2026-01")}, Missing: []string{second},
	})
	all[events.TypeDesktopDescribed] = read(get, events.FnGetDesktop, events.TypeDesktopDescribed, "desktop.described", minutes(1), events.DesktopDescribed{
		Command: ref(get), Desktop: json.RawMessage(describedDesktop),
	})
	maps.Copy(all, listSamples())
	maps.Copy(all, rolloutSamples())
	all[events.TypeCommandSplit] = answering(rebuild, events.FnRebuild, events.TypeCommandSplit, "command.split", minutes(1), events.CommandSplit{
		Command: ref(rebuild), Parts: []events.Part{
			part(rebuild, 0, first, second), part(rebuild, 1, third),
		},
	})
	accepted := answering(rebuild, events.FnRebuild, events.TypeJobAccepted, "job.accepted", minutes(1), nil)
	all[events.TypeJobProgress] = notice(accepted, events.FnWatchJob, events.TypeJobProgress, []string{"job.progress", "50"}, minutes(12), events.JobProgress{
		Function: events.FnRebuild, Command: ref(rebuild), JobID: "ff8080828c1b4f9a018c1d2e3f4a0003", Percent: 50,
	})
	all[events.TypeCommandUnclear] = notice(rebuild, events.FnRebuild, events.TypeCommandUnclear, []string{"command.unclear"}, minutes(1), events.CommandUnclear{
		Command: ref(rebuild), DesktopIDs: []string{first, second, third}, Since: minutes(1), NextLook: minutes(3),
		Reason: "no answer from the service within 30s",
	})
	change := events.Derive(events.Identity("recompose/setup", "KRSWG5DFMQ"), "service.accepted")
	all[events.TypeServiceAccepted] = events.Envelope{
		ID: change, Source: "recompose/setup", Type: events.TypeServiceAccepted, Time: morning, Correlation: change, Data: mustJSON(events.ServiceAccepted{
			Service: events.Service{Kind: events.ServiceReal, Host: "workspace.ap-southeast-3.myhuaweicloud.com", Project: project},
			Before:  &events.Service{Kind: events.ServiceEmulator, Project: "lab"}, By: "ada@admin-host",
		}),
	}
	all[events.TypeLedgerAccepted] = events.Envelope{
		ID: "accept-2026-02-10", Source: "recompose/setup", Type: events.TypeLedgerAccepted, Time: morning, Correlation: "accept-2026-02-10",
		Data: mustJSON(events.LedgerAccepted{
			Reason: "bucket RECOMPOSE_LEDGER: its highest sequence is 41 and was 97: it was cut, or is an older copy",
			By:     "ops@admin-1", Previous: "2026-01-05T08:12:44.123456789Z",
		}),
	}
	for name, e := range completedSamples(rebuild, capture) {
		all[events.TypeJobCompleted+"."+name] = e
	}
	maps.Copy(all, failedSamples(rebuild, capture, get))
	return all
}

// part is the part of a rebuild for some of its desktops.
func part(of events.Envelope, index int, desktops ...string) events.Part {
	cmd, err := events.DecodeRebuild(of.Data)
	if err != nil {
		panic(err)
	}
	return events.Part{ID: events.PartID(of.Identity(), index), Digest: events.Digest(cmd.Only(desktops)), DesktopIDs: desktops}
}

func completedSamples(rebuild, capture events.Envelope) map[string]events.Envelope {
	accepted := answering(rebuild, events.FnRebuild, events.TypeJobAccepted, "job.accepted", minutes(1), nil)
	completed := func(c events.JobCompleted) events.Envelope {
		c.Function, c.Command, c.ImageID, c.ImageType = events.FnRebuild, ref(rebuild), newImage, "gold"
		return answering(accepted, events.FnWatchJob, events.TypeJobCompleted, "job.completed", minutes(30), c)
	}
	const job = "ff8080828c1b4f9a018c1d2e3f4a0003"
	nothing := answering(rebuild, events.FnRebuild, events.TypeJobCompleted, "job.completed", minutes(1), events.JobCompleted{
		Function: events.FnRebuild, Command: ref(rebuild), Outcome: events.Succeeded, ImageID: newImage, ImageType: "gold",
		Desktops: []events.DesktopResult{
			{DesktopID: first, Outcome: events.Skipped}, {DesktopID: second, Outcome: events.Skipped}, {DesktopID: third, Outcome: events.Skipped},
		},
	})
	taken := answering(capture, events.FnDesktopToImage, events.TypeJobAccepted, "job.accepted", minutes(1), nil)
	return map[string]events.Envelope{
		"partial": completed(events.JobCompleted{JobID: job, Outcome: events.Partial, Desktops: []events.DesktopResult{
			{DesktopID: first, Outcome: events.Succeeded},
			{DesktopID: second, Outcome: events.Failed, ErrorCode: "WKS.00010304", FailReason: "The desktop failed to be rebuilt.", Message: "rebuild failed"},
			{DesktopID: third, Outcome: events.Missing},
		}}),
		"timed_out": completed(events.JobCompleted{JobID: job, Outcome: events.TimedOut, Desktops: []events.DesktopResult{
			{DesktopID: first, Outcome: events.TimedOut}, {DesktopID: second, Outcome: events.TimedOut}, {DesktopID: third, Outcome: events.Skipped},
		}}),
		"nothing_to_do": nothing,
		"ambiguous_image": answering(taken, events.FnWatchJob, events.TypeJobCompleted, "job.completed", minutes(30), events.JobCompleted{
			Function: events.FnDesktopToImage, Command: ref(capture), JobID: job, Outcome: events.Failed,
			Error: &events.Failure{Kind: events.KindAmbiguousImage, ErrorMsg: "2 new private images have the name office"},
		}),
	}
}

func failedSamples(rebuild, capture, get events.Envelope) map[string]events.Envelope {
	failed := func(cause events.Envelope, function string, f events.CommandFailed) events.Envelope {
		f.Command = ref(cause)
		return answering(cause, function, events.TypeCommandFailed, "command.failed", minutes(2), f)
	}
	refused := func(cause events.Envelope, function string, f events.CommandFailed) events.Envelope {
		e := failed(cause, function, f)
		e.ID = events.Derive(cause.Identity(), "command.failed", cause.Digest())
		return e
	}
	invalid := command(events.FnRebuild, "rebuild-typo", json.RawMessage(`{"desktop_ids":["../x"],"imageId":"`+newImage+`","image_type":"gold"}`))
	_, fault := events.DecodeRebuild(invalid.Data)
	all := []string{first, second, third}
	return map[string]events.Envelope{
		events.TypeCommandFailed: refused(get, events.FnGetDesktop, events.CommandFailed{
			Attempts: 1, DesktopIDs: []string{captured}, Effect: events.EffectNone, Error: events.Failure{
				Kind: events.KindForbidden, HTTPStatus: 403, ErrorCode: "WKS.0003", ErrorMsg: "Policy does not allow workspace:desktops:get to be performed.",
				ErrorDetail: "workspace:desktops:get", EncodedAuthorizationMessage: "XcvhVGRlbmllZA", RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f003",
			},
		}),
		events.TypeCommandFailed + ".invalid": failed(invalid, events.FnRebuild, events.CommandFailed{
			Attempts: 1, Effect: events.EffectNone, Error: events.Failure{Kind: events.KindInvalid, ErrorMsg: fault.Error()},
		}),
		events.TypeCommandFailed + ".id_reused": refused(rebuild, events.FnRebuild, events.CommandFailed{
			Attempts: 1, DesktopIDs: all, Effect: events.EffectNone, Error: events.Failure{
				Kind: events.KindIDReused, ErrorMsg: "id: the id was used before by a command with other data; send new data under a new id",
			},
		}),
		events.TypeCommandFailed + ".unknown_outcome": failed(rebuild, events.FnRebuild, events.CommandFailed{
			Attempts: 5, DesktopIDs: all, Effect: events.EffectUnknown,
			Error: events.Failure{Kind: events.KindUnknownOutcome, ErrorMsg: "it is not known whether the service accepted the call"},
		}),
		events.TypeCommandFailed + ".attempts_used_up": failed(capture, events.FnDesktopToImage, events.CommandFailed{
			Attempts: 1, DesktopIDs: []string{captured}, Effect: events.EffectUnknown,
			DeadLetter: events.Derive(capture.Identity(), "dead", events.FnDesktopToImage, "attempts_used_up"),
			Error:      events.Failure{Kind: events.KindAttemptsUsedUp, ErrorMsg: "5 deliveries ended in a crash or an unexpected error"},
		}),
		events.TypeCommandFailed + ".conflict": failed(rebuild, events.FnRebuild, events.CommandFailed{
			Attempts: 6, DesktopIDs: all, Effect: events.EffectNone, Error: events.Failure{
				Kind: events.KindConflict, HTTPStatus: 409, ErrorCode: "WKS.00010010", ErrorMsg: "Operation conflict.", RequestID: "8b5f9c7ac2a44ab9b3a7a1d5e3c0f004",
			},
		}),
		events.TypeCommandFailed + ".expired": failed(rebuild, events.FnRebuild, events.CommandFailed{
			Attempts: 1, DesktopIDs: all, Effect: events.EffectNone, Error: events.Failure{Kind: events.KindExpired, ErrorMsg: "expirytime passed at 2026-02-10T05:00:00Z"},
		}),
	}
}

// describedDesktop is what the vendor's page answers for a desktop, in the shape in which it is published.
const describedDesktop = `{
	"desktop_id": "21616aa6-061d-4b2f-bd83-b230d7a9a14c", "computer_name": "CHENMIN01",
	"addresses": {"": [
		{"addr": "172.16.253.204", "version": "4", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:2e:41:55", "OS-EXT-IPS:type": "fixed"},
		{"addr": "10.0.9.55", "version": "4", "OS-EXT-IPS-MAC:mac_addr": "fa:16:3e:d5:b3:02", "OS-EXT-IPS:type": "fixed"}
	]},
	"ip_addresses": ["172.16.253.204", "10.0.9.55"], "desktop_type": "DEDICATED",
	"metadata": {
		"image_name": "copy_uos-hjg1", "metering.resourcespeccode": "rs3.large.2.linux", "charging_mode": "0",
		"metering.image_id": "39efed30-a0db-4520-8134-19a086e14c7e", "metering.resourcetype": "1",
		"os_type": "Linux", "os_bit": "64", "desktop_os_version": "20"
	},
	"flavor": {"id": "rs3.large.2", "links": []}, "status": "ACTIVE", "task_status": "",
	"created": "2022-01-21T06:57:47.459Z", "login_status": "REGISTERED", "user_name": "chenmin",
	"product_id": "workspace.k.large2.uosv20pro",
	"root_volume": {
		"type": "SAS", "size": 90, "device": "/dev/vda", "id": "e4406c227a8711ecaf56fa163ed8e03f",
		"volume_id": "91b9457c-ef61-4058-9e82-c86b35f15934", "create_time": "2022-03-28T00:00:00Z", "display_name": "workspace002"
	},
	"availability_zone": "cn-north-5a", "os_version": "20", "sid": "1f60adc1-941c-48b8-b5c8-64948329b7cb",
	"order_id": "CS2201211457G0PUY", "tags": []
}`

// inRollout is a command as a rollout sends it: for a batch, and only for a while.
func inRollout(e events.Envelope) events.Envelope {
	e.ID, e.Source = events.Derive(e.Identity(), "batch"), "recompose/rollout"
	e.Expiry, e.Rollout = e.Time.Add(3*time.Minute), events.RolloutRef{Name: "win11-november", Plan: 1, Batch: 4, Attempt: 1}.String()
	return e
}
