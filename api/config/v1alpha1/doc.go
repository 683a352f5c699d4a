// Package v1alpha1 holds the configuration files of Fairlead's programs (group config.fairlead.dev): what
// may stand in them, what is meant where nothing stands, and what is refused. It is not a custom resource:
// nothing of it is ever stored in an API server.
//
// Each kind is read the same way: Decode refuses what it does not know, Default fills what was left out,
// Validate names everything that is wrong, one line each. Flags are laid over the file between Decode and
// Default by the program itself.
//
// +kubebuilder:object:generate=true
// +groupName=config.fairlead.dev
package v1alpha1
