// Package launch is the part of the playground that stays outside of its namespaces: it checks the machine, makes the
// namespaces with their first process, shows what happens, forwards loopback ports, and sees to it that nothing is left,
// however it ends. It changes nothing of the host but its own run folder.
package launch

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"github.com/fairlead/fairlead/cmd/playground/control"
	"github.com/fairlead/fairlead/cmd/playground/network"
)

// instance is a playground seen by its launcher.
type instance struct {
	folder *folder
	config control.Config
	init   *exec.Cmd
	// lifeline carries the configuration; the playground ends when it closes.
	lifeline *os.File
	// events come from inside; the channel is closed when the first process has ended.
	events chan control.Event
	// ended is closed once the first process, and with it all of the playground, is gone.
	ended chan struct{}
}

// start makes the namespaces and the first process in them. The calling goroutine must be locked to a thread that lives
// as long as this process: the first process is killed when that thread ends.
func start(f *folder, config control.Config) (*instance, error) {
	logs := filepath.Join(f.path, "logs")
	if err := os.Mkdir(logs, 0o700); err != nil {
		return nil, fmt.Errorf("making the folder of logs: %w", err)
	}
	log, err := os.Create(filepath.Join(logs, "init.log"))
	if err != nil {
		return nil, fmt.Errorf("making a log: %w", err)
	}
	defer func() { _ = log.Close() }()
	configOut, configIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = configOut.Close() }()
	eventsOut, eventsIn, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("making a pipe: %w", err)
	}
	defer func() { _ = eventsIn.Close() }()
	cmd := exec.Command("/proc/self/exe", "init")
	cmd.Args[0] = "playground"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{configOut, eventsIn} // control.ConfigFD, control.EventsFD
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS | syscall.CLONE_NEWNET | syscall.CLONE_NEWPID |
			syscall.CLONE_NEWUTS | syscall.CLONE_NEWIPC | syscall.CLONE_NEWCGROUP,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Setsid:      true,
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := cmd.Start(); err != nil {
		return nil, explainStart(err)
	}
	i := &instance{
		folder: f, config: config, init: cmd, lifeline: configIn,
		events: make(chan control.Event, 16), ended: make(chan struct{}),
	}
	go i.read(eventsOut)
	go func() {
		_ = cmd.Wait() // how it ended is no news: it told, or its log does
		close(i.ended)
	}()
	if err := json.NewEncoder(configIn).Encode(config); err != nil {
		i.kill()
		return nil, fmt.Errorf("handing over the configuration: %w", err)
	}
	return i, nil
}

func (i *instance) read(pipe *os.File) {
	defer close(i.events)
	defer func() { _ = pipe.Close() }()
	decoder := json.NewDecoder(pipe)
	for {
		var e control.Event
		if err := decoder.Decode(&e); err != nil {
			return
		}
		i.events <- e
	}
}

// kill ends everything inside and waits for it.
func (i *instance) kill() {
	_ = i.init.Process.Kill()
	for range i.events { // nobody else reads them any more
	}
	<-i.ended
	_ = i.lifeline.Close()
}

// request opens the control socket of a run folder and sends a request.
func request(dir string, r control.Request, files ...*os.File) (*net.UnixConn, error) {
	c, err := net.DialUnix("unix", nil, &net.UnixAddr{Name: filepath.Join(dir, control.SocketName), Net: "unix"})
	if err != nil {
		return nil, fmt.Errorf("asking the playground: %w", err)
	}
	if err := control.SendRequest(c, r, files...); err != nil {
		_ = c.Close()
		return nil, err
	}
	return c, nil
}

// reply reads the answer to a request.
func reply(c *net.UnixConn) (control.Reply, error) {
	var r control.Reply
	if err := control.ReadFrame(c, &r); err != nil {
		if errors.Is(err, io.EOF) {
			err = errors.New("the playground has ended")
		}
		return r, fmt.Errorf("waiting for the playground's answer: %w", err)
	}
	if r.Error != "" {
		return r, errors.New(r.Error)
	}
	return r, nil
}

// forward leads connections to a listener to an address inside, until the listener is closed.
func forward(l net.Listener, dir string, to control.Dial) {
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			inside, err := request(dir, control.Request{Dial: &to})
			if err == nil {
				_, err = reply(inside)
			}
			if err != nil {
				_ = c.Close()
				if inside != nil {
					_ = inside.Close()
				}
				return
			}
			control.Splice(c.(*net.TCPConn), inside)
		}()
	}
}

// listen opens a loopback port that the kernel chooses.
func listen() (net.Listener, int, error) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, 0, fmt.Errorf("listening on a loopback port: %w", err)
	}
	return l, l.Addr().(*net.TCPAddr).Port, nil
}

// apiServer is where the API server is inside.
func apiServer() control.Dial {
	return control.Dial{
		Namespace: network.RootName, Address: net.JoinHostPort(network.APIServer, fmt.Sprint(network.APIServerPort)),
	}
}
