package aws

import (
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/fairlead/fairlead/api/v1alpha1"
	"github.com/fairlead/fairlead/cloud"
)

// A listener of QUIC sends by connection ids, in which each target puts a server id of its own that AWS is told when the target is
// registered. A Pod's is the first half of its UID, which it can read by the downward API: nothing has to be handed out or kept.

// serverSeparator is between what is known of any target and its server id, in a target's ID.
const serverSeparator = "/"

var uuidForm = regexp.MustCompile(`^[0-9a-f]{32}$`)

// serverID is that of a Pod; empty: it has none.
func serverID(uid string) string {
	digits := strings.ReplaceAll(strings.ToLower(uid), "-", "")
	if !uuidForm.MatchString(digits) {
		return ""
	}
	return "0x" + digits[:16]
}

func isQUIC(protocol string) bool { return strings.HasSuffix(protocol, "QUIC") }

// isDatagrams reports whether a protocol is UDP, or made of it.
func isDatagrams(protocol string) bool { return strings.HasSuffix(protocol, "UDP") || isQUIC(protocol) }

// enableQUIC makes the listener of the port that is named one of QUIC, and refuses what AWS does not have together with that.
func enableQUIC(spec cloud.Spec, s *settings, ports []listened) error {
	const key = AnnotationPrefix + "quic-enabled-ports"
	if len(s.quicPorts) == 0 {
		return nil
	}
	var errs []error
	wrong := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%s: "+format, append([]any{s.from(key)}, args...)...))
	}
	enabled, others := 0, 0
	for i := range ports {
		l := &ports[i]
		switch {
		case !isDatagrams(l.protocol):
		case slices.ContainsFunc(spec.Ports, func(p cloud.Port) bool { return p.Protocol == "UDP" && p.Port == l.Port.Port && named(s.quicPorts, p) }):
			enabled++
			l.protocol, l.group = strings.Replace(l.protocol, "UDP", "QUIC", 1), strings.Replace(l.group, "UDP", "QUIC", 1)
		default:
			others++
		}
	}
	if enabled > 1 || enabled == 1 && others > 0 {
		wrong("a balancer has one port of QUIC, and no other of UDP then: leave one in the Service")
	}
	if !spec.PodTargets {
		wrong("connections are told apart by ids of Pods: set the annotation %s to %s, or targets: %s in the class", v1alpha1.AnnotationTargets, v1alpha1.TargetsPods, v1alpha1.TargetsPods)
	}
	if !s.noGroup {
		wrong("AWS has it without security groups only: set %sdisable-nlb-sg to true", AnnotationPrefix)
	}
	if isDouble(spec, s) {
		wrong("AWS has it with IPv4 only")
	}
	return cloud.UserErrors(errs...)
}
