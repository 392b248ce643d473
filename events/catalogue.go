package events

import (
	"encoding/json"
	"slices"
	"strings"
)

// Function tokens: folder, queue and durable name, log key.
const (
	FnCheckImages    = "checkimages"
	FnDesktopToImage = "desktoptoimage"
	FnRebuild        = "rebuild"
	FnGetDesktop     = "getdesktop"
	FnWatchJob       = "watchjob"
	FnListDesktops   = "listdesktops"
	FnListImages     = "listimages"
)

// Types of commands. A type is also the NATS subject that a sender publishes to.
const (
	TypeCheckImages    = "recompose.command.checkimages.v1"
	TypeDesktopToImage = "recompose.command.desktoptoimage.v1"
	TypeRebuild        = "recompose.command.rebuild.v1"
	TypeGetDesktop     = "recompose.command.getdesktop.v1"
	TypeListDesktops   = "recompose.command.listdesktops.v1"
	TypeListImages     = "recompose.command.listimages.v1"
)

// Types of events. A type is also the NATS subject that it is published on.
const (
	TypeJobAccepted      = "recompose.event.job.accepted.v1"
	TypeJobCompleted     = "recompose.event.job.completed.v1"
	TypeImagesChecked    = "recompose.event.images.checked.v1"
	TypeDesktopDescribed = "recompose.event.desktop.described.v1"
	TypeDesktopsListed   = "recompose.event.desktops.listed.v1"
	TypeImagesListed     = "recompose.event.images.listed.v1"
	TypeCommandSplit     = "recompose.event.command.split.v1"
	TypeCommandFailed    = "recompose.event.command.failed.v1"
	TypeJobProgress      = "recompose.event.job.progress.v1"
	TypeCommandUnclear   = "recompose.event.command.unclear.v1"
	TypeServiceAccepted  = "recompose.event.service.accepted.v1"
	TypeLedgerAccepted   = "recompose.event.ledger.accepted.v1"
)

// Command is a row of [Commands].
type Command struct {
	Function string // that answers it
	Type     string
	Decode   func(data json.RawMessage) (any, error)
	Call     string  // the API call of the function; "" if it makes none
	Answer   string  // the event with what a command has read, its end; "" if the command does more than read
	Help     string  // one line, for a program that sends it
	Fields   []Field // in the order of the documentation; nil for the commands of a rollout
}

// Reads reports whether the command only reads.
func (c Command) Reads() bool { return c.Answer != "" }

// Commands are all commands that a sender may send.
var Commands = []Command{
	{
		Function: FnCheckImages, Type: TypeCheckImages, Decode: decoder(DecodeCheckImages),
		Call: "POST check-images", Answer: TypeImagesChecked, Help: "Read which image each desktop runs",
		Fields: []Field{projectIDField, {Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to check"}},
	},
	{
		Function: FnDesktopToImage, Type: TypeDesktopToImage, Decode: decoder(DecodeDesktopToImage),
		Call: "POST desktop-to-image", Help: "Make an image of a desktop, and rebuild others from it",
		Fields: []Field{
			projectIDField,
			{Name: "image_name", Required: true, Help: "name of the new image; no other private image may have it"},
			{Name: "image_description", Help: "description of the image"},
			{Name: "desktop_id", Required: true, Help: "desktop to capture; it restarts and cannot be used meanwhile"},
			{Name: "execute_sysprep", Kind: FieldBool, Required: true,
				Help: "seal the system first: true deletes the user profiles on the desktop (must be given)"},
			{Name: "image_tags", Kind: FieldTags, Help: "tag of the image, `KEY=VALUE`; repeated for more"},
			{Name: "enterprise_project_id", Help: "enterprise project"},
			{Name: "is_clear_data", Kind: FieldBool, Help: "delete the user data on the desktop (only without sysprep)"},
			{Name: "max_ram", Help: "greatest memory of a desktop with the image, MB"},
			{Name: "min_ram", Help: "smallest memory of a desktop with the image, MB"},
			{Name: "then", Kind: FieldThen,
				Help: "rebuild these from the image: a file with one desktop id a line, CSV with the " +
					"column desktop_id, or then.rebuild as JSON"},
		},
	},
	{
		Function: FnGetDesktop, Type: TypeGetDesktop, Decode: decoder(DecodeGetDesktop),
		Call: "GET desktop", Answer: TypeDesktopDescribed, Help: "Read all that the service returns for a desktop",
		Fields: []Field{projectIDField, {Name: "desktop_id", Required: true, Help: "desktop to read"}},
	},
	{
		Function: FnListDesktops, Type: TypeListDesktops, Decode: decoder(DecodeListDesktops),
		Call: "GET desktops/detail", Answer: TypeDesktopsListed,
		Help: "List desktops: those named, those that match every filter, or all",
		Fields: []Field{
			projectIDField,
			{Name: "desktop_ids", Kind: FieldIDs, Help: "desktops to list, at most 100"},
			{Name: "image_id", Help: "desktops that run this image"},
			{Name: "status", Help: "desktops with this status: " + strings.Join(DesktopStatuses, ", "),
				Words: DesktopStatuses, Open: true},
			{Name: "enterprise_project_id", Help: "desktops of this enterprise project"},
			{Name: "pool_id", Help: "desktops of this pool"},
			{Name: "tags", Kind: FieldTagMap, Help: "desktops with this tag, `KEY=VALUE`; repeated for more"},
			{Name: "user_attached", Kind: FieldBool, Help: "desktops that are assigned to a user, or with false to none"},
			{Name: "computer_name", Help: "the desktop with this whole name"},
			{Name: "fields", Kind: FieldNames, Help: "fields of each row; all but " + RowUsers + " by default"},
		},
	},
	{
		Function: FnListImages, Type: TypeListImages, Decode: decoder(DecodeListImages),
		Call: "GET images", Answer: TypeImagesListed, Help: "List gold and private images",
		Fields: []Field{
			projectIDField,
			{Name: "image_type", Help: "gold (public) or private", Words: ListedImageTypes},
			{Name: "name", Help: "the image with this whole name"},
			{Name: "image_id", Help: "the image with this id"},
		},
	},
	{
		Function: FnRebuild, Type: TypeRebuild, Decode: decoder(DecodeRebuild),
		Call: "POST rebuild", Help: "Rebuild desktops from an image; wipes their system disks",
		Fields: append([]Field{
			projectIDField,
			{Name: "desktop_ids", Kind: FieldIDs, Required: true, Help: "desktops to rebuild"},
			{Name: "image_type", Required: true, Help: "gold (public), private or market", Words: ImageTypes, Open: true},
			{Name: "image_id", Required: true, Help: "image to rebuild from"},
		}, rebuildOptionFields...),
	},
	{Function: FnRollout, Type: TypeRolloutTargets, Decode: decoder(DecodeRollout(TypeRolloutTargets))},
	{Function: FnRollout, Type: TypeRolloutStart, Decode: decoder(DecodeRollout(TypeRolloutStart))},
	{Function: FnRollout, Type: TypeRolloutApprove, Decode: decoder(DecodeRollout(TypeRolloutApprove))},
	{Function: FnRollout, Type: TypeRolloutPause, Decode: decoder(DecodeRollout(TypeRolloutPause))},
	{Function: FnRollout, Type: TypeRolloutResume, Decode: decoder(DecodeRollout(TypeRolloutResume))},
	{Function: FnRollout, Type: TypeRolloutPromote, Decode: decoder(DecodeRollout(TypeRolloutPromote))},
	{Function: FnRollout, Type: TypeRolloutExclude, Decode: decoder(DecodeRollout(TypeRolloutExclude))},
	{Function: FnRollout, Type: TypeRolloutSet, Decode: decoder(DecodeRollout(TypeRolloutSet))},
	{Function: FnRollout, Type: TypeRolloutRetry, Decode: decoder(DecodeRollout(TypeRolloutRetry))},
	{Function: FnRollout, Type: TypeRolloutRollback, Decode: decoder(DecodeRollout(TypeRolloutRollback))},
	{Function: FnRollout, Type: TypeRolloutAbort, Decode: decoder(DecodeRollout(TypeRolloutAbort))},
}

// decoder is a Decode function as a row has it.
func decoder[C any](decode func(json.RawMessage) (C, error)) func(json.RawMessage) (any, error) {
	return func(data json.RawMessage) (any, error) { return decode(data) }
}

// CommandOf returns the row of the command that has the name of a function; zero if there is none.
func CommandOf(function string) Command {
	i := slices.IndexFunc(Commands, func(c Command) bool { return c.Type == CommandType(function) })
	if i < 0 {
		return Command{}
	}
	return Commands[i]
}

// Event is a row of [Events].
type Event struct {
	Type   string
	Data   any  // its data, empty
	Notice bool // see [IsNotice]
	Page   bool // see [IsPage]
}

// Events are all events.
var Events = []Event{
	{Type: TypeJobAccepted, Data: JobAccepted{}},
	{Type: TypeJobCompleted, Data: JobCompleted{}},
	{Type: TypeImagesChecked, Data: ImagesChecked{}},
	{Type: TypeDesktopDescribed, Data: DesktopDescribed{}},
	{Type: TypeDesktopsListed, Data: DesktopsListed{}, Page: true},
	{Type: TypeImagesListed, Data: ImagesListed{}, Page: true},
	{Type: TypeCommandSplit, Data: CommandSplit{}},
	{Type: TypeCommandFailed, Data: CommandFailed{}},
	{Type: TypeJobProgress, Data: JobProgress{}, Notice: true},
	{Type: TypeCommandUnclear, Data: CommandUnclear{}, Notice: true},
	{Type: TypeServiceAccepted, Data: ServiceAccepted{}},
	{Type: TypeLedgerAccepted, Data: LedgerAccepted{}},
	{Type: TypeRolloutTargetsKept, Data: Rollout{}},
	{Type: TypeRolloutPlanned, Data: Rollout{}},
	{Type: TypeRolloutApproved, Data: Rollout{}},
	{Type: TypeRolloutStarted, Data: Rollout{}, Notice: true},
	{Type: TypeRolloutWaveStarted, Data: Rollout{}, Notice: true},
	{Type: TypeRolloutBatchCompleted, Data: Rollout{}, Notice: true},
	{Type: TypeRolloutWaveCompleted, Data: Rollout{}, Notice: true},
	{Type: TypeRolloutPaused, Data: Rollout{}},
	{Type: TypeRolloutResumed, Data: Rollout{}},
	{Type: TypeRolloutHalted, Data: Rollout{}, Notice: true},
	{Type: TypeRolloutChanged, Data: Rollout{}},
	{Type: TypeRolloutAborted, Data: Rollout{}},
	{Type: TypeRolloutRolledBack, Data: Rollout{}},
	{Type: TypeRolloutCompleted, Data: Rollout{}},
	{Type: TypeRolloutRejected, Data: Rollout{}},
}

// EventTypes are the types of all events.
var EventTypes = eventTypes(func(Event) bool { return true })

// RolloutTypes are the types of all commands of a rollout, RolloutEventTypes those of its events.
var (
	RolloutTypes      = commandTypes(FnRollout)
	RolloutEventTypes = eventTypes(func(e Event) bool { _, is := e.Data.(Rollout); return is })
)

// What the tables are searched for in each message.
var (
	decoders = decodersByType()
	notices  = noticeNames() // without their version
	pages    = eventTypes(func(e Event) bool { return e.Page })
)

func eventTypes(which func(Event) bool) (types []string) {
	for _, e := range Events {
		if which(e) {
			types = append(types, e.Type)
		}
	}
	return types
}

func noticeNames() []string {
	names := eventTypes(func(e Event) bool { return e.Notice })
	for i, typ := range names {
		names[i] = eventName(typ)
	}
	return names
}

func commandTypes(function string) (types []string) {
	for _, c := range Commands {
		if c.Function == function {
			types = append(types, c.Type)
		}
	}
	return types
}

func decodersByType() map[string]func(json.RawMessage) (any, error) {
	byType := make(map[string]func(json.RawMessage) (any, error), len(Commands))
	for _, c := range Commands {
		byType[c.Type] = c.Decode
	}
	return byType
}
