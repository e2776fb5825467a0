package runner

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
)

// Job is one run of one job; the contract, plugin.wit, says what each field is.
type Job struct {
	ID, Kind, Tenant, Queue   string
	Run, Attempt, MaxAttempts uint32
	Priority                  int16
	EnqueuedAt, RunAt         string
	Timeout                   time.Duration
	Tags                      map[string]string
	// Checkpoint is what an earlier run left; nil if none did.
	Checkpoint   []byte
	Dependencies []string
	Meta         map[string]string
}

// Context is the job, and what its handler may ask of the runner.
type Context struct {
	Job
	host host
}

// NewJob is a job to enqueue. Options are further fields of `POST /v1/jobs`: queue, priority, delay, depends_on, tags, …
type NewJob struct {
	Kind    string
	Args    any
	Options map[string]any
}

// Level says how much a line of the log matters.
type Level uint8

const (
	LevelTrace Level = iota
	LevelDebug
	LevelInfo
	LevelWarn
	LevelError
)

// CallError is a call that the runner refused or that went wrong; nothing was done. Codes are stable: denied, invalid,
// not_found, limit, unavailable; treat an unknown one as unavailable.
type CallError struct{ Code, Message string }

func (e *CallError) Error() string { return e.Message + " (" + e.Code + ")" }

// Temporary says whether the same call may go well later.
func (e *CallError) Temporary() bool {
	switch e.Code {
	case "denied", "invalid", "not_found", "limit":
		return false
	}
	return true
}

// Failure is a retry if the call may go well later, else a discard.
func (e *CallError) Failure() *Failure {
	if e.Temporary() {
		return Retry("%s", e.Error())
	}
	return Discard("%s", e.Error())
}

// What a run may ask: of the runner, as a component; of nobody, as a command; of a test.
type host interface {
	log(level Level, message string)
	progress(percent uint8, message string)
	cancelled() bool
	enqueue(kind string, args []byte, options string) (string, error)
	checkpoint(data []byte) error
	outputOf(jobID string) ([]byte, bool, error)
	pauseSchedule() error
	kvGet(key string) ([]byte, bool, error)
	kvSet(key string, value []byte) error
	kvRemove(key string) error
	kvCompareAndSet(key string, expected, value []byte) error
	kvKeys(prefix, after string, limit uint32) ([]string, error)
	blobSize(container, name string) (uint32, bool, error)
	blobRead(container, name string, offset, length uint32) ([]byte, error)
	blobBegin(container, name string) (uint32, error)
	blobWrite(writer uint32, data []byte) error
	blobFinish(writer uint32) error
	blobRemove(container, name string) error
	blobNames(container, prefix, after string, limit uint32) ([]string, error)
	send(request Request) (Response, error)
	config(name string) (string, bool, error)
	secret(name string) (string, error)
}

// Log writes a line to the run's log; Trace to Error are short for it.
func (cx *Context) Log(level Level, format string, args ...any) {
	cx.host.log(level, fmt.Sprintf(format, args...))
}

func (cx *Context) Trace(format string, args ...any) { cx.Log(LevelTrace, format, args...) }
func (cx *Context) Debug(format string, args ...any) { cx.Log(LevelDebug, format, args...) }
func (cx *Context) Info(format string, args ...any)  { cx.Log(LevelInfo, format, args...) }
func (cx *Context) Warn(format string, args ...any)  { cx.Log(LevelWarn, format, args...) }
func (cx *Context) Error(format string, args ...any) { cx.Log(LevelError, format, args...) }

// Progress tells how far the run is: 0 to 100.
func (cx *Context) Progress(percent uint8, format string, args ...any) {
	cx.host.progress(percent, fmt.Sprintf(format, args...))
}

// Cancelled is true once the run should end soon.
func (cx *Context) Cancelled() bool { return cx.host.cancelled() }

// LastAttempt says whether a failure would be the last.
func (cx *Context) LastAttempt() bool { return cx.Attempt >= cx.MaxAttempts }

// Enqueue makes a job, recorded with the run's outcome; it answers with its id (empty in a command, where the id is given later).
func (cx *Context) Enqueue(job NewJob) (string, error) {
	args, isRaw := job.Args.(Raw)
	if !isRaw {
		made, err := json.Marshal(job.Args)
		if err != nil {
			return "", &CallError{"invalid", fmt.Sprintf("the args of the new job are not JSON: %v", err)}
		}
		args = made
	}
	options := ""
	if len(job.Options) > 0 {
		made, err := json.Marshal(job.Options)
		if err != nil {
			return "", &CallError{"invalid", fmt.Sprintf("the options of the new job are not JSON: %v", err)}
		}
		options = string(made)
	}
	return cx.host.enqueue(job.Kind, args, options)
}

// Leave leaves up to 256 KiB for a later run to resume from: its Checkpoint.
func (cx *Context) Leave(checkpoint []byte) error { return cx.host.checkpoint(checkpoint) }

// OutputOf reads the output of a completed dependency; false: it had none, or its record is gone.
func (cx *Context) OutputOf(jobID string) ([]byte, bool, error) { return cx.host.outputOf(jobID) }

// PauseSchedule pauses the schedule that made this job.
func (cx *Context) PauseSchedule() error { return cx.host.pauseSchedule() }

// KV is the plugin's small durable values: reads see this run's own writes, which are recorded with its outcome.
func (cx *Context) KV() KV { return KV{cx.host} }

// Blobs is a container of large values, granted by the manifest. Not staged: a finished write stays.
func (cx *Context) Blobs(container string) Blobs { return Blobs{cx.host, container} }

// Config reads a setting that the operator gave; false: it is not set.
func (cx *Context) Config(name string) (string, bool, error) { return cx.host.config(name) }

// Secret reads a secret that the manifest asks for and the operator gave.
func (cx *Context) Secret(name string) (string, error) { return cx.host.secret(name) }

// Send sends one granted HTTP request. Redirects are answers.
func (cx *Context) Send(request Request) (Response, error) { return cx.host.send(request) }

// KV: see Context.KV.
type KV struct{ host host }

func (kv KV) Get(key string) ([]byte, bool, error) { return kv.host.kvGet(key) }
func (kv KV) Set(key string, value []byte) error   { return kv.host.kvSet(key, value) }
func (kv KV) Remove(key string) error              { return kv.host.kvRemove(key) }

// CompareAndSet sets a value if it is still the expected one when the run is recorded; nil is absent.
func (kv KV) CompareAndSet(key string, expected, value []byte) error {
	return kv.host.kvCompareAndSet(key, expected, value)
}

// Keys begin with prefix and come after `after`; at most 1,000.
func (kv KV) Keys(prefix, after string, limit uint32) ([]string, error) {
	return kv.host.kvKeys(prefix, after, limit)
}

// Blobs: see Context.Blobs.
type Blobs struct {
	host      host
	container string
}

// Size is false if there is no such blob.
func (b Blobs) Size(name string) (uint32, bool, error) { return b.host.blobSize(b.container, name) }

// Read reads at most 1 MiB; fewer bytes only at the end.
func (b Blobs) Read(name string, offset, length uint32) ([]byte, error) {
	return b.host.blobRead(b.container, name, offset, length)
}

// Remove removes a blob.
func (b Blobs) Remove(name string) error { return b.host.blobRemove(b.container, name) }

// Names begin with prefix and come after `after`; at most 1,000.
func (b Blobs) Names(prefix, after string, limit uint32) ([]string, error) {
	return b.host.blobNames(b.container, prefix, after, limit)
}

// A call takes so much.
const partBytesMax = 1 << 20

// Open reads a blob from its beginning to its end.
func (b Blobs) Open(name string) *Reader { return &Reader{blobs: b, name: name} }

// Create begins a blob, which appears as a whole when the writer is finished.
func (b Blobs) Create(name string) (*Writer, error) {
	writer, err := b.host.blobBegin(b.container, name)
	if err != nil {
		return nil, err
	}
	return &Writer{b.host, writer}, nil
}

// Write writes a whole blob.
func (b Blobs) Write(name string, data []byte) error {
	writer, err := b.Create(name)
	if err != nil {
		return err
	}
	if _, err := writer.Write(data); err != nil {
		return err
	}
	return writer.Finish()
}

// Request is one HTTP request.
type Request struct {
	Method, URL string
	Header      [][2]string
	Body        []byte
	// Timeout: what is left of the run's time if 0.
	Timeout time.Duration
}

// Response is its answer.
type Response struct {
	Status uint16
	Header [][2]string
	Body   []byte
}

// Get is the first value of a header, whatever the case of its name.
func (r Response) Get(name string) string {
	for _, pair := range r.Header {
		if strings.EqualFold(pair[0], name) {
			return pair[1]
		}
	}
	return ""
}
