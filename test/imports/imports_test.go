// Package imports holds the rules of who may import whom, each with its reason, and the test that keeps them.
package imports

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"os/exec"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/fairlead/fairlead"

// rule forbids packages to some of ours. Packages are given by path below the module; a final "/..." means the
// package and all below it. Forbidden paths that begin with "./" are ours, too.
type rule struct {
	packages []string
	except   []string
	// forbidden import paths, "/..." as above.
	forbidden []string
	// onlyStd: nothing but the standard library and what allowed lists.
	onlyStd bool
	allowed []string
	// siblings: nothing below this folder but the package's own part of it.
	siblings string
	// direct: only the package's own imports count, not those of its imports.
	direct bool
	reason string
}

var cores = []string{"endpoints/...", "topology/...", "portalloc/...", "dataplane/model"}

var rules = map[string]rule{
	"API": {
		packages: []string{"api/..."}, onlyStd: true, direct: true,
		allowed: []string{"k8s.io/api/...", "k8s.io/apimachinery/...", "./api/..."},
		reason:  "whoever uses our kinds must not get our choice of client with them",
	},
	"Cores": {
		packages: cores, direct: true,
		forbidden: []string{
			"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...", "k8s.io/klog/...", "github.com/go-logr/...",
			"log", "log/...", "github.com/prometheus/...", "os/exec", "net/http", "math/rand", "math/rand/v2",
		},
		reason: "what decides is a pure function over plain data: tested without a cluster, imported without one",
	},
	"Contract": {
		packages: []string{"cloud", "cloud/cloudtest/..."},
		forbidden: []string{
			"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...", "github.com/aws/...", "google.golang.org/api/...",
			"github.com/Azure/...", "google.golang.org/grpc/...",
		},
		reason: "a plugin's author gets the contract without any cloud's SDK, without a Kubernetes client and without gRPC",
	},
	"Clouds": {
		packages: []string{"cloud/..."}, except: []string{"cloud", "cloud/cloudtest", "cloud/adapter"},
		forbidden: []string{"k8s.io/client-go/...", "sigs.k8s.io/controller-runtime/...", "./controllers/..."},
		reason:    "an outsider can copy the folder of a cloud and start from it",
	},
	"Controllers": {
		packages:  []string{"controllers/..."},
		forbidden: []string{"./dataplane/...", "./cloud/fake/...", "./cloud/aws/...", "./cloud/gcp/...", "./cloud/azure/...", "./cloud/adapter/...", "./cloud/plugin/..."},
		reason:    "controllers know the contract; which clouds are linked in is decided in cmd/manager",
	},
	"Node": {
		packages: []string{"dataplane/...", "cmd/node-agent/..."},
		forbidden: []string{
			"./controllers/...", "./cloud/...", "sigs.k8s.io/controller-runtime/...", "k8s.io/client-go/kubernetes/...",
			"k8s.io/client-go/informers/...",
		},
		reason: "the agent runs on every node: typed list-watches cost it a quarter of the packages of a clientset",
	},
	"ControllersApart": {
		packages: []string{"controllers/..."}, siblings: "controllers",
		reason: "each controller can be switched off alone; what controllers share is work and selection, which are none",
	},
	"CloudsApart": {
		packages: []string{"cloud/..."}, except: []string{"cloud", "cloud/cloudtest/..."}, siblings: "cloud",
		reason: "each cloud can be left out alone",
	},
	"ExistingProviders": {
		packages: []string{"..."}, except: []string{"cloud/adapter/...", "test/..."},
		forbidden: []string{"./cloud/adapter/...", "k8s.io/cloud-provider/..."},
		reason:    "who has an existing provider links it with a program of their own: nobody else is to carry its dependencies",
	},
	"LinkedClouds": {
		packages: []string{"..."}, except: []string{"cmd/manager/...", "cmd/playground/...", "test/...", "cloud/aws/...", "cloud/gcp/...", "cloud/azure/..."},
		forbidden: []string{"./cloud/aws/...", "./cloud/gcp/...", "./cloud/azure/..."},
		reason:    "a distributor leaves a cloud out by a build tag of cmd/manager",
	},
}

type goPackage struct {
	ImportPath, Dir string
	Standard        bool
	Imports, Deps   []string
	GoFiles         []string
}

// load lists every package of the module with its dependencies.
func load(t *testing.T) map[string]goPackage {
	t.Helper()
	cmd := exec.Command("go", "list", "-e", "-deps", "-json=ImportPath,Dir,Standard,Imports,Deps,GoFiles", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("listing packages: %v", err)
	}
	all := map[string]goPackage{}
	for dec := json.NewDecoder(bytes.NewReader(out)); ; {
		var p goPackage
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("reading the list: %v", err)
		}
		all[p.ImportPath] = p
	}
}

// matches says whether an import path is among patterns.
func matches(importPath string, patterns []string) bool {
	return slices.ContainsFunc(patterns, func(pattern string) bool {
		if rest, ours := strings.CutPrefix(pattern, "./"); ours {
			pattern = module + "/" + rest
		}
		base, below := strings.CutSuffix(pattern, "/...")
		return importPath == base || below && strings.HasPrefix(importPath, base+"/")
	})
}

// shared are the folders that are there to be used by their siblings.
var shared = []string{"cloudtest", "work", "selection"}

// sibling says whether two packages stand in different folders below one, of which the second is not shared.
func sibling(folder, a, b string) bool {
	part := func(importPath string) string {
		rest, below := strings.CutPrefix(importPath, path.Join(module, folder)+"/")
		first, _, _ := strings.Cut(rest, "/")
		if !below || slices.Contains(shared, first) {
			return ""
		}
		return first
	}
	return part(b) != "" && part(a) != part(b)
}

func ours(patterns []string) []string {
	full := make([]string, 0, len(patterns))
	for _, p := range patterns {
		full = append(full, path.Join(module, p))
	}
	return full
}

// violations lists what a rule forbids and finds, sorted.
func violations(r rule, all map[string]goPackage) (found []string, covered int) {
	for _, p := range all {
		inModule := p.ImportPath == module || strings.HasPrefix(p.ImportPath, module+"/")
		if !inModule || !matches(p.ImportPath, ours(r.packages)) || matches(p.ImportPath, ours(r.except)) {
			continue
		}
		covered++
		imports := p.Deps
		if r.direct {
			imports = p.Imports
		}
		for _, i := range imports {
			bad := matches(i, r.forbidden) || r.onlyStd && !all[i].Standard && !matches(i, r.allowed) ||
				r.siblings != "" && sibling(r.siblings, p.ImportPath, i)
			if bad {
				found = append(found, fmt.Sprintf("%s imports %s", p.ImportPath, i))
			}
		}
	}
	slices.Sort(found)
	return found, covered
}

func TestRules(t *testing.T) {
	all := load(t)
	for name, r := range rules {
		t.Run(name, func(t *testing.T) {
			found, covered := violations(r, all)
			if covered == 0 {
				t.Errorf("the rule covers no package: %v", r.packages)
			}
			for _, v := range found {
				t.Errorf("%s: not allowed, since %s", v, r.reason)
			}
		})
	}
}

// TestCoresAskNoClock: time is an input of a core, as is randomness.
func TestCoresAskNoClock(t *testing.T) {
	for _, p := range load(t) {
		if !matches(p.ImportPath, ours(cores)) {
			continue
		}
		for _, name := range p.GoFiles {
			set := token.NewFileSet()
			file, err := parser.ParseFile(set, filepath.Join(p.Dir, name), nil, 0)
			if err != nil {
				t.Fatal(err)
			}
			ast.Inspect(file, func(n ast.Node) bool {
				if s, ok := n.(*ast.SelectorExpr); ok {
					if x, ok := s.X.(*ast.Ident); ok && x.Name == "time" && slices.Contains([]string{"Now", "Since", "Until", "Sleep", "After", "Tick"}, s.Sel.Name) {
						t.Errorf("%s: time.%s in a core: make it an input", set.Position(s.Pos()), s.Sel.Name)
					}
				}
				return true
			})
		}
	}
}

// TestViolationsAreFound tries each kind of rule on packages that break it.
func TestViolationsAreFound(t *testing.T) {
	all := map[string]goPackage{
		module + "/api/v1":   {ImportPath: module + "/api/v1", Imports: []string{"fmt", "k8s.io/api/core/v1", "example.com/x"}},
		module + "/cloud/a":  {ImportPath: module + "/cloud/a", Imports: []string{"fmt"}, Deps: []string{"fmt", "k8s.io/client-go/rest"}},
		module + "/cloud/b":  {ImportPath: module + "/cloud/b", Deps: []string{module + "/cloud", module + "/cloud/b/c", module + "/cloud/cloudtest/c", module + "/cloud/a"}},
		module + "/endpoint": {ImportPath: module + "/endpoint", Imports: []string{"fmt"}, Deps: []string{"k8s.io/client-go/rest"}},
		"fmt":                {ImportPath: "fmt", Standard: true},
	}
	cases := map[string]struct {
		rule rule
		want int
	}{
		"OnlyStd":  {rule{packages: []string{"api/..."}, onlyStd: true, direct: true, allowed: []string{"k8s.io/api/..."}}, 1},
		"Indirect": {rule{packages: []string{"cloud/..."}, forbidden: []string{"k8s.io/client-go/..."}}, 1},
		"Direct":   {rule{packages: []string{"endpoint"}, forbidden: []string{"k8s.io/client-go/..."}, direct: true}, 0},
		"Except":   {rule{packages: []string{"..."}, except: []string{"cloud/...", "endpoint"}, forbidden: []string{"k8s.io/client-go/..."}}, 0},
		"Siblings": {rule{packages: []string{"cloud/..."}, siblings: "cloud"}, 1},
		"All":      {rule{packages: []string{"..."}, forbidden: []string{"k8s.io/client-go/..."}}, 2},
	}
	for name, tc := range cases {
		if found, _ := violations(tc.rule, all); len(found) != tc.want {
			t.Errorf("%s: found %v, want %d", name, found, tc.want)
		}
	}
}
