package session

import (
	"errors"
	"io"
	"sync"

	"google.golang.org/grpc"

	"github.com/runtimed/runtimed/pkg/cri/control/controlpb"
)

// ErrDetached ends a session that the user has left.
var ErrDetached = errors.New("detached")

// Call is one of the control service's three sessions.
type Call = grpc.BidiStreamingClient[controlpb.StreamInput, controlpb.StreamOutput]

// Options of Run. Begin, Stdout and Stderr are needed.
type Options struct {
	// Begin is the first message.
	Begin *controlpb.StreamInput
	// Stdin is nil where the session has no input.
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// Terminal is nil where the user has none, or the other side.
	Terminal *Terminal
	// Keys end the session from the user's side, for who types into a terminal.
	Keys []byte
	// Started is called when the other side is there. Nil does nothing.
	Started func()
}

// Run carries a session to its end and returns the exit code. The caller ends the call's context then: a read of Stdin
// may be in progress, and ends with the process.
func Run(call Call, o Options) (code int, err error) {
	w := &sender{call: call}
	if err := w.send(o.Begin); err != nil {
		return 0, received(call, err)
	}
	detached := make(chan struct{})
	if o.Stdin == nil {
		call.CloseSend()
	} else {
		go w.input(o, func() { close(detached) })
		defer o.Terminal.resizes(func(size *controlpb.TerminalSize) {
			w.send(&controlpb.StreamInput{Message: &controlpb.StreamInput_Resize{Resize: size}})
		})()
	}
	type end struct {
		code int
		err  error
	}
	ended := make(chan end, 1)
	go func() {
		code, err := output(call, o)
		ended <- end{code, err}
	}()
	select {
	case e := <-ended:
		return e.code, e.err
	case <-detached:
		return 0, ErrDetached
	}
}

// received is why a call cannot be sent on: the answer knows better than the sending does.
func received(call Call, err error) error {
	if !errors.Is(err, io.EOF) {
		return err
	}
	for {
		if _, err := call.Recv(); err != nil {
			return err
		}
	}
}

// sender serialises what is sent.
type sender struct {
	mu   sync.Mutex
	call Call
}

func (s *sender) send(m *controlpb.StreamInput) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.call.Send(m)
}

// input sends the user's input to its end, or until the user leaves.
func (s *sender) input(o Options, leave func()) {
	k := keys{}
	if o.Terminal != nil {
		k.want = o.Keys
	}
	buf := make([]byte, 32<<10)
	for {
		n, err := o.Stdin.Read(buf)
		out, found := k.pass(buf[:n])
		if err != nil && !found {
			out = append(out, k.rest()...)
		}
		if len(out) > 0 && s.send(&controlpb.StreamInput{Message: &controlpb.StreamInput_Stdin{Stdin: out}}) != nil {
			return // the answer says why
		}
		if found {
			leave()
			return
		}
		if err != nil {
			s.send(&controlpb.StreamInput{Message: &controlpb.StreamInput_StdinClosed{StdinClosed: true}})
			return
		}
	}
}

// output writes what comes until the end.
func output(call Call, o Options) (int, error) {
	for {
		m, err := call.Recv()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = errors.New("the daemon ended the session without a word")
			}
			return 0, err
		}
		switch m := m.GetMessage().(type) {
		case *controlpb.StreamOutput_Started:
			if o.Started != nil {
				o.Started()
			}
		case *controlpb.StreamOutput_Stdout:
			_, err = o.Stdout.Write(m.Stdout)
		case *controlpb.StreamOutput_Stderr:
			_, err = o.Stderr.Write(m.Stderr)
		case *controlpb.StreamOutput_StdoutClosed:
			if c, ok := o.Stdout.(interface{ CloseWrite() error }); ok {
				c.CloseWrite()
			}
		case *controlpb.StreamOutput_End:
			return int(m.End.GetExitCode()), nil
		}
		if err != nil {
			return 0, err
		}
	}
}
