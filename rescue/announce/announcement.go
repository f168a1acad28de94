package announce

import (
	"bytes"
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// An Announcement is what one instance says about one of its addresses.
type Announcement struct {
	// Hostname is one label (RFC 1123 §2.1), at most 63 bytes, or empty. From a
	// stranger it is a claim, but one that is safe to print.
	Hostname string

	// Port is where SSH listens.
	Port uint16

	// Key is the SSH host key.
	Key ed25519.PublicKey

	// BootID is random and changes whenever the announcer starts; Sequence
	// grows by one with each announcement of the same BootID, from 1.
	BootID   [16]byte
	Sequence uint64

	// MAC has six bytes and Target, a link-local address without a zone, is
	// reached there.
	MAC    net.HardwareAddr
	Target netip.Addr

	// IPv4Dead says that the instance cannot be reached by IPv4 from beyond
	// the link, as far as it knows.
	IPv4Dead bool

	// Router says that the interface forwards. It must be true to the kernel:
	// neighbours drop a default router that says it is none (RFC 4861 §7.2.5).
	Router bool

	// Signature is the raw Ed25519 signature, 64 bytes.
	Signature []byte

	// What a later version says with flags and extensions that this one does
	// not know is kept, because the signature covers it.
	unknownFlags byte
	extension    []byte
}

// ErrSignature is what Verify returns for a signature that does not hold.
var ErrSignature = errors.New("the signature is not valid")

// Sign sets Key and Signature. It returns an error if a field cannot be put on
// the wire, or if the key is not an Ed25519 private key.
func (a *Announcement) Sign(key ed25519.PrivateKey) error {
	if len(key) != ed25519.PrivateKeySize {
		return fmt.Errorf("signing announcement: private key of %d bytes instead of %d", len(key), ed25519.PrivateKeySize)
	}
	a.Key = key.Public().(ed25519.PublicKey)
	message, err := a.message()
	if err != nil {
		return fmt.Errorf("signing announcement: %w", err)
	}
	a.Signature = ed25519.Sign(key, signedData(message))
	return nil
}

// Verify returns nil if the holder of Key signed exactly these fields, and
// otherwise an error that wraps [ErrSignature].
func (a *Announcement) Verify() error {
	message, err := a.message()
	if err != nil {
		return fmt.Errorf("verifying announcement: %w: %w", ErrSignature, err)
	}
	if !ed25519.Verify(a.Key, signedData(message), a.Signature) {
		return fmt.Errorf("verifying announcement: %w", ErrSignature)
	}
	return nil
}

// The layout of the option; doc.go has the table. Offsets are counted from the
// option's type byte.
const (
	optionType    = 253    // RFC 4727 §5.1.3
	maxOptionLen  = 31 * 8 // mdlayher/ndp counts the length in a uint8
	magic         = "RSC6" // experiments share the type (RFC 3692)
	version       = 1      //
	flagIPv4Dead  = 1 << 0 //
	flagRouter    = 1 << 1 //
	offMagic      = 2      // the signed message begins here
	offVersion    = 6      //
	offFlags      = 7      //
	offSequence   = 8      //
	offBootID     = 16     //
	offTarget     = 32     //
	offKey        = 48     //
	offMAC        = 80     //
	offPort       = 86     //
	offSignature  = 88     // holds the offset of the signature
	offNameLen    = 89     //
	offName       = 90     //
	maxNameLen    = 63     // RFC 1035 §2.3.4
	maxMessageEnd = maxOptionLen - ed25519.SignatureSize
)

// message returns the bytes that are signed: the option from its magic up to the
// signature. It is a function of the fields alone, so that what was verified is
// what the caller sees.
func (a *Announcement) message() ([]byte, error) {
	switch {
	case len(a.Key) != ed25519.PublicKeySize:
		return nil, fmt.Errorf("public key of %d bytes instead of %d", len(a.Key), ed25519.PublicKeySize)
	case len(a.MAC) != 6:
		return nil, fmt.Errorf("MAC address of %d bytes instead of 6", len(a.MAC))
	case !a.Target.Is6() || !a.Target.IsLinkLocalUnicast():
		return nil, fmt.Errorf("target %v is not an IPv6 link-local address", a.Target)
	case a.Hostname != "" && !validLabel(a.Hostname):
		return nil, fmt.Errorf("hostname %q is not one label", a.Hostname)
	}
	end := offName + len(a.Hostname) + len(a.extension)
	if end > maxMessageEnd {
		return nil, fmt.Errorf("extensions of %d bytes do not fit", len(a.extension))
	}

	flags := a.unknownFlags
	if a.IPv4Dead {
		flags |= flagIPv4Dead
	}
	if a.Router {
		flags |= flagRouter
	}
	target := a.Target.As16()

	m := make([]byte, 0, end-offMagic)
	m = append(m, magic...)
	m = append(m, version, flags)
	m = binary.BigEndian.AppendUint64(m, a.Sequence)
	m = append(m, a.BootID[:]...)
	m = append(m, target[:]...)
	m = append(m, a.Key...)
	m = append(m, a.MAC...)
	m = binary.BigEndian.AppendUint16(m, a.Port)
	m = append(m, byte(end), byte(len(a.Hostname)))
	m = append(m, a.Hostname...)
	return append(m, a.extension...), nil
}

// optionValue returns the option without its type and length bytes, padded.
func (a *Announcement) optionValue() ([]byte, error) {
	message, err := a.message()
	if err != nil {
		return nil, err
	}
	if len(a.Signature) != ed25519.SignatureSize {
		return nil, fmt.Errorf("signature of %d bytes instead of %d: not signed", len(a.Signature), ed25519.SignatureSize)
	}
	value := append(message, a.Signature...)
	for (len(value)+2)%8 != 0 {
		value = append(value, 0)
	}
	return value, nil
}

// isAnnouncement says whether an option, from its type byte on, has the layout
// that parseOption knows.
func isAnnouncement(option []byte) bool {
	return len(option) > offVersion && option[0] == optionType &&
		string(option[offMagic:offVersion]) == magic && option[offVersion] == version
}

// parseOption reads an option for which isAnnouncement holds. The result shares
// no memory with it.
func parseOption(option []byte) (Announcement, error) {
	if len(option) < offName+ed25519.SignatureSize {
		return Announcement{}, fmt.Errorf("announcement of %d bytes is cut short", len(option))
	}
	nameLen, end := int(option[offNameLen]), int(option[offSignature])
	if nameLen > maxNameLen || end < offName+nameLen || end+ed25519.SignatureSize > len(option) {
		return Announcement{}, fmt.Errorf("announcement of %d bytes has a hostname of %d and a signature at %d", len(option), nameLen, end)
	}
	// Nothing but a clean name gets any further: it ends up on terminals.
	name := string(option[offName : offName+nameLen])
	if name != "" && !validLabel(name) {
		return Announcement{}, fmt.Errorf("announced hostname %q is not one label", name)
	}
	flags := option[offFlags]
	return Announcement{
		Hostname:     name,
		Port:         binary.BigEndian.Uint16(option[offPort:]),
		Key:          bytes.Clone(option[offKey:offMAC]),
		BootID:       [16]byte(option[offBootID:offTarget]),
		Sequence:     binary.BigEndian.Uint64(option[offSequence:]),
		MAC:          bytes.Clone(option[offMAC:offPort]),
		Target:       netip.AddrFrom16([16]byte(option[offTarget:offKey])),
		IPv4Dead:     flags&flagIPv4Dead != 0,
		Router:       flags&flagRouter != 0,
		Signature:    bytes.Clone(option[end : end+ed25519.SignatureSize]),
		unknownFlags: flags &^ (flagIPv4Dead | flagRouter),
		extension:    slices.Clone(option[offName+nameLen : end]),
	}, nil
}

// validLabel says whether s is one label of a hostname: letters, digits and
// inner hyphens (RFC 1123 §2.1), at most 63 bytes.
func validLabel(s string) bool {
	if s == "" || len(s) > maxNameLen || s[0] == '-' || s[len(s)-1] == '-' {
		return false
	}
	for _, c := range []byte(s) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-':
		default:
			return false
		}
	}
	return true
}
