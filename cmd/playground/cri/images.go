package cri

import (
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	runtimeapi "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/fairlead/fairlead/cmd/playground/cri/guest"
)

// builtin says what the playground's binary does in the place of an image.
type builtin struct {
	entrypoint []string
	// port is what the server listens on if the container declares no port; 0 for what is no server.
	port int
}

func echoServer(port int) builtin {
	return builtin{entrypoint: []string{guest.BinaryTarget, "echo"}, port: port}
}

// builtins are the images that the binary stands for, whatever their tag. All of them have the built-in commands, so that a
// Pod that names a command of its own (sh, sleep, wget) works with any.
var builtins = map[string]builtin{
	"echo":                             echoServer(8080),
	"fairlead/echo":                    echoServer(8080),
	"nginx":                            echoServer(80),
	"nginxinc/nginx-unprivileged":      echoServer(8080),
	"httpd":                            echoServer(80),
	"traefik/whoami":                   echoServer(80),
	"hashicorp/http-echo":              echoServer(5678),
	"registry.k8s.io/echoserver":       echoServer(8080),
	"registry.k8s.io/nginx-slim":       echoServer(80),
	"gcr.io/google-samples/hello-app":  echoServer(8080),
	"gcr.io/google-samples/node-hello": echoServer(8080),
	"busybox":                          {entrypoint: []string{"sh"}},
	"alpine":                           {entrypoint: []string{"sh"}},
	"registry.k8s.io/busybox":          {entrypoint: []string{"sh"}},
	"registry.k8s.io/pause":            {entrypoint: []string{"sleep", "infinity"}},
}

// nonRoot is the user that the built-in image claims to have. In a user namespace of one user there is no other than 0, which
// is whoever started the playground; but the kubelet refuses a Pod with runAsNonRoot whose image claims to be root.
const nonRoot = 65532

// image is one that containers can be made of.
type image struct {
	id, name string
	// builtin is nil for an image from the folder, whose root file system is then at lower.
	builtin *builtin
	lower   string
	config  imageConfig
}

// imageConfig is the optional config.json beside an image's rootfs, with the keys of a container image's own.
type imageConfig struct {
	Entrypoint, Cmd, Env []string
	WorkingDir           string
	StopSignal           string
}

// images is the image service of one node: it finds images, and never fetches any.
type images struct {
	runtimeapi.UnimplementedImageServiceServer
	folder string
	echo   []string
	// state is a folder of the runtime's, on the file system whose room the kubelet watches.
	state string

	mu sync.Mutex
	// names remembers the name behind each id, since the kubelet asks for images by id once it knows one.
	names map[string]string
}

func newImages(folder string, echo []string, state string) *images {
	return &images{folder: folder, echo: echo, state: state, names: map[string]string{}}
}

// errNoImage is wrapped with the image's name and what to do.
var errNoImage = errors.New("no such image here")

// normalize strips what a reference to Docker Hub may leave out, and splits off the tag or digest.
func normalize(reference string) (repository, tag string) {
	name, digest, _ := strings.Cut(reference, "@")
	if colon := strings.LastIndex(name, ":"); colon > strings.LastIndex(name, "/") {
		name, tag = name[:colon], name[colon+1:]
	}
	if tag == "" {
		tag = digest
	}
	for _, registry := range []string{"docker.io/", "index.docker.io/"} {
		name = strings.TrimPrefix(name, registry)
	}
	return strings.TrimPrefix(name, "library/"), tag
}

// find looks an image up by name or by id. A folder comes first, with the tag and then without, so that a real image may
// replace a built-in one.
func (s *images) find(reference string) (image, error) {
	if strings.HasPrefix(reference, "sha256:") {
		s.mu.Lock()
		name, known := s.names[reference]
		s.mu.Unlock()
		if !known {
			return image{}, fmt.Errorf("image %s: %w", reference, errNoImage)
		}
		reference = name
	}
	repository, tag := normalize(reference)
	found := image{name: reference, id: fmt.Sprintf("sha256:%x", sha256.Sum256([]byte(repository+":"+tag)))}
	stands, isBuiltin := builtins[repository]
	if !isBuiltin && slices.Contains(s.echo, repository) {
		stands, isBuiltin = echoServer(8080), true
	}
	var err error
	if found.lower, err = s.findFolder(repository, tag); err != nil {
		return image{}, err
	}
	switch {
	case found.lower != "":
		if found.config, err = readImageConfig(filepath.Join(filepath.Dir(found.lower), "config.json")); err != nil {
			return image{}, err
		}
	case isBuiltin:
		found.builtin = &stands
		found.config.Entrypoint = stands.entrypoint
	default:
		return image{}, s.missing(repository, tag)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.names[found.id] = reference
	return found, nil
}

func (s *images) missing(repository, tag string) error {
	if s.folder == "" {
		return fmt.Errorf("%s: %w: the playground pulls nothing; name a folder of root file systems (--images), "+
			"or use an image that the built-in server stands for (nginx, echo)", repository, errNoImage)
	}
	return fmt.Errorf("%s: %w: the playground pulls nothing; put the image's root file system into %s, "+
		"or use an image that the built-in server stands for (nginx, echo)", repository, errNoImage,
		filepath.Join(s.folder, folderName(repository, tag), "rootfs"))
}

// folderName is the name of an image's folder: slashes and colons do not go well with paths and mount options.
func folderName(repository, tag string) string {
	name := strings.NewReplacer("/", "_", ":", "_").Replace(repository)
	if tag != "" {
		name += "_" + strings.ReplaceAll(tag, ":", "_")
	}
	return name
}

// findFolder returns the image's root file system, or nothing if there is none.
func (s *images) findFolder(repository, tag string) (string, error) {
	if s.folder == "" {
		return "", nil
	}
	for _, name := range []string{folderName(repository, tag), folderName(repository, "")} {
		// A name with ".." would leave the folder.
		if name != filepath.Base(name) || name == ".." || name == "." {
			continue
		}
		rootfs := filepath.Join(s.folder, name, "rootfs")
		info, err := os.Stat(rootfs)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return "", fmt.Errorf("reading image %s: %w", repository, err)
		}
		if !info.IsDir() {
			return "", fmt.Errorf("reading image %s: %s is not a folder", repository, rootfs)
		}
		return rootfs, nil
	}
	return "", nil
}

func readImageConfig(path string) (imageConfig, error) {
	var config imageConfig
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return config, nil
	}
	if err != nil {
		return config, fmt.Errorf("reading image settings: %w", err)
	}
	if err := json.Unmarshal(data, &config); err != nil {
		return config, fmt.Errorf("reading image settings %s: %w", path, err)
	}
	return config, nil
}

func (i image) proto() *runtimeapi.Image {
	out := &runtimeapi.Image{Id: i.id, RepoTags: []string{i.name}, Size: 1, Spec: &runtimeapi.ImageSpec{Image: i.name}, Pinned: true}
	if i.builtin != nil {
		out.Uid = &runtimeapi.Int64Value{Value: nonRoot}
	}
	return out
}

// ListImages lists what was asked for by name so far; there is no end of names that the built-in image answers to.
func (s *images) ListImages(_ context.Context, r *runtimeapi.ListImagesRequest) (*runtimeapi.ListImagesResponse, error) {
	s.mu.Lock()
	var references []string
	for _, name := range s.names {
		references = append(references, name)
	}
	s.mu.Unlock()
	if wanted := r.GetFilter().GetImage().GetImage(); wanted != "" {
		references = []string{wanted}
	}
	slices.Sort(references)
	response := &runtimeapi.ListImagesResponse{}
	for _, reference := range references {
		if found, err := s.find(reference); err == nil {
			response.Images = append(response.Images, found.proto())
		}
	}
	return response, nil
}

// ImageStatus says whether an image is here; one that is not is an answer without an image.
func (s *images) ImageStatus(_ context.Context, r *runtimeapi.ImageStatusRequest) (*runtimeapi.ImageStatusResponse, error) {
	found, err := s.find(r.GetImage().GetImage())
	if errors.Is(err, errNoImage) {
		return &runtimeapi.ImageStatusResponse{}, nil
	}
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &runtimeapi.ImageStatusResponse{Image: found.proto()}, nil
}

// PullImage only looks: images are local.
func (s *images) PullImage(_ context.Context, r *runtimeapi.PullImageRequest) (*runtimeapi.PullImageResponse, error) {
	found, err := s.find(r.GetImage().GetImage())
	if errors.Is(err, errNoImage) {
		return nil, status.Error(codes.NotFound, err.Error())
	}
	if err != nil {
		return nil, status.Error(codes.FailedPrecondition, err.Error())
	}
	return &runtimeapi.PullImageResponse{ImageRef: found.id}, nil
}

// RemoveImage forgets that the image was asked for. Its folder is the user's.
func (s *images) RemoveImage(_ context.Context, r *runtimeapi.RemoveImageRequest) (*runtimeapi.RemoveImageResponse, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.names, r.GetImage().GetImage())
	return &runtimeapi.RemoveImageResponse{}, nil
}

// ImageFsInfo names the file system that the kubelet is to watch.
func (s *images) ImageFsInfo(context.Context, *runtimeapi.ImageFsInfoRequest) (*runtimeapi.ImageFsInfoResponse, error) {
	usage := []*runtimeapi.FilesystemUsage{fsInfo(s.state)}
	return &runtimeapi.ImageFsInfoResponse{ImageFilesystems: usage, ContainerFilesystems: usage}, nil
}

// fsInfo answers for a folder of the runtime's: the kubelet finds out by itself how full the file system below it is.
func fsInfo(folder string) *runtimeapi.FilesystemUsage {
	return &runtimeapi.FilesystemUsage{
		Timestamp:  time.Now().UnixNano(),
		FsId:       &runtimeapi.FilesystemIdentifier{Mountpoint: folder},
		UsedBytes:  &runtimeapi.UInt64Value{},
		InodesUsed: &runtimeapi.UInt64Value{},
	}
}
