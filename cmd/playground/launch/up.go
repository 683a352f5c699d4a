package launch

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"syscall"
	"time"

	"github.com/fairlead/fairlead/cmd/playground/cluster"
	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// Options are what `playground up` is told.
type Options struct {
	// Assets, Bin, Manifests and Images are folders, as in control.Config; Images may be empty.
	Assets, Bin, Manifests, Images string
	// Command is a shell command to run inside instead of waiting for Ctrl-C. Empty means none.
	Command string
	// Demo says whether the demonstration is deployed.
	Demo bool
	// Out is where the result goes (the summary and the table), Progress where the steps go.
	Out, Progress *os.File
}

// Up brings a playground up, serves it until a signal comes on signals or its command has ended, and takes it down. It
// returns the exit code of the command, or 0. The caller's goroutine must be the locked main one.
func Up(o Options, signals <-chan os.Signal) (code int, err error) {
	runtime.LockOSThread() // see start
	begun := time.Now()
	config, err := o.config()
	if err != nil {
		return 1, err
	}
	if err := check(config.Assets, config.Bin, config.Manifests, config.Images); err != nil {
		return 1, err
	}
	f, err := newFolder()
	if err != nil {
		return 1, err
	}
	config.RunDir = f.path
	api, port, err := listen()
	if err != nil {
		return 1, errors.Join(err, f.remove())
	}
	defer func() { _ = api.Close() }()
	config.APIPort = port
	i, err := start(f, config)
	if err != nil {
		return 1, errors.Join(err, f.remove())
	}
	go forward(api, f.path, apiServer())
	screen := &screen{out: o.Out, progress: o.Progress, dir: f.path, assets: config.Assets}
	services, err := i.awaitReady(screen, signals)
	if err != nil {
		stopped := errors.Is(err, errStopped)
		if stopped {
			screen.ending()
		}
		i.kill()
		if stopped {
			return 128 + int(syscall.SIGTERM), f.remove()
		}
		// The logs stay for reading; the next start or `down` removes them.
		_ = f.lock.Close()
		return 1, err
	}
	screen.total(time.Since(begun))
	if o.Command != "" {
		code, err = i.run(o.Command, screen, signals)
	} else {
		err = i.serve(services, screen, signals)
	}
	i.kill()
	return code, errors.Join(err, f.remove())
}

// config turns the options into what the first process is told: absolute paths without links.
func (o Options) config() (control.Config, error) {
	c := control.Config{Demo: o.Demo}
	for _, p := range []struct {
		from string
		to   *string
	}{{o.Assets, &c.Assets}, {o.Bin, &c.Bin}, {o.Manifests, &c.Manifests}, {o.Images, &c.Images}} {
		if p.from == "" {
			continue
		}
		abs, err := filepath.Abs(p.from)
		if err != nil {
			return c, fmt.Errorf("making %s absolute: %w", p.from, err)
		}
		if real, err := filepath.EvalSymlinks(abs); err == nil {
			abs = real // else the check says that it is missing
		}
		*p.to = abs
	}
	// What commands of the user need may lie below a folder that is covered inside.
	for _, keep := range []func() (string, error){os.Getwd, os.UserHomeDir, os.Executable} {
		if dir, err := keep(); err == nil && filepath.IsAbs(dir) {
			c.Keep = append(c.Keep, dir)
		}
	}
	return c, nil
}

// errStopped: a signal came before the playground was up.
var errStopped = errors.New("stopped")

// awaitReady shows the steps until everything runs.
func (i *instance) awaitReady(s *screen, signals <-chan os.Signal) ([]control.Target, error) {
	for {
		select {
		case e, ok := <-i.events:
			switch {
			case !ok:
				return nil, fmt.Errorf("the playground ended while it came up: see %s", filepath.Join(i.folder.path, "logs", "init.log"))
			case e.Kind == control.StepDone:
				s.step(e)
			case e.Kind == control.Notice:
				s.notice(e.Text)
			case e.Kind == control.Failed:
				return nil, errors.New(e.Text)
			case e.Kind == control.Ready:
				return e.Services, nil
			}
		case <-signals:
			return nil, errStopped
		}
	}
}

// serve forwards ports and shows the table until a signal comes.
func (i *instance) serve(services []control.Target, s *screen, signals <-chan os.Signal) error {
	var urls []url
	for _, target := range services {
		l, port, err := listen()
		if err != nil {
			return err
		}
		defer func() { _ = l.Close() }()
		go forward(l, i.folder.path, control.Dial{Namespace: target.Namespace, Address: target.Address})
		urls = append(urls, url{target: target, local: fmt.Sprintf("http://127.0.0.1:%d", port)})
	}
	s.summary(urls)
	for {
		select {
		case e, ok := <-i.events:
			switch {
			case !ok:
				return fmt.Errorf("the playground ended by itself: see %s", filepath.Join(i.folder.path, "logs", "init.log"))
			case e.Kind == control.Traffic:
				s.table(e.Table)
			case e.Kind == control.Notice:
				s.notice(e.Text)
			}
		case <-signals:
			s.ending()
			return nil
		}
	}
}

// commandGrace is how long a command may take to end after a signal.
const commandGrace = 10 * time.Second

// run runs a command in fl-root and returns its exit code. A signal is passed on to the command.
func (i *instance) run(command string, s *screen, signals <-chan os.Signal) (int, error) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	passed := make(chan os.Signal, 1)
	go func() {
		select {
		case sig := <-signals:
			passed <- sig
			time.AfterFunc(commandGrace, cancel)
		case <-ctx.Done():
		}
	}()
	ended := make(chan struct{})
	defer close(ended)
	go func() {
		for {
			select {
			case e, ok := <-i.events:
				if !ok {
					return
				}
				if e.Kind == control.Notice {
					s.notice(e.Text)
				}
			case <-ended:
				return
			}
		}
	}()
	shell, err := shellPath()
	if err != nil {
		return 1, err
	}
	return execute(ctx, i.folder.path, control.Exec{
		Namespace: network.RootName, Args: []string{shell, "-c", command}, Env: i.environment(),
	}, passed)
}

func (i *instance) environment() []string {
	return Environment(i.folder.path, i.config.Assets, i.config.Bin)
}

// Environment is this process's environment with what a command inside needs: KUBECONFIG, the programs in PATH, and
// FAIRLEAD_PLAYGROUND, the run folder, by which tests know where they are.
func Environment(runDir, assets, bin string) []string {
	path := bin + ":" + os.Getenv("PATH")
	if assets != "" { // an empty element would be the working folder
		path = bin + ":" + assets + ":" + os.Getenv("PATH")
	}
	return append(os.Environ(),
		"KUBECONFIG="+filepath.Join(runDir, cluster.InsideKubeconfigFile),
		"PATH="+path,
		"FAIRLEAD_PLAYGROUND="+runDir)
}
