package scan

import (
	"encoding/binary"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/net/dns/dnsmessage"
	"golang.org/x/net/ipv6"

	"rescue6/rescue/link"
)

// mDNS (RFC 6762): where it is spoken, and what is kept of what is said there.
const (
	mdnsPort   = 5353
	maxRecords = 100 // of one message
	maxNames   = 8   // of one node
)

var mdnsGroup = netip.MustParseAddr("ff02::fb")

// services are browsed (RFC 6763 §4): who offers one says its name.
var services = []string{"_ssh._tcp.local.", "_workstation._tcp.local.", "_rescue6._tcp.local.", "_services._dns-sd._udp.local."}

// browse returns the question for services. The answers come to who asked alone:
// the port is not 5353 (RFC 6762 §6.7).
func browse() []byte {
	questions := make([]dnsmessage.Question, len(services))
	for i, s := range services {
		questions[i] = question(s, dnsmessage.TypePTR)
	}
	return query(questions)
}

// reverse returns the questions for the names of addresses, a few to a message.
func reverse(addrs []netip.Addr) [][]byte {
	const perMessage = 14 // of 77 bytes: within 1280, the least MTU (RFC 8200 §5)
	var all [][]byte
	for part := range slices.Chunk(addrs, perMessage) {
		var questions []dnsmessage.Question
		for _, a := range part {
			questions = append(questions, question(reverseName(a), dnsmessage.TypePTR))
		}
		all = append(all, query(questions))
	}
	return all
}

func question(name string, kind dnsmessage.Type) dnsmessage.Question {
	return dnsmessage.Question{Name: dnsmessage.MustNewName(name), Type: kind, Class: dnsmessage.ClassINET}
}

func query(questions []dnsmessage.Question) []byte {
	m := dnsmessage.Message{Questions: questions}
	b, err := m.Pack()
	if err != nil {
		panic(err) // the names are ours
	}
	return b
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

// parseMDNS reads a UDP packet from port 5353.
func parseMDNS(h heard, p, u []byte) (heard, error) {
	if len(u) < 8 || binary.BigEndian.Uint16(u) != mdnsPort || int(binary.BigEndian.Uint16(u[4:])) != len(u) ||
		checksum(p[8:40], nextUDP, u) != 0 || h.addr.IsUnspecified() {
		return heard{}, errNothing
	}
	h.via = ViaMDNS
	h.names = names(u[8:])
	return h, nil
}

// names returns the hostnames that a message of mDNS gives to who sends it: it
// speaks for itself (RFC 6762 §6). They are hostile text: what is left can be
// printed.
func names(message []byte) []string {
	var p dnsmessage.Parser
	h, err := p.Start(message)
	if err != nil || !h.Response || p.SkipAllQuestions() != nil {
		return nil
	}
	var all []string
	for range maxRecords {
		r, err := nextRecord(&p)
		if err != nil {
			break
		}
		name := ""
		switch body := r.Body.(type) {
		case *dnsmessage.AResource, *dnsmessage.AAAAResource:
			name = r.Header.Name.String()
		case *dnsmessage.SRVResource:
			name = body.Target.String()
		case *dnsmessage.PTRResource:
			if strings.HasSuffix(r.Header.Name.String(), ".arpa.") {
				name = body.PTR.String()
			}
		}
		if name = cleanName(name); name != "" && !slices.Contains(all, name) && len(all) < maxNames {
			all = append(all, name)
		}
	}
	return all
}

// nextRecord returns the next record of all sections.
func nextRecord(p *dnsmessage.Parser) (dnsmessage.Resource, error) {
	for _, section := range []struct {
		next func() (dnsmessage.Resource, error)
		skip func() error
	}{{p.Answer, p.SkipAllAnswers}, {p.Authority, p.SkipAllAuthorities}, {p.Additional, nil}} {
		r, err := section.next()
		switch err {
		case dnsmessage.ErrSectionDone, dnsmessage.ErrNotStarted:
			if section.skip != nil {
				_ = section.skip()
			}
		default:
			return r, err
		}
	}
	return dnsmessage.Resource{}, dnsmessage.ErrSectionDone
}

// cleanName returns a hostname without the root's dot, and without anything that is
// not printable ASCII; "" if nothing is left.
func cleanName(name string) string {
	name = strings.TrimSuffix(name, ".")
	return strings.Map(func(r rune) rune {
		if r <= ' ' || r > '~' || strings.ContainsRune(`"\`, r) {
			return -1
		}
		return r
	}, name[:min(len(name), 255)])
}

// mdnsSocket asks and receives answers.
type mdnsSocket struct {
	conn *net.UDPConn
	p    *ipv6.PacketConn
}

func openMDNS() (*mdnsSocket, error) {
	conn, err := net.ListenUDP("udp6", nil)
	if err != nil {
		return nil, err
	}
	s := &mdnsSocket{conn, ipv6.NewPacketConn(conn)}
	if err := s.p.SetControlMessage(ipv6.FlagInterface, true); err != nil {
		conn.Close()
		return nil, err
	}
	return s, nil
}

// ask sends a message to all that speak mDNS on a link.
func (s *mdnsSocket) ask(message []byte, l link.Link) error {
	_, err := s.p.WriteTo(message, &ipv6.ControlMessage{HopLimit: 255, IfIndex: l.Index},
		&net.UDPAddr{IP: mdnsGroup.AsSlice(), Port: mdnsPort, Zone: strconv.Itoa(l.Index)})
	return err
}

// receive hands on what is said until the socket is closed.
func (s *mdnsSocket) receive(fn func(answer)) {
	buf := make([]byte, 9000) // RFC 6762 §17
	for {
		n, cm, from, err := s.p.ReadFrom(buf)
		if err != nil {
			return
		}
		addr := ipOf(from)
		if udp, ok := from.(*net.UDPAddr); !ok || udp.Port != mdnsPort || cm == nil || !addr.Is6() {
			continue
		}
		fn(answer{place: place{cm.IfIndex, addr}, at: time.Now(), heard: heard{via: ViaMDNS, names: names(buf[:n])}})
	}
}
