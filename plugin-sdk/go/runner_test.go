//go:build !wasip1

package runner

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

// A plugin without handlers discarded every job for good, with an empty list of what it has; whoever calls Handle in `main`, as
// a command may, gets one of these as a component.
func TestWithoutHandlersNoJobIsGivenUp(t *testing.T) {
	world := Test{}
	_, err := world.Run("a.b", Nothing{})
	if err == nil || End(err) != "retry" || !strings.Contains(err.Error(), "func init()") {
		t.Error(err)
	}
}

// In Go, a nil pointer in an error is an error: it was a panic of the SDK's, in a place that the author has never seen.
func TestANilFailureIsNamed(t *testing.T) {
	var none *Failure
	if end := failure(none); end.end != "retry" || !strings.Contains(end.text, "nil *runner.Failure") {
		t.Error(end)
	}
	if end := failure(fmt.Errorf("while reading: %w", Discard("gone"))); end.end != "discard" || end.text != "gone" {
		t.Error(end)
	}
	if end := failure(errors.New("plain")); end.end != "retry" || end.text != "plain" {
		t.Error(end)
	}
}

// Go's text may be any bytes, the contract's is UTF-8: an error that quoted what it could not read ended the run as a trap.
func TestWhatIsSaidIsText(t *testing.T) {
	if got := said("bad \xff\xfe, ä"); got != "bad \uFFFD, ä" {
		t.Errorf("%q", got)
	}
}

// The world of tests raised it to 25, so that no test could see a last attempt.
func TestAWorldHasTheAttemptsItIsGiven(t *testing.T) {
	seen := map[bool]int{}
	Handle("sdk.last", func(cx *Context, _ Nothing) (Nothing, error) {
		seen[cx.LastAttempt()]++
		return Nothing{}, nil
	})
	defer delete(handlers, "sdk.last")
	for _, job := range []Job{{}, {Attempt: 2, MaxAttempts: 3}, {Attempt: 3, MaxAttempts: 3}} {
		world := Test{Job: job}
		if _, err := world.Run("sdk.last", Nothing{}); err != nil {
			t.Error(err)
		}
	}
	if seen[true] != 1 || seen[false] != 2 {
		t.Error(seen)
	}
}

// null is nothing to encoding/json, whatever the type: a job whose args were null, or had null for a text, ran with empty ones.
func TestNullIsMissing(t *testing.T) {
	type user struct {
		ID   int     `json:"id"`
		Nick *string `json:"nick"`
	}
	type args struct {
		Name  string         `json:"name"`
		User  user           `json:"user"`
		Peers []*user        `json:"peers"`
		More  map[string]any `json:"more"`
		Any   any            `json:"any"`
		Size  float64        `json:"size,omitempty"`
	}
	const right = `{"name": "a", "user": {"id": 1}, "peers": [], "more": {}, "any": 1}`
	for _, given := range [][2]string{
		{right, ""},
		{`null`, "name"},
		{`{"name": null, "user": {"id": 1}, "peers": [], "more": {}, "any": 1}`, "name"},
		{`{"name": "a", "user": null, "peers": [], "more": {}, "any": 1}`, "user.id"},
		{`{"name": "a", "user": {"id": null}, "peers": [], "more": {}, "any": 1}`, "user.id"},
		{`{"name": "a", "user": {"id": 1}, "peers": [{"id": 1}, {}], "more": {}, "any": 1}`, "peers[1].id"},
		{`{"name": "a", "user": {"id": 1, "nick": null}, "peers": [null], "more": null, "any": null, "size": null}`, ""},
		{`{"name": "a", "user": {"id": 1}, "peers": null, "more": {}, "any": 1}`, ""},
	} {
		_, err := read[args]([]byte(given[0]))
		if given[1] == "" && err != nil || given[1] != "" && (err == nil || err.Error() != "args do not fit: `"+given[1]+"`: it is missing") {
			t.Errorf("%s: %v", given[0], err)
		}
	}
	if _, err := read[Nothing]([]byte("null")); err != nil {
		t.Error(err)
	}
}

// It completed the job, with an empty object as its output.
func TestAFailureInThePlaceOfTheValueIsOne(t *testing.T) {
	Handle("sdk.value", func(*Context, Nothing) (any, error) { return Discard("never"), nil })
	defer delete(handlers, "sdk.value")
	world := Test{}
	if output, err := world.Run("sdk.value", Nothing{}); err == nil || End(err) != "discard" || err.Error() != "never" {
		t.Errorf("%s, %v", output, err)
	}
}

// A command reads the job and its args at once: args that are nested too deep were a job that it could not read, and tried again.
func TestArgsOfACommandThatAreNestedTooDeepAreGivenUp(t *testing.T) {
	deep := strings.Repeat("[", 20_000) + strings.Repeat("]", 20_000)
	if line := string(answer([]byte(`{"id": "1", "args": ` + deep + `}`))); !strings.HasPrefix(line, `{"discard": "args are not JSON`) {
		t.Error(line)
	}
}

// A key read from somewhere that was no UTF-8 ended the run as a trap in the runner's words, and was tried again and again.
func TestANameThatIsNoTextIsAnError(t *testing.T) {
	const bad = "a\xff"
	headers := [][2]string{{"x-a", bad}}
	calls := []struct {
		what string
		call func(cx *Context) error
	}{
		{"key", func(cx *Context) error { _, _, err := cx.KV().Get(bad); return err }},
		{"key", func(cx *Context) error { return cx.KV().Set(bad, nil) }},
		{"key", func(cx *Context) error { return cx.KV().Remove(bad) }},
		{"key", func(cx *Context) error { return cx.KV().CompareAndSet(bad, nil, nil) }},
		{"prefix", func(cx *Context) error { _, err := cx.KV().Keys(bad, "", 1); return err }},
		{"key", func(cx *Context) error { _, err := cx.KV().Keys("", bad, 1); return err }},
		{"container", func(cx *Context) error { _, _, err := cx.Blobs(bad).Size("a"); return err }},
		{"blob's name", func(cx *Context) error { _, err := cx.Blobs("box").Read(bad, 0, 1); return err }},
		{"blob's name", func(cx *Context) error { return cx.Blobs("box").Write(bad, nil) }},
		{"blob's name", func(cx *Context) error { return cx.Blobs("box").Remove(bad) }},
		{"prefix", func(cx *Context) error { _, err := cx.Blobs("box").Names(bad, "", 1); return err }},
		{"job's id", func(cx *Context) error { _, _, err := cx.OutputOf(bad); return err }},
		{"kind of the new job", func(cx *Context) error { _, err := cx.Enqueue(NewJob{Kind: bad}); return err }},
		{"URL", func(cx *Context) error { _, err := cx.Send(Request{Method: "GET", URL: bad}); return err }},
		{"value of the header x-a", func(cx *Context) error { _, err := cx.Send(Request{Header: headers}); return err }},
		{"setting's name", func(cx *Context) error { _, _, err := cx.Config(bad); return err }},
		{"secret's name", func(cx *Context) error { _, err := cx.Secret(bad); return err }},
	}
	Handle("sdk.text", func(cx *Context, _ Nothing) (Nothing, error) {
		for _, asked := range calls {
			var refused *CallError
			want := "the " + asked.what + ` is no UTF-8 text: "a\xff"`
			if err := asked.call(cx); !errors.As(err, &refused) || refused.Code != "invalid" || refused.Message != want {
				t.Errorf("%s: %v", asked.what, err)
			}
		}
		cx.Info("said %s", bad)
		return Nothing{}, cx.KV().Set("ä", []byte("1"))
	})
	defer delete(handlers, "sdk.text")
	world := Test{Stored: map[string]map[string][]byte{"box": {}}}
	if _, err := world.Run("sdk.text", Nothing{}); err != nil || len(world.Values) != 1 || world.Logs[0] != "info: said a\uFFFD" {
		t.Error(err, world.Values, world.Logs)
	}
}
