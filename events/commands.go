package events

import (
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Limits of a command, the same on every transport.
const (
	MaxDesktops      = 5000       // ids in one list
	MaxMessage       = 256 * 1024 // bytes of one message
	MaxRebuildCall   = 100        // desktops in one call of the service (its own limit); more are split
	MaxCheckCall     = 500        // desktops in one check-images call (its own limit)
	maxDelayTime     = 1<<31 - 1  // minutes, the service's own limit
	maxName          = 128        // characters of an image name
	maxDescription   = 1024       // characters of an image description
	maxTags          = 1000       // tags of an image
	maxTagText       = 1024       // characters of a tag's key or value
	maxUserMessage   = 400        // characters shown to the user of a desktop before its rebuild
	maxShortText     = 255        // characters of the remaining texts
	maxRebuildEPText = 36         // characters of enterprise_project_id in a rebuild
)

// ImageTypes and OSTypes are the values that the service is known to accept. The service keeps both lists open:
// commands with other values are decoded, and a program that writes commands should ask its user for a confirmation.
var (
	ImageTypes = []string{"gold", "private", "market"}
	OSTypes    = []string{"Windows", "Linux", "Other"}
)

// EncryptTypes and HandleTypes are the only values that a rebuild accepts in these fields.
var (
	EncryptTypes = []string{"KEEP", "UNENCRYPTED", "ENCRYPTED"}
	HandleTypes  = []string{"ONLY_FOR_EXPAND", "FOR_EXPAND_AND_IDLE", "FOR_EXPAND_AND_ALL"}
)

// Values of when_busy of a rebuild.
const (
	BusyWaits = "wait" // the default
	BusyFails = "fail"
)

// WhenBusyWords are the values of when_busy.
var WhenBusyWords = []string{BusyWaits, BusyFails}

// CheckImages requests which image each desktop runs. It changes nothing and may be repeated.
type CheckImages struct {
	ProjectID  string   `json:"project_id,omitempty"` // if given, must be the worker's own
	DesktopIDs []string `json:"desktop_ids"`          // 1 to 5,000, each once; read in calls of at most 500
}

// GetDesktop requests every field that the service returns for one desktop. It changes nothing and may be repeated.
type GetDesktop struct {
	ProjectID string `json:"project_id,omitempty"`
	DesktopID string `json:"desktop_id"`
}

// DesktopToImage makes an image of a desktop. The desktop restarts and is unusable meanwhile; with ExecuteSysprep the
// user profiles on it are deleted. The API call has no client token: a repeated call would make a second image.
type DesktopToImage struct {
	ProjectID           string `json:"project_id,omitempty"`
	ImageName           string `json:"image_name"` // 1 to 128: CJK, ASCII letters, digits, inner white space, - _ .
	ImageDescription    string `json:"image_description,omitempty"`
	DesktopID           string `json:"desktop_id"`
	ExecuteSysprep      bool   `json:"execute_sysprep"` // must be given: the service's silent default deletes user profiles
	ImageTags           []Tag  `json:"image_tags,omitempty"`
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	IsClearData         bool   `json:"is_clear_data,omitempty"` // only without sysprep: delete the user data
	MaxRAM              string `json:"max_ram,omitempty"`       // MB
	MinRAM              string `json:"min_ram,omitempty"`       // MB
	Then                *Then  `json:"then,omitempty"`
}

// Tag is a key and a value on an image.
type Tag struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// Then is what follows when a job has succeeded.
type Then struct {
	Rebuild *ThenRebuild `json:"rebuild,omitempty"`
}

// ThenRebuild is a rebuild whose image is made by the job before it.
type ThenRebuild struct {
	DesktopIDs []string `json:"desktop_ids"`
	RebuildOptions
}

// RebuildOptions are the optional fields of a rebuild.
type RebuildOptions struct {
	OSType              string `json:"os_type,omitempty"`
	DelayTime           int64  `json:"delay_time,omitempty"` // minutes that users have to save their work
	Message             string `json:"message,omitempty"`    // shown to the users, at most 400 characters
	OrderID             string `json:"order_id,omitempty"`
	EnterpriseProjectID string `json:"enterprise_project_id,omitempty"`
	EncryptType         string `json:"encrypt_type,omitempty"` // KEEP (the service's default), UNENCRYPTED, ENCRYPTED
	KMSID               string `json:"kms_id,omitempty"`       // required with ENCRYPTED
	HandleType          string `json:"handle_type,omitempty"`  // ONLY_FOR_EXPAND, FOR_EXPAND_AND_IDLE, FOR_EXPAND_AND_ALL
	RebuildCurrent      bool   `json:"rebuild_current,omitempty"`
	AllowOSChange       bool   `json:"allow_os_change,omitempty"`  // else a desktop keeps its operating system, or is not rebuilt
	WhenBusy            string `json:"when_busy,omitempty"`        // wait (the default) or fail: what a busy desktop means
	OverrideRollout     bool   `json:"override_rollout,omitempty"` // rebuild also the desktops that a rollout holds
}

// Rebuild remakes the system disks of desktops from an image. It wipes what is on them and has no client token.
type Rebuild struct {
	ProjectID  string   `json:"project_id,omitempty"`
	DesktopIDs []string `json:"desktop_ids"` // 1 to 5,000, each once; over 100 the command is split
	ImageType  string   `json:"image_type"`  // gold (public), private, market; an open list
	ImageID    string   `json:"image_id"`
	RebuildOptions
}

// DecodeCheckImages reads the data of a checkimages command. The error is an *InvalidError with every fault.
func DecodeCheckImages(data json.RawMessage) (CheckImages, error) {
	return decode(data, func(o *object) (c CheckImages) {
		c.ProjectID = o.id("project_id", false)
		c.DesktopIDs = o.desktopIDs(true)
		return c
	})
}

// DecodeGetDesktop reads the data of a getdesktop command. The error is an *InvalidError with every fault.
func DecodeGetDesktop(data json.RawMessage) (GetDesktop, error) {
	return decode(data, func(o *object) (c GetDesktop) {
		c.ProjectID = o.id("project_id", false)
		c.DesktopID = o.id("desktop_id", true)
		return c
	})
}

// DecodeRebuild reads the data of a rebuild command. The error is an *InvalidError with every fault.
func DecodeRebuild(data json.RawMessage) (Rebuild, error) {
	return decode(data, func(o *object) (c Rebuild) {
		c.ProjectID = o.id("project_id", false)
		c.DesktopIDs = o.desktopIDs(true)
		c.ImageType, _ = o.requireText("image_type", maxShortText)
		c.ImageID = o.id("image_id", true)
		c.RebuildOptions = readRebuildOptions(o)
		return c
	})
}

// DecodeDesktopToImage reads the data of a desktoptoimage command. The error is an *InvalidError with every fault.
func DecodeDesktopToImage(data json.RawMessage) (DesktopToImage, error) {
	return decode(data, func(o *object) (c DesktopToImage) {
		c.ProjectID = o.id("project_id", false)
		c.ImageName = readImageName(o)
		c.ImageDescription = o.text("image_description", maxDescription)
		if r, bad := outside(c.ImageDescription); bad {
			o.fault(o.at("image_description"), shorten(string(r)), alphabet)
		}
		c.DesktopID = o.id("desktop_id", true)
		if sysprep := o.flag("execute_sysprep", true); sysprep != nil {
			c.ExecuteSysprep = *sysprep
		} else if !o.given("execute_sysprep") {
			o.fault(o.at("execute_sysprep"), "", "must be given: true deletes the user profiles on the desktop, and is the service's default when the field is absent")
		}
		c.ImageTags = readTags(o)
		c.EnterpriseProjectID = o.id("enterprise_project_id", false)
		c.IsClearData = o.isTrue("is_clear_data")
		if c.IsClearData && c.ExecuteSysprep {
			o.fault(o.at("is_clear_data"), "true", "has a meaning only with execute_sysprep false")
		}
		c.MaxRAM = o.megabytes("max_ram")
		c.MinRAM = o.megabytes("min_ram")
		c.Then = readThen(o)
		if c.Then != nil && c.DesktopID != "" {
			for i, id := range c.Then.Rebuild.DesktopIDs {
				if strings.EqualFold(id, c.DesktopID) {
					o.fault("then.rebuild.desktop_ids"+indexed(i), shorten(id), "may not be the captured desktop itself; rebuild it by a command of its own")
				}
			}
		}
		return c
	})
}

func decode[C any](data json.RawMessage, read func(*object) C) (C, error) {
	var f faults
	var c, none C
	if o := readObject(data, "", &f); o != nil {
		c = read(o)
		o.done()
	}
	if err := f.err(); err != nil {
		return none, err
	}
	return c, nil
}

func readRebuildOptions(o *object) (r RebuildOptions) {
	r.OSType = o.text("os_type", maxShortText)
	r.DelayTime = o.whole("delay_time", maxDelayTime)
	r.Message = o.text("message", maxUserMessage)
	r.OrderID = o.id("order_id", false)
	r.EnterpriseProjectID = o.shortID("enterprise_project_id", maxRebuildEPText)
	r.EncryptType = o.choice("encrypt_type", EncryptTypes...)
	r.KMSID = o.id("kms_id", false)
	if r.EncryptType == "ENCRYPTED" && r.KMSID == "" {
		o.fault(o.at("kms_id"), "", "must be given with encrypt_type ENCRYPTED")
	}
	r.HandleType = o.choice("handle_type", HandleTypes...)
	r.RebuildCurrent = o.isTrue("rebuild_current")
	r.AllowOSChange = o.isTrue("allow_os_change")
	if busy := o.choice("when_busy", WhenBusyWords...); busy != BusyWaits { // the default has one form, and one digest
		r.WhenBusy = busy
	}
	r.OverrideRollout = o.isTrue("override_rollout")
	return r
}

func readThen(o *object) *Then {
	then := o.child("then")
	if then == nil {
		return nil
	}
	rebuild := then.child("rebuild")
	then.done()
	if rebuild == nil {
		if !then.given("rebuild") {
			o.fault(o.at("then"), "", "must contain rebuild")
		}
		return nil
	}
	r := &ThenRebuild{DesktopIDs: rebuild.desktopIDs(true)}
	r.RebuildOptions = readRebuildOptions(rebuild)
	rebuild.done()
	return &Then{Rebuild: r}
}

func readImageName(o *object) string {
	name, ok := o.requireText("image_name", maxName)
	if !ok {
		return ""
	}
	if r, bad := outside(name); bad {
		o.fault(o.at("image_name"), shorten(string(r)), alphabet)
	} else if strings.TrimSpace(name) != name {
		o.fault(o.at("image_name"), strconv.Quote(name), "may not begin or end with white space")
	}
	return name
}

const alphabet = "may have CJK (U+4E00 to U+9FA5), ASCII letters, digits, white space, - _ and . only"

// outside finds the first character that the service does not accept in image names and descriptions.
func outside(s string) (rune, bool) {
	for _, r := range s {
		switch {
		case r >= 0x4e00 && r <= 0x9fa5, r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
		case r == '-', r == '_', r == '.', r == ' ', r == '\t', r == '\n', r == '\r', r == '\f', r == '\v':
		default:
			return r, true
		}
	}
	return 0, false
}

func readTags(o *object) []Tag {
	v, ok := o.value("image_tags")
	if !ok {
		return nil
	}
	if v[0] != '[' {
		o.fault(o.at("image_tags"), shorten(v), "must be a list of {key, value}")
		return nil
	}
	var tags []Tag
	keys := map[string]bool{}
	i := 0
	for _, r := range members(v) {
		if i++; i > maxTags {
			continue
		}
		if tag := openObject(r, o.at("image_tags")+indexed(i-1), o.faults); tag != nil {
			tags = append(tags, Tag{Key: tag.text("key", maxTagText), Value: tag.text("value", maxTagText)})
			tag.done()
			key := tags[len(tags)-1].Key
			if keys[key] && key != "" {
				o.fault(o.at("image_tags")+indexed(i-1)+".key", shorten(strconv.Quote(key)), "is the key of an earlier tag too; give each key once")
			}
			keys[key] = true
		}
	}
	if i > maxTags {
		o.fault(o.at("image_tags"), fmt.Sprintf("%d tags", i), "must have at most %d tags", maxTags)
	}
	return tags
}

// Parts cuts the list of desktops into groups of at most MaxRebuildCall, in order.
func (r Rebuild) Parts() [][]string {
	return slices.Collect(slices.Chunk(r.DesktopIDs, MaxRebuildCall))
}

// Only is the same rebuild for some of its desktops.
func (r Rebuild) Only(desktopIDs []string) Rebuild {
	r.DesktopIDs = desktopIDs
	return r
}

// WithImage completes the rebuild with the image that the job before it has made.
func (t ThenRebuild) WithImage(imageID, imageType string) Rebuild {
	return Rebuild{DesktopIDs: t.DesktopIDs, ImageID: imageID, ImageType: imageType, RebuildOptions: t.RebuildOptions}
}
