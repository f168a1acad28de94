package announce

import (
	"crypto/sha512"
	"encoding/binary"
	"encoding/pem"

	"rescue6/rescue/identity"
)

// Namespace separates signatures of announcements from all others that the host
// key makes: pass it to ssh-keygen -Y verify -n. It has the form that
// PROTOCOL.sshsig wants of a private one.
const Namespace = "announcement@rescue6"

// The fixed parts of a signature (OpenSSH, PROTOCOL.sshsig).
const (
	sshsigMagic   = "SSHSIG"
	sshsigVersion = 1
	sshsigHash    = "sha512"
)

// signedData returns what is signed for a message (PROTOCOL.sshsig, "Signed
// Data, of which the signature goes into the blob above").
func signedData(message []byte) []byte {
	sum := sha512.Sum512(message)
	b := []byte(sshsigMagic)
	b = appendString(b, Namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, sshsigHash)
	return appendString(b, string(sum[:]))
}

// SSHSIG returns the signed message and its signature in OpenSSH's armor, as
// they go on standard input and into the file behind -s of
//
//	ssh-keygen -Y verify -n announcement@rescue6 -f allowed_signers -I NAME -s FILE
//
// Both are nil if the announcement was neither signed nor parsed.
func (a *Announcement) SSHSIG() (message, armored []byte) {
	message, err := a.message()
	if err != nil || len(a.Signature) == 0 {
		return nil, nil
	}
	signature := appendString(nil, identity.KeyType)
	signature = appendString(signature, string(a.Signature))

	b := []byte(sshsigMagic)
	b = binary.BigEndian.AppendUint32(b, sshsigVersion)
	b = appendString(b, string(identity.Blob(a.Key)))
	b = appendString(b, Namespace)
	b = appendString(b, "") // reserved
	b = appendString(b, sshsigHash)
	b = appendString(b, string(signature))
	return message, pem.EncodeToMemory(&pem.Block{Type: "SSH SIGNATURE", Bytes: b})
}

// appendString appends a string of SSH (RFC 4251 §5).
func appendString(b []byte, s string) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(len(s)))
	return append(b, s...)
}
