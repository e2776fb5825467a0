package runner

import "io"

// Reader reads a blob as an io.Reader.
type Reader struct {
	blobs  Blobs
	name   string
	at     uint32
	buffer []byte
}

// How much is fetched at once.
const readBytes = 256 << 10

func (r *Reader) Read(into []byte) (int, error) {
	if len(r.buffer) == 0 {
		data, err := r.blobs.Read(r.name, r.at, readBytes)
		if err != nil {
			return 0, err
		}
		if len(data) == 0 {
			return 0, io.EOF
		}
		r.at += uint32(len(data))
		r.buffer = data
	}
	n := copy(into, r.buffer)
	r.buffer = r.buffer[n:]
	return n, nil
}

// Writer writes a blob as an io.Writer; what is not finished is abandoned.
type Writer struct {
	host   host
	number uint32
}

func (w *Writer) Write(data []byte) (int, error) {
	written := 0
	for len(data) > 0 {
		part := data[:min(len(data), partBytesMax)]
		if err := w.host.blobWrite(w.number, part); err != nil {
			return written, err
		}
		written += len(part)
		data = data[len(part):]
	}
	return written, nil
}

// Finish makes the blob appear.
func (w *Writer) Finish() error { return w.host.blobFinish(w.number) }
