package rescue

import (
	"context"
	"errors"
	"time"

	"rescue6/rescue/firewall"
)

// firewallEvery is how often the firewall's rules are looked at.
const firewallEvery = 5 * time.Second

// openFirewall keeps the firewall from blocking SSH and neighbour discovery.
func (w *worker) openFirewall(ctx context.Context) error {
	tick := time.NewTicker(firewallEvery)
	defer tick.Stop()
	said := ""
	for {
		changed, err := firewall.Repair(w.Bound)
		for _, chain := range changed {
			w.log.Warn("a firewall blocks SSH on link-local addresses: accept rules inserted", "chain", chain)
			w.journal.Note("a firewall blocks SSH", "", "accept rules inserted into "+chain)
		}
		if errors.Is(err, firewall.ErrUnsupported) {
			<-ctx.Done()
			return nil
		}
		text := ""
		if err != nil {
			text = err.Error()
		}
		if text != said && text != "" {
			w.log.Warn("looking at the firewall", "err", err)
		}
		said = text
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
}
