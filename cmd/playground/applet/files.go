package applet

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// options splits arguments into the letters of flags, which must be among known, and the rest.
func options(args []string, known string) (flags string, rest []string, err error) {
	for i, arg := range args {
		if arg == "--" {
			return flags, append(rest, args[i+1:]...), nil
		}
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		for _, letter := range arg[1:] {
			if !strings.ContainsRune(known, letter) {
				return "", nil, fmt.Errorf("unknown option %s", arg)
			}
		}
		flags += arg[1:]
	}
	return flags, rest, nil
}

func cat(args []string, std stdio) error {
	if len(args) == 0 {
		args = []string{"-"}
	}
	var errs []error
	for _, name := range args {
		errs = append(errs, copyFile(name, std))
	}
	return errors.Join(errs...)
}

func copyFile(name string, std stdio) error {
	if name == "-" {
		_, err := io.Copy(std.out, std.in)
		return err
	}
	f, err := os.Open(name)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	_, err = io.Copy(std.out, f)
	return err
}

// ls lists names, one on a line; -l with mode, size and time, -a with hidden ones, -d folders themselves.
func ls(args []string, std stdio) error {
	flags, names, err := options(args, "lad1")
	if err != nil {
		return err
	}
	if len(names) == 0 {
		names = []string{"."}
	}
	var errs []error
	for _, name := range names {
		errs = append(errs, list(name, flags, len(names) > 1, std.out))
	}
	return errors.Join(errs...)
}

func list(name, flags string, title bool, out io.Writer) error {
	info, err := os.Lstat(name)
	if err != nil {
		return err
	}
	if target, err := os.Stat(name); err == nil && target.IsDir() && !strings.Contains(flags, "l") {
		info = target
	}
	if !info.IsDir() || strings.Contains(flags, "d") {
		printEntry(name, info, filepath.Dir(name), flags, out)
		return nil
	}
	if title {
		fmt.Fprintf(out, "%s:\n", name)
	}
	entries, err := os.ReadDir(name)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if strings.HasPrefix(entry.Name(), ".") && !strings.Contains(flags, "a") {
			continue
		}
		if info, err := entry.Info(); err == nil {
			printEntry(entry.Name(), info, name, flags, out)
		}
	}
	return nil
}

func printEntry(name string, info fs.FileInfo, dir, flags string, out io.Writer) {
	if !strings.Contains(flags, "l") {
		fmt.Fprintln(out, name)
		return
	}
	if target, err := os.Readlink(filepath.Join(dir, filepath.Base(name))); err == nil {
		name += " -> " + target
	}
	fmt.Fprintf(out, "%s %10d %s %s\n", info.Mode(), info.Size(), info.ModTime().UTC().Format(time.DateTime), name)
}

func mkdir(args []string, _ stdio) error {
	flags, names, err := options(args, "p")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		if strings.Contains(flags, "p") {
			errs = append(errs, os.MkdirAll(name, 0o755))
		} else {
			errs = append(errs, os.Mkdir(name, 0o755))
		}
	}
	return errors.Join(errs...)
}

func rm(args []string, _ stdio) error {
	flags, names, err := options(args, "rf")
	if err != nil {
		return err
	}
	var errs []error
	for _, name := range names {
		err := os.Remove(name)
		if err != nil && strings.Contains(flags, "r") {
			err = os.RemoveAll(name)
		}
		if strings.Contains(flags, "f") && errors.Is(err, fs.ErrNotExist) {
			err = nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

func touch(args []string, _ stdio) error {
	var errs []error
	for _, name := range args {
		f, err := os.OpenFile(name, os.O_CREATE|os.O_WRONLY, 0o644)
		if err == nil {
			err = f.Close()
		}
		if err == nil {
			now := time.Now()
			err = os.Chtimes(name, now, now)
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}
