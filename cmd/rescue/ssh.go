package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"rescue6/rescue/identity"
	"rescue6/rescue/instance"
	"rescue6/rescue/link"
	"rescue6/rescue/scan"
)

func newSSHCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ssh NAME|ADDRESS|MAC [flags of ssh] [command…]",
		Short: "Log in to an instance, wherever on the link it is",
		Long: `Log in by the system's OpenSSH, as root.

NAME is one of your own instances: its label address is tried on every link at
once, and only the key that is in its image is accepted. ADDRESS is a link-local
address; without a zone (%eth0) every link is tried. MAC is what is printed on the
board. The exit status is that of ssh.`,
		Example: `  rescue ssh attic
  rescue ssh attic uptime
  rescue ssh b8:27:eb:12:34:56
  rescue ssh attic -N -L 8080:/run/gokrazy-http.sock`,
		DisableFlagParsing: true, // they are ssh's
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && (args[0] == "-h" || args[0] == "--help") {
				return cmd.Help()
			}
			if len(args) == 0 || strings.HasPrefix(args[0], "-") {
				return usagef("whom to log in to comes first: rescue ssh NAME [flags of ssh] [command…]")
			}
			return runSSH(cmd, args[0], args[1:])
		},
	}
}

func runSSH(cmd *cobra.Command, target string, rest []string) error {
	sshPath, err := exec.LookPath("ssh")
	if err != nil {
		return usagef("there is no ssh on this machine: install OpenSSH's client (Debian: openssh-client)")
	}
	mine, err := pinned()
	if err != nil {
		fmt.Fprintf(cmd.ErrOrStderr(), "rescue: %v\n", err)
	}
	t, err := parseTarget(target, mine)
	if err != nil {
		return err
	}
	links, err := usableLinks(nil)
	if err != nil {
		return err
	}
	found, err := locate(cmd, t, links, mine)
	if err != nil {
		return err
	}
	options, err := trust(t, found, mine)
	if err != nil {
		return err
	}
	argv := append([]string{"ssh"}, options...)
	flags, command := splitFlags(rest)
	argv = append(argv, flags...)
	argv = append(argv, "-p", strconv.Itoa(int(found.Addr.Port())), "root@"+found.Addr.Addr().String())
	argv = append(argv, command...)
	return become(cmd.Context(), sshPath, argv)
}

// target is whom the user means: one of the three.
type target struct {
	text     string
	instance *instance.Instance
	addrs    []netip.Addr // with zone, or to be tried on every link
}

// parseTarget reads NAME, ADDRESS or MAC.
func parseTarget(s string, mine []instance.Instance) (target, error) {
	t := target{text: s}
	bare := strings.TrimPrefix(strings.Trim(s, "[]"), "root@")
	if a, err := netip.ParseAddr(bare); err == nil {
		if !a.Is6() || !a.IsLinkLocalUnicast() {
			return t, usagef("%s is no link-local address: to others the port of an instance is silent, so that nobody beyond the link can try it; use its name, its MAC, or fe80::… ('rescue find' shows it)", s)
		}
		t.addrs = []netip.Addr{a}
		for _, in := range mine {
			if in.Label() == a.WithZone("") {
				t.instance = &in
			}
		}
		return t, nil
	}
	if mac, err := net.ParseMAC(bare); err == nil && len(mac) == 6 {
		t.addrs = []netip.Addr{identity.EUI64(mac)}
		return t, nil
	}
	var names []string
	for _, in := range mine {
		if in.Name == bare {
			t.instance, t.addrs = &in, []netip.Addr{in.Label()}
			return t, nil
		}
		names = append(names, in.Name)
	}
	known := "you have none yet: 'rescue image NAME' makes one"
	if len(names) > 0 {
		known = "yours are " + strings.Join(names, ", ")
	}
	return t, usagef("%q is none of your instances (%s); others are reached by address: 'rescue find' shows it", s, known)
}

// silence is how long a label address may be silent before the link is scanned.
const silence = time.Second

// locate returns where SSH answers.
func locate(cmd *cobra.Command, t target, links []link.Link, mine []instance.Instance) (*scan.SSH, error) {
	ctx, cancel := context.WithTimeout(cmd.Context(), silence)
	found := dialAll(ctx, t, links)
	cancel()
	if found != nil {
		return found, nil
	}
	names := make([]string, len(links))
	for i, l := range links {
		names[i] = l.Name
	}
	where := strings.Join(names, ", ")
	if t.instance == nil {
		return nil, failf("%s does not answer on %s: 'rescue find' shows who does", t.text, where)
	}
	fmt.Fprintf(cmd.ErrOrStderr(), "rescue: %s does not answer at %s: looking at all of %s …\n", t.instance.Name, t.instance.Label(), where)
	r, err := findHosts(cmd.Context(), findOptions{}, scan.Config{Links: links, Instances: asked(mine)})
	if err != nil {
		return nil, err
	}
	for _, h := range r.Hosts {
		if !h.Self && h.Name == t.instance.Name {
			return h.SSH, nil
		}
	}
	return nil, failf("%s is not on %s: is it on, and on the same link? 'rescue find' shows who is", t.instance.Name, where)
}

// dialAll asks the target's addresses on every link at once for their host key,
// and returns the first that answers, with the pinned key if there is one.
func dialAll(ctx context.Context, t target, links []link.Link) *scan.SSH {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	answers := make(chan *scan.SSH)
	var wg sync.WaitGroup
	for _, a := range t.addrs {
		zones := []netip.Addr{a}
		if a.Zone() == "" {
			zones = nil
			for _, l := range links {
				zones = append(zones, a.WithZone(l.Name))
			}
		}
		for _, z := range zones {
			wg.Go(func() {
				s, err := scan.Ask(ctx, z)
				if err != nil || t.instance != nil && s.Fingerprint() != identity.Fingerprint(t.instance.Key) {
					return
				}
				select {
				case answers <- s:
				case <-ctx.Done():
				}
			})
		}
	}
	go func() {
		wg.Wait()
		close(answers)
	}()
	s := <-answers
	cancel()
	for range answers { // let the others end
	}
	return s
}

// trust returns the options of ssh that say which host key is accepted: the
// pinned one, the one from which a label address was made, or what the user's
// known_hosts says.
func trust(t target, found *scan.SSH, mine []instance.Instance) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, failf("finding this program: %w", err)
	}
	only := []string{
		"-o", "UserKnownHostsFile=/dev/null", "-o", "GlobalKnownHostsFile=/dev/null",
		"-o", "StrictHostKeyChecking=yes", "-o", "HostKeyAlgorithms=" + identity.KeyType, "-o", "UpdateHostKeys=no",
	}
	in := t.instance
	for _, own := range mine {
		if in == nil && found.Fingerprint() == identity.Fingerprint(own.Key) {
			in = &own
		}
	}
	if in != nil {
		return append([]string{"-o", "HostKeyAlias=" + alias(in.Name),
			"-o", "KnownHostsCommand=" + quoted(self) + " hostkey " + in.Name}, only...), nil
	}
	a := found.Addr.Addr().WithZone("")
	if k, ok := found.Ed25519(); ok && identity.LabelAddress(k) == a {
		return append([]string{"-o", "HostKeyAlias=" + labelAlias(a),
			"-o", "KnownHostsCommand=" + quoted(self) + " hostkey --label " + a.String() + " --key %K"}, only...), nil
	}
	return []string{"-o", "HostKeyAlias=" + a.String()}, nil
}

// quoted returns a path as ssh_config wants it within a command: in quotes, and
// without a percent sign that stands for something.
func quoted(path string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`, "%", "%%").Replace(path) + `"`
}

// flagsWithValue are the flags of ssh(1) that take the next word.
const flagsWithValue = "BbcDEeFIiJLlmOopQRSWw"

// splitFlags splits what follows the target into flags of ssh and the command, as
// ssh itself does it.
func splitFlags(words []string) (flags, command []string) {
	for i := 0; i < len(words); i++ {
		w := words[i]
		if w == "--" {
			return words[:i], words[i+1:]
		}
		if len(w) < 2 || w[0] != '-' {
			return words[:i], words[i:]
		}
		// In a group of letters, the first that takes a value takes the rest of
		// the word, or the next one.
		if at := strings.IndexAny(w[1:], flagsWithValue); at >= 0 && at == len(w)-2 {
			i++
		}
	}
	return words, nil
}
