package listener

import (
	"context"
	"time"
)

// backoff is a pause that doubles from 50 ms to 1 s. It never ends in giving up.
type backoff time.Duration

func (b *backoff) next() time.Duration {
	*b = min(max(2**b, backoff(50*time.Millisecond)), backoff(time.Second))
	return time.Duration(*b)
}

func (b *backoff) reset() { *b = 0 }

func (b *backoff) sleep(ctx context.Context) {
	select {
	case <-time.After(b.next()):
	case <-ctx.Done():
	}
}
