//go:build !wasip1

package runner

import (
	"encoding/json"
	"fmt"
	"sort"
	"strings"
)

// Test is a world for one run, for `go test`: what the job is, what lies there before, and what the run left.
type Test struct {
	Job     Job
	Values  map[string][]byte            // kv
	Stored  map[string]map[string][]byte // blobs, by container
	Configs map[string]string
	Secrets map[string]string
	Answer  func(Request) (Response, error)
	// Left by the run.
	Logs       []string // "info: …"
	Enqueued   []NewJob
	Left       []byte // the checkpoint
	Percent    uint8
	Said       string // the text of the last progress
	Cancel     bool
	written    map[uint32]*unfinished
	lastWriter uint32
}

type unfinished struct {
	container, name string
	data            []byte
}

// Run runs the handler of the test's kind on args, which are made JSON unless they are Raw. The output is nil unless it completed.
func (t *Test) Run(kind string, args any) ([]byte, error) {
	input, isRaw := args.(Raw)
	if !isRaw {
		made, err := json.Marshal(args)
		if err != nil {
			return nil, err
		}
		input = made
	}
	job := t.Job
	job.Kind = kind
	if job.ID == "" {
		job.ID, job.Tenant, job.Queue = "1", "default", "default"
	}
	job.Run, job.Attempt = max(job.Run, 1), max(job.Attempt, 1)
	if job.MaxAttempts == 0 {
		job.MaxAttempts = 25
	}
	return dispatch(&Context{Job: job, host: asked{t}}, input)
}

// End says how an error of Run ends a job: "retry", "discard" or "snooze".
func End(err error) string { return failure(err).end }

func (t *Test) log(level Level, message string) {
	levels := [...]string{"trace", "debug", "info", "warn", "error"}
	t.Logs = append(t.Logs, levels[level]+": "+message)
}

func (t *Test) progress(percent uint8, message string) { t.Percent, t.Said = percent, message }
func (t *Test) cancelled() bool                        { return t.Cancel }

func (t *Test) enqueue(kind string, args []byte, options string) (string, error) {
	job := NewJob{Kind: kind, Args: Raw(args), Options: map[string]any{}}
	if options != "" {
		if err := json.Unmarshal([]byte(options), &job.Options); err != nil {
			return "", &CallError{"invalid", err.Error()}
		}
	}
	t.Enqueued = append(t.Enqueued, job)
	return fmt.Sprint(100 + len(t.Enqueued)), nil
}

func (t *Test) checkpoint(data []byte) error { t.Left = data; return nil }

func (t *Test) outputOf(id string) ([]byte, bool, error) {
	return nil, false, &CallError{"not_found", "this job does not depend on a job `" + id + "`"}
}

func (t *Test) pauseSchedule() error { return &CallError{"not_found", "no schedule made this job"} }

func (t *Test) kvGet(key string) ([]byte, bool, error) {
	value, found := t.Values[key]
	return value, found, nil
}

func (t *Test) kvSet(key string, value []byte) error {
	if t.Values == nil {
		t.Values = map[string][]byte{}
	}
	t.Values[key] = append([]byte{}, value...)
	return nil
}

func (t *Test) kvRemove(key string) error { delete(t.Values, key); return nil }

func (t *Test) kvCompareAndSet(key string, expected, value []byte) error {
	if value == nil {
		return t.kvRemove(key)
	}
	return t.kvSet(key, value)
}

func (t *Test) kvKeys(prefix, after string, limit uint32) ([]string, error) {
	return names(t.Values, prefix, after, limit), nil
}

func names(all map[string][]byte, prefix, after string, limit uint32) []string {
	found := []string{}
	for name := range all {
		if strings.HasPrefix(name, prefix) && name > after {
			found = append(found, name)
		}
	}
	sort.Strings(found)
	return found[:min(len(found), int(limit))]
}

func (t *Test) container(name string) (map[string][]byte, error) {
	if container, found := t.Stored[name]; found {
		return container, nil
	}
	return nil, &CallError{"denied", "the container `" + name + "` is not in the test's Stored"}
}

func (t *Test) blobSize(container, name string) (uint32, bool, error) {
	blobs, err := t.container(container)
	data, found := blobs[name]
	return uint32(len(data)), found, err
}

func (t *Test) blobRead(container, name string, offset, length uint32) ([]byte, error) {
	blobs, err := t.container(container)
	if err != nil {
		return nil, err
	}
	data, found := blobs[name]
	if !found {
		return nil, &CallError{"not_found", "there is no blob `" + name + "`"}
	}
	from := min(uint64(offset), uint64(len(data)))
	return data[from:min(from+uint64(min(length, partBytesMax)), uint64(len(data)))], nil
}

func (t *Test) blobBegin(container, name string) (uint32, error) {
	if _, err := t.container(container); err != nil {
		return 0, err
	}
	if t.written == nil {
		t.written = map[uint32]*unfinished{}
	}
	t.lastWriter++
	t.written[t.lastWriter] = &unfinished{container: container, name: name, data: []byte{}}
	return t.lastWriter, nil
}

func (t *Test) blobWrite(writer uint32, data []byte) error {
	blob, found := t.written[writer]
	if !found {
		return &CallError{"invalid", "no such writer"}
	}
	blob.data = append(blob.data, data...)
	return nil
}

func (t *Test) blobFinish(writer uint32) error {
	blob, found := t.written[writer]
	if !found {
		return &CallError{"invalid", "no such writer"}
	}
	delete(t.written, writer)
	t.Stored[blob.container][blob.name] = blob.data
	return nil
}

func (t *Test) blobRemove(container, name string) error {
	blobs, err := t.container(container)
	delete(blobs, name)
	return err
}

func (t *Test) blobNames(container, prefix, after string, limit uint32) ([]string, error) {
	blobs, err := t.container(container)
	return names(blobs, prefix, after, limit), err
}

func (t *Test) send(request Request) (Response, error) {
	if t.Answer == nil {
		return Response{}, &CallError{"denied", "the test has no Answer"}
	}
	return t.Answer(request)
}

func (t *Test) config(name string) (string, bool, error) {
	value, found := t.Configs[name]
	return value, found, nil
}

func (t *Test) secret(name string) (string, error) {
	if value, found := t.Secrets[name]; found {
		return value, nil
	}
	return "", &CallError{"denied", "the secret `" + name + "` is not in the test's Secrets"}
}
