//go:build wasip1 && component

package runner

// The imports of the contract, and the host that they are.

import "unsafe"

type pointer = unsafe.Pointer

//go:wasmimport runner:plugin/host@0.1.0 log
func hostLog(level uint32, at pointer, len uint32)

//go:wasmimport runner:plugin/host@0.1.0 progress
func hostProgress(percent uint32, at pointer, len uint32)

//go:wasmimport runner:plugin/host@0.1.0 cancelled
func hostCancelled() uint32

//go:wasmimport runner:plugin/host@0.1.0 enqueue
func hostEnqueue(kind pointer, kindLen uint32, args pointer, argsLen uint32, options pointer, optionsLen uint32, result uint32)

//go:wasmimport runner:plugin/host@0.1.0 checkpoint
func hostCheckpoint(data pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/host@0.1.0 output-of
func hostOutputOf(id pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/host@0.1.0 pause-schedule
func hostPauseSchedule(result uint32)

//go:wasmimport runner:plugin/kv@0.1.0 get
func kvGet(key pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/kv@0.1.0 set
func kvSet(key pointer, keyLen uint32, value pointer, valueLen uint32, result uint32)

//go:wasmimport runner:plugin/kv@0.1.0 remove
func kvRemove(key pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/kv@0.1.0 compare-and-set
func kvCompareAndSet(key pointer, keyLen, hasExpected uint32, expected pointer, expectedLen, hasValue uint32, value pointer, valueLen uint32, result uint32)

//go:wasmimport runner:plugin/kv@0.1.0 keys
func kvKeys(prefix pointer, prefixLen, hasAfter uint32, after pointer, afterLen, limit uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 size
func blobsSize(container pointer, containerLen uint32, name pointer, nameLen uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 read
func blobsRead(container pointer, containerLen uint32, name pointer, nameLen, offset, length uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 begin
func blobsBegin(container pointer, containerLen uint32, name pointer, nameLen uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 write-part
func blobsWritePart(writer uint32, data pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 finish
func blobsFinish(writer uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 remove
func blobsRemove(container pointer, containerLen uint32, name pointer, nameLen uint32, result uint32)

//go:wasmimport runner:plugin/blobs@0.1.0 names
func blobsNames(container pointer, containerLen uint32, prefix pointer, prefixLen, hasAfter uint32, after pointer, afterLen, limit uint32, result uint32)

//go:wasmimport runner:plugin/http@0.1.0 send
func httpSend(method pointer, methodLen uint32, url pointer, urlLen uint32, headers, headerCount uint32, body pointer, bodyLen, hasTimeout, timeoutMs uint32, result uint32)

//go:wasmimport runner:plugin/config@0.1.0 get
func configGet(name pointer, len uint32, result uint32)

//go:wasmimport runner:plugin/config@0.1.0 secret
func configSecret(name pointer, len uint32, result uint32)

type component struct{}

func text(s string) (pointer, uint32)   { return pointer(unsafe.StringData(s)), uint32(len(s)) }
func octets(b []byte) (pointer, uint32) { return pointer(unsafe.SliceData(b)), uint32(len(b)) }

func is(there bool) uint32 {
	if there {
		return 1
	}
	return 0
}

func (component) log(level Level, message string) {
	at, length := text(message)
	hostLog(uint32(level), at, length)
}

func (component) progress(percent uint8, message string) {
	at, length := text(message)
	hostProgress(uint32(percent), at, length)
}

func (component) cancelled() bool { return hostCancelled() != 0 }

func (component) enqueue(kind string, args []byte, options string) (string, error) {
	k, kLen := text(kind)
	a, aLen := octets(args)
	o, oLen := text(options)
	hostEnqueue(k, kLen, a, aLen, o, oLen, results.address())
	if err := refused(); err != nil {
		return "", err
	}
	defer release()
	return results.text(1), nil
}

func (component) checkpoint(data []byte) error {
	d, dLen := octets(data)
	hostCheckpoint(d, dLen, results.address())
	return refused()
}

func maybe() ([]byte, bool, error) {
	if err := refused(); err != nil {
		return nil, false, err
	}
	if !results.flag(1) {
		return nil, false, nil
	}
	defer release()
	return results.bytes(2), true, nil
}

func (component) outputOf(jobID string) ([]byte, bool, error) {
	j, jLen := text(jobID)
	hostOutputOf(j, jLen, results.address())
	return maybe()
}

func (component) pauseSchedule() error {
	hostPauseSchedule(results.address())
	return refused()
}

func (component) kvGet(key string) ([]byte, bool, error) {
	k, kLen := text(key)
	kvGet(k, kLen, results.address())
	return maybe()
}

func (component) kvSet(key string, value []byte) error {
	k, kLen := text(key)
	v, vLen := octets(value)
	kvSet(k, kLen, v, vLen, results.address())
	return refused()
}

func (component) kvRemove(key string) error {
	k, kLen := text(key)
	kvRemove(k, kLen, results.address())
	return refused()
}

func (component) kvCompareAndSet(key string, expected, value []byte) error {
	k, kLen := text(key)
	e, eLen := octets(expected)
	v, vLen := octets(value)
	kvCompareAndSet(k, kLen, is(expected != nil), e, eLen, is(value != nil), v, vLen, results.address())
	return refused()
}

func texts() ([]string, error) {
	if err := refused(); err != nil {
		return nil, err
	}
	defer release()
	return results.texts(1), nil
}

func (component) kvKeys(prefix, after string, limit uint32) ([]string, error) {
	p, pLen := text(prefix)
	a, aLen := text(after)
	kvKeys(p, pLen, is(after != ""), a, aLen, limit, results.address())
	return texts()
}

func (component) blobSize(container, name string) (uint32, bool, error) {
	c, cLen := text(container)
	n, nLen := text(name)
	blobsSize(c, cLen, n, nLen, results.address())
	if err := refused(); err != nil || !results.flag(1) {
		return 0, false, err
	}
	defer release()
	return results.words[2], true, nil
}

func (component) blobRead(container, name string, offset, length uint32) ([]byte, error) {
	c, cLen := text(container)
	n, nLen := text(name)
	blobsRead(c, cLen, n, nLen, offset, length, results.address())
	if err := refused(); err != nil {
		return nil, err
	}
	defer release()
	return results.bytes(1), nil
}

func (component) blobBegin(container, name string) (uint32, error) {
	c, cLen := text(container)
	n, nLen := text(name)
	blobsBegin(c, cLen, n, nLen, results.address())
	if err := refused(); err != nil {
		return 0, err
	}
	defer release()
	return results.words[1], nil
}

func (component) blobWrite(writer uint32, data []byte) error {
	d, dLen := octets(data)
	blobsWritePart(writer, d, dLen, results.address())
	return refused()
}

func (component) blobFinish(writer uint32) error {
	blobsFinish(writer, results.address())
	return refused()
}

func (component) blobRemove(container, name string) error {
	c, cLen := text(container)
	n, nLen := text(name)
	blobsRemove(c, cLen, n, nLen, results.address())
	return refused()
}

func (component) blobNames(container, prefix, after string, limit uint32) ([]string, error) {
	c, cLen := text(container)
	p, pLen := text(prefix)
	a, aLen := text(after)
	blobsNames(c, cLen, p, pLen, is(after != ""), a, aLen, limit, results.address())
	return texts()
}

func (component) send(request Request) (Response, error) {
	headers := area{make([]uint32, 4*len(request.Header)+1)}
	for i, pair := range request.Header {
		headers.put(4*i, []byte(pair[0]))
		headers.put(4*i+2, []byte(pair[1]))
	}
	m, mLen := text(request.Method)
	u, uLen := text(request.URL)
	b, bLen := octets(request.Body)
	httpSend(m, mLen, u, uLen, headers.address(), uint32(len(request.Header)), b, bLen,
		is(request.Timeout > 0), uint32(request.Timeout.Milliseconds()), results.address())
	if err := refused(); err != nil {
		return Response{}, err
	}
	defer release()
	return Response{Status: uint16(results.words[1]), Header: results.pairs(2), Body: results.bytes(4)}, nil
}

func (component) config(name string) (string, bool, error) {
	n, nLen := text(name)
	configGet(n, nLen, results.address())
	value, found, err := maybe()
	return string(value), found, err
}

func (component) secret(name string) (string, error) {
	n, nLen := text(name)
	configSecret(n, nLen, results.address())
	if err := refused(); err != nil {
		return "", err
	}
	defer release()
	return results.text(1), nil
}
