// Package identity derives what others know an instance by from its host key:
// the label address, the fingerprint and the known_hosts line.
//
// It knows Ed25519 only, because every rescue6 image has exactly one host key
// and it is of that type, and it encodes the key itself, so that rescued can
// use it without linking an SSH implementation.
package identity

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"net/netip"
)

// KeyType is the name of the host key's algorithm (RFC 8709 §4).
const KeyType = "ssh-ed25519"

// labelSeed separates the label address from every other use of a hash over a
// host key. Changing it changes the label address of every instance.
const labelSeed = "rescue6 label address v1\x00"

// Blob returns the public key in SSH wire format (RFC 8709 §4): the algorithm's
// name and the 32 bytes of the key, each with its length in front (RFC 4251 §5).
func Blob(pub ed25519.PublicKey) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(len(KeyType)))
	b = append(b, KeyType...)
	b = binary.BigEndian.AppendUint32(b, uint32(len(pub)))
	return append(b, pub...)
}

// AuthorizedKey returns the key as it stands in authorized_keys and known_hosts:
// algorithm and base64, without a comment or a newline.
func AuthorizedKey(pub ed25519.PublicKey) string {
	return KeyType + " " + base64.StdEncoding.EncodeToString(Blob(pub))
}

// Fingerprint returns the key's fingerprint as OpenSSH prints it: "SHA256:" and
// unpadded base64.
func Fingerprint(pub ed25519.PublicKey) string {
	sum := sha256.Sum256(Blob(pub))
	return "SHA256:" + base64.RawStdEncoding.EncodeToString(sum[:])
}

// LabelAddress returns the link-local address that an instance with this host
// key has on every link, whatever board it runs on: fe80::/64 (RFC 4291 §2.5.6)
// and the first 64 bits of SHA-256 over a fixed label and the public key in wire
// format. The universal/local bit is 0, "local" (RFC 4291 §2.5.1), so that it
// can never be taken for an address made from a MAC, and the group bit is 0.
func LabelAddress(pub ed25519.PublicKey) netip.Addr {
	h := sha256.New()
	h.Write([]byte(labelSeed))
	h.Write(Blob(pub))
	sum := h.Sum(nil)

	a := [16]byte{0: 0xfe, 1: 0x80}
	copy(a[8:], sum[:8])
	a[8] &^= 0x03
	return netip.AddrFrom16(a)
}

// EUI64 returns the link-local address that a host makes from a MAC address of
// six bytes (RFC 4291, appendix A). It returns the zero Addr for any other
// length.
func EUI64(mac []byte) netip.Addr {
	if len(mac) != 6 {
		return netip.Addr{}
	}
	return netip.AddrFrom16([16]byte{
		0: 0xfe, 1: 0x80,
		8: mac[0] ^ 0x02, 9: mac[1], 10: mac[2], 11: 0xff,
		12: 0xfe, 13: mac[3], 14: mac[4], 15: mac[5],
	})
}
