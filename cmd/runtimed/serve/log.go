package serve

import (
	"io"
	"log/slog"
	"strings"

	"github.com/runtimed/runtimed/cmd/runtimed/config"
)

// NewLog makes the daemon's log as the configuration wants it. Text quotes what cannot be printed, so that nothing
// foreign can begin a line.
func NewLog(c config.Log, w io.Writer) *slog.Logger {
	var level slog.Level
	if err := level.UnmarshalText([]byte(strings.ToUpper(c.Level))); err != nil {
		level = slog.LevelInfo
	}
	options := &slog.HandlerOptions{Level: level}
	if c.Format == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}
