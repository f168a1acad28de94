// Package mdns tells the neighbours this machine's name by multicast DNS (RFC 6762),
// over IPv6, with its link-local addresses too, and its services (RFC 6763): _ssh._tcp,
// and _rescue6._tcp with the fingerprint of the host key.
//
// A name that another has is left to it: the next is tried, NAME-2, NAME-3 and so on
// (RFC 6762 §9).
package mdns

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"

	"golang.org/x/net/dns/dnsmessage"
)

// Service is what this machine is called and offers.
type Service struct {
	Hostname    string // one label
	Port        uint16 // of SSH
	Fingerprint string // of the host key, "SHA256:…"
}

// How long others may keep what is said here, in seconds (RFC 6762 §10).
const (
	hostTTL    = 120
	serviceTTL = 4500
	legacyTTL  = 10 // RFC 6762 §6.7
)

// cacheFlush says that there are no other records of that name and type (RFC 6762
// §10.2). unicast asks for an answer to the asker alone (§5.4).
const (
	cacheFlush = 1 << 15
	unicast    = 1 << 15
)

// zone is what is true on one link.
type zone struct {
	Service
	label string // the hostname, numbered if another has it
	addrs []netip.Addr
}

func (z zone) host() string             { return z.label + ".local." }
func (z zone) instance(s string) string { return z.label + "." + s }

// types are the services.
var types = []string{"_ssh._tcp.local.", "_rescue6._tcp.local."}

const allServices = "_services._dns-sd._udp.local."

// records returns everything there is to say.
func (z zone) records() []dnsmessage.Resource {
	var all []dnsmessage.Resource
	add := func(name string, ttl uint32, unique bool, body dnsmessage.ResourceBody) {
		n, err := dnsmessage.NewName(name)
		if err != nil {
			return
		}
		class := dnsmessage.ClassINET
		if unique {
			class |= cacheFlush
		}
		all = append(all, dnsmessage.Resource{Header: dnsmessage.ResourceHeader{Name: n, Class: class, TTL: ttl, Type: typeOf(body)}, Body: body})
	}
	host, err := dnsmessage.NewName(z.host())
	if err != nil {
		return nil
	}
	for _, a := range z.addrs {
		add(z.host(), hostTTL, true, &dnsmessage.AAAAResource{AAAA: a.As16()})
		add(reverseName(a), hostTTL, true, &dnsmessage.PTRResource{PTR: host})
	}
	for _, s := range types {
		instance, err := dnsmessage.NewName(z.instance(s))
		kind, err2 := dnsmessage.NewName(s)
		if err != nil || err2 != nil {
			continue
		}
		add(s, serviceTTL, false, &dnsmessage.PTRResource{PTR: instance})
		add(allServices, serviceTTL, false, &dnsmessage.PTRResource{PTR: kind})
		add(z.instance(s), hostTTL, true, &dnsmessage.SRVResource{Port: z.Port, Target: host})
		add(z.instance(s), serviceTTL, true, &dnsmessage.TXTResource{TXT: []string{"fingerprint=" + z.Fingerprint}})
	}
	return all
}

func typeOf(b dnsmessage.ResourceBody) dnsmessage.Type {
	switch b.(type) {
	case *dnsmessage.AAAAResource:
		return dnsmessage.TypeAAAA
	case *dnsmessage.PTRResource:
		return dnsmessage.TypePTR
	case *dnsmessage.SRVResource:
		return dnsmessage.TypeSRV
	}
	return dnsmessage.TypeTXT
}

// maxQuestions bounds what one message may cost.
const maxQuestions = 32

var errNotForUs = errors.New("nothing that this machine could answer")

// answer returns the answer to a message, and whether it goes to the asker alone.
// legacy says that the asker is a plain resolver (RFC 6762 §6.7).
func (z zone) answer(message []byte, legacy bool) (reply []byte, alone bool, err error) {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response || h.OpCode != 0 {
		return nil, false, errNotForUs
	}
	var questions []dnsmessage.Question
	for len(questions) < maxQuestions {
		q, err := p.Question()
		if err != nil {
			break
		}
		questions = append(questions, q)
	}
	out := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}}
	all := z.records()
	alone = true
	for _, q := range questions {
		alone = alone && (legacy || q.Class&unicast != 0)
		for _, r := range all {
			if matches(q, r) && !contains(out.Answers, r) {
				out.Answers = append(out.Answers, r)
			}
		}
	}
	if len(out.Answers) == 0 {
		return nil, false, errNotForUs
	}
	// What who asks will want to know next (RFC 6763 §12).
	for _, r := range all {
		if r.Header.Class&cacheFlush != 0 && r.Header.Type != dnsmessage.TypePTR && !contains(out.Answers, r) {
			out.Additionals = append(out.Additionals, r)
		}
	}
	if legacy {
		out.ID, out.Questions = h.ID, questions
		for _, rs := range [][]dnsmessage.Resource{out.Answers, out.Additionals} {
			for i := range rs {
				rs[i].Header.Class &^= cacheFlush
				rs[i].Header.TTL = legacyTTL
			}
		}
		for i := range questions {
			questions[i].Class &^= unicast
		}
	}
	reply, err = out.Pack()
	return reply, alone, err
}

func matches(q dnsmessage.Question, r dnsmessage.Resource) bool {
	return strings.EqualFold(q.Name.String(), r.Header.Name.String()) && (q.Type == r.Header.Type || q.Type == dnsmessage.TypeALL) &&
		(q.Class&^unicast == dnsmessage.ClassINET || q.Class&^unicast == dnsmessage.ClassANY)
}

func contains(all []dnsmessage.Resource, r dnsmessage.Resource) bool {
	for _, o := range all {
		if o.Header.Name == r.Header.Name && o.Header.Type == r.Header.Type && fmt.Sprint(o.Body) == fmt.Sprint(r.Body) {
			return true
		}
	}
	return false
}

// announcement returns all records, unasked (RFC 6762 §8.3).
func (z zone) announcement() ([]byte, error) {
	m := dnsmessage.Message{Header: dnsmessage.Header{Response: true, Authoritative: true}, Answers: z.records()}
	return m.Pack()
}

// probe returns the question whether somebody has the name already (RFC 6762 §8.1).
func (z zone) probe() ([]byte, error) {
	name, err := dnsmessage.NewName(z.host())
	if err != nil {
		return nil, fmt.Errorf("the hostname %q: %w", z.label, err)
	}
	m := dnsmessage.Message{Questions: []dnsmessage.Question{{Name: name, Type: dnsmessage.TypeALL, Class: dnsmessage.ClassINET | unicast}}}
	for _, r := range z.records() {
		if r.Header.Name == name {
			r.Header.Class &^= cacheFlush
			m.Authorities = append(m.Authorities, r)
		}
	}
	return m.Pack()
}

// conflicts says whether a message gives the name to somebody else: an address that
// is none of this machine's.
func (z zone) conflicts(message []byte, own func(netip.Addr) bool) bool {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || p.SkipAllQuestions() != nil {
		return false
	}
	const maxRecords = 100
	for range maxRecords {
		r, err := p.Answer()
		if err != nil {
			return false
		}
		if !strings.EqualFold(r.Header.Name.String(), z.host()) {
			continue
		}
		switch b := r.Body.(type) {
		case *dnsmessage.AAAAResource:
			if !own(netip.AddrFrom16(b.AAAA)) {
				return true
			}
		case *dnsmessage.AResource:
			if !own(netip.AddrFrom4(b.A)) {
				return true
			}
		}
	}
	return false
}

// outvoted says whether a message is a probe for the name by somebody else whose
// records are later in the order of their bytes (RFC 6762 §8.2); it is enough to
// compare the greatest address of each.
func (z zone) outvoted(message []byte, own func(netip.Addr) bool) bool {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || h.Response || p.SkipAllQuestions() != nil || p.SkipAllAnswers() != nil {
		return false
	}
	var theirs, mine netip.Addr
	for _, a := range z.addrs {
		if mine.Less(a) {
			mine = a
		}
	}
	const maxRecords = 100
	for range maxRecords {
		r, err := p.Authority()
		if err != nil {
			break
		}
		b, ok := r.Body.(*dnsmessage.AAAAResource)
		if !ok || !strings.EqualFold(r.Header.Name.String(), z.host()) {
			continue
		}
		a := netip.AddrFrom16(b.AAAA)
		if own(a) {
			return false // it is our own, or we have one address
		}
		if theirs.Less(a) {
			theirs = a
		}
	}
	return mine.Less(theirs)
}

// reverseName returns an address as a name under ip6.arpa (RFC 3596 §2.5).
func reverseName(a netip.Addr) string {
	const digits = "0123456789abcdef"
	var s strings.Builder
	b := a.As16()
	for i := len(b) - 1; i >= 0; i-- {
		s.WriteByte(digits[b[i]&15])
		s.WriteByte('.')
		s.WriteByte(digits[b[i]>>4])
		s.WriteByte('.')
	}
	return s.String() + "ip6.arpa."
}
