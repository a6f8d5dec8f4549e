// The program engine is an engine for swarmd's "remote" gateway, to copy from: it runs tasks as processes of its machine.
//
//	engine --listen unix:/run/user/1000/engine.sock --state ~/.local/state/engine --cores 4
//
// It shows all that an engine has to do so that nothing is lost and nothing runs twice, also when it is killed in the
// middle: docs/remote-engines.md says what that is. store.go remembers, runs.go looks after processes, service.go has
// the service, and the loop that starts tasks and sees them end.
package main

import (
	"context"
	"crypto/subtle"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"swarmd.example/client/generated/swarmpb"
)

const maxReceivedBytes = 8 << 20

var (
	listen    = flag.String("listen", "", "unix:PATH or HOST:PORT")
	state     = flag.String("state", "", "the folder with what must not be forgotten")
	cores     = flag.Int("cores", runtime.NumCPU(), "so many run at once")
	tokenFile = flag.String("token-file", "", "callers must show the token in it")
	tlsCert   = flag.String("tls-cert", "", "PEM file; with --tls-key")
	tlsKey    = flag.String("tls-key", "", "PEM file")
	insecure  = flag.Bool("insecure", false, "ask nobody for a token over TCP")
)

func main() {
	flag.Parse()
	if err := serve(); err != nil {
		fmt.Fprintln(os.Stderr, "engine:", err)
		os.Exit(1)
	}
}

// serve until SIGTERM or SIGINT. What runs goes on; the next engine takes it up.
func serve() error {
	if *listen == "" || *state == "" {
		return errors.New("give --listen and --state")
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("%q is no option; there are only options", flag.Arg(0))
	}
	if *cores < 1 {
		return fmt.Errorf("--cores: with %d nothing would ever run; give 1 or more", *cores)
	}
	lock, err := lockState(*state)
	if err != nil {
		return err
	}
	defer lock.Close()
	kept, err := openStore(filepath.Join(*state, "engine.jsonl"))
	if err != nil {
		return err
	}
	options, err := serverOptions()
	if err != nil {
		return err
	}
	listener, err := listenAt(*listen)
	if err != nil {
		return err
	}
	engine := newEngine(kept, filepath.Join(*state, "runs"), int32(*cores))
	server := grpc.NewServer(options...)
	swarmpb.RegisterGatewayServiceServer(server, engine)
	over := make(chan error, 2)
	go func() { over <- server.Serve(listener) }()
	go func() { over <- engine.run() }()
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT)
	fmt.Println("engine: listening at", where(listener))
	select {
	case <-signals:
		server.Stop()
		return nil
	case err := <-over:
		return err
	}
}

func listenAt(address string) (net.Listener, error) {
	path, isSocket := strings.CutPrefix(address, "unix:")
	if !isSocket {
		return net.Listen("tcp", address)
	}
	if err := makeWay(path); err != nil {
		return nil, fmt.Errorf("--listen: %w", err)
	}
	before := syscall.Umask(0o077)
	defer syscall.Umask(before)
	return net.Listen("unix", path)
}

// makeWay removes the socket of an engine that was killed; whatever else is there is somebody's.
func makeWay(path string) error {
	found, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if found.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is there already, and is no socket; give another path", path)
	}
	if caller, err := net.Dial("unix", path); err == nil {
		_ = caller.Close()
		return fmt.Errorf("somebody listens at %s already; give another path", path)
	}
	return os.Remove(path)
}

func where(listener net.Listener) string {
	if listener.Addr().Network() == "unix" {
		return "unix:" + listener.Addr().String()
	}
	return listener.Addr().String()
}

func serverOptions() ([]grpc.ServerOption, error) {
	options := []grpc.ServerOption{grpc.MaxRecvMsgSize(maxReceivedBytes)}
	if (*tlsCert == "") != (*tlsKey == "") {
		return nil, errors.New("a certificate and its key belong together: give --tls-cert and --tls-key")
	}
	if *tlsCert != "" {
		pair, err := credentials.NewServerTLSFromFile(*tlsCert, *tlsKey)
		if err != nil {
			return nil, err
		}
		options = append(options, grpc.Creds(pair))
	}
	if *tokenFile == "" {
		if !strings.HasPrefix(*listen, "unix:") && !*insecure {
			return nil, errors.New("whoever can connect can run commands as you: give --token-file, or say --insecure")
		}
		return options, nil
	}
	text, err := os.ReadFile(*tokenFile)
	if err != nil {
		return nil, err
	}
	token := strings.TrimSpace(string(text))
	if token == "" {
		return nil, errors.New(*tokenFile + " is empty, so anybody would be let in; write a token into it")
	}
	guard := tokenCheck("Bearer " + token)
	return append(options, grpc.UnaryInterceptor(guard.unary), grpc.StreamInterceptor(guard.stream)), nil
}

// tokenCheck lets in who shows the token.
type tokenCheck string

func (wanted tokenCheck) check(ctx context.Context) error {
	for _, shown := range metadata.ValueFromIncomingContext(ctx, "authorization") {
		if subtle.ConstantTimeCompare([]byte(shown), []byte(wanted)) == 1 {
			return nil
		}
	}
	return status.Error(codes.Unauthenticated, "authorization: the token is missing or wrong")
}

func (wanted tokenCheck) unary(
	ctx context.Context, request any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler,
) (any, error) {
	if err := wanted.check(ctx); err != nil {
		return nil, err
	}
	return handler(ctx, request)
}

func (wanted tokenCheck) stream(
	service any, stream grpc.ServerStream, _ *grpc.StreamServerInfo, handler grpc.StreamHandler,
) error {
	if err := wanted.check(stream.Context()); err != nil {
		return err
	}
	return handler(service, stream)
}
