// Package awstest is an emulator of as much of AWS as network load balancers need: the query APIs of Elastic Load Balancing
// (version 2015-12-01) and of EC2 (version 2016-11-15), as one HTTP handler with its state in memory. It is used through the
// SDK as it is, or any other client, by a transport that calls it (Transport) or over a socket.
//
// Requests are read into the SDK's own input types and answers written from its output types, so that what is not in the
// service's schema can be neither said nor answered. What it does not know, an action, or a member of one, it refuses with an
// error of the service, never with success. It misbehaves as the service does: names are unique and at most 32 long, a
// creation that is repeated with the same settings gives what is there, whoever's that is, groups stay in use for a while,
// reads are behind, the account is throttled and has quotas.
//
// It forwards no packets by itself: what forwards for real, and checks targets, it can be given (SetHardware). Site adds the
// metadata of the account's machines, and the names of balancers. It checks no signatures.
package awstest
