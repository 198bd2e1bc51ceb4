package cli

import (
	"os"
	"testing"

	"github.com/runtimed/runtimed/integration/daemontest"
)

func TestMain(m *testing.M) { os.Exit(daemontest.Main(m)) }
