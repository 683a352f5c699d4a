package applet

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path"
	"strings"
	"time"
)

// fetch is one HTTP request of wget or curl.
type fetch struct {
	url, method, data string
	headers           http.Header
	timeout           time.Duration
	// failOn says that an answer with status 400 or more is an error.
	failOn bool
}

func (f fetch) do(out io.Writer) error {
	if !strings.Contains(f.url, "://") {
		f.url = "http://" + f.url
	}
	var body io.Reader
	if f.data != "" {
		body = strings.NewReader(f.data)
	}
	request, err := http.NewRequest(f.method, f.url, body)
	if err != nil {
		return err
	}
	request.Header = f.headers
	if host := f.headers.Get("Host"); host != "" {
		request.Host = host
	}
	client := http.Client{Timeout: f.timeout}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if f.failOn && response.StatusCode >= 400 {
		return fmt.Errorf("server returned error: %s", response.Status)
	}
	_, err = io.Copy(out, response.Body)
	return err
}

func headerFlag(headers http.Header) func(string) error {
	return func(value string) error {
		name, content, ok := strings.Cut(value, ":")
		if !ok {
			return fmt.Errorf("header %q has no colon", value)
		}
		headers.Add(name, strings.TrimSpace(content))
		return nil
	}
}

// expand takes short options apart that are written together, as in wget -qO- or curl -so FILE: the flag package cannot.
// plain are letters that take no value, valued those that take one.
func expand(args []string, plain, valued string) []string {
	var out []string
	for _, arg := range args {
		if len(arg) < 3 || arg[0] != '-' || arg[1] == '-' {
			out = append(out, arg)
			continue
		}
		for i := 1; i < len(arg); i++ {
			letter := arg[i]
			if strings.IndexByte(valued, letter) >= 0 {
				out = append(out, "-"+string(letter))
				if rest := arg[i+1:]; rest != "" {
					out = append(out, rest)
				}
				break
			}
			if strings.IndexByte(plain, letter) < 0 {
				out = append(out, arg)
				break
			}
			out = append(out, "-"+string(letter))
		}
	}
	return out
}

// parse reads flags that may stand after the arguments too, as people write them.
func parse(flags *flag.FlagSet, args []string, std stdio) ([]string, error) {
	flags.SetOutput(std.err)
	var rest []string
	for {
		if err := flags.Parse(args); err != nil {
			return nil, exitCode(2)
		}
		if flags.NArg() == 0 {
			return rest, nil
		}
		rest = append(rest, flags.Arg(0))
		args = flags.Args()[1:]
	}
}

func wget(args []string, std stdio) error {
	f := fetch{method: http.MethodGet, headers: http.Header{}, failOn: true}
	flags := flag.NewFlagSet("wget", flag.ContinueOnError)
	quiet := flags.Bool("q", false, "say nothing")
	output := flags.String("O", "", "`file` to write to, - for standard output")
	seconds := flags.Float64("T", 30, "give up after `seconds`")
	flags.Float64Var(seconds, "timeout", 30, "give up after `seconds`")
	flags.StringVar(&f.data, "post-data", "", "send `data` with POST")
	flags.Func("header", "add a `header`", headerFlag(f.headers))
	urls, err := parse(flags, expand(args, "q", "OT"), std)
	if err != nil {
		return err
	}
	if len(urls) != 1 {
		return errors.New("exactly one address is needed: wget -qO- http://HOST:PORT/")
	}
	f.url, f.timeout = urls[0], time.Duration(*seconds*float64(time.Second))
	if f.data != "" {
		f.method = http.MethodPost
	}
	if *output == "" {
		*output = path.Base(strings.TrimSuffix(f.url, "/"))
		if strings.Count(f.url, "/") < 3 || strings.HasSuffix(f.url, "/") {
			*output = "index.html"
		}
	}
	if *output != "-" && !*quiet {
		fmt.Fprintf(std.err, "saving to %s\n", *output)
	}
	return f.into(*output, std)
}

func (f fetch) into(output string, std stdio) error {
	if output == "-" || output == "" {
		return f.do(std.out)
	}
	file, err := os.Create(output)
	if err != nil {
		return err
	}
	return errors.Join(f.do(file), file.Close())
}

func curl(args []string, std stdio) error {
	f := fetch{method: http.MethodGet, headers: http.Header{}}
	flags := flag.NewFlagSet("curl", flag.ContinueOnError)
	flags.Bool("s", false, "show no progress; there is none")
	flags.Bool("S", false, "show errors; they are")
	flags.BoolVar(&f.failOn, "f", false, "fail on errors of the server")
	output := flags.String("o", "", "`file` to write to")
	seconds := flags.Float64("m", 30, "give up after `seconds`")
	flags.Float64Var(seconds, "max-time", 30, "give up after `seconds`")
	flags.Float64Var(seconds, "connect-timeout", 30, "give up after `seconds`")
	flags.StringVar(&f.method, "X", http.MethodGet, "HTTP `method`")
	flags.StringVar(&f.data, "d", "", "send `data` with POST")
	flags.Func("H", "add a `header`", headerFlag(f.headers))
	urls, err := parse(flags, expand(args, "sSf", "omXdH"), std)
	if err != nil {
		return err
	}
	if len(urls) != 1 {
		return errors.New("exactly one address is needed: curl -s http://HOST:PORT/")
	}
	f.url, f.timeout = urls[0], time.Duration(*seconds*float64(time.Second))
	if f.data != "" && f.method == http.MethodGet {
		f.method = http.MethodPost
	}
	return f.into(*output, std)
}

// netcat connects to HOST PORT, sends its input and prints what comes; -u by UDP, -z only connects, -w gives up after
// seconds without an answer.
func netcat(args []string, std stdio) error {
	flags := flag.NewFlagSet("nc", flag.ContinueOnError)
	udp := flags.Bool("u", false, "use UDP")
	probe := flags.Bool("z", false, "only connect")
	verbose := flags.Bool("v", false, "say what happens")
	seconds := flags.Float64("w", 10, "give up after `seconds` of silence")
	rest, err := parse(flags, expand(args, "uzv", "w"), std)
	if err != nil {
		return err
	}
	if len(rest) != 2 {
		return errors.New("a host and a port are needed: nc HOST PORT")
	}
	network := "tcp"
	if *udp {
		network = "udp"
	}
	patience := time.Duration(*seconds * float64(time.Second))
	conn, err := net.DialTimeout(network, net.JoinHostPort(rest[0], rest[1]), patience)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }()
	if *verbose {
		fmt.Fprintf(std.err, "connected to %s\n", conn.RemoteAddr())
	}
	if *probe {
		return nil
	}
	go func() {
		_, _ = io.Copy(conn, std.in)
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.CloseWrite()
		}
	}()
	return receive(conn, std.out, patience, *udp)
}

// receive copies until the end or silence; of UDP, which has no end, one answer is enough.
func receive(conn net.Conn, out io.Writer, patience time.Duration, once bool) error {
	buffer := make([]byte, 64<<10)
	for {
		if err := conn.SetReadDeadline(time.Now().Add(patience)); err != nil {
			return err
		}
		n, err := conn.Read(buffer)
		if n > 0 {
			if _, err := out.Write(buffer[:n]); err != nil {
				return err
			}
		}
		if errors.Is(err, io.EOF) || err == nil && once {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// nslookup prints the addresses of a name, asking the SERVER that may follow it.
func nslookup(args []string, std stdio) error {
	if len(args) < 1 || len(args) > 2 {
		return errors.New("a name is needed: nslookup NAME [SERVER]")
	}
	resolver := net.DefaultResolver
	if len(args) == 2 {
		server := args[1]
		if _, _, err := net.SplitHostPort(server); err != nil {
			server = net.JoinHostPort(server, "53")
		}
		resolver = &net.Resolver{PreferGo: true, Dial: func(ctx context.Context, network, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, network, server)
		}}
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	addrs, err := resolver.LookupHost(ctx, args[0])
	if err != nil {
		return err
	}
	for _, addr := range addrs {
		fmt.Fprintf(std.out, "Name:    %s\nAddress: %s\n", args[0], addr)
	}
	return nil
}
