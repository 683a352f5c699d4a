package fake

import (
	"net/http"
	"net/http/httptest"
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"
)

// TestMethodsAreDocumented holds the page's table of methods to those that are served, of which API has one each.
func TestMethodsAreDocumented(t *testing.T) {
	page, err := os.ReadFile("../../docs/loadbalancers.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, begun := strings.Cut(string(page), "<!-- methods of fake -->")
	table, _, ended := strings.Cut(rest, "<!-- end -->")
	if !begun || !ended {
		t.Fatal("the page has no table of methods")
	}
	rows := regexp.MustCompile("(?m)^\\| `([a-z-]+)` \\|").FindAllStringSubmatch(table, -1)
	if want := reflect.TypeFor[API]().NumMethod(); len(rows) != want {
		t.Errorf("%d methods are documented, want %d", len(rows), want)
	}
	handler := Handler(New(Options{}))
	for _, row := range rows {
		answer := httptest.NewRecorder()
		handler.ServeHTTP(answer, httptest.NewRequest(http.MethodPost, "/v1/"+row[1], strings.NewReader("no JSON")))
		if answer.Code != http.StatusBadRequest {
			t.Errorf("%s is not served: %d", row[1], answer.Code)
		}
	}
}
