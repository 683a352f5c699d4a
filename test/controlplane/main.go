// Command controlplane prints the folder that holds the programs of a real Kubernetes control plane and node,
// after it has found, downloaded or built them: etcd, kube-apiserver, kube-controller-manager, kube-scheduler,
// kubelet and kubectl (kube-proxy with -with kube-proxy), all of one release.
//
// It looks in this order: $KUBEBUILDER_ASSETS, as far as it has them in this release; the cache in the user's
// cache folder; a download from the projects' release sites; a build from their Go modules, which go.mod here
// pins. $FAIRLEAD_CONTROLPLANE limits the last two: "download", "build", or "auto", the default, which builds
// what cannot be downloaded.
//
// It is a nested module so that k8s.io/kubernetes and etcd do not reach the product's go.sum, and it uses the
// standard library alone so that it runs before anything else is there. Only its last line goes to standard
// output; progress goes to standard error.
package main

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"flag"
	"fmt"
	"log"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

// The release that everything here is of. etcd's is the one go.mod pins.
const (
	kubernetesVersion = "v1.37.2"
	etcdVersion       = "v3.7.0"
)

// program is one executable that can be found, downloaded or built.
type program struct {
	name string
	// pkg is its main package.
	pkg string
	// url and sum are where a release has it and its SHA-256; member is its path in a .tar.gz, empty where url is
	// the program itself.
	url, sum, member string
}

func programs(with []string) []program {
	release := "https://dl.k8s.io/" + kubernetesVersion + "/bin/linux/" + runtime.GOARCH + "/"
	etcd := "https://github.com/etcd-io/etcd/releases/download/" + etcdVersion + "/"
	dir := "etcd-" + etcdVersion + "-linux-" + runtime.GOARCH
	all := []program{{
		name: "etcd", pkg: "go.etcd.io/etcd/server/v3",
		url: etcd + dir + ".tar.gz", sum: etcd + "SHA256SUMS", member: dir + "/etcd",
	}}
	names := append([]string{"kube-apiserver", "kubectl", "kubelet", "kube-controller-manager", "kube-scheduler"}, with...)
	for _, name := range names {
		all = append(all, program{
			name: name, pkg: "k8s.io/kubernetes/cmd/" + name,
			url: release + name, sum: release + name + ".sha256",
		})
	}
	return all
}

func main() {
	log.SetFlags(0)
	log.SetPrefix("controlplane: ")
	with := flag.String("with", "", "further programs of Kubernetes, comma-separated (kube-proxy)")
	flag.Parse()
	dir, err := run(*with)
	if err != nil {
		log.Fatal(err)
	}
	fmt.Println(dir)
}

func run(with string) (string, error) {
	how := os.Getenv("FAIRLEAD_CONTROLPLANE")
	if how == "" {
		how = "auto"
	}
	if !slices.Contains([]string{"auto", "download", "build"}, how) {
		return "", fmt.Errorf("FAIRLEAD_CONTROLPLANE is %q: set it to auto, download or build", how)
	}
	if runtime.GOOS != "linux" {
		return "", errors.New("the kubelet and the node agent need Linux: use a Linux machine or a virtual one")
	}
	var extra []string
	if with != "" {
		extra = strings.Split(with, ",")
	}
	all := programs(extra)
	assets := os.Getenv("KUBEBUILDER_ASSETS")
	given := inAssets(assets, all)
	if len(given) == len(all) {
		return assets, nil
	}
	cache, err := cacheDir()
	if err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(cache, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	dir := filepath.Join(cache, kubernetesVersion+"-linux-"+runtime.GOARCH)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache folder: %w", err)
	}
	for _, p := range all {
		if given[p.name] || executable(filepath.Join(dir, p.name)) {
			continue
		}
		if err := obtain(p, dir, how); err != nil {
			return "", err
		}
	}
	if len(given) == 0 {
		return dir, nil
	}
	return merge(cache, dir, assets, all, given)
}

// inAssets says which programs a folder has in our release; those of another release are left aside, since a
// kubelet must not be newer than its API server.
func inAssets(assets string, all []program) map[string]bool {
	given := map[string]bool{}
	for _, p := range all {
		path := filepath.Join(assets, p.name)
		if assets == "" || !executable(path) {
			continue
		}
		if v := version(path, p.name); v != "" {
			log.Printf("%s in KUBEBUILDER_ASSETS is %s, not %s: left aside", p.name, v, kubernetesVersion)
			continue
		}
		given[p.name] = true
	}
	return given
}

// version returns what a program says of its version where it is not the one wanted, else "". Any etcd will do.
func version(path, name string) string {
	if name == "etcd" {
		return ""
	}
	args := []string{"--version"}
	if name == "kubectl" {
		args = []string{"version", "--client"}
	}
	out, err := exec.Command(path, args...).Output()
	if err != nil {
		return "one that does not run here"
	}
	if minor := kubernetesVersion[:strings.LastIndex(kubernetesVersion, ".")+1]; strings.Contains(string(out), " "+minor) {
		return ""
	}
	return strings.TrimSpace(strings.SplitN(string(out), "\n", 2)[0])
}

// merge makes a folder of links to what KUBEBUILDER_ASSETS has and to what the cache has.
func merge(cache, dir, assets string, all []program, given map[string]bool) (string, error) {
	hash := sha256.Sum256([]byte(assets))
	merged := filepath.Join(cache, "merged-"+hex.EncodeToString(hash[:4]))
	if err := os.MkdirAll(merged, 0o755); err != nil {
		return "", fmt.Errorf("making the folder of links: %w", err)
	}
	for _, p := range all {
		from, link := filepath.Join(dir, p.name), filepath.Join(merged, p.name)
		if given[p.name] {
			from = filepath.Join(assets, p.name)
		}
		if err := os.Remove(link); err != nil && !os.IsNotExist(err) {
			return "", fmt.Errorf("replacing a link: %w", err)
		}
		if err := os.Symlink(from, link); err != nil {
			return "", fmt.Errorf("linking %s: %w", p.name, err)
		}
	}
	return merged, nil
}

// obtain puts one program into dir, complete or not at all.
func obtain(p program, dir, how string) error {
	tmp := filepath.Join(dir, "."+p.name+".part")
	defer func() { _ = os.Remove(tmp) }()
	var problem error
	if how != "build" {
		problem = during("downloading "+p.name, func() error { return download(p, tmp) })
		if problem != nil && how == "auto" {
			log.Printf("%s cannot be downloaded (%v): building it", p.name, problem)
		}
	}
	if how == "build" || how == "auto" && problem != nil {
		problem = during("building "+p.name, func() error { return build(p, tmp) })
	}
	if problem != nil {
		return problem
	}
	if err := os.Chmod(tmp, 0o755); err != nil {
		return fmt.Errorf("making %s executable: %w", p.name, err)
	}
	if err := os.Rename(tmp, filepath.Join(dir, p.name)); err != nil {
		return fmt.Errorf("storing %s: %w", p.name, err)
	}
	return nil
}

// during runs a long step and says every 15 seconds that it is still at it.
func during(what string, step func() error) error {
	start := time.Now()
	done := make(chan error, 1)
	go func() { done <- step() }()
	tick := time.NewTicker(15 * time.Second)
	defer tick.Stop()
	log.Print(what)
	for {
		select {
		case err := <-done:
			if err != nil {
				return fmt.Errorf("%s: %w", what, err)
			}
			log.Printf("%s: done in %s", what, time.Since(start).Round(time.Second))
			return nil
		case <-tick.C:
			log.Printf("%s: %s so far", what, time.Since(start).Round(time.Second))
		}
	}
}

// build makes a program from its module. CGO is off: the machine needs no C compiler, the program no C library.
func build(p program, to string) error {
	const v = "k8s.io/component-base/version."
	number := strings.Split(strings.TrimPrefix(kubernetesVersion, "v"), ".")
	flags := fmt.Sprintf("-s -w -X %[1]sgitVersion=%[2]s -X %[1]sgitMajor=%[3]s -X %[1]sgitMinor=%[4]s -X %[1]sgitTreeState=clean",
		v, kubernetesVersion, number[0], number[1])
	cmd := exec.Command("go", "build", "-trimpath", "-ldflags", flags, "-o", to, p.pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	cmd.Stderr = os.Stderr
	return cmd.Run()
}

func cacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("finding the cache folder (set HOME or XDG_CACHE_HOME): %w", err)
	}
	dir = filepath.Join(dir, "fairlead", "controlplane")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", fmt.Errorf("making the cache folder: %w", err)
	}
	return dir, nil
}

// lock lets one process at a time fill the cache; the kernel lets go of it when the process ends.
func lock(path string) (unlock func(), err error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, fmt.Errorf("opening the cache's lock: %w", err)
	}
	if syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB) != nil {
		log.Print("waiting for another run that fills the cache")
		if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
			return nil, fmt.Errorf("locking the cache: %w", err)
		}
	}
	return func() { _ = f.Close() }, nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular() && info.Mode()&0o111 != 0
}
