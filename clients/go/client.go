// Package swarmd is a small client of the swarmd daemon, to copy from.
//
// It connects over a unix socket, or over TCP with TLS and a token; loads in chunks; sends updates ahead of their
// answers; watches across lost connections. Every other call, Tick for one, is a method of the stubs in Client, with
// nothing around it.
//
// Deadlines are those of the context that a call is given: give each call one, for gRPC has none of its own.
package swarmd

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"strings"
	"time"

	"google.golang.org/genproto/googleapis/rpc/code"
	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"swarmd.example/client/generated/swarmpb"
)

const (
	maxReceivedBytes = 64 << 20 // a batch of 500 tasks brings 500 commands; gRPC's own limit is 4 MiB
	retryPause       = 200 * time.Millisecond
)

// Client has the stubs of both services, on one connection.
type Client struct {
	Swarms    swarmpb.SwarmServiceClient
	Scheduler swarmpb.SchedulerServiceClient
	conn      *grpc.ClientConn
}

// Config says where the daemon is.
type Config struct {
	Address string // unix:PATH, or HOST:PORT
	Token   string // sent with every call; empty: none is
	CA      []byte // the connection is TLS, checked against this certificate (PEM); nil: no TLS
}

// ConfigFromEnvironment reads SWARMD_ADDRESS, SWARMD_TOKEN_FILE and SWARMD_TLS_CA.
func ConfigFromEnvironment() (Config, error) {
	config := Config{Address: os.Getenv("SWARMD_ADDRESS")}
	if config.Address == "" {
		return config, errors.New("SWARMD_ADDRESS: set it to unix:PATH or HOST:PORT")
	}
	if file := os.Getenv("SWARMD_TOKEN_FILE"); file != "" {
		text, err := os.ReadFile(file)
		if err != nil {
			return config, fmt.Errorf("SWARMD_TOKEN_FILE: %w", err)
		}
		config.Token = strings.TrimSpace(string(text))
	}
	if file := os.Getenv("SWARMD_TLS_CA"); file != "" {
		pem, err := os.ReadFile(file)
		if err != nil {
			return config, fmt.Errorf("SWARMD_TLS_CA: %w", err)
		}
		config.CA = pem
	}
	return config, nil
}

// Connect makes a client. It dials with the first call, and again by itself whenever the connection was lost.
func Connect(config Config) (*Client, error) {
	transport := insecure.NewCredentials()
	if config.CA != nil {
		roots := x509.NewCertPool()
		if !roots.AppendCertsFromPEM(config.CA) {
			return nil, errors.New("the CA is no certificate in PEM")
		}
		transport = credentials.NewTLS(&tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12})
	}
	quick := backoff.DefaultConfig // by default it would let up to two minutes pass before it dials again
	quick.BaseDelay, quick.MaxDelay = retryPause, 2*time.Second
	options := []grpc.DialOption{
		grpc.WithTransportCredentials(transport),
		grpc.WithNoProxy(), // the daemon is on this machine or next to it
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxReceivedBytes)),
		grpc.WithConnectParams(grpc.ConnectParams{Backoff: quick, MinConnectTimeout: 5 * time.Second}),
		// Finds out that the other side has vanished; the daemon cuts off who pings more often than every 10 s.
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 30 * time.Second, Timeout: 10 * time.Second}),
	}
	if config.Token != "" {
		options = append(options, grpc.WithPerRPCCredentials(bearer(config.Token)))
	}
	conn, err := grpc.NewClient(config.Address, options...)
	if err != nil {
		return nil, err
	}
	return &Client{swarmpb.NewSwarmServiceClient(conn), swarmpb.NewSchedulerServiceClient(conn), conn}, nil
}

// Close ends the connection, and with it all calls.
func (c *Client) Close() error { return c.conn.Close() }

// AddTasks loads chunks as one unit: all of them or, on an error, none. Each chunk must stay below the daemon's message
// limit (4 MiB). The request id makes it safe to send everything again when the connection was lost before the answer.
func (c *Client) AddTasks(
	ctx context.Context, swarmID, requestID string, chunks iter.Seq[*swarmpb.AddTasksRequest],
) (*swarmpb.AddTasksResponse, error) {
	ctx, cancel := context.WithCancel(ctx) // ends the stream if we return before it is at its end
	defer cancel()
	stream, err := c.Swarms.AddTasks(ctx)
	if err != nil {
		return nil, err
	}
	first := true
	for chunk := range chunks {
		if first {
			chunk.SwarmId, chunk.RequestId, first = swarmID, requestID, false
		}
		// io.EOF: the daemon has refused the load already, and CloseAndRecv says why.
		if err := stream.Send(chunk); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return nil, err
		}
	}
	return stream.CloseAndRecv()
}

// ApplyUpdates tells what happened, and gives the answers in the order of the updates. Updates are sent by a goroutine
// from now on, so that none waits for an answer; range over the answers meanwhile, for a daemon whose answers nobody
// reads stops reading, too. An update that was refused has Error in its answer, and stops nothing.
//
// When the stream is lost, send again what was not answered: repeating is harmless.
func (c *Client) ApplyUpdates(
	ctx context.Context, swarmID string, updates iter.Seq[*swarmpb.ApplyUpdateRequest],
) iter.Seq2[*swarmpb.ApplyUpdateResponse, error] {
	ctx, cancel := context.WithCancel(ctx)
	stream, err := c.Scheduler.ApplyUpdate(ctx)
	if err == nil {
		go func() {
			first := true
			for update := range updates {
				if first {
					update.SwarmId, first = swarmID, false
				}
				if stream.Send(update) != nil {
					return // the stream has ended; Recv says why
				}
			}
			_ = stream.CloseSend()
		}()
	}
	return func(yield func(*swarmpb.ApplyUpdateResponse, error) bool) {
		defer cancel()
		if err != nil {
			yield(nil, err)
			return
		}
		for {
			answer, err := stream.Recv()
			if err == io.EOF || !yield(answer, err) || err != nil {
				return
			}
		}
	}
}

// Watch gives everything that happens to a swarm, in order and without gaps: also across lost connections, restarts of
// the daemon, and times in which it was read too slowly. Without request.AfterRevision it begins with a snapshot; there
// is another one in between when the daemon no longer keeps what was missed.
//
// It ends with an End message when the swarm was deleted, or is finished and request.UntilFinished is set; with an
// error when a daemon was not there from the beginning, when it refuses, or when the context ends.
func (c *Client) Watch(
	ctx context.Context, request *swarmpb.WatchSwarmRequest,
) iter.Seq2[*swarmpb.WatchSwarmResponse, error] {
	return func(yield func(*swarmpb.WatchSwarmResponse, error) bool) {
		request, reached := proto.CloneOf(request), false
		for {
			over, err := c.watchOnce(ctx, request, func(message *swarmpb.WatchSwarmResponse) bool {
				reached = true
				return yield(message, nil)
			})
			switch code := status.Code(err); {
			case over:
				return
			case err == nil, code == codes.Unavailable && reached:
			case code == codes.OutOfRange && reached:
				request.AfterRevision = nil
			default:
				yield(nil, err)
				return
			}
			if err := sleep(ctx, retryPause); err != nil {
				yield(nil, err)
				return
			}
		}
	}
}

// watchOnce is one stream of Watch. It notes in the request where the next one has to go on; there is none if it is
// over.
func (c *Client) watchOnce(
	ctx context.Context, request *swarmpb.WatchSwarmRequest, see func(*swarmpb.WatchSwarmResponse) bool,
) (over bool, err error) {
	ctx, cancel := context.WithCancel(ctx) // when the caller has seen enough, the daemon must know
	defer cancel()
	stream, err := c.Swarms.WatchSwarm(ctx, request)
	if err != nil {
		return false, err
	}
	for {
		message, err := stream.Recv()
		if err == io.EOF {
			return false, nil
		} else if err != nil {
			return false, err
		}
		end := message.GetEnd()
		request.AfterRevision = proto.Int64(message.GetRevision())
		if end != nil {
			request.AfterRevision = proto.Int64(end.GetResumeRevision())
		}
		switch end.GetReason() {
		case swarmpb.WatchEnd_REASON_SLOW_WATCHER, swarmpb.WatchEnd_REASON_DRAINING:
			return false, nil
		}
		if !see(message) || end != nil {
			return true, nil
		}
	}
}

// Retry makes a call again for as long as it ends as UNAVAILABLE, as all calls do while the daemon is restarted, and
// until the context ends. Only for calls that may be carried out twice, for the lost one may have been: those that
// read, and those with a request_id, whose repeat gets the same answer.
func Retry[T any](ctx context.Context, call func() (T, error)) (T, error) {
	for {
		answer, err := call()
		if status.Code(err) != codes.Unavailable || sleep(ctx, retryPause) != nil {
			return answer, err
		}
	}
}

// Failure is what is known of a call that failed: the details, too, which the daemon gives beside code and message.
type Failure struct {
	Code    string // as in the gRPC specification: NOT_FOUND
	Message string // for people
	Reason  string // a constant for programs: UNKNOWN_TASK
	Domain  string // whose constant that is: swarmd
	Field   string // the offending field, as a path
}

// FailureOf reads the error of a call. Only the code and the message are certain to be there.
func FailureOf(err error) Failure {
	told := status.Convert(err)
	failure := Failure{Code: code.Code(told.Code()).String(), Message: told.Message()}
	for _, detail := range told.Details() {
		switch detail := detail.(type) {
		case *errdetails.ErrorInfo:
			failure.Reason, failure.Domain = detail.GetReason(), detail.GetDomain()
		case *errdetails.BadRequest:
			for _, violation := range detail.GetFieldViolations() {
				failure.Field = violation.GetField()
				break
			}
		}
	}
	return failure
}

// bearer sends a token with every call.
type bearer string

func (token bearer) GetRequestMetadata(context.Context, ...string) (map[string]string, error) {
	return map[string]string{"authorization": "Bearer " + string(token)}, nil
}

// RequireTransportSecurity is false for the sake of unix sockets, which need no TLS.
func (bearer) RequireTransportSecurity() bool { return false }

// sleep waits, or fails when the context ends, as a call would.
func sleep(ctx context.Context, pause time.Duration) error {
	select {
	case <-time.After(pause):
		return nil
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}
