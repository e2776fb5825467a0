//go:build wasip1 && component

package runner

// The plugin's side of the contract, runner:plugin@0.1.0, in the canonical ABI. Addresses are 32 bits wide there and 64 in
// Go, so records are read by their offsets. Go's collector moves nothing, hence whatever the runner still looks at is only kept
// alive.

import (
	"time"
	"unsafe"
)

// Kept until the run has ended: what the runner is still to read.
var kept [][]byte

// What the runner writes goes here, and is copied before the next call: the largest is a job (1 MiB of args, a checkpoint) or an
// answer (1 MiB, and headers). It is no memory of the collector's, as `cabi_realloc` is also called before Go has begun, and must
// call nothing: a collection would look at the clock.
var (
	arena [4 << 20]byte
	used  uintptr
	// Below it is what WASI needs for good.
	mark uintptr
)

func init() { mark = used }

func release() { used = mark }

//go:wasmexport cabi_realloc
func realloc(old, oldBytes, align, bytes uint32) uint32 {
	base := uintptr(unsafe.Pointer(&arena))
	from := (base + used + uintptr(align) - 1) &^ (uintptr(align) - 1)
	if from+uintptr(bytes) > base+uintptr(len(arena)) {
		panic("runner: a call brought more than 4 MiB")
	}
	used = from + uintptr(bytes) - base
	if oldBytes > 0 {
		copy(at32(uint32(from), bytes), at32(old, oldBytes))
	}
	return uint32(from)
}

func addressOf(data []byte) uint32 { return uint32(uintptr(unsafe.Pointer(unsafe.SliceData(data)))) }

func at32(at, length uint32) []byte {
	return unsafe.Slice((*byte)(unsafe.Pointer(uintptr(at))), length)
}

// An area for a record: words of memory.
type area struct{ words []uint32 }

func (a area) address() uint32 { return uint32(uintptr(unsafe.Pointer(&a.words[0]))) }

func at(address uint32, words int) area {
	return area{unsafe.Slice((*uint32)(unsafe.Pointer(uintptr(address))), words)}
}

// The copy belongs to Go.
func (a area) bytes(word int) []byte {
	return append([]byte{}, at32(a.words[word], a.words[word+1])...)
}
func (a area) text(word int) string { return string(at32(a.words[word], a.words[word+1])) }
func (a area) flag(word int) bool   { return a.words[word]&0xff != 0 }

func (a area) texts(word int) []string {
	list := at(a.words[word], int(a.words[word+1])*2)
	all := make([]string, a.words[word+1])
	for i := range all {
		all[i] = list.text(2 * i)
	}
	return all
}

func (a area) pairs(word int) [][2]string {
	list := at(a.words[word], int(a.words[word+1])*4)
	all := make([][2]string, a.words[word+1])
	for i := range all {
		all[i] = [2]string{list.text(4 * i), list.text(4*i + 2)}
	}
	return all
}

func (a area) table(word int) map[string]string {
	all := map[string]string{}
	for _, pair := range a.pairs(word) {
		all[pair[0]] = pair[1]
	}
	return all
}

// The results of imports land here; the largest has six words. Nothing else runs meanwhile.
var results = area{make([]uint32, 8)}

func refused() error {
	if !results.flag(0) {
		return nil
	}
	defer release()
	return &CallError{Code: results.text(1), Message: results.text(3)}
}

func (a area) put(word int, data []byte) {
	kept = append(kept, data)
	a.words[word], a.words[word+1] = addressOf(data), uint32(len(data))
}

var answered = area{make([]uint32, 6)}

//go:wasmexport runner:plugin/handler@0.1.0#handle
func handle(address uint32) uint32 {
	job := at(address, 28)
	cx := &Context{Job: Job{
		ID: job.text(0), Kind: job.text(2), Tenant: job.text(4), Queue: job.text(6),
		Run: job.words[10], Attempt: job.words[11], MaxAttempts: job.words[12], Priority: int16(job.words[13]),
		EnqueuedAt: job.text(14), RunAt: job.text(16), Timeout: time.Duration(job.words[18]) * time.Millisecond,
		Tags: job.table(19), Dependencies: job.texts(24), Meta: job.table(26),
	}, host: asked{component{}}}
	if job.flag(21) {
		cx.Checkpoint = job.bytes(22)
	}
	args := job.bytes(8)
	release()
	output, err := dispatch(cx, args)
	clear(answered.words)
	if err == nil {
		answered.put(1, output)
		return answered.address()
	}
	answered.words[0] = 1
	failure := failure(err)
	switch failure.end {
	case "retry":
		answered.put(2, []byte(said(failure.text)))
		if failure.states {
			answered.words[4], answered.words[5] = 1, failure.millis()
		}
	case "discard":
		answered.words[1] = 1
		answered.put(2, []byte(said(failure.text)))
	case "snooze":
		answered.words[1], answered.words[2] = 2, failure.millis()
		if failure.text != "" {
			answered.words[3] = 1
			answered.put(4, []byte(said(failure.text)))
		}
	}
	return answered.address()
}

//go:wasmexport cabi_post_runner:plugin/handler@0.1.0#handle
func posted(uint32) {
	kept = nil
	release()
}

// Main is not called in a component; it is there so that the same source is also a command.
func Main() {}
