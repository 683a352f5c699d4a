package cri

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"
)

func TestFindImage(t *testing.T) {
	folder := t.TempDir()
	for _, name := range []string{"my.example_app_v1", "httpd"} {
		if err := os.MkdirAll(filepath.Join(folder, name, "rootfs"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "httpd", "config.json"), []byte("{"), 0o644); err != nil {
		t.Fatal(err)
	}
	s := newImages(folder, []string{"team/api"}, "/state")
	for name, tc := range map[string]struct {
		reason, reference, lower string
		port                     int
		missing, broken          bool
	}{
		"plain":      {reason: "built in", reference: "nginx", port: 80},
		"tag":        {reason: "any tag will do", reference: "nginx:1.27-alpine", port: 80},
		"digest":     {reason: "any digest will do", reference: "nginx@sha256:0123", port: 80},
		"docker":     {reason: "the long name of the same", reference: "docker.io/library/nginx:1", port: 80},
		"added":      {reason: "named by a flag", reference: "team/api:v3", port: 8080},
		"folder":     {reason: "a folder with the tag", reference: "my.example/app:v1", lower: "my.example_app_v1"},
		"other tag":  {reason: "no folder with that tag", reference: "my.example/app:v2", missing: true},
		"port":       {reason: "a registry's port is no tag", reference: "localhost:5000/nginx", missing: true},
		"broken":     {reason: "unreadable settings are named", reference: "httpd", broken: true},
		"unknown":    {reason: "neither", reference: "mysql:8", missing: true},
		"outside":    {reason: "no way out of the folder", reference: "..", missing: true},
		"unknown id": {reason: "an id that nobody was told", reference: "sha256:00", missing: true},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := s.find(tc.reference)
			if errors.Is(err, errNoImage) != tc.missing || (err != nil) != (tc.missing || tc.broken) {
				t.Fatalf("%s: %v", tc.reason, err)
			}
			if err != nil {
				return
			}
			again, err := s.find(got.id)
			if err != nil || again.id != got.id || again.name != tc.reference {
				t.Errorf("by its id it is %+v, %v", again, err)
			}
			if tc.lower != "" && got.lower != filepath.Join(folder, tc.lower, "rootfs") {
				t.Errorf("%s: root file system %q", tc.reason, got.lower)
			}
			if tc.port != 0 && (got.builtin == nil || got.builtin.port != tc.port) {
				t.Errorf("%s: %+v", tc.reason, got.builtin)
			}
		})
	}
}

func TestPullSaysWhatToDo(t *testing.T) {
	s := newImages("/images", nil, "/state")
	spec := &runtimeapi.ImageSpec{Image: "example.com/a/b:v2"}
	_, err := s.PullImage(context.Background(), &runtimeapi.PullImageRequest{Image: spec})
	if status.Code(err) != codes.NotFound || !strings.Contains(err.Error(), "example.com/a/b") || !strings.Contains(err.Error(), "/images/example.com_a_b_v2/rootfs") {
		t.Errorf("got %v", err)
	}
	found, err := s.ImageStatus(context.Background(), &runtimeapi.ImageStatusRequest{Image: spec})
	if err != nil || found.GetImage() != nil {
		t.Errorf("its status is %v, %v", found, err)
	}
}
