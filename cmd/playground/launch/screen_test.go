package launch

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cmd/playground/control"
)

func TestTableLines(t *testing.T) {
	rows := []control.Row{{
		Client: "Pod client-5f-xyz on n1", Via: "ClusterIP", Address: "10.96.0.7:80",
		Endpoints: []control.Endpoint{
			{Pod: "web-1-bbb", Node: "n1", Zone: "zone-a", Count: 12},
			{Pod: "web-1-ddd", Node: "n1", Zone: "zone-a", Count: 5},
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
	}}
	tests := map[string]struct {
		width int
		want  string
	}{
		"wide": {width: 140, want: `
                                                          n1    n1    n2    n3
  CLIENT                   BY            ADDRESS          …bbb  …ddd  …aaa  …ccc  zone-a  zone-b  FAILED  PODS SEE
  Pod client-5f-xyz on n1  ClusterIP     10.96.0.7:80     12    5     ·     8     17      8       ·       172.30.0.11
  internet                 LoadBalancer  198.51.100.1:80  ·     ·     19    ·     19      ·       1       172.30.0.11, 172.30.0.12
  last failure of internet by LoadBalancer: connection refused
`},
		"nodes instead of Pods": {width: 120, want: `
  CLIENT     BY            ADDRESS          n1  n2  n3  zone-a  zone-b  FAILED  PODS SEE
  Pod on n1  ClusterIP     10.96.0.7:80     17  ·   8   17      8       ·       172.30.0.11
  internet   LoadBalancer  198.51.100.1:80  ·   19  ·   19      ·       1       172.30.0.11, 172.30.0.12
  last failure of internet by LoadBalancer: connection refused
`},
		"without whom Pods see": {width: 80, want: `
  CLIENT     BY            ADDRESS          n1  n2  n3  zone-a  zone-b  FAILED
  Pod on n1  ClusterIP     10.96.0.7:80     17  ·   8   17      8       ·
  internet   LoadBalancer  198.51.100.1:80  ·   19  ·   19      ·       1
  last failure of internet by LoadBalancer: connection refused
`},
		"narrower than the narrowest": {width: 40, want: `
  CLIENT     BY            n1  n2  n3  zone-a  zone-b  FAILED
  Pod on n1  ClusterIP     17  ·   8   17      8       ·
  internet   LoadBalancer  ·   19  ·   19      ·       1
  last failure of internet by LoadBalancer: connection refused
`},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			want := strings.Split(strings.Trim(test.want, "\n"), "\n")
			if diff := cmp.Diff(want, tableLines(rows, test.width)); diff != "" {
				t.Errorf("table (-want +got):\n%s", diff)
			}
		})
	}
}
