package workspace

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// stable checks that an object that was read and written once no longer changes.
func stable[T any](t *testing.T, v T) {
	t.Helper()
	first, err := encodeObject(v)
	if err != nil {
		t.Fatalf("cannot be written: %v", err)
	}
	var reread T
	if err := decodeObject(first, &reread); err != nil {
		t.Fatalf("%s cannot be read back: %v", first, err)
	}
	second, err := encodeObject(reread)
	if err != nil || string(first) != string(second) {
		t.Fatalf("written once  %s\nwritten twice %s (%v)", first, second, err)
	}
	if !utf8.Valid(first) {
		t.Fatalf("%q is not UTF-8", first)
	}
}

// odd are seed bodies for every decoder.
var odd = []string{
	``, `{}`, `null`, `[]`, `""`, `7`, `{`, `<html>`, `{"error_code":"WKS.0001","error_msg":"m"}`, `{"a":1,"a":2}`, "\xff", `{"\ud800":"\ud800"}`,
	`{"desktop":[]}`, `{"jobs":null,"images":null,"image_infos":null,"total_count":null}`, `{"job_id":7,"error_code":1}`,
	`{"jobs":[null,{"id":1,"process":1e2,"begin_time":0,"entities":[{}],"x":{"b":[{}],"a":1e400}}],"total_count":"2"}`,
	`{"images":{"id":"a","min_ram":"x","created_at":"2022-01-21 06:57:47"},"total_count":-1}`,
	`{"desktop":{"addresses":{"a":{"addr":1}},"metadata":{"a":{"b":null}},"flavor":[{"links":[{"href":1,"hrel":{}}]}],"process":1e300}}`,
	`{"id":"j","sub_jobs":[[1]],"sub_jobs_total":9223372036854775807,"end_time":"9999-12-31T23:59:59.999999999-12:00"}`,
}

func seed(f *testing.F, names ...string) {
	f.Helper()
	for _, name := range names {
		f.Add([]byte(vendor(f, name)))
	}
	for _, body := range odd {
		f.Add([]byte(body))
	}
}

func FuzzDesktop(f *testing.F) {
	seed(f, "get-desktop")
	for _, body := range copied() {
		f.Add([]byte(body))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		requireSameDesktop(t, body)
		d, err := decodeDesktop(body, testDesktop)
		if err != nil {
			return
		}
		stable(t, d)
		_, _, _ = d.State(), d.HasTask(), d.LogValue()
	})
}

func FuzzCheckImages(f *testing.F) {
	seed(f, "check-images")
	f.Fuzz(func(t *testing.T, body []byte) {
		if described, ok := copyImages(body); ok {
			requireSameImages(t, body, described)
		}
		if infos, err := decodeCheckImages(body); err == nil {
			for _, info := range infos {
				stable(t, info)
			}
		}
	})
}

func FuzzSubJobs(f *testing.F) {
	seed(f)
	f.Add([]byte(subJobsBody))
	f.Fuzz(func(t *testing.T, body []byte) {
		p, err := decodeSubJobs(body)
		if err != nil {
			return
		}
		if len(p.items) > p.size {
			t.Fatalf("%d items of %d", len(p.items), p.size)
		}
		for _, sub := range p.items {
			stable(t, sub)
		}
		for _, job := range p.items {
			_, _, _ = job.State(), job.IsRebuild(), job.LogValue()
		}
	})
}

func FuzzImages(f *testing.F) {
	seed(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		if p, err := decodeImages(body); err == nil {
			for _, image := range p.items {
				stable(t, image)
			}
		}
	})
}

func FuzzAccepted(f *testing.F) {
	seed(f, "rebuild", "desktop-to-image")
	f.Fuzz(func(t *testing.T, body []byte) {
		if jobID, err := decodeAccepted(body); (err == nil) != (strings.TrimSpace(jobID) != "") {
			t.Fatalf("job id %q and %v", jobID, err)
		}
	})
}

func FuzzErrorEnvelope(f *testing.F) {
	seed(f)
	c, err := New(Options{Endpoint: "https://h", ProjectID: "p", Auth: Token("secret-token"), ReadsPerMinute: -1, WritesPerMinute: -1, SignatureWindow: testWindow})
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(`{"error_msg":"x-auth-token:secret-token|"}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		e := c.newError("rebuild", 500, body, testTime, "", nil)
		text := e.Error()
		if strings.ContainsAny(text, "\n\r\x1b\x00") || !utf8.ValidString(text) {
			t.Fatalf("%q is not safe to print", text)
		}
		if strings.Contains(text, "secret-token") {
			t.Fatal("a secret was kept")
		}
	})
}

func FuzzTime(f *testing.F) {
	for _, raw := range []string{"2022-01-21T06:57:47.459Z", "2022-01-21 06:57:47", "", "x", "2022-01-21T14:57:47,5+08:00"} {
		f.Add(raw)
	}
	f.Fuzz(func(t *testing.T, raw string) {
		if got := ParseTime(raw); got.Raw != raw {
			t.Fatalf("%q kept as %q", raw, got.Raw)
		}
		stable(t, struct {
			Time Time `json:"time"`
		}{ParseTime(raw)})
	})
}

func BenchmarkDecodeDesktop(b *testing.B) {
	body := []byte(vendor(b, "get-desktop"))
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	for b.Loop() {
		if _, err := decodeDesktop(body, testDesktop); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkEncodeDesktop(b *testing.B) {
	d, err := decodeDesktop([]byte(vendor(b, "get-desktop")), testDesktop)
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if _, err := encodeObject(d); err != nil {
			b.Fatal(err)
		}
	}
}
