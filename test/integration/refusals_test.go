package integration

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"
)

// TestRefusals: what cannot work ends the manager with one line that says what to change, and an exit code that tells
// a wrong configuration (2) from a failure (1).
func TestRefusals(t *testing.T) {
	needsAPIServer(t)
	config := func(t *testing.T, body string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "manager.yaml")
		body = "apiVersion: config.fairlead.dev/v1alpha1\nkind: ManagerConfiguration\n" + body
		if err := os.WriteFile(file, []byte(body), 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	nowhere := func(t *testing.T) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "kubeconfig")
		err := clientcmd.WriteToFile(clientcmdapi.Config{
			Clusters:       map[string]*clientcmdapi.Cluster{"test": {Server: "https://" + freeAddress(t)}},
			Contexts:       map[string]*clientcmdapi.Context{"test": {Cluster: "test"}},
			CurrentContext: "test",
		}, file)
		if err != nil {
			t.Fatal(err)
		}
		return file
	}
	cases := map[string]struct {
		reason string
		args   func(t *testing.T) []string
		code   int
		says   []string
		// atLeast is how long it tries.
		atLeast time.Duration
	}{
		"UnknownController": {
			reason: "known names are listed",
			args:   func(*testing.T) []string { return []string{"--controllers=*,-nodeprot"} },
			code:   2, says: []string{`"nodeprot"`, "nodeport"},
		},
		"UnknownField": {
			reason: "the field and the file are named",
			args: func(t *testing.T) []string {
				return []string{"--config", config(t, "leaderElection: {enable: true}\n")}
			},
			code: 2, says: []string{"manager.yaml", `"leaderElection.enable"`},
		},
		"RangeUpsideDown": {
			reason: "the right way up is named",
			args:   func(t *testing.T) []string { return []string{"--config", config(t, "nodePortRange: 32767-30000\n")} },
			code:   2, says: []string{"nodePortRange", "30000-32767"},
		},
		"NoSuchKubeconfig": {
			reason: "the file is named",
			args:   func(*testing.T) []string { return []string{"--kubeconfig=/nowhere/at/all"} },
			code:   1, says: []string{"/nowhere/at/all"},
		},
		"WrongToken": {
			reason: "waiting would not mend it",
			args:   func(t *testing.T) []string { return []string{"--kubeconfig", kubeconfig(t, "wrong")} },
			code:   1, says: []string{"kubeconfig", "credentials"},
		},
		"Unreachable": {
			reason: "it gives up after 30 s",
			args:   func(t *testing.T) []string { return []string{"--kubeconfig", nowhere(t)} },
			code:   1, says: []string{"did not answer for 30s", "kubeconfig", "refused"},
			atLeast: 29 * time.Second,
		},
	}
	for name, tc := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cmd := exec.Command(suite.manager, append(tc.args(t), "--metrics-bind-address=0", "--health-probe-bind-address=0")...)
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			kill := time.AfterFunc(waitFor, func() { _ = cmd.Process.Kill() })
			defer kill.Stop()
			begin := time.Now()
			err := cmd.Run()
			took := time.Since(begin)
			var exit *exec.ExitError
			if !errors.As(err, &exit) || exit.ExitCode() != tc.code {
				t.Errorf("ended with %v, want exit code %d", err, tc.code)
			}
			if took < tc.atLeast {
				t.Errorf("took only %s, want %s: %s", took, tc.atLeast, tc.reason)
			}
			text := stderr.String()
			if strings.Count(text, "\n") != 1 || !strings.HasPrefix(text, "manager: ") || stdout.Len() > 0 {
				t.Errorf("want one line on stderr, and got %q, and %q on stdout", text, stdout.String())
			}
			for _, word := range tc.says {
				if !strings.Contains(text, word) {
					t.Errorf("%q does not say %q: %s", text, word, tc.reason)
				}
			}
		})
	}
}
