package secretbroker

import "google.golang.org/grpc/mem"

// A wipingPool clears the buffers that messages arrived in before they are used again.
type wipingPool struct{}

func (wipingPool) Get(length int) *[]byte { return mem.DefaultBufferPool().Get(length) }

func (wipingPool) Put(buffer *[]byte) {
	clear((*buffer)[:cap(*buffer)])
	mem.DefaultBufferPool().Put(buffer)
}
