package watchdog

import (
	"fmt"

	"rescue6/rescue/link"
)

// Once makes one pass over the links, without a journal, and without the label
// address if it is not known yet. What fails is left to the loop.
func (p Policy) Once() {
	links, _ := link.List()
	for _, l := range links {
		if ok, _ := p.Serves(l); !ok {
			continue
		}
		for _, r := range p.Plan(l) {
			_ = Apply(r)
		}
	}
}

// Apply carries out one repair on the kernel.
func Apply(r Repair) error {
	switch r.Action {
	case SetUp:
		// Before it is up: DAD takes a second or two otherwise. Without it the
		// link works all the same.
		_ = link.FastDAD(r.Index)
		return link.SetUp(r.Index)
	case EnableIPv6:
		_ = link.FastDAD(r.Index)
		return link.EnableIPv6(r.Index)
	case EnableEUI64:
		return link.Regenerate(r.Index)
	case AddAddress:
		_ = link.FastDAD(r.Index)
		return link.AddAddress(r.Index, r.Addr, false)
	case DeleteAddress:
		return link.DelAddress(r.Index, r.Addr)
	case ReplaceAddress, ForceAddress:
		if err := link.DelAddress(r.Index, r.Addr); err != nil {
			return err
		}
		return link.AddAddress(r.Index, r.Addr, r.Action == ForceAddress)
	}
	return fmt.Errorf("repair %q is unknown", r.Action)
}
