package rollout

import (
	"encoding/json"
	"reflect"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"

	"recompose/events"
)

const idPattern = "^[A-Za-z0-9][A-Za-z0-9_-]{0,254}$"

// Schema is the JSON schema of a spec, made of the Go types and the rules that a schema can express. An editor checks
// YAML with it; ParseSpec knows more rules.
func Schema() ([]byte, error) {
	s, err := jsonschema.For[Spec](&jsonschema.ForOptions{TypeSchemas: map[reflect.Type]*jsonschema.Schema{
		reflect.TypeFor[Duration](): {Type: "string", Pattern: "^([0-9.]+(ns|us|µs|ms|s|m|h))+$"},
		reflect.TypeFor[Amount](): {
			Types: []string{"integer", "string"}, Minimum: jsonschema.Ptr(0.), Pattern: `^[0-9]{1,3}([.][0-9]{1,2})?%$|^[0-9]+$`,
		},
	}})
	if err != nil {
		return nil, err
	}
	s.Schema, s.Title = "https://json-schema.org/draft/2020-12/schema", "recompose rollout"
	var defaults map[string]any
	if err := json.Unmarshal(asJSON(Defaults()), &defaults); err != nil {
		return nil, err
	}
	loosen(s, defaults)
	for _, f := range Fields {
		at := s
		for name := range strings.SplitSeq(f.Name, ".") {
			at = at.Properties[name]
		}
		at.Description = f.Help
		if f.limit != nil {
			f.limit(at)
		}
	}
	s.Required = []string{"name", "image", "targets"}
	s.Properties["window"].Required = []string{"from", "to", "timezone"}
	s.Properties["image"].OneOf = []*jsonschema.Schema{
		{Required: []string{"from_desktop", "execute_sysprep"}}, {Required: []string{"image_id", "image_type"}},
	}
	s.Properties["targets"].OneOf = []*jsonschema.Schema{
		{Required: []string{"desktop_ids"}}, {Required: []string{"file"}}, {Required: []string{"where"}},
	}
	return json.MarshalIndent(s, "", "  ")
}

// loosen makes every field optional, as ParseSpec fills in the defaults, and adds these.
func loosen(s *jsonschema.Schema, defaults map[string]any) {
	s.Required = nil
	for name, field := range s.Properties {
		value := defaults[name]
		if section, ok := value.(map[string]any); ok || field.Properties != nil {
			loosen(field, section)
		} else if value != nil && value != "" && name != "required" {
			field.Default = asJSON(value)
		}
	}
}

// Field describes a field of a spec.
type Field struct {
	Name  string // the path
	Help  string
	limit func(*jsonschema.Schema)
}

func words(of ...string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) {
		for _, word := range of {
			s.Enum = append(s.Enum, word)
		}
	}
}

func pattern(p string) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.Pattern = p }
}

func atLeast(n float64) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.Minimum = &n }
}

func atMost(characters int) func(*jsonschema.Schema) {
	return func(s *jsonschema.Schema) { s.MaxLength = &characters }
}

func idList(s *jsonschema.Schema) {
	s.Items.Pattern, s.UniqueItems = idPattern, true
	s.MinItems, s.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(events.MaxDesktops)
}

func dayList(s *jsonschema.Schema) {
	words("mon", "tue", "wed", "thu", "fri", "sat", "sun")(s.Items)
	s.MinItems, s.UniqueItems = jsonschema.Ptr(1), true
}

func waveList(s *jsonschema.Schema) {
	s.Items.Pattern = `^[0-9]{1,3}([.][0-9]{1,2})?%$`
	s.MinItems, s.MaxItems = jsonschema.Ptr(1), jsonschema.Ptr(maxWaves)
}

// Fields are the fields of a spec, in the order of the documentation.
var Fields = []Field{
	{"name", "Name of the rollout; used once.", pattern("^[a-z0-9-]{1,40}$")},
	{"image", "The image to bring to the desktops: one that exists, or one to be made of a desktop.", nil},
	{"image.from_desktop", "Desktop to capture; it restarts and cannot be used meanwhile.", pattern(idPattern)},
	{"image.execute_sysprep", "With from_desktop: seal the system first; true deletes the user profiles there.", nil},
	{"image.image_id", "Image that exists.", pattern(idPattern)},
	{"image.image_type", "With image_id: gold (public), private or market.", atMost(255)},
	{"image.os_type", "Operating system of the image, where the service does not show it.", atMost(255)},
	{"targets", "The desktops: one of desktop_ids, file and where.", nil},
	{"targets.desktop_ids", "Ids, each once, letter case apart.", idList},
	{"targets.file", "File with one id a line, or CSV; the command line reads it.", nil},
	{"targets.where", "Desktops that meet every condition; at least one condition.", nil},
	{"targets.where.image_id", "The image that they run.", pattern(idPattern)},
	{"targets.where.tags", "Tags that they have, each with this value.", nil},
	{"targets.where.pool_id", "Their pool. Pooled desktops are listed in the plan and refused.", pattern(idPattern)},
	{"targets.where.enterprise_project_id", "Their enterprise project.", atMost(36)},
	{"targets.where.user_attached", "Whether a user is attached.", nil},
	{"targets.where.status", "Their status.", words(Statuses...)},
	{"targets.except", "Desktops that are protected, whatever selects them.", nil},
	{"targets.except.desktop_ids", "Protected ids.", idList},
	{"targets.except.tags", "A desktop with one of these tags is protected.", nil},
	{"strategy", "How fast and how carefully.", nil},
	{"strategy.canary", "Desktops that are rebuilt first, alone; 0: none.", atLeast(0)},
	{"strategy.canary_max_failed", "Failed desktops of the canary that do not halt the rollout.", atLeast(0)},
	{"strategy.waves", "Cumulative shares of the desktops, the canary included; the last is 100%.", waveList},
	{"strategy.max_unavailable", "Desktops that may be unavailable at once; failed ones count.", atLeast(1)},
	{"strategy.max_failed", "Failed desktops, or their share, in a wave and in total that do not halt the rollout.", nil},
	{"strategy.soak", "Time between the end of a wave and the beginning of the next one.", nil},
	{"users", "What happens to a desktop that somebody uses.", nil},
	{"users.connected", "skip: left out; defer: tried later; force: rebuilt.", words(Skip, Defer, Force)},
	{"users.delay_time", "Minutes that users have to save their work.", atLeast(0)},
	{"users.message", "Shown to the users before the rebuild.", atMost(400)},
	{"users.max_deferrals", "How often a desktop is deferred.", atLeast(0)},
	{"users.defer_for", "How long a desktop is deferred.", nil},
	{"users.then", "After max_deferrals: skip or force.", words(Skip, Force)},
	{"window", "When batches may run; without it at any time.", nil},
	{"window.days", "Days on which the window opens; without it every day.", dayList},
	{"window.from", "When it opens, hh:mm in local time.", pattern("^([01][0-9]|2[0-3]):[0-5][0-9]$")},
	{"window.to", "When it closes; before from: on the next day.", pattern("^([01][0-9]|2[0-3]):[0-5][0-9]$|^24:00$")},
	{"window.timezone", "Name of the time zone, such as Europe/Berlin.", nil},
	{"approval", "Whether a person must approve the plan.", nil},
	{"approval.required", "true: nothing is rebuilt before the plan is approved.", nil},
	{"approval.within", "With required: past it the plan expires.", nil},
	{"options", "Further fields of each rebuild.", nil},
	{"options.order_id", "Order, if the rebuild was paid for.", atMost(255)},
	{"options.enterprise_project_id", "Enterprise project.", atMost(36)},
	{"options.encrypt_type", "Encryption of the new disk.", words(events.EncryptTypes...)},
	{"options.kms_id", "With encrypt_type ENCRYPTED: the key.", atMost(255)},
	{"options.handle_type", "Of desktop pools.", words(events.HandleTypes...)},
	{"options.skip_current", "Leave out desktops that run the image already.", nil},
	{"options.allow_os_change", "Rebuild also desktops that run another operating system than the image has.", nil},
}
