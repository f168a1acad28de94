package shell

import (
	"context"
	"os"

	"github.com/u-root/u-root/pkg/core"
	"github.com/u-root/u-root/pkg/core/base64"
	"github.com/u-root/u-root/pkg/core/cat"
	"github.com/u-root/u-root/pkg/core/chmod"
	"github.com/u-root/u-root/pkg/core/cp"
	"github.com/u-root/u-root/pkg/core/find"
	"github.com/u-root/u-root/pkg/core/gzip"
	"github.com/u-root/u-root/pkg/core/ls"
	"github.com/u-root/u-root/pkg/core/mkdir"
	"github.com/u-root/u-root/pkg/core/mv"
	"github.com/u-root/u-root/pkg/core/rm"
	"github.com/u-root/u-root/pkg/core/shasum"
	"github.com/u-root/u-root/pkg/core/tar"
	"github.com/u-root/u-root/pkg/core/touch"
)

// coreutils returns the commands that u-root has as libraries.
func coreutils() map[string]command {
	u := func(what, example string, build func() core.Command) command {
		return command{"Files", example, what, func(ctx context.Context, s stdio, args []string) error {
			c := build()
			c.SetIO(s.in, s.out, s.err)
			if dir, err := os.Getwd(); err == nil {
				c.SetWorkingDir(dir)
			}
			c.SetLookupEnv(os.LookupEnv)
			return c.RunContext(ctx, args...)
		}}
	}
	return map[string]command{
		"base64": u("encode or decode base64", "base64 -d FILE", func() core.Command { return base64.New() }),
		"cat":    u("write files out", "cat /proc/mounts", func() core.Command { return cat.New() }),
		"chmod":  u("change modes", "chmod 600 FILE", func() core.Command { return chmod.New() }),
		"cp":     u("copy files", "cp -r /perm/a /perm/b", func() core.Command { return cp.New() }),
		"find":   u("find files", "find /perm -name '*.log'", func() core.Command { return find.New() }),
		"gzip":   u("compress", "gzip FILE", func() core.Command { return gzip.New("gzip") }),
		"gunzip": u("uncompress", "gunzip FILE.gz", func() core.Command { return gzip.New("gunzip") }),
		"ls":     u("list files", "ls -l /perm", func() core.Command { return ls.New() }),
		"mkdir":  u("make directories", "mkdir -p /perm/a/b", func() core.Command { return mkdir.New() }),
		"mv":     u("move files", "mv FILE /perm", func() core.Command { return mv.New() }),
		"rm":     u("remove files", "rm -r DIRECTORY", func() core.Command { return rm.New() }),
		"shasum": u("checksums", "shasum -a 256 FILE", func() core.Command { return shasum.New() }),
		"tar":    u("archives", "tar -xf FILE.tar DIRECTORY", func() core.Command { return tar.New() }),
		"touch":  u("make empty files", "touch FILE", func() core.Command { return touch.New() }),
	}
}
