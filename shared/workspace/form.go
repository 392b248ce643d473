package workspace

import (
	"reflect"
	"sync"
)

// shape is what the value of a known field must look like.
type shape int

const (
	anything shape = iota
	text
	moments
	integer
	boolean
	texts
	textMap
	object
	objects
	addresses
)

// known is a field of a form.
type known struct {
	shape    shape
	form     *form // of an object, or of the objects in a list
	personal bool
	required bool
}

// form describes the objects of one type.
type form struct {
	fields   map[string]known
	folded   map[uint64]bool // of all names under which a reader would find a field
	required int
}

var (
	desktopForm = sync.OnceValue(func() *form { return formOf(reflect.TypeFor[Desktop]()) })
	imageForm   = sync.OnceValue(func() *form { return formOf(reflect.TypeFor[ImageInfo]()) })
)

func formOf(t reflect.Type) *form {
	f := &form{fields: map[string]known{}, folded: map[uint64]bool{}}
	for field := range t.Fields() {
		name, other := fieldNames(field)
		if field.Type == extraType {
			continue
		}
		k := known{shape: text, personal: field.Tag.Get("personal") != "", required: field.Tag.Get("empty") == "keep"}
		switch reflect.New(field.Type).Interface().(type) {
		case *string:
		case *Time:
			k.shape = moments
		case **int64:
			k.shape = integer
		case **bool:
			k.shape = boolean
		case *[]string:
			k.shape = texts
		case *map[string]string:
			k.shape = textMap
		case *Addresses:
			k.shape, k.form = addresses, formOf(reflect.TypeFor[Address]())
		default:
			k.shape = object
			if field.Type.Kind() == reflect.Slice {
				k.shape = objects
			}
			k.form = formOf(field.Type.Elem())
		}
		f.fields[name] = k
		f.folded[foldedName([]byte(name))] = true
		if other != "" {
			f.folded[foldedName([]byte(other))] = true
		}
		if k.required {
			f.required++
		}
	}
	return f
}

// foldedName is a hash (FNV-1a) of a name without its case. Names with the same hash count as the same.
func foldedName(name []byte) uint64 {
	h := uint64(14695981039346656037)
	for _, c := range name {
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		h = (h ^ uint64(c)) * 1099511628211
	}
	return h
}
