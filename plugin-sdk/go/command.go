//go:build !component

package runner

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"time"
)

// Main runs one job as a WASI command: a JSON object from standard input, and as the last line of standard output an answer.
func Main() {
	input, err := io.ReadAll(os.Stdin)
	if err != nil {
		fmt.Fprintln(os.Stderr, "standard input cannot be read:", err)
		os.Exit(75)
	}
	line := answer(input)
	out := bufio.NewWriter(os.Stdout)
	// Standard output that is closed leaves nobody to tell.
	_, _ = out.Write(append(line, '\n'))
	_ = out.Flush()
}

type commandInput struct {
	ID           string            `json:"id"`
	Kind         string            `json:"kind"`
	Tenant       string            `json:"tenant"`
	Queue        string            `json:"queue"`
	Args         json.RawMessage   `json:"args"`
	ArgsBase64   []byte            `json:"args_base64"`
	Run          uint32            `json:"run"`
	Attempt      uint32            `json:"attempt"`
	MaxAttempts  uint32            `json:"max_attempts"`
	Priority     int16             `json:"priority"`
	EnqueuedAt   string            `json:"enqueued_at"`
	RunAt        string            `json:"run_at"`
	TimeoutMs    uint64            `json:"timeout_ms"`
	Tags         map[string]string `json:"tags"`
	Checkpoint   []byte            `json:"checkpoint_base64"`
	Dependencies []string          `json:"dependencies"`
	Meta         map[string]string `json:"meta"`
}

func answer(input []byte) []byte {
	var job commandInput
	if err := json.Unmarshal(input, &job); err != nil {
		// The runner's own JSON is right and flat, so these are the args; another attempt would find the same.
		if strings.Contains(err.Error(), "exceeded max depth") {
			return []byte(`{"discard": "args are not JSON: they are nested too deep"}`)
		}
		fmt.Fprintln(os.Stderr, "standard input is no job, as the runner gives it to a WASI command:", err)
		os.Exit(1)
	}
	args := []byte(job.Args)
	if job.ArgsBase64 != nil {
		args = job.ArgsBase64
	}
	made := &command{}
	output, err := dispatch(&Context{Job: Job{
		ID: job.ID, Kind: job.Kind, Tenant: job.Tenant, Queue: job.Queue, Run: job.Run, Attempt: job.Attempt,
		MaxAttempts: job.MaxAttempts, Priority: job.Priority, EnqueuedAt: job.EnqueuedAt, RunAt: job.RunAt,
		Timeout: time.Duration(job.TimeoutMs) * time.Millisecond, Tags: job.Tags, Checkpoint: job.Checkpoint,
		Dependencies: job.Dependencies, Meta: job.Meta,
	}, host: asked{made}}, args)
	line := map[string]any{}
	if len(made.jobs) > 0 {
		line["enqueue"] = made.jobs
	}
	if err == nil {
		line["ok"] = json.RawMessage(output)
		if len(output) == 0 {
			line["ok"] = nil
		} else if !json.Valid(output) {
			line = map[string]any{"discard": "a command's output must be JSON"}
		}
	} else {
		failure := failure(err)
		line[failure.end] = failure.text
		if failure.end == "snooze" {
			line["snooze"] = failure.duration()
			if failure.text != "" {
				line["why"] = failure.text
			}
		} else if failure.states && failure.end == "retry" {
			line["after"] = failure.duration()
		}
	}
	bytes, err := json.Marshal(line)
	if err != nil {
		fmt.Fprintln(os.Stderr, "the answer is not JSON:", err)
		os.Exit(1)
	}
	return bytes
}

func (f *Failure) duration() string { return fmt.Sprintf("%dms", f.millis()) }

// What a command may ask: it may enqueue, with its answer, and print.
type command struct {
	jobs []map[string]any
}

var noCalls = &CallError{"unavailable", "a WASI command makes no calls of the runner while it runs; build it as a component"}

func (c *command) enqueue(kind string, args []byte, options string) (string, error) {
	job := map[string]any{}
	if options != "" {
		if err := json.Unmarshal([]byte(options), &job); err != nil {
			return "", &CallError{"invalid", err.Error()}
		}
	}
	job["kind"], job["args"] = kind, json.RawMessage(args)
	c.jobs = append(c.jobs, job)
	return "", nil
}

func (*command) log(level Level, message string) {
	levels := [...]string{"trace", "debug", "info", "warn", "error"}
	fmt.Fprintf(os.Stderr, "%s: %s\n", levels[level], message)
}

func (*command) progress(percent uint8, message string) {
	fmt.Fprintf(os.Stderr, "%d %%: %s\n", percent, message)
}

func (*command) cancelled() bool                                            { return false }
func (*command) checkpoint([]byte) error                                    { return noCalls }
func (*command) outputOf(string) ([]byte, bool, error)                      { return nil, false, noCalls }
func (*command) pauseSchedule() error                                       { return noCalls }
func (*command) kvGet(string) ([]byte, bool, error)                         { return nil, false, noCalls }
func (*command) kvSet(string, []byte) error                                 { return noCalls }
func (*command) kvRemove(string) error                                      { return noCalls }
func (*command) kvCompareAndSet(string, []byte, []byte) error               { return noCalls }
func (*command) kvKeys(string, string, uint32) ([]string, error)            { return nil, noCalls }
func (*command) blobSize(string, string) (uint32, bool, error)              { return 0, false, noCalls }
func (*command) blobRead(string, string, uint32, uint32) ([]byte, error)    { return nil, noCalls }
func (*command) blobBegin(string, string) (uint32, error)                   { return 0, noCalls }
func (*command) blobWrite(uint32, []byte) error                             { return noCalls }
func (*command) blobFinish(uint32) error                                    { return noCalls }
func (*command) blobRemove(string, string) error                            { return noCalls }
func (*command) blobNames(string, string, string, uint32) ([]string, error) { return nil, noCalls }
func (*command) send(Request) (Response, error)                             { return Response{}, noCalls }
func (*command) config(string) (string, bool, error)                        { return "", false, noCalls }
func (*command) secret(string) (string, error)                              { return "", noCalls }
