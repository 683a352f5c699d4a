package main

import (
	"archive/tar"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// client gives up soon where nothing answers, so that a machine without this way out goes on to build; the time
// for a download itself is not limited but for silence of the server.
var client = &http.Client{Transport: &http.Transport{
	Proxy:                 http.ProxyFromEnvironment,
	DialContext:           (&net.Dialer{Timeout: 10 * time.Second}).DialContext,
	TLSHandshakeTimeout:   10 * time.Second,
	ResponseHeaderTimeout: 30 * time.Second,
}}

// download stores a program of a release, after its checksum, which comes from the same site, was compared.
func download(p program, to string) error {
	want, err := checksum(p)
	if err != nil {
		return err
	}
	archive := to + ".download"
	defer func() { _ = os.Remove(archive) }()
	if err := fetch(p.url, archive, want); err != nil {
		return err
	}
	if p.member == "" {
		return os.Rename(archive, to)
	}
	return extract(archive, p.member, to)
}

// checksum reads the SHA-256 of p.url from p.sum, which holds either it alone or lines of sum and file name.
func checksum(p program) (string, error) {
	body, err := get(p.sum)
	if err != nil {
		return "", err
	}
	defer func() { _ = body.Close() }()
	text, err := io.ReadAll(io.LimitReader(body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading %s: %w", p.sum, err)
	}
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 1 || len(fields) == 2 && fields[1] == path.Base(p.url) {
			return fields[0], nil
		}
	}
	return "", fmt.Errorf("%s has no checksum of %s", p.sum, path.Base(p.url))
}

func get(url string) (io.ReadCloser, error) {
	resp, err := client.Get(url) //nolint:noctx // a command that ends by a signal
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		_ = resp.Body.Close()
		return nil, fmt.Errorf("%s: %s", url, resp.Status)
	}
	return resp.Body, nil
}

func fetch(url, to, want string) error {
	body, err := get(url)
	if err != nil {
		return err
	}
	defer func() { _ = body.Close() }()
	f, err := os.Create(to)
	if err != nil {
		return err
	}
	hash := sha256.New()
	_, err = io.Copy(io.MultiWriter(f, hash), body)
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("storing %s: %w", url, err)
	}
	if got := hex.EncodeToString(hash.Sum(nil)); got != want {
		return fmt.Errorf("%s has SHA-256 %s, its release says %s", url, got, want)
	}
	return nil
}

func extract(archive, member, to string) error {
	f, err := os.Open(archive)
	if err != nil {
		return err
	}
	defer func() { _ = f.Close() }()
	zip, err := gzip.NewReader(f)
	if err != nil {
		return fmt.Errorf("reading the archive: %w", err)
	}
	for files := tar.NewReader(zip); ; {
		header, err := files.Next()
		if err != nil {
			return fmt.Errorf("looking for %s in the archive: %w", member, err)
		}
		if header.Name != member {
			continue
		}
		out, err := os.Create(to)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, files) //nolint:gosec // its checksum is that of the release
		return errors.Join(err, out.Close())
	}
}
