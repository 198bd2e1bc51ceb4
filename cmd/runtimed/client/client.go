package client

import (
	"context"
	"fmt"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"
	v1 "k8s.io/cri-api/pkg/apis/runtime/v1"

	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

// maxMessage is what the daemon sends at most, in bytes, with room to spare.
const maxMessage = 64 << 20

// Client is a connection to a daemon.
type Client struct {
	Socket  string
	Runtime v1.RuntimeServiceClient
	Images  v1.ImageServiceClient
	Control controlpb.ControlClient
	conn    *grpc.ClientConn
}

// Dial prepares a connection to the daemon that serves at the socket. A daemon that is not there shows with the first
// call.
func Dial(socket string) (*Client, error) {
	conn, err := grpc.NewClient("passthrough:///"+socket,
		grpc.WithTransportCredentials(insecure.NewCredentials()), grpc.WithAuthority("localhost"),
		grpc.WithContextDialer(func(ctx context.Context, path string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", path)
		}),
		// A daemon that is restarted is found again soon.
		grpc.WithConnectParams(grpc.ConnectParams{MinConnectTimeout: 5 * time.Second,
			Backoff: backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.5, MaxDelay: time.Second}}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage), grpc.MaxCallSendMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", socket, err)
	}
	return &Client{
		Socket: socket, conn: conn,
		Runtime: v1.NewRuntimeServiceClient(conn), Images: v1.NewImageServiceClient(conn), Control: controlpb.NewControlClient(conn),
	}, nil
}

// Close ends the connection and all calls on it.
func (c *Client) Close() error { return c.conn.Close() }

// waitDesc is the control service's Wait, which is unary: a stream of one question and one answer.
var waitDesc = grpc.StreamDesc{StreamName: "Wait"}

// Wait asks for a container's end. When it returns, the question has been handed to the connection, before whatever is
// asked later; the answer is the returned function's to wait for.
func (c *Client) Wait(ctx context.Context, containerID string) func() (*controlpb.WaitResponse, error) {
	fail := func(err error) func() (*controlpb.WaitResponse, error) {
		return func() (*controlpb.WaitResponse, error) { return nil, err }
	}
	s, err := c.conn.NewStream(ctx, &waitDesc, controlpb.Control_Wait_FullMethodName, grpc.WaitForReady(true))
	if err != nil {
		return fail(err)
	}
	if err := s.SendMsg(&controlpb.WaitRequest{ContainerId: containerID}); err != nil {
		return fail(err)
	}
	if err := s.CloseSend(); err != nil {
		return fail(err)
	}
	return func() (*controlpb.WaitResponse, error) {
		out := &controlpb.WaitResponse{}
		return out, s.RecvMsg(out)
	}
}
