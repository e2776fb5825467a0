package runner

import (
	"fmt"
	"strings"
	"unicode/utf8"
)

// What the contract calls text is UTF-8, and Go's may be any bytes: those would end the run as a trap. A name that is none is
// refused as the runner refuses what it cannot take, in components, commands and tests alike; what is only said is mended.

// What is said as text: bytes that are none become U+FFFD, as in JSON.
func said(text string) string { return strings.ToValidUTF8(text, "\uFFFD") }

// A host that is asked with text only.
type asked struct{ host }

func notText(what, text string) error {
	if utf8.ValidString(text) {
		return nil
	}
	return &CallError{"invalid", fmt.Sprintf("the %s is no UTF-8 text: %.60q", what, text)}
}

// The first that is none, of pairs of what it is and its text.
func noneIsBytes(pairs ...string) error {
	for i := 0; i+1 < len(pairs); i += 2 {
		if err := notText(pairs[i], pairs[i+1]); err != nil {
			return err
		}
	}
	return nil
}

func (a asked) log(level Level, message string)        { a.host.log(level, said(message)) }
func (a asked) progress(percent uint8, message string) { a.host.progress(percent, said(message)) }

func (a asked) enqueue(kind string, args []byte, options string) (string, error) {
	if err := noneIsBytes("kind of the new job", kind, "options of the new job", options); err != nil {
		return "", err
	}
	return a.host.enqueue(kind, args, options)
}

func (a asked) outputOf(jobID string) ([]byte, bool, error) {
	if err := notText("job's id", jobID); err != nil {
		return nil, false, err
	}
	return a.host.outputOf(jobID)
}

func (a asked) kvGet(key string) ([]byte, bool, error) {
	if err := notText("key", key); err != nil {
		return nil, false, err
	}
	return a.host.kvGet(key)
}

func (a asked) kvSet(key string, value []byte) error {
	if err := notText("key", key); err != nil {
		return err
	}
	return a.host.kvSet(key, value)
}

func (a asked) kvRemove(key string) error {
	if err := notText("key", key); err != nil {
		return err
	}
	return a.host.kvRemove(key)
}

func (a asked) kvCompareAndSet(key string, expected, value []byte) error {
	if err := notText("key", key); err != nil {
		return err
	}
	return a.host.kvCompareAndSet(key, expected, value)
}

func (a asked) kvKeys(prefix, after string, limit uint32) ([]string, error) {
	if err := noneIsBytes("prefix", prefix, "key", after); err != nil {
		return nil, err
	}
	return a.host.kvKeys(prefix, after, limit)
}

func (a asked) blobSize(container, name string) (uint32, bool, error) {
	if err := noneIsBytes("container", container, "blob's name", name); err != nil {
		return 0, false, err
	}
	return a.host.blobSize(container, name)
}

func (a asked) blobRead(container, name string, offset, length uint32) ([]byte, error) {
	if err := noneIsBytes("container", container, "blob's name", name); err != nil {
		return nil, err
	}
	return a.host.blobRead(container, name, offset, length)
}

func (a asked) blobBegin(container, name string) (uint32, error) {
	if err := noneIsBytes("container", container, "blob's name", name); err != nil {
		return 0, err
	}
	return a.host.blobBegin(container, name)
}

func (a asked) blobRemove(container, name string) error {
	if err := noneIsBytes("container", container, "blob's name", name); err != nil {
		return err
	}
	return a.host.blobRemove(container, name)
}

func (a asked) blobNames(container, prefix, after string, limit uint32) ([]string, error) {
	if err := noneIsBytes("container", container, "prefix", prefix, "blob's name", after); err != nil {
		return nil, err
	}
	return a.host.blobNames(container, prefix, after, limit)
}

func (a asked) send(request Request) (Response, error) {
	if err := noneIsBytes("method", request.Method, "URL", request.URL); err != nil {
		return Response{}, err
	}
	for _, pair := range request.Header {
		if err := noneIsBytes("header's name", pair[0], "value of the header "+said(pair[0]), pair[1]); err != nil {
			return Response{}, err
		}
	}
	return a.host.send(request)
}

func (a asked) config(name string) (string, bool, error) {
	if err := notText("setting's name", name); err != nil {
		return "", false, err
	}
	return a.host.config(name)
}

func (a asked) secret(name string) (string, error) {
	if err := notText("secret's name", name); err != nil {
		return "", err
	}
	return a.host.secret(name)
}
