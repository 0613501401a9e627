// Command protogen makes the Go code of a .proto file: it compiles the file and hands it to the two plugins of the protobuf and gRPC projects,
// which it runs as tools of this module. So nothing has to be installed, and everybody makes the same code.
//
//	go run ./internal/protogen api/onrampv1/onramp.proto
package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"github.com/bufbuild/protocompile"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protodesc"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/descriptorpb"
	"google.golang.org/protobuf/types/pluginpb"
)

func main() {
	if len(os.Args) != 2 { //nolint:mnd // the program and its argument
		fmt.Fprintln(os.Stderr, "usage: protogen FILE.proto")
		os.Exit(2) //nolint:mnd // wrong usage
	}
	if err := generate(context.Background(), os.Args[1]); err != nil {
		fmt.Fprintln(os.Stderr, "protogen:", err)
		os.Exit(1)
	}
}

func generate(ctx context.Context, path string) error {
	compiler := protocompile.Compiler{
		Resolver:       protocompile.WithStandardImports(&protocompile.SourceResolver{ImportPaths: []string{filepath.Dir(path)}}),
		SourceInfoMode: protocompile.SourceInfoStandard, // with the comments
	}
	name := filepath.Base(path)
	files, err := compiler.Compile(ctx, name)
	if err != nil {
		return fmt.Errorf("compile %s: %w", path, err)
	}
	request := &pluginpb.CodeGeneratorRequest{FileToGenerate: []string{name}, Parameter: new("paths=source_relative")}
	request.ProtoFile = withImports(files[0], map[string]bool{})
	for _, plugin := range []string{"google.golang.org/protobuf/cmd/protoc-gen-go", "google.golang.org/grpc/cmd/protoc-gen-go-grpc"} {
		if err := run(ctx, plugin, request, filepath.Dir(path)); err != nil {
			return fmt.Errorf("run %s: %w", plugin, err)
		}
	}
	return nil
}

// withImports returns a file after those it imports, each once.
func withImports(file protoreflect.FileDescriptor, seen map[string]bool) []*descriptorpb.FileDescriptorProto {
	if seen[file.Path()] {
		return nil
	}
	seen[file.Path()] = true
	var all []*descriptorpb.FileDescriptorProto
	for i := range file.Imports().Len() {
		all = append(all, withImports(file.Imports().Get(i).FileDescriptor, seen)...)
	}
	return append(all, protodesc.ToFileDescriptorProto(file))
}

func run(ctx context.Context, plugin string, request *pluginpb.CodeGeneratorRequest, dir string) error {
	raw, err := proto.Marshal(request)
	if err != nil {
		return fmt.Errorf("encode request: %w", err)
	}
	var out bytes.Buffer
	command := exec.CommandContext(ctx, "go", "run", plugin) //nolint:gosec // one of the two above
	command.Stdin, command.Stdout, command.Stderr = bytes.NewReader(raw), &out, os.Stderr
	if err := command.Run(); err != nil {
		return fmt.Errorf("go run: %w", err)
	}
	var response pluginpb.CodeGeneratorResponse
	if err := proto.Unmarshal(out.Bytes(), &response); err != nil {
		return fmt.Errorf("decode response: %w", err)
	}
	if response.Error != nil {
		return errors.New(response.GetError())
	}
	for _, file := range response.GetFile() {
		if err := os.WriteFile(filepath.Join(dir, file.GetName()), []byte(file.GetContent()), 0o644); err != nil { //nolint:gosec // source text
			return fmt.Errorf("write code: %w", err)
		}
	}
	return nil
}
