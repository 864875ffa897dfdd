//go:build peers

// Package peers names the programs of others that the tests speak with, so that go.mod and go.sum
// pin them. ../install builds them.
package peers

import (
	_ "github.com/summerwind/h2spec/cmd/h2spec"
	_ "google.golang.org/grpc/interop/client"
	_ "google.golang.org/grpc/interop/server"
)
