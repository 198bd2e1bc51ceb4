package stream

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"k8s.io/cri-streaming/pkg/streaming/remotecommand"
	"k8s.io/streaming/pkg/httpstream"
	"k8s.io/streaming/pkg/httpstream/spdy"
	"k8s.io/streaming/pkg/httpstream/wsstream"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

// channels are the streams of one session; nil is one that the client did not ask for.
type channels struct {
	stdin, resize  io.ReadCloser
	stdout, stderr io.WriteCloser
	outcome        io.WriteCloser
	close          func()
}

// tell sends the outcome, and says that nothing follows.
func (c *channels) tell(status []byte) error {
	if _, err := c.outcome.Write(status); err != nil {
		return err
	}
	return c.outcome.Close()
}

// setup is what a client has to open, and how long it may take.
type setup struct {
	want     Wanted
	patience time.Duration
}

// streams are the types that must be there before the session begins.
func (s setup) streams() map[string]bool {
	types := map[string]bool{remotecommand.StreamTypeError: true}
	for name, want := range map[string]bool{
		remotecommand.StreamTypeStdin: s.want.Stdin, remotecommand.StreamTypeStdout: s.want.Stdout,
		remotecommand.StreamTypeStderr: s.want.Stderr, remotecommand.StreamTypeResize: s.want.TTY,
	} {
		if want {
			types[name] = true
		}
	}
	return types
}

var errSlow = errors.New("the client has not opened its streams in time")

// arrival is a stream that the client opens; replied is closed when it has been told that it may.
type arrival struct {
	httpstream.Stream
	replied <-chan struct{}
}

// arrivals passes a connection's streams on while ctx lives: a client that opens more than are taken holds up nobody.
func arrivals(ctx context.Context, check func(httpstream.Stream) error) (chan arrival, httpstream.NewStreamHandler) {
	in := make(chan arrival)
	return in, func(s httpstream.Stream, replied <-chan struct{}) error {
		if err := check(s); err != nil {
			return err
		}
		select {
		case in <- arrival{s, replied}:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// openSPDY takes the connection over and waits for the client's streams.
func openSPDY(ctx context.Context, u *upgrading, r *http.Request, s setup) (*channels, error) {
	if _, err := httpstream.Handshake(r, u, []string{remotecommand.StreamProtocolV4Name}); err != nil {
		return nil, err // the client has been told
	}
	opening, cancel := context.WithTimeoutCause(ctx, s.patience, errSlow)
	missing := s.streams()
	in, handler := arrivals(opening, func(st httpstream.Stream) error {
		if kind := st.Headers().Get(remotecommand.StreamType); !s.streams()[kind] {
			return fmt.Errorf("a stream of the type %.32q was not asked for", kind)
		}
		return nil
	})
	defer cancel()
	c := spdy.NewResponseUpgrader().UpgradeResponse(u, r, handler)
	if c == nil {
		return nil, errors.New("no upgrade to SPDY") // the client has been told
	}
	go func() { // a client may say that it leaves, and the library reads no further then
		select {
		case <-c.CloseChan():
			u.cancel(errGone)
		case <-ctx.Done():
		}
	}()
	out := &channels{close: func() { c.Close() }}
	for len(missing) > 0 {
		select {
		case st := <-in:
			select {
			case <-st.replied: // before that, the connection's end would miss the stream
			case <-opening.Done():
			}
			kind := st.Headers().Get(remotecommand.StreamType)
			if !missing[kind] {
				out.close()
				return nil, fmt.Errorf("a second stream of the type %q", kind)
			}
			delete(missing, kind)
			out.set(kind, st)
		case <-opening.Done():
			out.close()
			return nil, context.Cause(opening)
		}
	}
	return out, nil
}

func (c *channels) set(kind string, s httpstream.Stream) {
	switch kind {
	case remotecommand.StreamTypeError:
		c.outcome = s
	case remotecommand.StreamTypeStdin:
		c.stdin = s
	case remotecommand.StreamTypeStdout:
		c.stdout = s
	case remotecommand.StreamTypeStderr:
		c.stderr = s
	case remotecommand.StreamTypeResize:
		c.resize = s
	}
}

// openWebSocket takes the connection over. A WebSocket has all channels from the start, by number.
func openWebSocket(_ context.Context, u *upgrading, r *http.Request, s setup) (*channels, error) {
	kinds := make([]wsstream.ChannelType, 5)
	for i, c := range []struct {
		want bool
		kind wsstream.ChannelType
	}{
		{s.want.Stdin, wsstream.ReadChannel}, {s.want.Stdout, wsstream.WriteChannel}, {s.want.Stderr, wsstream.WriteChannel},
		{true, wsstream.WriteChannel}, {s.want.TTY, wsstream.ReadChannel},
	} {
		kinds[i] = wsstream.IgnoreChannel
		if c.want {
			kinds[i] = c.kind
		}
	}
	c := wsstream.NewConn(map[string]wsstream.ChannelProtocolConfig{
		remotecommand.StreamProtocolV5Name:              {Binary: true, Channels: kinds},
		remotecommand.StreamProtocolV4Name:              {Binary: true, Channels: kinds},
		"v4." + wsstream.Base64ChannelWebSocketProtocol: {Binary: false, Channels: kinds},
	})
	_, all, err := c.Open(u, r)
	if err != nil {
		return nil, err
	}
	out := &channels{outcome: all[remotecommand.StreamErr], close: func() { c.Close() }}
	if s.want.Stdin {
		out.stdin = all[remotecommand.StreamStdIn]
	}
	if s.want.Stdout {
		out.stdout = all[remotecommand.StreamStdOut]
	}
	if s.want.Stderr {
		out.stderr = all[remotecommand.StreamStdErr]
	}
	if s.want.TTY {
		out.resize = all[remotecommand.StreamResize]
	}
	greet := out.outcome
	for _, w := range []io.WriteCloser{out.stderr, out.stdout} {
		if w != nil {
			greet = w
		}
	}
	_, err = greet.Write(nil) // clients wait for a first message before they send
	return out, err
}

// maxSize is more than a window's size takes, in bytes of JSON.
const maxSize = 1 << 10

// sizes decodes a client's window sizes. The latest is what counts: an older one that nobody has taken is dropped. The
// channel is closed at the stream's end.
func sizes(ctx context.Context, from io.Reader) <-chan spec.TerminalSize {
	out := make(chan spec.TerminalSize, 1)
	go func() {
		defer close(out)
		limit := &io.LimitedReader{R: from}
		d := json.NewDecoder(limit)
		for ctx.Err() == nil {
			var size spec.TerminalSize
			limit.N = maxSize
			if d.Decode(&size) != nil {
				io.Copy(io.Discard, from) // or a client that sends nonsense would block the streams beside it
				return
			}
			if size.Width == 0 || size.Height == 0 {
				continue
			}
			select {
			case <-out:
			default:
			}
			out <- size
		}
	}()
	return out
}
