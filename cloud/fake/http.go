package fake

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/fairlead/fairlead/cloud/cloudtest/hardware"
)

// The HTTP form of API: POST /v1/{method} with the arguments as JSON, an answer as JSON with status 200, or an Error
// with the status that HTTP has for it.

// maxBody bounds what either side reads.
const maxBody = 16 << 20

// Handler serves a cloud over HTTP: API, and GET /healthz.
func Handler(c *Cloud) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "ok\n") })
	handle(mux, "create", func(ctx context.Context, o Object) (Object, error) { return c.Create(ctx, o) })
	handle(mux, "check", func(ctx context.Context, r CheckRequest) (struct{}, error) { return struct{}{}, c.Check(ctx, r) })
	handle(mux, "update", func(ctx context.Context, o Object) (Object, error) { return c.Update(ctx, o) })
	handle(mux, "delete", func(ctx context.Context, id string) (struct{}, error) { return struct{}{}, c.Delete(ctx, id) })
	handle(mux, "list", func(ctx context.Context, sets []map[string]string) ([]Object, error) { return c.List(ctx, sets...) })
	handle(mux, "targets", func(ctx context.Context, r []TargetsRequest) (struct{}, error) {
		return struct{}{}, c.SyncTargets(ctx, r)
	})
	handle(mux, "describe-targets", func(ctx context.Context, ids []string) ([]TargetState, error) { return c.DescribeTargets(ctx, ids) })
	handle(mux, "health", func(ctx context.Context, _ struct{}) ([]hardware.TargetHealth, error) { return c.Health(ctx) })
	return mux
}

func handle[In, Out any](mux *http.ServeMux, method string, do func(context.Context, In) (Out, error)) {
	mux.HandleFunc("POST /v1/"+method, func(w http.ResponseWriter, r *http.Request) {
		var in In
		decoder := json.NewDecoder(http.MaxBytesReader(w, r.Body, maxBody))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&in); err != nil {
			answer(w, refuse(CodeInvalidParameter, "reading the request: %v", err), nil)
			return
		}
		out, err := do(r.Context(), in)
		answer(w, err, out)
	})
}

var statuses = map[Code]int{
	CodeInvalidParameter: http.StatusBadRequest,
	CodeDuplicateName:    http.StatusConflict,
	CodeNotFound:         http.StatusNotFound,
	CodeInUse:            http.StatusConflict,
	CodePortTaken:        http.StatusConflict,
	CodeChanged:          http.StatusPreconditionFailed,
	CodeQuotaExceeded:    http.StatusForbidden,
	CodePoolExhausted:    http.StatusForbidden,
	CodeThrottled:        http.StatusTooManyRequests,
	CodeInternal:         http.StatusInternalServerError,
}

func answer(w http.ResponseWriter, err error, out any) {
	w.Header().Set("Content-Type", "application/json")
	if err != nil {
		refused, ok := errors.AsType[*Error](err)
		if !ok {
			refused = refuse(CodeInternal, "%v", err)
		}
		if refused.RetryAfterSeconds > 0 {
			w.Header().Set("Retry-After", strconv.Itoa(refused.RetryAfterSeconds))
		}
		w.WriteHeader(statuses[refused.Code])
		out = refused
	}
	// An error here is the client's going away, which it knows.
	_ = json.NewEncoder(w).Encode(out)
}

// Client is the API at the other end of HTTP.
type Client struct {
	base string
	http *http.Client
}

var _ API = (*Client)(nil)

// NewClient makes a client for http://host:port or unix:///path. Nothing is sent yet.
func NewClient(endpoint string) (*Client, error) {
	if path, ok := strings.CutPrefix(endpoint, "unix://"); ok && strings.HasPrefix(path, "/") {
		transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}}
		return &Client{base: "http://fake", http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
	}
	u, err := url.Parse(endpoint)
	if err != nil || u.Scheme != "http" || u.Host == "" {
		return nil, fmt.Errorf("the fake cloud's endpoint is http://host:port or unix:///path, not %q", endpoint)
	}
	transport := &http.Transport{DialContext: (&net.Dialer{Timeout: 5 * time.Second}).DialContext}
	return &Client{base: strings.TrimSuffix(endpoint, "/"), http: &http.Client{Transport: transport, Timeout: 10 * time.Second}}, nil
}

// NewClientFor makes a client with a transport of the caller's.
func NewClientFor(base string, transport http.RoundTripper) *Client {
	return &Client{base: base, http: &http.Client{Transport: transport}}
}

// call sends one request. An answer that is not one of a fake cloud is an error that says so.
func (c *Client) call(ctx context.Context, method string, in, out any) error {
	body, err := json.Marshal(in)
	if err != nil {
		return fmt.Errorf("writing the request: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, c.base+"/v1/"+method, bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("making the request: %w", err)
	}
	request.Header.Set("Content-Type", "application/json")
	if slices.Contains([]string{"check", "list", "health", "describe-targets"}, method) {
		// Reading may be sent again over a new connection where the cloud was restarted meanwhile. Not sent itself.
		request.Header["Idempotency-Key"] = nil
	}
	response, err := c.http.Do(request)
	if err != nil {
		return fmt.Errorf("calling the fake cloud at %s: %w", c.base, cause(err))
	}
	defer response.Body.Close()
	text, err := io.ReadAll(io.LimitReader(response.Body, maxBody))
	if err != nil {
		return fmt.Errorf("reading the fake cloud's answer: %w", cause(err))
	}
	if response.StatusCode != http.StatusOK {
		var refused Error
		if json.Unmarshal(text, &refused) != nil || refused.Code == "" {
			return fmt.Errorf("the fake cloud answered %s", response.Status)
		}
		return &refused
	}
	if out == nil {
		return nil
	}
	if err := json.Unmarshal(text, out); err != nil {
		return fmt.Errorf("reading the fake cloud's answer: %w", err)
	}
	return nil
}

// Create implements API.
func (c *Client) Create(ctx context.Context, object Object) (Object, error) {
	var made Object
	err := c.call(ctx, "create", object, &made)
	return made, err
}

// Check implements API.
func (c *Client) Check(ctx context.Context, request CheckRequest) error {
	return c.call(ctx, "check", request, nil)
}

// Update implements API.
func (c *Client) Update(ctx context.Context, object Object) (Object, error) {
	var made Object
	err := c.call(ctx, "update", object, &made)
	return made, err
}

// Delete implements API.
func (c *Client) Delete(ctx context.Context, id string) error {
	return c.call(ctx, "delete", id, nil)
}

// List implements API.
func (c *Client) List(ctx context.Context, sets ...map[string]string) ([]Object, error) {
	var objects []Object
	err := c.call(ctx, "list", sets, &objects)
	return objects, err
}

// SyncTargets implements API.
func (c *Client) SyncTargets(ctx context.Context, requests []TargetsRequest) error {
	return c.call(ctx, "targets", requests, nil)
}

// Health implements API.
func (c *Client) Health(ctx context.Context) ([]hardware.TargetHealth, error) {
	var health []hardware.TargetHealth
	err := c.call(ctx, "health", struct{}{}, &health)
	return health, err
}

// cause leaves out of a network error what differs each time, such as the local port.
func cause(err error) error {
	if op, ok := errors.AsType[*net.OpError](err); ok {
		return op.Err
	}
	return err
}
