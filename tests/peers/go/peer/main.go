// A gRPC client and server over grpc-go, told what to do by its arguments. Messages are bytes as
// they are: no code is generated. tests/support/grpc_peers.py has the contract.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
)

const service = "/pillion.test.Echo/"

// raw passes bytes on.
type raw struct{}

func (raw) Marshal(v interface{}) ([]byte, error) { return *v.(*[]byte), nil }
func (raw) Unmarshal(data []byte, v interface{}) error {
	*v.(*[]byte) = append([]byte(nil), data...)
	return nil
}
func (raw) Name() string { return "raw" }

func kind(name string) *grpc.StreamDesc {
	return &grpc.StreamDesc{
		StreamName:    name,
		ClientStreams: name == "Collect" || name == "Chat",
		ServerStreams: name == "Spread" || name == "Chat",
	}
}

// ---- server ----

func unary(stream grpc.ServerStream) error {
	var ask []byte
	if err := stream.RecvMsg(&ask); err != nil {
		return err
	}
	if string(ask) == "fail" {
		stream.SetTrailer(metadata.Pairs("echo-trailer", "failed"))
		return status.Error(codes.NotFound, "nothing of that name: \u00fc%")
	}
	stream.SetTrailer(metadata.Pairs("echo-trailer", "done"))
	return stream.SendMsg(&ask)
}

func collect(stream grpc.ServerStream) error {
	total := []byte{}
	for {
		var part []byte
		err := stream.RecvMsg(&part)
		if err == io.EOF {
			return stream.SendMsg(&total)
		}
		if err != nil {
			return err
		}
		total = append(total, part...)
	}
}

func spread(stream grpc.ServerStream) error {
	var ask []byte
	if err := stream.RecvMsg(&ask); err != nil {
		return err
	}
	for i := range ask {
		one := ask[i : i+1]
		if err := stream.SendMsg(&one); err != nil {
			return err
		}
	}
	return nil
}

func chat(stream grpc.ServerStream) error {
	for {
		var part []byte
		err := stream.RecvMsg(&part)
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
		if err := stream.SendMsg(&part); err != nil {
			return err
		}
	}
}

func serve(port string) error {
	methods := map[string]func(grpc.ServerStream) error{
		"Unary": unary, "Collect": collect, "Spread": spread, "Chat": chat}
	desc := grpc.ServiceDesc{ServiceName: "pillion.test.Echo", HandlerType: (*interface{})(nil)}
	for name, method := range methods {
		method := method
		stream := *kind(name)
		stream.Handler = func(_ interface{}, s grpc.ServerStream) error { return method(s) }
		desc.Streams = append(desc.Streams, stream)
	}
	listener, err := net.Listen("tcp", "127.0.0.1:"+port)
	if err != nil {
		return err
	}
	server := grpc.NewServer(grpc.ForceServerCodec(raw{}))
	server.RegisterService(&desc, struct{}{})
	return server.Serve(listener)
}

// ---- client ----

func call(conn *grpc.ClientConn, name string, parts []string) (map[string]interface{}, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	stream, err := conn.NewStream(ctx, kind(name), service+name, grpc.ForceCodec(raw{}))
	if err != nil {
		return nil, err
	}
	got := []string{}
	read := func() error {
		var part []byte
		err := stream.RecvMsg(&part)
		if err == nil {
			got = append(got, string(part))
		}
		return err
	}
	for _, part := range parts {
		bytes := []byte(part)
		if err := stream.SendMsg(&bytes); err != nil && err != io.EOF {
			return nil, err
		}
		if name == "Chat" { // the answer comes before our end
			if err := read(); err != nil {
				return nil, err
			}
		}
	}
	if err := stream.CloseSend(); err != nil {
		return nil, err
	}
	for err == nil {
		err = read()
	}
	if err == io.EOF {
		err = nil
	}
	state := status.Convert(err)
	return map[string]interface{}{"messages": got, "status": int(state.Code()),
		"message": state.Message(), "trailer": stream.Trailer().Get("echo-trailer")}, nil
}

func ask(port string, name string, parts []string) error {
	conn, err := grpc.Dial("127.0.0.1:"+port, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	defer conn.Close()
	result, err := call(conn, name, parts)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(result)
}

func main() {
	var err error
	if len(os.Args) >= 3 && os.Args[1] == "server" {
		err = serve(os.Args[2])
	} else if len(os.Args) >= 4 && os.Args[1] == "client" {
		err = ask(os.Args[2], os.Args[3], os.Args[4:])
	} else {
		err = fmt.Errorf("usage: %s server PORT | client PORT METHOD PART...", os.Args[0])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
