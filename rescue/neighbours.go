package rescue

import (
	"context"
	"fmt"
	"time"

	"rescue6/rescue/link"
)

// neighboursEvery is how often the kernel is asked whether its neighbour table was
// full.
const neighboursEvery = 5 * time.Second

// keepRoomForNeighbours enlarges the kernel's neighbour table when that was full:
// nobody new could be answered then. The kernel itself drops what is stale once
// the table is over its second threshold.
func (w *worker) keepRoomForNeighbours(ctx context.Context) error {
	before, err := link.NeighbourTableFulls()
	if err != nil {
		return err
	}
	tick := time.NewTicker(neighboursEvery)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		now, err := link.NeighbourTableFulls()
		if err != nil {
			return err
		}
		if now == before {
			continue
		}
		before = now
		room, err := link.RaiseNeighbourTable()
		repair := fmt.Sprintf("room for %d", room)
		if err != nil {
			repair = err.Error()
		}
		w.log.Warn("the kernel's neighbour table was full", "repair", repair)
		w.journal.Note("the neighbour table was full", "", repair)
	}
}
