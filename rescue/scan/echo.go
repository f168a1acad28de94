package scan

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"

	"golang.org/x/net/ipv6"
)

// A message is 8 bytes of ICMPv6 header (RFC 4443 §4.1 and §4.2: type, code,
// checksum, identifier, sequence number) and 16 bytes of data, which come back as
// they were: a nonce and the index of the link on which it was sent.
const (
	headerSize  = 8
	nonceSize   = 12
	messageSize = headerSize + nonceSize + 4
)

// echo tells our echoes from those of others. The sequence number is the round.
type echo struct {
	id    uint16
	nonce [nonceSize]byte
	// anyID says that the kernel puts in an identifier of its own and compares it
	// when an answer comes: a datagram socket.
	anyID bool
}

// newEcho returns one with a nonce and an identifier that nobody can guess.
func newEcho(anyID bool) echo {
	var b [2]byte
	e := echo{anyID: anyID}
	rand.Read(b[:]) // never fails
	rand.Read(e.nonce[:])
	e.id = binary.BigEndian.Uint16(b[:])
	return e
}

// request returns the echo request of a round on a link. The kernel fills in the
// checksum (RFC 3542 §3.1).
func (e echo) request(round, index int) []byte {
	b := make([]byte, headerSize, messageSize)
	b[0] = byte(ipv6.ICMPTypeEchoRequest)
	binary.BigEndian.PutUint16(b[4:], e.id)
	binary.BigEndian.PutUint16(b[6:], uint16(round))
	b = append(b, e.nonce[:]...)
	return binary.BigEndian.AppendUint32(b, uint32(index))
}

// parseReply says whether a message is the answer to one of our echoes, and to
// which. The kernel has checked its checksum.
func (e echo) parseReply(b []byte) (round, index int, ok bool) {
	if len(b) != messageSize || b[0] != byte(ipv6.ICMPTypeEchoReply) || b[1] != 0 {
		return 0, 0, false
	}
	if !e.anyID && binary.BigEndian.Uint16(b[4:]) != e.id {
		return 0, 0, false
	}
	if !bytes.Equal(b[headerSize:headerSize+nonceSize], e.nonce[:]) {
		return 0, 0, false
	}
	round = int(binary.BigEndian.Uint16(b[6:]))
	return round, int(binary.BigEndian.Uint32(b[headerSize+nonceSize:])), round < rounds
}
