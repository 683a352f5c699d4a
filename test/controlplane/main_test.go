package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
)

// release serves files and, under name+".sha256", what it says their checksum is.
func release(t *testing.T, files map[string][]byte) string {
	t.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		data, ok := files[r.URL.Path]
		if !ok {
			http.NotFound(w, r)
			return
		}
		_, _ = w.Write(data)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func sum(data []byte) string {
	s := sha256.Sum256(data)
	return hex.EncodeToString(s[:])
}

func targz(t *testing.T, name string, data []byte) []byte {
	t.Helper()
	var buf bytes.Buffer
	zip := gzip.NewWriter(&buf)
	files := tar.NewWriter(zip)
	if err := files.WriteHeader(&tar.Header{Name: name, Size: int64(len(data)), Mode: 0o755}); err != nil {
		t.Fatal(err)
	}
	if _, err := files.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := files.Close(); err != nil {
		t.Fatal(err)
	}
	if err := zip.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func TestDownload(t *testing.T) {
	program1, archive := []byte("#!/bin/sh\n"), targz(t, "etcd-v1/etcd", []byte("etcd itself"))
	cases := map[string]struct {
		reason string
		files  map[string][]byte
		member string
		want   string // empty: an error, and nothing stored
	}{
		"Alone": {
			reason: "the checksum file of a Kubernetes release holds the sum alone",
			files:  map[string][]byte{"/x": program1, "/x.sha256": []byte(sum(program1))},
			want:   string(program1),
		},
		"Archive": {
			reason: "etcd comes in an archive, its sum in a list",
			files:  map[string][]byte{"/x": archive, "/x.sha256": fmt.Appendf(nil, "00  y\n%s  x\n", sum(archive))},
			member: "etcd-v1/etcd", want: "etcd itself",
		},
		"Altered":    {reason: "a wrong checksum", files: map[string][]byte{"/x": program1, "/x.sha256": []byte(sum(archive))}},
		"NotListed":  {reason: "no checksum of it", files: map[string][]byte{"/x": program1, "/x.sha256": []byte("00  y\n")}},
		"NoProgram":  {reason: "404", files: map[string][]byte{"/x.sha256": []byte(sum(program1))}},
		"NotInside":  {reason: "the member is missing", files: map[string][]byte{"/x": archive, "/x.sha256": []byte(sum(archive))}, member: "other"},
		"NotArchive": {reason: "no archive", files: map[string][]byte{"/x": program1, "/x.sha256": []byte(sum(program1))}, member: "other"},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			url := release(t, tc.files)
			to := filepath.Join(t.TempDir(), "x")
			err := download(program{name: "x", url: url + "/x", sum: url + "/x.sha256", member: tc.member}, to)
			got, _ := os.ReadFile(to)
			if string(got) != tc.want || (err == nil) != (tc.want != "") {
				t.Errorf("%s: stored %q, error %v; want %q", tc.reason, got, err, tc.want)
			}
			if _, err := os.Stat(to + ".download"); err == nil {
				t.Error("the download was left behind")
			}
		})
	}
}

// TestAssets: programs of our release in KUBEBUILDER_ASSETS are used, others are left aside, and the folder of
// links has each from its place.
func TestAssets(t *testing.T) {
	assets, cache := t.TempDir(), t.TempDir()
	dir := filepath.Join(cache, "release")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	script := func(path, says string) {
		t.Helper()
		if err := os.WriteFile(path, []byte("#!/bin/sh\necho '"+says+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	script(filepath.Join(assets, "kube-apiserver"), "Kubernetes v1.37.0")
	script(filepath.Join(assets, "kubelet"), "Kubernetes v1.31.4")
	script(filepath.Join(assets, "kubectl"), "Client Version: v1.37.2")
	all := programs(nil)
	given := inAssets(assets, all)
	if len(given) != 2 || !given["kube-apiserver"] || !given["kubectl"] {
		t.Fatalf("taken from KUBEBUILDER_ASSETS: %v, want kube-apiserver and kubectl", given)
	}
	for _, p := range all {
		script(filepath.Join(dir, p.name), "cached")
	}
	for range 2 { // a second run finds its links there
		merged, err := merge(cache, dir, assets, all, given)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range all {
			want := filepath.Join(dir, p.name)
			if given[p.name] {
				want = filepath.Join(assets, p.name)
			}
			if got, err := filepath.EvalSymlinks(filepath.Join(merged, p.name)); err != nil || got != want {
				t.Errorf("%s leads to %s (%v), want %s", p.name, got, err, want)
			}
		}
	}
}
