package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"rescue6/rescue/link/linktest"
	"rescue6/rescue/scan"
)

// bin is the program under test.
var bin string

func TestMain(m *testing.M) {
	if err := linktest.Enter(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	dir, err := os.MkdirTemp("", "scand-test-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	bin = filepath.Join(dir, "scand")
	build := exec.Command("go", "build", "-o", bin, ".")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "building scand: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// daemon is a scand that runs on a node.
type daemon struct {
	t   testing.TB
	cmd *exec.Cmd
	dir string
	log bytes.Buffer
}

// start starts scand on a node that is called so, with its files in dir.
func start(t testing.TB, n *linktest.Namespace, hostname, dir string) *daemon {
	t.Helper()
	key := filepath.Join(dir, "host_key")
	if _, err := os.Stat(key); err != nil {
		if out, err := exec.Command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "", "-f", key).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	d := &daemon{t: t, dir: dir}
	d.cmd = exec.Command("unshare", "-u", "sh", "-c", `hostname "$0"; exec "$@"`, hostname,
		bin, "-control", d.socket(), "-state_dir", filepath.Join(dir, "state"), "-host_key", key)
	d.cmd.Stderr = &d.log
	if err := n.Start(d.cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(d.stop)
	return d
}

func (d *daemon) socket() string { return filepath.Join(d.dir, "sock") }

// stop ends it, if it has not ended.
func (d *daemon) stop() {
	if d.cmd.ProcessState != nil {
		return
	}
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	_ = d.cmd.Wait()
	if d.t.Failed() {
		d.t.Logf("log of scand:\n%s", &d.log)
	}
}

// records asks until ok is content with what is known.
func (d *daemon) records(what string, ok func([]scan.Record) bool) []scan.Record {
	d.t.Helper()
	var all []scan.Record
	var err error
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		ctx, cancel := context.WithTimeout(d.t.Context(), 5*time.Second)
		all, err = scan.Known(ctx, d.socket())
		cancel()
		if err == nil && ok(all) {
			return all
		}
	}
	d.t.Fatalf("%s: not within 20 s (%v): %+v", what, err, all)
	return nil
}

func has(all []scan.Record, mac string) bool {
	return slices.ContainsFunc(all, func(r scan.Record) bool { return r.MAC == mac })
}

// The neighbours are known soon, one that comes later when it comes, and all of them
// after a restart. A node with scand is found by the group of rescue6, others not.
func TestNeighbours(t *testing.T) {
	c := linktest.NewCrowd(t)
	pi, piMAC := c.Add(true)
	_, mac := c.Add(true)
	dir := t.TempDir()
	d := start(t, pi, "attic", dir)
	d.records("the neighbours", func(all []scan.Record) bool { return has(all, linktest.CrowdLaptop.String()) })
	// Nodes of a crowd do not reach each other, so the other one is the laptop's.
	out, err := c.Laptop.Run(t.Context(), "ping", "-c", "1", "-W", "2", "ff02::114%eth0")
	if err != nil || !strings.Contains(string(out), "bytes from fe80::ff:fe00:1%eth0") || strings.Contains(string(out), "fe80::ff:fe00:2") {
		t.Errorf("ping of the group (%s is in it, %s is not): %v\n%s", piMAC, mac, err, out)
	}
	if info, err := os.Stat(d.socket()); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("the socket: %v, %v", info, err)
	}
	d.stop()

	// The neighbour has gone meanwhile.
	if err := c.Laptop.SetDown("eth0"); err != nil {
		t.Fatal(err)
	}
	d = start(t, pi, "attic", dir)
	all := d.records("who was known before", func(all []scan.Record) bool { return len(all) > 0 })
	if !has(all, linktest.CrowdLaptop.String()) || all[0].FirstSeen.IsZero() {
		t.Errorf("known after a restart: %+v", all)
	}
}

// avahi, on another host of the link, finds name, addresses and services; a second
// machine of the same name is called otherwise.
func TestAvahi(t *testing.T) {
	for _, program := range []string{"avahi-daemon", "avahi-browse", "dbus-daemon"} {
		if _, err := exec.LookPath(program); err != nil && !exists("/usr/sbin/"+program) {
			t.Fatalf("%v: apt install avahi-daemon avahi-utils dbus", err)
		}
	}
	bridge, pi, other, laptop := linktest.ForTest(t, "bridge"), linktest.ForTest(t, "pi"), linktest.ForTest(t, "other"), linktest.ForTest(t, "laptop")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	check(bridge.Bridge("br0"))
	for i, n := range []*linktest.Namespace{pi, other, laptop} {
		port := fmt.Sprint("port", i)
		check(linktest.Veth(bridge, port, n, "eth0"))
		check(n.SetMAC("eth0", []byte{0x52, 0x54, 0, 0, 0, byte(i)}))
		check(bridge.Attach("br0", port))
		check(n.SetUp("eth0"))
		_, err := n.LinkLocal(t.Context(), "eth0")
		check(err)
	}
	dir := t.TempDir()
	d := start(t, pi, "attic", dir)
	d.records("a neighbour", func(all []scan.Record) bool { return has(all, "52:54:00:00:00:02") })
	start(t, other, "attic", t.TempDir())

	files := map[string]string{
		"bus.conf": `<busconfig><type>system</type><listen>unix:path=` + dir + `/bus</listen><auth>EXTERNAL</auth>
<policy context="default"><allow user="*"/><allow own="*"/><allow send_type="method_call"/><allow send_destination="*"/><allow receive_sender="*"/></policy></busconfig>`,
		"avahi.conf": "[server]\nhost-name=laptop\nuse-ipv4=no\nuse-ipv6=yes\nallow-interfaces=eth0\n[wide-area]\nenable-wide-area=no\n",
		"run.sh": `mount -t tmpfs tmpfs /run
mkdir /run/avahi-daemon /run/dbus
export DBUS_SYSTEM_BUS_ADDRESS=unix:path=` + dir + `/bus
dbus-daemon --config-file=` + dir + `/bus.conf --nofork --nopidfile &
until [ -S ` + dir + `/bus ]; do sleep 0.05; done
PATH=$PATH:/usr/sbin
avahi-daemon -f ` + dir + `/avahi.conf --no-drop-root --no-chroot --no-rlimits >&2 &
for try in $(seq 1 100); do
	# Both machines have a name once they have argued about it.
	[ $(avahi-browse -rptk _rescue6._tcp 2>/dev/null | grep -c '^=') -ge 2 ] && break
	sleep 0.1
done
avahi-browse -rptk _rescue6._tcp
avahi-browse -rptk _ssh._tcp
avahi-resolve -6 -n attic.local
avahi-resolve -6 -n attic-2.local
`,
	}
	for name, text := range files {
		check(os.WriteFile(filepath.Join(dir, name), []byte(text), 0o700))
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var out, said bytes.Buffer
	cmd := exec.CommandContext(ctx, "unshare", "-m", "sh", filepath.Join(dir, "run.sh"))
	cmd.Stdout, cmd.Stderr = &out, &said
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	cmd.WaitDelay = time.Second
	check(laptop.Start(cmd))
	_ = cmd.Wait()
	_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)

	fingerprint, err := exec.Command("ssh-keygen", "-lf", filepath.Join(dir, "host_key.pub")).Output()
	check(err)
	names := []string{"attic", "attic-2"} // who was first has it
	for _, want := range []string{
		names[0] + ";_rescue6._tcp;local;attic.local;fe80::5054:ff:fe00:", names[1] + ";_rescue6._tcp;local;attic-2.local;fe80::5054:ff:fe00:",
		names[0] + ";_ssh._tcp;local;attic.local;", "fingerprint=" + strings.Fields(string(fingerprint))[1],
		"attic.local\tfe80::5054:ff:fe00:", "attic-2.local\tfe80::5054:ff:fe00:",
	} {
		text := strings.ReplaceAll(out.String(), "SSH Remote Terminal", "_ssh._tcp")
		if !strings.Contains(text, want) {
			t.Errorf("avahi does not say %q", want)
		}
	}
	if t.Failed() {
		t.Logf("avahi said:\n%s\n%s", &out, &said)
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
