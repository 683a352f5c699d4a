package awstest

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"net/url"
	"reflect"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ec2"
	ec2types "github.com/aws/aws-sdk-go-v2/service/ec2/types"
	elb "github.com/aws/aws-sdk-go-v2/service/elasticloadbalancingv2"
	"github.com/aws/smithy-go"
	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// fill sets every member of a value down to a depth, lists with two items.
func fill(v reflect.Value, depth int) {
	switch v.Kind() {
	case reflect.Pointer:
		made := reflect.New(v.Type().Elem())
		fill(made.Elem(), depth)
		v.Set(made)
	case reflect.Struct:
		if v.Type() == reflect.TypeFor[time.Time]() {
			v.Set(reflect.ValueOf(time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)))
			return
		}
		for i := range v.NumField() {
			field := v.Type().Field(i)
			if !field.IsExported() || field.Name == "ResultMetadata" || depth == 0 {
				continue
			}
			fill(v.Field(i), depth-1)
		}
	case reflect.Slice:
		for range 2 {
			item := reflect.New(v.Type().Elem()).Elem()
			fill(item, depth)
			v.Set(reflect.Append(v, item))
		}
	case reflect.String:
		v.SetString("a<b>&c")
	case reflect.Int32, reflect.Int64:
		v.SetInt(7)
	case reflect.Bool:
		v.SetBool(true)
	}
}

// fillKnown sets the members of an input that are heeded.
func fillKnown(op operation, input reflect.Value) {
	for name := range op.members {
		fill(input.FieldByName(name), 3)
	}
}

// tapped keeps the form of a request, and refuses it.
type tapped struct{ form url.Values }

func (t *tapped) RoundTrip(r *http.Request) (*http.Response, error) {
	if err := r.ParseForm(); err != nil {
		return nil, err
	}
	t.form = r.PostForm
	return nil, http.ErrHandlerTimeout
}

func config(transport http.RoundTripper) aws.Config {
	return aws.Config{Region: Region, BaseEndpoint: aws.String("http://aws.test"), HTTPClient: &http.Client{Transport: transport},
		Credentials: credentials.NewStaticCredentialsProvider("test", "test", ""), Retryer: func() aws.Retryer { return aws.NopRetryer{} }}
}

// TestRequests has the SDK write each input with every member that is heeded, and reads back the same.
func TestRequests(t *testing.T) {
	for version, s := range services {
		for name, op := range s.operations {
			tap := &tapped{}
			client, d := reflect.ValueOf(elb.NewFromConfig(config(tap))), &balancing
			if version == versionCompute {
				client, d = reflect.ValueOf(ec2.NewFromConfig(config(tap))), &compute
			}
			input := reflect.New(op.input)
			fillKnown(op, input.Elem())
			client.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
			if tap.form.Get("Action") != name {
				t.Fatalf("%s: the SDK sent %v", name, tap.form)
			}
			got := reflect.New(op.input)
			if err := d.decode(tap.form, got.Interface()); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			if diff := cmp.Diff(input.Interface(), got.Interface(), unexported); diff != "" {
				t.Errorf("%s is read otherwise than the SDK wrote it (-SDK +read):\n%s", name, diff)
			}
		}
	}
}

var unexported = cmp.FilterPath(func(p cmp.Path) bool {
	field, ok := p.Last().(cmp.StructField)
	return ok && (field.Name() == "ResultMetadata" || field.Name()[0] >= 'a' && field.Name()[0] <= 'z')
}, cmp.Ignore())

// canned answers one body.
type canned struct {
	version, action string
	body            []byte
}

func (c canned) RoundTrip(r *http.Request) (*http.Response, error) {
	w := httptest.NewRecorder()
	err := answer(w, c.version, c.action, c.body, nil)
	return w.Result(), err
}

// depths of what is answered: EC2 has members by other names further down, which are never set here.
var depths = map[string]int{versionBalancing: 4, versionCompute: 3}

// TestAnswers has the SDK read each output, written with every member set that the emulator ever sets and more, down to the
// depth of what it answers.
func TestAnswers(t *testing.T) {
	for version, s := range services {
		for name, op := range s.operations {
			d := &balancing
			if version == versionCompute {
				d = &compute
			}
			output := reflect.New(op.output).Elem()
			fill(output, depths[version])
			c := config(canned{version, name, d.encode(output.Addr().Interface())})
			client := reflect.ValueOf(elb.NewFromConfig(c))
			if version == versionCompute {
				client = reflect.ValueOf(ec2.NewFromConfig(c))
			}
			input := reflect.New(op.input)
			fillKnown(op, input.Elem())
			results := client.MethodByName(name).Call([]reflect.Value{reflect.ValueOf(t.Context()), input})
			if err, _ := results[1].Interface().(error); err != nil {
				t.Errorf("%s: %v", name, err)
				continue
			}
			want := output.Addr().Interface()
			if diff := cmp.Diff(want, results[0].Interface(), unexported, cmpopts.EquateEmpty()); diff != "" {
				t.Errorf("%s is read otherwise by the SDK than it was written (-written +SDK):\n%s", name, diff)
			}
		}
	}
}

// TestFilters: values of filters are patterns, unless what is special in them is escaped, and letters are told apart by case.
func TestFilters(t *testing.T) {
	named := func(name string) map[string]string { return map[string]string{"Name": name} }
	server := New(Options{VPC: "vpc-1", Subnets: []Subnet{{ID: "subnet-1", Zone: Region + "a", Tags: named("blue-a")}, {ID: "subnet-2", Zone: Region + "b", Tags: named("blue-b")},
		{ID: "subnet-3", Zone: Region + "c", Tags: named(`b*e?\`)}, {ID: "subnet-4", Zone: Region + "a", Tags: named("Blue-a"), VPC: "vpc-2"}, {ID: "subnet-5", Zone: Region + "b"}}})
	client := ec2.NewFromConfig(config(server.Transport()))
	for name, tc := range map[string]struct {
		values []string
		in     string // a VPC
		want   []string
	}{
		"One":       {values: []string{"blue-a"}, want: []string{"subnet-1"}},
		"Several":   {values: []string{"blue-a", "blue-b", "green"}, want: []string{"subnet-1", "subnet-2"}},
		"Any":       {values: []string{"*"}, want: []string{"subnet-1", "subnet-2", "subnet-3", "subnet-4"}},
		"AnyText":   {values: []string{"b*e-?"}, want: []string{"subnet-1", "subnet-2"}},
		"Nothing":   {values: []string{"blue-a*"}, want: []string{"subnet-1"}},
		"OneMore":   {values: []string{"blue-a?"}},
		"Escaped":   {values: []string{`b\*e\?\\`}, want: []string{"subnet-3"}},
		"InTheVPC":  {values: []string{"?lue-a"}, in: "vpc-1", want: []string{"subnet-1"}},
		"InAnother": {values: []string{"?lue-a"}, in: "vpc-2", want: []string{"subnet-4"}},
	} {
		filters := []ec2types.Filter{{Name: aws.String("tag:Name"), Values: tc.values}}
		if tc.in != "" {
			filters = append(filters, ec2types.Filter{Name: aws.String("vpc-id"), Values: []string{tc.in}})
		}
		out, err := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: filters})
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		var ids []string
		for _, subnet := range out.Subnets {
			ids = append(ids, *subnet.SubnetId)
		}
		if diff := cmp.Diff(tc.want, ids); diff != "" {
			t.Errorf("%s: found (-want +got):\n%s", name, diff)
		}
	}
	many := make([]string, maxFilterValues+1)
	_, err := client.DescribeSubnets(t.Context(), &ec2.DescribeSubnetsInput{Filters: []ec2types.Filter{{Name: aws.String("subnet-id"), Values: many}}})
	if api, ok := errors.AsType[smithy.APIError](err); !ok || api.ErrorCode() != "FilterLimitExceeded" {
		t.Errorf("too many values: %v", err)
	}
}
