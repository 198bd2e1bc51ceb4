// Command probe is what tests run inside containers where busybox has nothing fitting:
//
//	probe euid                  the effective user id
//	probe ping                  one ICMP echo to 127.0.0.1 through an unprivileged socket
//	probe echo PORT             serves TCP and UDP on PORT, v4 and v6: answers each line or packet with "echo " before it
//	probe ask tcp|udp HOST:PORT TEXT   sends TEXT and prints the answer
//	probe count ADDRESS WORD    serves TCP: reads each connection to its end and answers with WORD and how many bytes came
//	probe lines COUNT SIZE      numbered lines of SIZE bytes, newline included, as fast as they are taken
//	probe until FILE SIZE       the same until FILE is there; then the count goes to FILE
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"time"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "euid":
		fmt.Println(syscall.Geteuid())
		return nil
	case len(args) == 1 && args[0] == "ping":
		return ping()
	case len(args) == 2 && args[0] == "echo":
		return echo(args[1])
	case len(args) == 4 && args[0] == "ask":
		return ask(args[1], args[2], args[3])
	case len(args) == 3 && args[0] == "count":
		return count(args[1], args[2])
	case len(args) == 3 && args[0] == "lines":
		return lines(args[1], args[2])
	case len(args) == 3 && args[0] == "until":
		return until(args[1], args[2])
	}
	return fmt.Errorf("%q is nothing that it can do", args)
}

func count(address, word string) error {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return err
	}
	fmt.Println("listening")
	for {
		c, err := l.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			n, _ := io.Copy(io.Discard, c)
			fmt.Fprintf(c, "%s %d", word, n)
		}()
	}
}

func ping() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, syscall.IPPROTO_ICMP)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, syscall.SO_RCVTIMEO, &syscall.Timeval{Sec: 2}); err != nil {
		return err
	}
	if err := syscall.Sendto(fd, []byte{8, 0, 0, 0, 0, 0, 0, 1}, 0, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	n, _, err := syscall.Recvfrom(fd, make([]byte, 64), 0)
	if err != nil || n < 8 {
		return fmt.Errorf("answer of %d bytes: %w", n, err)
	}
	fmt.Println("pong")
	return nil
}

func echo(port string) error {
	tcp, err := net.Listen("tcp", ":"+port)
	if err != nil {
		return err
	}
	udp, err := net.ListenPacket("udp", ":"+port)
	if err != nil {
		return err
	}
	go func() {
		b := make([]byte, 2048)
		for {
			n, from, err := udp.ReadFrom(b)
			if err != nil {
				return
			}
			udp.WriteTo(append([]byte("echo "), b[:n]...), from)
		}
	}()
	fmt.Println("serving")
	for {
		c, err := tcp.Accept()
		if err != nil {
			return err
		}
		go func() {
			defer c.Close()
			line, _ := bufio.NewReader(c).ReadString('\n')
			fmt.Fprintf(c, "echo %s", line)
		}()
	}
}

func ask(network, addr, text string) error {
	c, err := net.DialTimeout(network, addr, 3*time.Second)
	if err != nil {
		return err
	}
	defer c.Close()
	c.SetDeadline(time.Now().Add(3 * time.Second))
	if _, err := fmt.Fprintln(c, text); err != nil {
		return err
	}
	answer, err := bufio.NewReader(c).ReadString('\n')
	fmt.Print(answer)
	return err
}

func lines(count, size string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	width, err := strconv.Atoi(size)
	if err != nil || width < 12 {
		return fmt.Errorf("a line takes 12 bytes at least, not %q", size)
	}
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	for i := range n {
		line(w, i, width)
	}
	return w.Flush()
}

func line(w *bufio.Writer, i, width int) {
	fmt.Fprintf(w, "%010d%s\n", i, strings.Repeat("x", width-11))
}

func until(file, size string) error {
	width, err := strconv.Atoi(size)
	if err != nil || width < 12 {
		return fmt.Errorf("a line takes 12 bytes at least, not %q", size)
	}
	w := bufio.NewWriterSize(os.Stdout, 64<<10)
	i := 0
	for ; ; i++ {
		if i%128 == 0 {
			if _, err := os.Stat(file); err == nil {
				break
			}
		}
		line(w, i, width)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strconv.Itoa(i)), 0o600)
}
