package launch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cmd/playground/control"
)

func TestTableLines(t *testing.T) {
	got := tableLines([]control.Row{{
		Client: "node n1", Via: "ClusterIP", Address: "10.96.0.7:80",
		Endpoints: []control.Endpoint{
			{Pod: "web-1-bbb", Node: "n1", Zone: "zone-a", Count: 12},
			{Pod: "web-1-ccc", Node: "n3", Zone: "zone-b", Count: 8},
		},
		Seen: []string{"172.30.0.11"},
	}, {
		Client: "internet", Via: "LoadBalancer", Address: "198.51.100.1:80",
		Endpoints: []control.Endpoint{
			{Pod: "web-1-aaa", Node: "n2", Zone: "zone-a", Count: 19},
		},
		Seen:   []string{"172.30.0.11", "172.30.0.12"},
		Failed: 1, LastError: "connection refused",
	}})
	want := strings.Split(strings.Trim(`
                                           n1    n2    n3
  CLIENT    BY            ADDRESS          …bbb  …aaa  …ccc  zone-a  zone-b  FAILED  PODS SEE
  node n1   ClusterIP     10.96.0.7:80     12    ·     8     12      8       ·       172.30.0.11
  internet  LoadBalancer  198.51.100.1:80  ·     19    ·     19      ·       1       172.30.0.11, 172.30.0.12
  last failure of internet by LoadBalancer: connection refused
`, "\n"), "\n")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("table (-want +got):\n%s", diff)
	}
}
