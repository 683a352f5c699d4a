package cloud_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/fairlead/fairlead/cloud"
)

// stated is a provider that only says what its account may send.
type stated struct {
	cloud.Provider
	limits *cloud.Limits
}

func (s stated) Capabilities() cloud.Capabilities { return cloud.Capabilities{Limits: *s.limits} }

// TestProvidersStartApart: the start of one provider, which may take its time, holds up no other.
func TestProvidersStartApart(t *testing.T) {
	starting, finish := make(chan struct{}), make(chan struct{})
	providers := cloud.NewProviders(func(string) (cloud.Config, error) { return cloud.Config{}, nil }, map[string]cloud.Factory{
		"slow": func(cloud.Config) (cloud.Provider, error) {
			close(starting)
			<-finish
			return stated{limits: &cloud.Limits{}}, nil
		},
		"fast": func(cloud.Config) (cloud.Provider, error) { return stated{limits: &cloud.Limits{}}, nil },
	})
	got := make(chan error, 2)
	get := func(name string) {
		_, err := providers.Get(name)
		got <- err
	}
	go get("slow")
	<-starting
	go get("fast")
	select {
	case err := <-got:
		if err != nil {
			t.Error(err)
		}
	case <-time.After(2 * time.Minute):
		t.Error("the fast one waits for the slow one")
	}
	close(finish)
	if err := <-got; err != nil {
		t.Error(err)
	}
}

// TestProvidersStartAgain: a failed start keeps its class, is told on one line and is tried again; a started one is the same
// until it states other limits.
func TestProvidersStartAgain(t *testing.T) {
	tries := 0
	limits := cloud.Limits{}
	providers := cloud.NewProviders(func(string) (cloud.Config, error) { return cloud.Config{}, nil }, map[string]cloud.Factory{
		"rack": func(cloud.Config) (cloud.Provider, error) {
			if tries++; tries == 1 {
				return nil, &cloud.Error{Class: cloud.RetryAfter, After: time.Second,
					Err: errors.Join(errors.New("not yet"), errors.New("nor there"))}
			}
			return stated{limits: &limits}, nil
		},
	})
	if _, err := providers.Get("moon"); err == nil || !strings.Contains(err.Error(), "rack") || cloud.IsClass(err, cloud.RetryAfter) {
		t.Errorf("an unknown one: %v", err)
	}
	_, err := providers.Get("rack")
	if !cloud.IsClass(err, cloud.RetryAfter) {
		t.Errorf("a failed start: %v", err)
	}
	if text := err.Error(); strings.Contains(text, "\n") || !strings.Contains(text, "not yet; nor there") {
		t.Errorf("a failed start for two reasons is told on one line, not as %q", text)
	}
	first, err := providers.Get("rack")
	if err != nil {
		t.Fatal(err)
	}
	if again, _ := providers.Get("rack"); again != first || tries != 2 {
		t.Errorf("it was started %d times", tries)
	}
	limits.Writes.PerSecond = 1
	if other, _ := providers.Get("rack"); other == first || tries != 2 {
		t.Error("it keeps to limits that it does not state any more")
	}
}
