package stream

import (
	"container/list"
	"crypto/rand"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"sync"
	"time"

	"github.com/containerd/errdefs"

	"github.com/runtimed/runtimed/pkg/sandbox/spec"
)

const (
	// TicketTime is how long a ticket is good.
	TicketTime = time.Minute
	// MaxTickets is how many may be out at one time.
	MaxTickets = 1000

	tokenBytes = 32
)

// The verbs are the first part of an address's path.
const (
	verbExec        = "exec"
	verbAttach      = "attach"
	verbPortForward = "portforward"
)

// ticket is the right to one session.
type ticket struct {
	verb   string
	target any // ExecTarget, AttachTarget or PortForwardTarget
}

// tickets are those that are out.
type tickets struct {
	now func() time.Time

	mu  sync.Mutex
	all map[[sha256.Size]byte]*list.Element // by the token's hash: a look-up's time tells nothing of a token
	age *list.List                          // of *issued, the oldest first
}

type issued struct {
	token   string
	expires time.Time
	ticket  ticket
}

func newTickets(now func() time.Time) *tickets {
	return &tickets{now: now, all: map[[sha256.Size]byte]*list.Element{}, age: list.New()}
}

// issue returns the token for a ticket.
func (t *tickets) issue(what ticket) (string, error) {
	raw := make([]byte, tokenBytes)
	rand.Read(raw) // never fails (crypto/rand)
	token := base64.RawURLEncoding.EncodeToString(raw)
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	for e := t.age.Front(); e != nil && !now.Before(e.Value.(*issued).expires); e = t.age.Front() {
		t.drop(e)
	}
	if t.age.Len() >= MaxTickets {
		return "", spec.Errorf(errdefs.ErrResourceExhausted,
			"%d sessions were asked for in the last minute and not begun: begin one, or wait", MaxTickets)
	}
	t.all[sha256.Sum256([]byte(token))] = t.age.PushBack(&issued{token: token, expires: now.Add(TicketTime), ticket: what})
	return token, nil
}

// redeem returns the ticket for a token. The token is used up, also where it is for another verb.
func (t *tickets) redeem(verb, token string) (ticket, bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e, ok := t.all[sha256.Sum256([]byte(token))]
	if !ok {
		return ticket{}, false
	}
	t.drop(e)
	i := e.Value.(*issued)
	same := subtle.ConstantTimeCompare([]byte(i.token), []byte(token)) == 1
	return i.ticket, same && i.ticket.verb == verb && t.now().Before(i.expires)
}

// drop is called with the lock held.
func (t *tickets) drop(e *list.Element) {
	t.age.Remove(e)
	delete(t.all, sha256.Sum256([]byte(e.Value.(*issued).token)))
}
