// Package announce says where an instance is, to everybody on the link, and
// hears others say it.
//
// An announcement is an unsolicited Neighbor Advertisement (RFC 4861 §4.4 and
// §7.2.6) from a link-local address, about that address, to all nodes: hop limit
// 255, S=0, O=1, R as the interface forwards, and a target link-layer address
// option. A neighbour that knows the address already repairs its cache from it.
// One more option tells who speaks. A host makes no neighbour cache entry from
// such a message, so who wants to hear announcements reads ICMPv6 type 136 raw,
// as [Listen] does.
//
// # The option
//
// Type 253 is one of the two for experiments (RFC 4727 §5.1.3). The option is at
// most 248 bytes long, since mdlayher/ndp v1.1.0 cannot write a longer one. All
// numbers are in network byte order.
//
//	offset  bytes  field
//	     0      1  type, 253
//	     1      1  length of the option in units of 8 bytes (RFC 4861 §4.6)
//	     2      4  magic, "RSC6"
//	     6      1  version, 1
//	     7      1  flags: 0x01 IPv4 is dead, 0x02 router (same as R); others 0
//	     8      8  sequence, counts the announcements of one boot ID from 1
//	    16     16  boot ID, random, new whenever the announcer starts
//	    32     16  target, the announced link-local address
//	    48     32  SSH host key, the raw Ed25519 public key (RFC 8709 §4)
//	    80      6  MAC address, the same as in the target link-layer option
//	    86      2  SSH port
//	    88      1  s, offset of the signature, 90+n or more
//	    89      1  n, length of the hostname, 0 (none) to 63
//	    90      n  hostname, one label (RFC 1123 §2.1)
//	  90+n      -  extensions, up to offset s, signed; version 1 has none
//	     s     64  Ed25519 signature
//	  s+64      -  padding to a multiple of 8 bytes, zero
//
// A receiver ignores an option with another magic or version, flags that it does
// not know, extensions, and whatever follows the signature. It refuses an
// announcement that contradicts itself: whose target, MAC address or router flag
// is not that of the Neighbor Advertisement around it, or whose hostname is not
// one label.
//
// # The signature
//
// The signed message is the option from offset 2 up to the signature, byte for
// byte: every field, but neither type and length, which say only how it was
// carried, nor the padding. It is signed the way ssh-keygen signs a file
// (OpenSSH, PROTOCOL.sshsig) with the [Namespace] of its own, hash sha512: the
// Ed25519 signature is over
//
//	"SSHSIG" || string(Namespace) || string("") || string("sha512") || string(SHA512(message))
//
// where string() puts a length of 32 bits in front (RFC 4251 §5). So ssh-keygen
// can judge it: see [Announcement.SSHSIG] and docs/announcement.md.
//
// A valid signature proves that the holder of this key once said this. It may be
// a replay: that the instance is there now, only an SSH handshake proves. And it
// says nothing about whose key it is: "yours" is said of pinned keys only.
package announce
