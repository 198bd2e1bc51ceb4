package stream

import (
	"encoding/base64"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/containerd/errdefs"
)

// clock is a time that a test sets.
type clock struct{ ns atomic.Int64 }

func (c *clock) now() time.Time        { return time.Unix(0, c.ns.Load()) }
func (c *clock) add(d time.Duration)   { c.ns.Add(int64(d)) }
func newClock() (c *clock, _ *tickets) { c = &clock{}; return c, newTickets(c.now) }

func TestTicketIsGoodOnceForItsVerbAndAMinute(t *testing.T) {
	c, all := newClock()
	issue := func() string {
		token, err := all.issue(ticket{verb: verbExec, target: 7})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	token := issue()
	if raw, err := base64.RawURLEncoding.DecodeString(token); err != nil || len(raw) != 32 {
		t.Errorf("%q has %d bytes (%v): 256 bits are wanted", token, len(raw), err)
	}
	if got, ok := all.redeem(verbExec, token); !ok || got.target != 7 {
		t.Errorf("a fresh ticket: %v %v", got, ok)
	}
	if _, ok := all.redeem(verbExec, token); ok {
		t.Error("a ticket was good twice")
	}
	token = issue()
	if _, ok := all.redeem(verbAttach, token); ok {
		t.Error("a ticket was good for another verb")
	}
	if _, ok := all.redeem(verbExec, token); ok {
		t.Error("a ticket that was shown for another verb was good again")
	}
	token = issue()
	c.add(TicketTime - 1)
	other := issue()
	if _, ok := all.redeem(verbExec, token); !ok {
		t.Error("a ticket was no good before its time was over")
	}
	c.add(TicketTime)
	if _, ok := all.redeem(verbExec, other); ok {
		t.Error("a ticket was good after its time")
	}
	for _, token := range []string{"", "x", token + "A", token[1:]} {
		if _, ok := all.redeem(verbExec, token); ok {
			t.Errorf("%q was good", token)
		}
	}
}

func TestTicketsAreLimitedAndForgotten(t *testing.T) {
	c, all := newClock()
	var first string
	for i := range MaxTickets {
		token, err := all.issue(ticket{verb: verbExec})
		if err != nil {
			t.Fatalf("ticket %d: %v", i, err)
		}
		if i == 0 {
			first = token
		}
		if i == MaxTickets/2 {
			c.add(TicketTime / 2)
		}
	}
	if _, err := all.issue(ticket{}); !errdefs.IsResourceExhausted(err) {
		t.Errorf("one more: %v", err)
	}
	if _, ok := all.redeem(verbExec, first); !ok {
		t.Fatal("the first ticket was displaced")
	}
	if _, err := all.issue(ticket{}); err != nil {
		t.Errorf("after one was used: %v", err)
	}
	c.add(TicketTime / 2)
	if _, err := all.issue(ticket{}); err != nil {
		t.Errorf("after some have expired: %v", err)
	}
	if n := all.age.Len(); n != len(all.all) || n > MaxTickets/2+1 {
		t.Errorf("%d in one, %d in the other", n, len(all.all))
	}
}

func TestTicketsFromManyGoroutines(t *testing.T) {
	_, all := newClock()
	var seen sync.Map
	var wait sync.WaitGroup
	for range 8 {
		wait.Go(func() {
			for range 100 {
				token, err := all.issue(ticket{verb: verbExec})
				if err != nil {
					t.Error(err)
					return
				}
				if _, twice := seen.LoadOrStore(token, true); twice {
					t.Errorf("%s was issued twice", token)
				}
				var good atomic.Int32
				var race sync.WaitGroup
				for range 4 {
					race.Go(func() {
						if _, ok := all.redeem(verbExec, token); ok {
							good.Add(1)
						}
					})
				}
				race.Wait()
				if good.Load() != 1 {
					t.Errorf("a ticket was good for %d", good.Load())
				}
			}
		})
	}
	wait.Wait()
	if len(all.all) != 0 {
		t.Errorf("%d are left", len(all.all))
	}
}
