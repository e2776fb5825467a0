// Package runner is what handlers are written with in Go: a function from typed args to a value, or an error.
//
//	package main
//
//	import "runner"
//
//	type Args struct {
//		Name  string `json:"name"`
//		Shout bool   `json:"shout,omitempty"`
//	}
//
//	type Output struct {
//		Greeting string `json:"greeting"`
//	}
//
//	func greet(cx *runner.Context, args Args) (Output, error) {
//		if args.Name == "" {
//			return Output{}, runner.Discard("nobody to greet")
//		}
//		cx.Info("attempt %d", cx.Attempt)
//		return Output{Greeting: "Hello, " + args.Name + "!"}, nil
//	}
//
//	func init() { runner.Handle("hello.greet", greet) }
//
//	func main() { runner.Main() }
//
// The same source is a component, with every call of the runner (`runner plugin build`, which sets the build tag
// `component`), or a WASI command (`GOOS=wasip1 GOARCH=wasm go build`), which can compute, print, enqueue and answer: it has
// its job from standard input and answers on standard output, and makes no call while it runs.
//
// It deliberately keeps nothing between runs: every run has an instance of its own.
package runner

import (
	"encoding/json"
	"errors"
	"fmt"
	"sort"
	"strings"
	"time"
)

// Raw is args or an output as bytes, which need not be JSON.
type Raw []byte

// Nothing is the output of a handler that has nothing to say, and args that nobody reads.
type Nothing struct{}

type handler func(cx *Context, args []byte) ([]byte, error)

var handlers = map[string]handler{}

// Handle makes a function the handler of a kind. Args are JSON: a job whose args do not fit is discarded, with the field in the
// reason. A field is required unless it is a pointer or has `omitempty`. Any error is a failed attempt, except what Discard,
// Snooze and Retry make.
func Handle[Args, Output any](kind string, handle func(*Context, Args) (Output, error)) {
	if _, twice := handlers[kind]; twice {
		panic("runner: the kind " + kind + " has two handlers")
	}
	handlers[kind] = func(cx *Context, bytes []byte) ([]byte, error) {
		args, err := read[Args](bytes)
		if err != nil {
			return nil, err
		}
		output, err := handle(cx, args)
		if err != nil {
			return nil, err
		}
		return written(output)
	}
}

func written(output any) ([]byte, error) {
	switch output := output.(type) {
	case Raw:
		return output, nil
	case Nothing, nil:
		return nil, nil
	case *Failure:
		// Returned as the value, where it was meant as the error; as JSON it would be an empty object.
		if output == nil {
			return nil, nil
		}
		return nil, output
	}
	bytes, err := json.Marshal(output)
	if err != nil {
		return nil, Discard("the output is not JSON: %v", err)
	}
	return bytes, nil
}

// The only handler serves whatever kinds the manifest names.
func dispatch(cx *Context, args []byte) ([]byte, error) {
	if handle, found := handlers[cx.Kind]; found {
		return handle(cx, args)
	}
	if len(handlers) == 1 {
		for _, handle := range handlers {
			return handle(cx, args)
		}
	}
	if len(handlers) == 0 {
		// Not a discard: the jobs are right, and the plugin will be.
		return nil, errors.New("this plugin has no handler: call runner.Handle in `func init()`; a component has no `main`")
	}
	kinds := make([]string, 0, len(handlers))
	for kind := range handlers {
		kinds = append(kinds, kind)
	}
	sort.Strings(kinds)
	return nil, Discard("this plugin has no handler for %q; it has %s", cx.Kind, strings.Join(kinds, ", "))
}

// Failure is how a handler ends other than with a value. It is an error; any other error is a retry with its text.
type Failure struct {
	end    string
	text   string
	after  time.Duration
	states bool
}

// Retry asks for another attempt, by the job's retry policy.
func Retry(format string, args ...any) *Failure {
	return &Failure{end: "retry", text: fmt.Sprintf(format, args...)}
}

// Discard gives up for good: what was asked for will never work.
func Discard(format string, args ...any) *Failure {
	return &Failure{end: "discard", text: fmt.Sprintf(format, args...)}
}

// Snooze runs the job later; no attempt is counted. The runner takes 100 ms to 30 days.
func Snooze(after time.Duration, format string, args ...any) *Failure {
	return &Failure{end: "snooze", text: fmt.Sprintf(format, args...), after: after, states: true}
}

// After says when to try again.
func (f *Failure) After(delay time.Duration) *Failure {
	f.after, f.states = delay, true
	return f
}

func (f *Failure) Error() string { return f.text }

func failure(err error) *Failure {
	var known *Failure
	if errors.As(err, &known) {
		if known == nil {
			return Retry("the handler's error is a nil *runner.Failure, which is an error in Go: answer with nil itself")
		}
		return known
	}
	return Retry("%s", err.Error())
}

func (f *Failure) millis() uint32 {
	ms := f.after.Milliseconds()
	return uint32(max(0, min(ms, 1<<32-1)))
}
