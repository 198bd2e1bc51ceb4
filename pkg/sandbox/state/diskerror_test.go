package state

import (
	"fmt"
	"strings"
	"testing"

	"github.com/containerd/errdefs"
	"golang.org/x/sys/unix"
)

func TestDiskErrorIsSaidOnce(t *testing.T) {
	err := diskError(diskError(fmt.Errorf("write x: %w", unix.ENOSPC)))
	if !errdefs.IsResourceExhausted(err) || strings.Count(err.Error(), "no room") != 1 {
		t.Error(err)
	}
	if err := diskError(unix.EIO); errdefs.IsResourceExhausted(err) {
		t.Error(err)
	}
}
