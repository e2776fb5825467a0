// The test handler of the Go SDK: does what `do` in its args says; what must come of it stands in ../behaviours.toml. Built as a
// component and as a WASI command.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"runner"
)

type user struct {
	ID   uint32 `json:"id"`
	Name string `json:"name,omitempty"`
}

type ask struct {
	Do      string          `json:"do"`
	Value   json.RawMessage `json:"value,omitempty"`
	AfterMs *uint32         `json:"after_ms"`
	User    *user           `json:"user"`
	Kind    string          `json:"kind,omitempty"`
	URL     string          `json:"url,omitempty"`
}

type object = map[string]any

func conformance(cx *runner.Context, ask ask) (any, error) {
	switch ask.Do {
	case "echo":
		return ask.Value, nil
	case "nothing":
		return runner.Nothing{}, nil
	case "retry":
		if ask.AfterMs == nil {
			return nil, runner.Retry("not now")
		}
		return nil, runner.Retry("not now").After(time.Duration(*ask.AfterMs) * time.Millisecond)
	case "discard":
		return nil, runner.Discard("never")
	case "snooze":
		return nil, runner.Snooze(time.Duration(*ask.AfterMs)*time.Millisecond, "too early")
	case "error":
		return nil, errors.New("an ordinary error")
	case "panic":
		panic("on purpose")
	case "typed":
		return ask.User, nil
	case "job":
		return object{"id": cx.ID, "kind": cx.Kind, "tenant": cx.Tenant, "queue": cx.Queue, "run": cx.Run,
			"attempt": cx.Attempt, "max_attempts": cx.MaxAttempts, "tags": cx.Tags}, nil
	case "print":
		fmt.Println("printed ✓")
		return nil, nil
	case "resume":
		return string(cx.Checkpoint), nil
	case "spin":
		for turns := 0; ; turns++ {
			_ = turns
		}
	case "hog":
		return hog(), nil
	}
	return calls(cx, ask)
}

func calls(cx *runner.Context, ask ask) (any, error) {
	switch ask.Do {
	case "log":
		cx.Trace("a trace")
		cx.Debug("a debug")
		cx.Info("an info ✓")
		cx.Warn("a warn")
		cx.Error("an error")
		return nil, nil
	case "enqueue":
		id, err := cx.Enqueue(runner.NewJob{Kind: ask.Kind, Args: object{"n": 1}, Options: object{"queue": "children"}})
		return refusedOr(object{"id": id}, err)
	case "progress":
		cx.Progress(40, "half ½")
		return nil, nil
	case "checkpoint":
		return nil, cx.Leave([]byte("page 7"))
	case "cancelled":
		return cx.Cancelled(), nil
	case "kv":
		return durable(cx.KV())
	case "blobs":
		return stored(cx.Blobs("box"))
	case "blobs_denied":
		size, _, err := cx.Blobs("other").Size("x")
		return refusedOr(size, err)
	case "config":
		return configured(cx)
	case "http":
		answer, err := cx.Send(runner.Request{Method: "POST", URL: ask.URL, Body: []byte("ping")})
		return refusedOr(object{"status": answer.Status, "body": string(answer.Body)}, err)
	}
	return nil, runner.Discard("args do not fit: `do`: %q is unknown", ask.Do)
}

func refusedOr(value any, err error) (any, error) {
	var refused *runner.CallError
	if errors.As(err, &refused) {
		return object{"refused": refused.Code}, nil
	}
	return value, err
}

func text(value []byte, found bool) any {
	if !found {
		return nil
	}
	return string(value)
}

func durable(kv runner.KV) (any, error) {
	err := errors.Join(kv.Set("k/a", []byte("1")), kv.CompareAndSet("k/b", nil, []byte("2")), kv.Set("k/c", []byte("3")), kv.Remove("k/c"))
	a, hasA, errA := kv.Get("k/a")
	c, hasC, errC := kv.Get("k/c")
	keys, errKeys := kv.Keys("k/", "", 10)
	return object{"got": text(a, hasA), "absent": text(c, hasC), "keys": keys}, errors.Join(err, errA, errC, errKeys)
}

func stored(box runner.Blobs) (any, error) {
	writer, err := box.Create("d/one")
	if err != nil {
		return nil, err
	}
	_, err1 := writer.Write([]byte("hello"))
	_, err2 := writer.Write([]byte("world"))
	err = errors.Join(err1, err2, writer.Finish(), box.Write("d/two", []byte("2")), box.Remove("d/two"))
	size, _, errSize := box.Size("d/one")
	read, errRead := box.Read("d/one", 0, 5)
	names, errNames := box.Names("d/", "", 10)
	_, isThere, errGone := box.Size("d/two")
	var gone any
	if isThere {
		gone = true
	}
	return object{"size": size, "read": string(read), "names": names, "gone": gone}, errors.Join(err, errSize, errRead, errNames, errGone)
}

func configured(cx *runner.Context) (any, error) {
	greeting, hasGreeting, err1 := cx.Config("GREETING")
	unset, hasUnset, err2 := cx.Config("UNSET")
	secret, err3 := cx.Secret("PASSWORD")
	return object{"greeting": text([]byte(greeting), hasGreeting), "unset": text([]byte(unset), hasUnset), "secret": secret},
		errors.Join(err1, err2, err3)
}

func hog() int {
	all := [][]byte{}
	for {
		taken := make([]byte, 1<<20)
		for i := range taken {
			taken[i] = 1
		}
		all = append(all, taken)
	}
}

func init() { runner.Handle("conformance", conformance) }

func main() { runner.Main() }
