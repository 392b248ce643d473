package rollout_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"recompose/shared/rollout"
)

// good is a spec with a line for each field that the tests replace.
const good = `name: n
image:
  image_id: i
  image_type: private
targets:
  desktop_ids: [d-1, d-2]
  except: {}
strategy:
  canary: 1
  waves: [10%, 100%]
  max_unavailable: 200
  max_failed: 2%
  soak: 10m
users:
  connected: defer
  then: skip
window:
  days: [sat]
  from: 20:00
  to: 06:00
  timezone: Europe/Berlin
approval: {}
options: {}
`

// broken are rules of a spec: what is replaced in good, and what the error then reports. A spec with all of them is
// broken as well, so no two of them touch the same line.
var broken = []struct{ line, by, want string }{
	{"name: n", "name: Win_11", `line 1: name: must be 1 to 40 of a to z, 0 to 9 and -; got "Win_11"`},
	{"  image_id: i", "  image_id: ../i", `line 3: image.image_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "../i"`},
	{"  image_type: private", "  os_type: " + strings.Repeat("x", 256) + "\n", `line 2: image.image_type: must be given with image_id: gold (public), private or market`},
	{"  desktop_ids: [d-1, d-2]", "  desktop_ids: [d-1, D-1]", `line 6: targets.desktop_ids[1]: is in the list twice (first as [0], letter case apart); name each desktop once; got "D-1"`},
	{"  except: {}", "  except: {desktop_ids: [\"\"]}", `line 7: targets.except.desktop_ids[0]: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got ""`},
	{"  canary: 1", "  canary: -1", `line 9: strategy.canary: must be a whole number from 0 to 2147483647; got -1`},
	{"  waves: [10%, 100%]", "  waves: [50%, 10%, 100%]", `line 10: strategy.waves: must ascend from over 0%: a wave is the share that is done at its end, earlier waves included; got "50%, 10%, 100%"`},
	{"  max_unavailable: 200", "  max_unavailable: 0", `line 11: strategy.max_unavailable: must be 1 or more; got 0`},
	{"  max_failed: 2%", "  max_failed: 2.125%", `line 12: strategy.max_failed: must be a whole number, or a share from "0%" to "100%" with at most two decimals; got "2.125%"`},
	{"  soak: 10m", "  soak: 10", `line 13: strategy.soak: must be a duration with a unit, such as 10m or 1h30m; got 10`},
	{"  connected: defer", "  connected: ask", `line 15: users.connected: must be one of skip, defer, force; got "ask"`},
	{"  then: skip", "  thenn: skip", `line 16: users.thenn: is not a field here; did you mean then?`},
	{"  days: [sat]", "  days: [sat, Sunday]", `line 18: window.days: must be different words of mon, tue, wed, thu, fri, sat, sun; got "sat, Sunday"`},
	{"  from: 20:00", "  from: 8pm", `line 19: window.from: must be hh:mm from 00:00 to 23:59; got "8pm"`},
	{"  to: 06:00", "  to: 24:01", `line 20: window.to: must be hh:mm from 00:00 to 24:00; got "24:01"`},
	{"  timezone: Europe/Berlin", "  timezone: Europe/Bonn", `line 21: window.timezone: is not a known time zone; use a name such as Europe/Berlin or UTC; got "Europe/Bonn"`},
	{"approval: {}", "approval: {required: true, within: 10s}", `line 22: approval.within: must be 1m to 720h; got 10s`},
	{"options: {}", "options: {encrypt_type: ENCRYPTED}", `line 23: options.kms_id: must be given with encrypt_type ENCRYPTED`},
}

func TestEachRuleOfASpecIsReportedWithItsLine(t *testing.T) {
	t.Parallel()
	_, err := rollout.ParseSpec([]byte(good))
	require.NoError(t, err)
	all := good
	for _, c := range broken {
		require.Contains(t, good, c.line+"\n")
		by := strings.TrimSuffix(c.by, "\n")
		_, err := rollout.ParseSpec([]byte(strings.Replace(good, c.line+"\n", by+"\n", 1)))
		require.Error(t, err, c.by)
		require.Contains(t, strings.Split(err.Error(), "\n"), c.want)
		require.IsType(t, new(rollout.SpecError), err)
		all = strings.Replace(all, c.line+"\n", by+"\n", 1)
	}
	_, err = rollout.ParseSpec([]byte(all))
	require.Error(t, err)
	for _, c := range broken {
		require.Contains(t, strings.Split(err.Error(), "\n"), c.want)
	}
}

func TestFurtherRulesOfASpec(t *testing.T) {
	t.Parallel()
	many := make([]string, 5001)
	for i := range many {
		many[i] = "d-" + strings.Repeat("x", i%7) + string(rune('a'+i%26)) + strings.Repeat("0", i/182)
	}
	tags := make([]string, 51)
	for i := range tags {
		tags[i] = fmt.Sprintf("t%d: x", i)
	}
	for _, c := range []struct{ old, by, want string }{
		{good, "", "must be given: the spec is empty"},
		{good, "# nothing\n", "must be given: the spec is empty"},
		{good, "- a\n", "line 1: must be an object with fields; got a list"},
		{good, "name: [\n", "must be YAML or JSON (line 1: did not find expected node content)"},
		{good, good + "---\n" + good, "line 24: must be one document; there is another one behind it"},
		{good, "\xff\xfe\x00\x00", "is UTF-32; save it as UTF-8"},
		{"name: n", "name: n\nname: m", "line 2: name: is given twice; give it once"},
		{"name: n", "Name: n", "line 1: Name: is not a field here; did you mean name?\nline 1: name: must be 1 to 40 of a to z, 0 to 9 and -"},
		{"name: n", "name: n\nzzzzzz: n", "line 2: zzzzzz: is not a field here; the fields are name, image, targets, strategy, users, window, approval, options"},
		{"name: n", "name: n\n\"\\e[2J\": n", `line 2: "\x1b[2J": is not a field here; the fields are name, image, targets, strategy, users, window, approval, options`},
		{"name: n\n", "", "line 1: name: must be 1 to 40 of a to z, 0 to 9 and -"},
		{"  image_id: i\n", "", "line 2: image: must have from_desktop (a desktop to capture) or image_id"},
		{"  image_id: i\n", "  image_id: i\n  from_desktop: d\n", "line 2: image: must have one of from_desktop and image_id; both are given"},
		{"  image_id: i\n  image_type: private\n", "  from_desktop: d\n", "line 2: image.execute_sysprep: must be given with from_desktop: true deletes the user profiles on that desktop"},
		{"  image_id: i\n", "  from_desktop: d\n  execute_sysprep: true\n", `line 5: image.image_type: must not be given with from_desktop: a captured image is private; got "private"`},
		{"  image_id: i\n", "  image_id: i\n  execute_sysprep: true\n", "line 4: image.execute_sysprep: must not be given with image_id: nothing is captured"},
		{"  image_id: i\n", "  image_id: i\n  os_type: " + strings.Repeat("x", 256) + "\n", "line 4: image.os_type: must have at most 255 characters; got 256 characters"},
		{"  desktop_ids: [d-1, d-2]\n", "", "line 5: targets: must have one of desktop_ids, file and where"},
		{"  desktop_ids: [d-1, d-2]\n", "  desktop_ids: []\n", "line 6: targets.desktop_ids: must name at least one desktop; got []"},
		{"  desktop_ids: [d-1, d-2]\n", "  desktop_ids: [d-1]\n  file: f\n  where: {status: ACTIVE}\n", "line 5: targets: must have one of desktop_ids, file and where; desktop_ids and file and where are given"},
		{"  desktop_ids: [d-1, d-2]\n", "  desktop_ids: [" + strings.Join(many, ",") + "]\n", "line 6: targets.desktop_ids: must have at most 5000 ids; put them into a file and name it in targets.file; got 5001 ids"},
		{"  desktop_ids: [d-1, d-2]\n", "  where: {}\n", "line 6: targets.where: must have at least one condition: without one it selects every desktop of the project"},
		{"  desktop_ids: [d-1, d-2]\n", "  where: {status: on}\n", `line 6: targets.where.status: must be one of ACTIVE, SHUTOFF, HIBERNATED, ERROR; got "on"`},
		{"  desktop_ids: [d-1, d-2]\n", "  where: {tags: {a: }}\n", "line 6: targets.where.tags.a: must have a value"},
		{"  desktop_ids: [d-1, d-2]\n", "  where: {tags: {" + strings.Join(tags, ", ") + "}}\n", "line 6: targets.where.tags: must have at most 50; got 51 tags"},
		{"  desktop_ids: [d-1, d-2]\n", "  where: {user_attached: maybe}\n", `line 6: targets.where.user_attached: must be true or false; got "maybe"`},
		{"  desktop_ids: [d-1, d-2]\n", "  desktop_ids: d-1\n", `line 6: targets.desktop_ids: must be a list; got "d-1"`},
		{"[10%, 100%]", "[10%, 90%]", `line 10: strategy.waves: must end with 100%; got "10%, 90%"`},
		{"[10%, 100%]", "[10, 100%]", `line 10: strategy.waves: must be percentages with at most two decimals, such as "10%", "50%", "100%"; got "10, 100%"`},
		{"[10%, 100%]", "[50%, 50%, 100%]", `line 10: strategy.waves: must ascend from over 0%: a wave is the share that is done at its end, earlier waves included; got "50%, 50%, 100%"`},
		{"[10%, 100%]", "[]", "line 10: strategy.waves: must be 1 to 100 percentages; got 0 waves"},
		{"  canary: 1", "  canary: 2\n  canary_max_failed: 2", "line 10: strategy.canary_max_failed: must be less than canary (2): else a canary of which every desktop failed passes; got 2"},
		{"  max_failed: 2%", "  max_failed: 200", "line 11: strategy.max_unavailable: must be over the number of desktops that max_failed (200) allows to fail, which is 200: failed desktops count as unavailable, and would use it up before max_failed halts the rollout; got 200"},
		{"  soak: 10m", "  soak: 200h", "line 13: strategy.soak: must be 0s to 168h; got 200h"},
		{"  then: skip", "  message: " + strings.Repeat("保", 401), "line 16: users.message: must have at most 400 characters; got 401 characters"},
		{"  then: skip", "  delay_time: 2147483648", "line 16: users.delay_time: must be a whole number from 0 to 2147483647; got 2147483648"},
		{"  to: 06:00", "  to: 20:00", `line 20: window.to: must differ from window.from; a whole day is from 00:00 to 24:00; got "20:00"`},
		{"  timezone: Europe/Berlin", "  timezone: Local", `line 21: window.timezone: must be the name of a time zone, such as Europe/Berlin or UTC; got "Local"`},
		{"  days: [sat]", "  days: [sat, sat]", `line 18: window.days: must be different words of mon, tue, wed, thu, fri, sat, sun; got "sat, sat"`},
		{"  days: [sat]", "  days: []", "line 18: window.days: must name at least one day; leave it out for every day; got []"},
		{"approval: {}", "approval: {within: 1h}", "line 22: approval.within: has a meaning only with required: true; got 1h"},
		{"options: {}", "options: {order_id: a/b}", `line 23: options.order_id: must be 1 to 255 letters, digits, - or _, beginning with a letter or digit; got "a/b"`},
		{"options: {}", "options: {kms_id: k}", `line 23: options.kms_id: has a meaning only with encrypt_type ENCRYPTED; got "k"`},
		{"options: {}", "options: {handle_type: x}", `line 23: options.handle_type: must be one of ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE, FOR_EXPAND_AND_ALL; got "x"`},
	} {
		_, err := rollout.ParseSpec([]byte(strings.Replace(good, c.old, c.by, 1)))
		require.EqualError(t, err, c.want)
	}
}

func TestThePlannedDesktopsNeedRoomForTheirFailures(t *testing.T) {
	t.Parallel()
	spec := rollout.Defaults() // 100 unavailable, 2% failed
	require.NoError(t, spec.CheckRoom(4_999))
	require.ErrorContains(t, spec.CheckRoom(5_000), "strategy.max_unavailable: must be over the number of desktops that max_failed (2%) allows to fail, which is 100")
}

func TestJSONKeepsItsTypes(t *testing.T) {
	t.Parallel()
	_, err := rollout.ParseSpec([]byte("{\"name\":5,\n\"image\":{\"image_id\":\"i\",\"image_type\":\"gold\"},\n\"targets\":{\"desktop_ids\":[\"a\",7]}}"))
	require.EqualError(t, err, "line 1: name: must be a string; got 5\nline 3: targets.desktop_ids[1]: must be a string; got 7")
}

func FuzzParseSpec(f *testing.F) {
	f.Add([]byte(good))
	f.Add([]byte(`{"name":"n","image":{"image_id":"i","image_type":"gold"},"targets":{"where":{"tags":{"a":"b"}}}}`))
	f.Add([]byte("a: &a [*a]\nname: *a\n"))
	f.Add([]byte("\xff\xfen\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		spec, err := rollout.ParseSpec(data)
		if err == nil {
			require.NoError(t, spec.Check())
		}
	})
}
