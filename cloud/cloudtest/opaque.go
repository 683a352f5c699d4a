package cloudtest

// notPromised are the cases that say nothing of an Opaque provider, and why.
var notPromised = map[string]string{
	"ForeignIsUntouched":    "whether something of the name of a balancer is the Service's is decided where it cannot be seen",
	"ListIsComplete":        "it lists what it was told of, not what there is, so that orphans are not found",
	"TargetsAreAddedFirst":  "which nodes it sends to in between is decided where it cannot be seen",
	"BlockedChangesNothing": "what may be replaced is decided where it cannot be seen",
	"EveryCallIsCounted":    "its methods are counted, not the calls that they send",
}

// beyondOpaque are properties that follow, for others, from the cases of the suite, and not for an Opaque provider.
var beyondOpaque = map[string]string{
	"Opaque/CrashInsideACall":   "what is left when the manager is stopped in the middle of a method is found only if the next one finds it",
	"Opaque/DriftIsFound":       "what others change is not seen, and not repaired before the Service changes",
	"Opaque/PlanSaysWhatIsDone": "a plan says that it would be told, not what it would do",
	"Opaque/OrderOfSteps":       "whether the new stands before the old goes is decided where it cannot be seen",
}
