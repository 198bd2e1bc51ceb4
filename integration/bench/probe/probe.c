// probe is the program of every measured container, of ours and of the peers.
//
//	probe start             says what CLOCK_MONOTONIC is, as its first instruction after the C library's start, and waits
//	probe write BYTES LEN   writes BYTES in lines of LEN bytes with the newline, then the line END, and waits
//	probe true              ends with 0
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static void put(const char *p, size_t n) {
	while (n > 0) {
		ssize_t done = write(1, p, n);
		if (done < 0) _exit(1);
		p += done;
		n -= done;
	}
}

int main(int argc, char **argv) {
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	if (argc == 2 && strcmp(argv[1], "start") == 0) {
		char text[64];
		put(text, snprintf(text, sizeof text, "T %lld\n", now.tv_sec * 1000000000LL + now.tv_nsec));
	} else if (argc == 4 && strcmp(argv[1], "write") == 0) {
		static char block[65536];
		long long bytes = atoll(argv[2]);
		long line = atol(argv[3]), lines;
		if (line < 1 || line > (long)sizeof block) return 2;
		lines = sizeof block / line;
		memset(block, 'x', sizeof block);
		for (long i = 1; i <= lines; i++) block[i * line - 1] = '\n';
		for (; bytes >= line; bytes -= lines * line)
			put(block, bytes < lines * line ? bytes / line * line : lines * line);
		put("END\n", 4);
	} else {
		return argc == 2 && strcmp(argv[1], "true") == 0 ? 0 : 2;
	}
	for (;;) pause();
}
