package table

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/echo"
)

func result(pod, node, zone, client string) Result {
	return Result{Answer: echo.Answer{Identity: echo.Identity{Pod: pod, Node: node, Zone: zone}, Client: client}}
}

func TestSummarise(t *testing.T) {
	client := Client{Name: "internet", Namespace: "fl-internet", Via: "NodePort", Address: "172.30.0.11:30080"}
	got := Summarise(client, []Result{
		result("web-b", "n1", "zone-a", "172.30.0.11:1000"),
		result("web-c", "n2", "zone-a", "203.0.113.10:1001"),
		{Err: errors.New("refused")},
		result("web-a", "n1", "zone-a", "[fd00::1]:1002"),
		result("web-b", "n1", "zone-a", "172.30.0.11:1003"),
		{Err: errors.New("timed out")},
	})
	want := control.Row{
		Client: "internet", Via: "NodePort", Address: "172.30.0.11:30080",
		Endpoints: []control.Endpoint{
			{Pod: "web-a", Node: "n1", Zone: "zone-a", Count: 1},
			{Pod: "web-b", Node: "n1", Zone: "zone-a", Count: 2},
			{Pod: "web-c", Node: "n2", Zone: "zone-a", Count: 1},
		},
		Seen:   []string{"172.30.0.11", "203.0.113.10", "fd00::1"},
		Failed: 2, LastError: "timed out",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("row differs (-want +got):\n%s", diff)
	}
}

func TestHistoryForgets(t *testing.T) {
	var h history
	for range last + 50 {
		h.add(echo.Answer{}, nil)
	}
	h.add(echo.Answer{}, errors.New("the newest"))
	all := h.results()
	if len(all) != last || all[last-1].Err == nil {
		t.Errorf("%d results, the newest %v; want %d with the newest last", len(all), all[len(all)-1], last)
	}
}
