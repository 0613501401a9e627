// Package onrampv1 is the contract of the gRPC service, made from onramp.proto: messages, client and server interface.
package onrampv1

//go:generate go run ../../internal/protogen onramp.proto
