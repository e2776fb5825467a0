package runner

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"strings"
)

// Args as a type of Go, or a discard that names the field.
func read[Args any](input []byte) (Args, error) {
	var args Args
	switch into := any(&args).(type) {
	case *Raw:
		*into = input
		return args, nil
	case *Nothing:
		return args, nil
	}
	if err := json.Unmarshal(input, &args); err != nil {
		return args, misfit(err)
	}
	if missing := missing(reflect.TypeFor[Args](), input, ""); missing != "" {
		return args, Discard("args do not fit: `%s`: it is missing", missing)
	}
	return args, nil
}

func misfit(err error) error {
	var wrong *json.UnmarshalTypeError
	if !errors.As(err, &wrong) {
		return Discard("args are not JSON: %v", err)
	}
	where := ""
	if wrong.Field != "" {
		where = fmt.Sprintf("`%s`: ", wrong.Field)
	}
	return Discard("args do not fit: %sis a %s, and must be %s", where, wrong.Value, called(wrong.Type))
}

func called(wanted reflect.Type) string {
	switch wanted.Kind() {
	case reflect.Struct, reflect.Map:
		return "an object"
	case reflect.Slice, reflect.Array:
		return "a list"
	}
	return wanted.String()
}

// The path of the first required field that is not there.
func missing(wanted reflect.Type, input json.RawMessage, path string) string {
	if wanted.Kind() == reflect.Pointer {
		if isNull(input) {
			return ""
		}
		return missing(wanted.Elem(), input, path)
	}
	if wanted.Implements(reflect.TypeFor[json.Unmarshaler]()) || reflect.PointerTo(wanted).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return ""
	}
	switch wanted.Kind() {
	case reflect.Slice:
		return missingInList(wanted.Elem(), input, path)
	case reflect.Struct:
		return missingInObject(wanted, input, path)
	}
	return ""
}

func missingInList(wanted reflect.Type, input json.RawMessage, path string) string {
	part := wanted
	for part.Kind() == reflect.Pointer {
		part = part.Elem()
	}
	if part.Kind() != reflect.Struct && part.Kind() != reflect.Slice {
		return ""
	}
	var items []json.RawMessage
	if json.Unmarshal(input, &items) != nil {
		return ""
	}
	for i, item := range items {
		if found := missing(wanted, item, fmt.Sprintf("%s[%d]", path, i)); found != "" {
			return found
		}
	}
	return ""
}

func missingInObject(wanted reflect.Type, input json.RawMessage, path string) string {
	// Of null nothing is there.
	var members map[string]json.RawMessage
	if json.Unmarshal(input, &members) != nil {
		return ""
	}
	for i := range wanted.NumField() {
		field := wanted.Field(i)
		name, options, _ := strings.Cut(field.Tag.Get("json"), ",")
		if !field.IsExported() || name == "-" || field.Anonymous {
			continue
		}
		if name == "" {
			name = field.Name
		}
		value, found := member(members, name)
		at := strings.TrimPrefix(path+"."+name, ".")
		if !found || isNull(value) && isPlain(field.Type) {
			if field.Type.Kind() != reflect.Pointer && !strings.Contains(options, "omitempty") && !strings.Contains(options, "omitzero") {
				return at
			}
			continue
		}
		if deeper := missing(field.Type, value, at); deeper != "" {
			return deeper
		}
	}
	return ""
}

func isNull(input json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(input), []byte("null")) }

// Whether null leaves a value of this type as it is, unseen: a list of Go's that is nil is null, and read as one; a text is not.
func isPlain(wanted reflect.Type) bool {
	if reflect.PointerTo(wanted).Implements(reflect.TypeFor[json.Unmarshaler]()) {
		return false
	}
	kind := wanted.Kind()
	return kind >= reflect.Bool && kind <= reflect.Float64 || kind == reflect.String
}

// As encoding/json finds it: exactly, or else whatever the case of its letters.
func member(members map[string]json.RawMessage, name string) (json.RawMessage, bool) {
	if value, found := members[name]; found {
		return value, true
	}
	for key, value := range members {
		if strings.EqualFold(key, name) {
			return value, true
		}
	}
	return nil, false
}
