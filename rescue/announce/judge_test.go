package announce

import (
	"bytes"
	"encoding/binary"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"rescue6/rescue/identity"
)

// sshKeygenVerify lets OpenSSH judge a signature; the error has its words.
func sshKeygenVerify(t *testing.T, a *Announcement, namespace string, message, armored []byte) ([]byte, error) {
	t.Helper()
	dir := t.TempDir()
	signers, signature := filepath.Join(dir, "allowed_signers"), filepath.Join(dir, "announcement.sig")
	line := "attic namespaces=\"" + Namespace + "\" " + identity.AuthorizedKey(a.Key) + "\n"
	for name, data := range map[string][]byte{signers: []byte(line), signature: armored} {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command("ssh-keygen", "-Y", "verify", "-n", namespace, "-f", signers, "-I", "attic", "-s", signature)
	cmd.Stdin = bytes.NewReader(message)
	return cmd.CombinedOutput()
}

func TestOpenSSHVerifies(t *testing.T) {
	a, err := Parse(later(t)) // with a flag and an extension that are not known
	if err != nil {
		t.Fatal(err)
	}
	message, armored := a.SSHSIG()
	out, err := sshKeygenVerify(t, &a, Namespace, message, armored)
	if err != nil || !bytes.HasPrefix(out, []byte("Good \""+Namespace+"\" signature for attic with ED25519 key "+identity.Fingerprint(a.Key))) {
		t.Errorf("ssh-keygen: %v: %s", err, out)
	}

	if out, err := sshKeygenVerify(t, &a, "file", message, armored); err == nil {
		t.Errorf("ssh-keygen accepts it in another namespace: %s", out)
	}
	for _, i := range []int{0, len(message) / 2, len(message) - 1} {
		flipped := bytes.Clone(message)
		flipped[i] ^= 1
		if out, err := sshKeygenVerify(t, &a, Namespace, flipped, armored); err == nil {
			t.Errorf("ssh-keygen accepts the message with a flipped bit in byte %d: %s", i, out)
		}
	}
}

// TestWiresharkDissects checks that to a foreign eye an announcement is a proper
// Neighbor Advertisement with an option of an experiment.
func TestWiresharkDissects(t *testing.T) {
	a := attic()
	f := frame([6]byte(a.MAC), mustMarshal(t, &a))

	// A pcap file with one Ethernet frame (draft-ietf-opsawg-pcap).
	var pcap []byte
	for _, word := range []uint32{0xa1b2c3d4, 2<<16 | 4, 0, 0, 65535, 1} {
		pcap = binary.BigEndian.AppendUint32(pcap, word)
	}
	for _, word := range []uint32{uint32(time.Now().Unix()), 0, uint32(len(f)), uint32(len(f))} {
		pcap = binary.BigEndian.AppendUint32(pcap, word)
	}
	file := filepath.Join(t.TempDir(), "announcement.pcap")
	if err := os.WriteFile(file, append(pcap, f...), 0o600); err != nil {
		t.Fatal(err)
	}

	tshark := func(args ...string) string {
		cmd := exec.Command("tshark", append([]string{"-n", "-r", file}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+t.TempDir())
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			t.Fatalf("tshark: %v: %s", err, stderr.String())
		}
		return string(out)
	}
	got := strings.TrimSpace(tshark("-T", "fields", "-E", "separator=|", "-E", "aggregator=+",
		"-e", "eth.dst", "-e", "ipv6.src", "-e", "ipv6.dst", "-e", "ipv6.hlim", "-e", "icmpv6.type", "-e", "icmpv6.checksum.status",
		"-e", "icmpv6.nd.na.flag.r", "-e", "icmpv6.nd.na.flag.s", "-e", "icmpv6.nd.na.flag.o",
		"-e", "icmpv6.nd.na.target_address", "-e", "icmpv6.opt.type", "-e", "icmpv6.opt.linkaddr"))
	want := "33:33:00:00:00:01|fe80::ba27:ebff:fe00:1|ff02::1|255|136|1|0|0|1|fe80::ba27:ebff:fe00:1|2+253|b8:27:eb:00:00:01"
	if got != want {
		t.Errorf("tshark:\ngot  %s\nwant %s", got, want)
	}
	if whole := tshark("-V"); strings.Contains(strings.ToLower(whole), "malformed") || !strings.Contains(whole, "Type: RFC3692-style Experiment 1 (253)") {
		t.Errorf("tshark:\n%s", whole)
	}
}
