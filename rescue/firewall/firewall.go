// Package firewall keeps the rescue path open in a ruleset of nftables that blocks
// it: at the head of each chain that could drop SSH or neighbour discovery on
// link-local addresses stand accept rules of ours. Rules of others stay as they
// are, and a system without a ruleset stays without one.
package firewall

import (
	"errors"
	"fmt"
	"syscall"

	"github.com/google/nftables"
	"github.com/google/nftables/expr"
	"github.com/google/nftables/userdata"
)

// ErrUnsupported says that this kernel has no nftables: nothing can block us.
var ErrUnsupported = errors.New("this kernel has no nftables")

// comment marks our rules, and is what 'nft list ruleset' shows.
const comment = "rescue6"

// Repair looks at every chain of the network namespace of the calling thread and
// puts our rules where they are missing. port is that of SSH. It returns the chains
// that were changed, "ip6 filter input" for one, those before an error included.
func Repair(port int) (changed []string, err error) {
	// The library trusts the kernel's answers.
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("reading the firewall's rules: absurd answer of the kernel: %v", p)
		}
	}()
	c, err := nftables.New()
	if err != nil {
		return nil, explain(err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, explain(err)
	}
	var errs []error
	for _, ch := range chains {
		side := sideOf(ch)
		if side == none {
			continue
		}
		rules, err := c.GetRules(ch.Table, ch)
		if err != nil {
			errs = append(errs, fmt.Errorf("reading the rules of %s: %w", name(ch), err))
			continue
		}
		wanted := side.rules(port)
		if !needs(describe(ch, rules), len(wanted)) {
			continue
		}
		if err := insert(c, ch, rules, wanted); err != nil {
			errs = append(errs, fmt.Errorf("opening %s for SSH: %w", name(ch), err))
			continue
		}
		changed = append(changed, name(ch))
	}
	return changed, errors.Join(errs...)
}

// explain turns the errors of a kernel without nftables into one.
func explain(err error) error {
	for _, e := range []error{syscall.EPROTONOSUPPORT, syscall.EAFNOSUPPORT, syscall.EOPNOTSUPP, syscall.EINVAL, syscall.ENOENT} {
		if errors.Is(err, e) {
			return ErrUnsupported
		}
	}
	return fmt.Errorf("reading the firewall's chains: %w", err)
}

func name(ch *nftables.Chain) string {
	family := "inet"
	if ch.Table.Family == nftables.TableFamilyIPv6 {
		family = "ip6"
	}
	return family + " " + ch.Table.Name + " " + ch.Name
}

// side is the way that packets of ours take through a chain.
type side int

const (
	none side = iota
	in
	out
)

// sideOf returns the way through a base chain that sees packets of ours and may
// drop them.
func sideOf(ch *nftables.Chain) side {
	if ch.Table == nil || ch.Hooknum == nil || ch.Type == nftables.ChainTypeNAT ||
		ch.Table.Family != nftables.TableFamilyIPv6 && ch.Table.Family != nftables.TableFamilyINet {
		return none
	}
	switch *ch.Hooknum {
	case *nftables.ChainHookPrerouting, *nftables.ChainHookInput:
		return in
	case *nftables.ChainHookOutput, *nftables.ChainHookPostrouting:
		return out
	}
	return none
}

// chain is what matters of a chain.
type chain struct {
	drops bool // by its policy
	rules []rule
}

// rule is what matters of a rule: whether it is ours, and whether a packet may end
// there, or leave the chain, in another way than by being accepted.
type rule struct{ ours, blocks bool }

// needs says whether n rules of ours have to be put at the head of a chain: it can
// block, and they are not all there, before all others.
func needs(c chain, n int) bool {
	blocks := c.drops
	ours, first := 0, true
	for _, r := range c.rules {
		if r.ours {
			ours++
			first = first && ours <= n
			continue
		}
		if ours < n {
			first = false
		}
		blocks = blocks || r.blocks
	}
	return blocks && !(first && ours == n)
}

func describe(ch *nftables.Chain, rules []*nftables.Rule) chain {
	c := chain{drops: ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop}
	for _, r := range rules {
		c.rules = append(c.rules, rule{ours: isOurs(r), blocks: blocks(r)})
	}
	return c
}

func isOurs(r *nftables.Rule) bool {
	text, ok := userdata.GetString(r.UserData, userdata.TypeComment)
	return ok && text == comment
}

// blocks is wrong on the safe side: what it does not know blocks.
func blocks(r *nftables.Rule) bool {
	for _, e := range r.Exprs {
		switch e := e.(type) {
		case *expr.Verdict:
			if e.Kind != expr.VerdictAccept && e.Kind != expr.VerdictReturn && e.Kind != expr.VerdictContinue {
				return true
			}
		case *expr.Lookup:
			if e.IsDestRegSet { // a map may hold verdicts
				return true
			}
		case *expr.Reject, *expr.Queue, *expr.SynProxy:
			return true
		}
	}
	return false
}

// insert replaces our rules in a chain, all at once.
func insert(c *nftables.Conn, ch *nftables.Chain, rules []*nftables.Rule, wanted [][]expr.Any) error {
	for _, r := range rules {
		if isOurs(r) {
			if err := c.DelRule(r); err != nil {
				return err
			}
		}
	}
	for i := len(wanted) - 1; i >= 0; i-- { // each is put before those that are there
		c.InsertRule(&nftables.Rule{
			Table: ch.Table, Chain: ch, Exprs: wanted[i],
			UserData: userdata.AppendString(nil, userdata.TypeComment, comment),
		})
	}
	return c.Flush()
}
