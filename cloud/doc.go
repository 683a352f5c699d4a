// Package cloud is the contract between Fairlead's core and whatever makes load balancers: a cloud's API, an
// appliance, a daemon on a host. It also holds the core itself, which plans, orders, owns and applies. It is not a
// client of any cloud and knows nothing of the Kubernetes API server: Services and Nodes come in as plain data.
//
// # The division of labour
//
// A provider knows its cloud and nothing else. It turns a Spec, which says what one Service asks for, into a list of
// resources; it says which resources of that Service there are; and it creates, changes or deletes one of them at a
// time. It never compares, never orders, never retries, never waits, never decides what may be deleted.
//
// The core compares (Diff), orders by dependency, checks ownership, applies (Apply), keeps to the account's limits
// (Limited), retries by the class of the error and keeps the Service's status. A provider is correct when cloudtest.Run
// passes.
//
// # Writing a provider
//
//  1. List the kinds of things that your cloud needs for one balancer: an address, a balancer, a listener for each
//     port, a set of targets for each port, say. Each is a Resource: a Kind, a Key that tells it from others of its
//     kind for the same Service, attributes as strings in one canonical form, and the resources it DependsOn.
//  2. Desired(spec) writes that list down. It is pure: the same Spec gives the same list, no clock, no randomness, no
//     call. Defaults that the cloud would fill in are written out, or every pass would find a difference. What the
//     provider's parameters and annotations say wrongly is one UserError that names all of it (see Annotations,
//     DecodeParameters and UserErrors).
//  3. Name in Immutable the attributes that the cloud cannot change in place. The core then makes a second resource
//     with the same key, moves what points to the first, and deletes the first: so build names with Name, which takes
//     in the immutable attributes, and two of one key never collide. A resource that cannot be in two places, or whose
//     replacement changes the address that clients use, is marked Fixed: it is replaced only where the user allows it,
//     and deleted first then, or last where it is marked Beside. Where it would have to be replaced and may not be, the
//     core changes nothing else of the Service, either, but targets and the attributes that Follow the cluster. If the cloud
//     lets you look whether something can be made, be a Checker: the core asks before what it replaces is deleted.
//     What somebody else made may have a place whole that Desired divides: name in Excludes what it has to itself.
//  4. Create marks what it makes with the owner (OwnerID fits in one tag) in the same call that makes it, or else a
//     crash between the two leaves something that nobody owns. Where a kind has no tags use its description; where it
//     has neither, it must be a child of something that has (Ref.Parent).
//  5. Observe(owner) returns everything that carries the owner's mark, half-made things included, each with the
//     attributes in the same canonical form as Desired writes them, the id, and in DependsOn the ids of what it
//     points to. It may also return resources of other owners that stand where ours should be; the core sees their
//     Owners and leaves them alone. List is the same for all owners of a cluster at once.
//  6. Create, Update and Delete do one small thing and are idempotent: they can be called again after a crash that
//     hid their success. Create of something that is there already under the same name verifies the owner: it returns
//     it if it is the owner's and matches, and an error of class Conflict otherwise. Delete of something that is gone
//     succeeds. None of them waits: what takes time is returned with State Pending, and the core looks again later; of
//     what cannot be deleted yet, since something uses it, the error is of class Pending. Where the cloud gives an id to
//     something else once it is free, as it does with addresses, Delete looks at the mark, too.
//  7. Targets (the nodes that a set sends to) are changed by SyncTargets alone, never by Create or Update. It receives
//     the changes of many Services at once, to be sent in as few calls as the cloud allows, which Capabilities.Targets
//     states: so it looks at nothing first. Each change says what to add and what to remove, and also all that is to be
//     there afterwards, for a cloud that takes the whole list.
//     A provider that can send to Pods says so (Capabilities.PodTargets): where the Spec has PodTargets it makes
//     targets of Endpoints, each with the port that this one has, and looks at neither Nodes nor node ports. Whether a set
//     has nodes or Pods is mostly immutable, so that a Service that changes over gets new sets. If the cloud tells what it
//     makes of a target, be a HealthReader: Pods can wait for it then.
//  8. Classify turns any error of yours into one of the classes below. Decide by the SDK's codes and types, never by
//     matching text. Turn off the retries of the SDK: the core knows who else is waiting.
//  9. Say in Capabilities.Limits what the account may send. Each method spends one call before it begins; where it
//     sends more, or simply in the transport of your client, call Wait before each.
//  10. Register the provider in an init function; the manager imports the package for that effect.
//
// # Ownership
//
// Owned means marked with the cluster's id and the Service's UID. Anything else is foreign: Diff never plans an
// operation on it, whatever its name is.
//
// # Adoption
//
// A balancer that is there already can become a Service's: by its id, where its owner consents, or since another controller
// made it for this very Service. A provider that can do this says so in Capabilities.Adopt and is an Adopter: Adoptable
// finds such a balancer and its parts and tells what marks they carry, and whose consent. The core decides, and adopts each
// part by an Update that differs in nothing but the owner, Adopted and Lent:
//
//   - an Update that adds the first owner to what is not Shared writes, in the same call, all that Observe and List need to
//     find and to name it, such as the key, and Adopted and Lent, which both of them return. Where somebody else's mark is on
//     it by then the error is of class Conflict, as far as the cloud can tell;
//   - of a provider that declares TakeBack, an Update that puts the owner in the place of another one, an earlier Service of its
//     name which left it behind under Retain, is the same, and takes that one's mark off in the same call;
//   - an Update may differ in Adopted alone;
//   - an Update that takes the last owner away removes all of that again: it is somebody else's, as before. What that
//     somebody put on it, the consent included, is never changed;
//
// What is adopted with its owner's consent is Lent: of its parts those that the Service wants are marked, the balancer itself
// last, so that an adoption that was stopped is seen, and finished or let go. It is never deleted: the core lets it go, without
// its targets, when the Service has no use for it. What was made for this very Service is taken over as a whole, the balancer
// itself first, and is the Service's as if it had been made by it.
//
// # Sharing
//
// Services of one group (Owner.Group) may use resources together, which Desired marks as Shared. Such a resource carries
// the mark of the group (GroupID) and one mark for each of its owners, which are added and taken away one by one: give
// each a tag of its own, or write with a precondition. No lock is held over a group, so that hundreds of Services can
// join one balancer at once; what keeps that safe is
//
//   - that names of shared resources are the group's (Name), so that two who make one make the same;
//   - that a resource is deleted only by who takes it for its last owner, and that the cloud, or else the provider, does
//     not delete what something of another Service is in; a Service publishes no address before its own part is there;
//   - that one that nobody owns any more, since the last two left at the same time, is deleted, or joined, by whoever of
//     the group sees it.
//
// Put what Services of a group may want differently into resources that are theirs alone, a listener rather than the
// balancer. The attributes of a shared resource are those that the first of its owners, by OwnerID, wants; the others
// are told.
//
// # Opaque providers
//
// What makes balancers as a whole and can say nothing of them, as the providers of k8s.io/cloud-provider do, is Opaque
// (Capabilities). Its Observe says what it was last told, which it keeps in Config.Memory; it gets the Service and the
// Nodes themselves beside what is made of them. Package cloud/adapter is one; a new provider has no reason to be.
//
// # Safety of the order
//
// Creations and updates come first, in the order of dependency; deletions last, in the reverse order; and no deletion
// is done in a pass in which a creation or an update failed. So traffic keeps its old way until the new one stands.
package cloud
