package cluster

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/network"
	"github.com/fairlead/fairlead/cmd/playground/process"
)

// Programs keeps the playground's programs running, each with a log file of its own.
type Programs struct {
	// LogDir is where the logs are.
	LogDir string
	// Table starts the processes.
	Table *process.Table
	// Notice hears of programs that ended and were started again, once the playground is up.
	Notice func(text string)

	mu       sync.Mutex
	programs map[string]*program
}

type program struct {
	// ends counts how often it ended without being asked to; last says how.
	ends int
	last string
}

// tooOften is how many ends of one program stop a start: what ends three times will not come up.
const tooOften = 3

// Run starts a program in a namespace and starts it again whenever it ends, as long as ctx lasts.
func (p *Programs) Run(ctx context.Context, name string, ns *network.Namespace, args ...string) {
	p.RunWith(ctx, name, ns, nil, args...)
}

// RunWith is Run with an environment other than this process's; nil is this process's.
func (p *Programs) RunWith(ctx context.Context, name string, ns *network.Namespace, env []string, args ...string) {
	p.mu.Lock()
	if p.programs == nil {
		p.programs = map[string]*program{}
	}
	state := &program{}
	p.programs[name] = state
	p.mu.Unlock()
	start := func() (started *process.Process, err error) {
		log, err := os.OpenFile(p.logFile(name), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
		if err != nil {
			return nil, fmt.Errorf("opening a log: %w", err)
		}
		defer func() { _ = log.Close() }()
		err = ns.Do(func() (err error) {
			started, err = p.Table.Start(process.Spec{
				Args: args, Env: env, Files: []*os.File{nil, log, log},
			})
			return err
		})
		return started, err
	}
	go process.Supervise(ctx, start, func(ended *process.Process, err error) {
		var how string
		if err != nil {
			how = "does not start: " + err.Error()
		} else {
			how = process.Describe(ended.Status())
		}
		p.mu.Lock()
		state.ends++
		state.last = how
		p.mu.Unlock()
		p.Notice(fmt.Sprintf("%s %s and is started again (%s)", name, how, p.logFile(name)))
	})
}

func (p *Programs) logFile(name string) string { return filepath.Join(p.LogDir, name+".log") }

// failed says which program has ended too often, with the end of its log, or nil.
func (p *Programs) failed() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	for name, state := range p.programs {
		if state.ends >= tooOften {
			return fmt.Errorf("%s %s, %d times:\n%s", name, state.last, state.ends, tail(p.logFile(name), 8))
		}
	}
	return nil
}

// await polls until done says so. It ends early with ctx, after startLimit, and when a program ended too often. What done
// returns as an error is only told if nothing better came in time.
func (p *Programs) await(ctx context.Context, what string, done func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	ticker := time.NewTicker(50 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if failed := p.failed(); failed != nil {
			return failed
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			if err == nil {
				err = ctx.Err()
			}
			return fmt.Errorf("waiting for %s, %s: %w (logs are in %s)", what, startLimit, err, p.LogDir)
		}
	}
}

// tail returns the last lines of a file, as far as it can be read.
func tail(path string, lines int) string {
	content, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	all := strings.Split(strings.TrimRight(string(content), "\n"), "\n")
	return strings.Join(all[max(0, len(all)-lines):], "\n")
}
