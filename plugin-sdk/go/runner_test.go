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
