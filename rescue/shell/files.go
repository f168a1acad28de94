package shell

import (
	"context"
	"fmt"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"golang.org/x/sys/unix"
)

// statTime bounds how long one file system may take to say how full it is.
const statTime = 2 * time.Second

func df(_ context.Context, s stdio, _ []string) error {
	t := tabwriter.NewWriter(s.out, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, "FILE SYSTEM\tTYPE\tSIZE\tUSED\tFREE\tMOUNTED ON")
	for _, f := range rows("/proc/self/mounts", 0) {
		if len(f) < 3 {
			continue
		}
		st, ok := statfs(f[1])
		if !ok {
			fmt.Fprintf(t, "%s\t%s\tno answer\t\t\t%s\n", f[0], f[2], f[1])
			continue
		}
		if st.Blocks == 0 {
			continue // proc, sysfs and the like hold nothing
		}
		unit := uint64(st.Bsize)
		fmt.Fprintf(t, "%s\t%s\t%s\t%s\t%s\t%s\n", f[0], f[2],
			size(st.Blocks*unit), size((st.Blocks-st.Bfree)*unit), size(st.Bavail*unit), f[1])
	}
	return t.Flush()
}

// statfs asks one file system, which may be on a card that hangs.
func statfs(path string) (unix.Statfs_t, bool) {
	type answer struct {
		st  unix.Statfs_t
		err error
	}
	c := make(chan answer, 1)
	go func() {
		var a answer
		a.err = unix.Statfs(path, &a.st)
		c <- a
	}()
	select {
	case a := <-c:
		return a.st, a.err == nil
	case <-time.After(statTime):
		return unix.Statfs_t{}, false
	}
}

func size(n uint64) string {
	f := float64(n)
	for _, u := range []string{"B", "KiB", "MiB", "GiB"} {
		if f < 1024 {
			return fmt.Sprintf("%.1f %s", f, u)
		}
		f /= 1024
	}
	return fmt.Sprintf("%.1f TiB", f)
}

const mountUsage = usageError("usage: mount [-t TYPE] [-o ro,noatime,remount] DEVICE DIRECTORY; alone it shows what is mounted")

func mount(_ context.Context, s stdio, args []string) error {
	if len(args) == 0 {
		for _, f := range rows("/proc/self/mounts", 0) {
			if len(f) >= 4 {
				fmt.Fprintf(s.out, "%s on %s type %s (%s)\n", f[0], f[1], f[2], f[3])
			}
		}
		return nil
	}
	kind := "ext4"
	var flags uintptr
	var data []string
	for len(args) > 2 {
		switch args[0] {
		case "-t":
			kind = args[1]
		case "-o":
			for _, o := range strings.Split(args[1], ",") {
				if f, ok := mountFlags[o]; ok {
					flags |= f
				} else {
					data = append(data, o)
				}
			}
		default:
			return mountUsage
		}
		args = args[2:]
	}
	if len(args) != 2 {
		return mountUsage
	}
	if err := unix.Mount(args[0], args[1], kind, flags, strings.Join(data, ",")); err != nil {
		return fmt.Errorf("mounting %s on %s as %s: %w", args[0], args[1], kind, err)
	}
	return nil
}

var mountFlags = map[string]uintptr{
	"ro": unix.MS_RDONLY, "rw": 0, "remount": unix.MS_REMOUNT, "bind": unix.MS_BIND, "noatime": unix.MS_NOATIME,
	"noexec": unix.MS_NOEXEC, "nosuid": unix.MS_NOSUID, "nodev": unix.MS_NODEV, "sync": unix.MS_SYNCHRONOUS,
}

func umount(_ context.Context, _ stdio, args []string) error {
	flags := 0
	if len(args) == 2 && args[0] == "-l" {
		flags, args = unix.MNT_DETACH, args[1:]
	}
	if len(args) != 1 {
		return usageError("usage: umount [-l] DIRECTORY")
	}
	if err := unix.Unmount(args[0], flags); err != nil {
		return &os.PathError{Op: "umount", Path: args[0], Err: err}
	}
	return nil
}
