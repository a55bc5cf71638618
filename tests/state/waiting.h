/*
 * Pairs of pseudo terminals in which something waits to be read. Whoever includes this has NEED().
 */
#ifndef WAITING_H
#define WAITING_H

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

struct pair {
	int master, slave;
	struct termios line;
};

static struct pair open_pair(tcflag_t local_off, tcflag_t input_off)
{
	struct pair pair;
	pair.master = posix_openpt(O_RDWR | O_NOCTTY);
	NEED(pair.master >= 0 && grantpt(pair.master) == 0 && unlockpt(pair.master) == 0);
	pair.slave = ioctl(pair.master, TIOCGPTPEER, O_RDWR | O_NOCTTY);
	NEED(pair.slave >= 0);
	NEED(tcgetattr(pair.master, &pair.line) == 0);
	pair.line.c_lflag &= ~local_off;
	pair.line.c_iflag &= ~input_off;
	pair.line.c_cc[VEOL] = '!';
	NEED(tcsetattr(pair.master, TCSANOW, &pair.line) == 0);
	return pair;
}

static void put(int fd, const char *bytes, size_t length)
{
	NEED(write(fd, bytes, length) == (ssize_t)length);
}

/* Exactly this is what the next reads give. */
static void need(int fd, const char *bytes, size_t length)
{
	char found[16384];
	size_t got = 0;
	while (got < length) {
		struct pollfd poll_fd = { fd, POLLIN, 0 };
		NEED(poll(&poll_fd, 1, 10000) == 1 && poll_fd.revents & POLLIN);
		ssize_t count = read(fd, found + got, sizeof found - got);
		NEED(count > 0);
		got += (size_t)count;
	}
	NEED(got == length && memcmp(found, bytes, length) == 0);
}

/* The next bytes are these; others may come behind them. */
static void need_in_parts(int fd, const char *bytes, size_t length)
{
	for (size_t i = 0; i < length; i++) {
		char byte;
		struct pollfd poll_fd = { fd, POLLIN, 0 };
		NEED(poll(&poll_fd, 1, 10000) == 1 && read(fd, &byte, 1) == 1 && byte == bytes[i]);
	}
}

static void need_nothing(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN | POLLPRI, 0 };
	NEED(poll(&poll_fd, 1, 0) >= 0 && !(poll_fd.revents & (POLLIN | POLLPRI)));
}

/* One read gives this line. */
static void need_line(int fd, const char *line, size_t length)
{
	char found[4096];
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	NEED(poll(&poll_fd, 1, 10000) == 1);
	NEED(read(fd, found, sizeof found) == (ssize_t)length && memcmp(found, line, length) == 0);
}

static void need_settings(const struct pair *pair)
{
	struct termios now;
	NEED(tcgetattr(pair->master, &now) == 0);
	NEED(now.c_iflag == pair->line.c_iflag && now.c_oflag == pair->line.c_oflag);
	NEED(now.c_cflag == pair->line.c_cflag && now.c_lflag == pair->line.c_lflag);
	NEED(memcmp(now.c_cc, pair->line.c_cc, sizeof now.c_cc) == 0);
}

static void wait_for(int fd, int wanted)
{
	/* What is on its way to the other end is there when so much waits, or a poll has found nothing. */
	int count = -1;
	for (int i = 0; i < 100000 && count != wanted; i++) {
		struct pollfd poll_fd = { fd, POLLIN, 0 };
		poll(&poll_fd, 1, 1);
		NEED(ioctl(fd, FIONREAD, &count) == 0);
	}
	NEED(count == wanted);
}

static char many[4000], printed[4050];
static struct pair lines, raw, packets, hung, half, ends;
/* Bytes that were printed besides, in mode "full". */
static int more;

/* Makes the pairs; modes as in tests/dump_victim/terminals.c. */
static void waiting_setup(const char *mode)
{
	int on = 1;
	for (size_t i = 0; i < sizeof many; i++)
		many[i] = (char)(i * 7);
	for (size_t i = 0; i < sizeof printed; i++)
		printed[i] = (char)(i % 50 == 49 ? '\n' : 'a' + i % 26);

	/* Lines, and one half typed; the output has been translated already. */
	lines = open_pair(ECHO | ISIG, IXON);
	put(lines.master, "one\n\026\003\026\021\026\n\377?!", 13);
	put(lines.master, "two\004\004thr", 8);
	wait_for(lines.slave, 13);
	put(lines.slave, "hello\nworld\n", 12);
	wait_for(lines.master, 14);
	/* What is half typed, with nothing else, and an end of file by itself. */
	half = open_pair(ECHO, 0);
	put(half.master, "half", 4);
	ends = open_pair(ECHO, 0);
	put(ends.master, "\004", 1);
	/* Bytes without lines, and output that nearly fills a buffer. */
	raw = open_pair(ICANON | ECHO | ISIG | IEXTEN, ICRNL | INLCR | IXON | ISTRIP);
	raw.line.c_oflag &= ~(tcflag_t)OPOST;
	NEED(tcsetattr(raw.master, TCSANOW, &raw.line) == 0);
	put(raw.master, many, sizeof many);
	wait_for(raw.slave, sizeof many);
	put(raw.slave, printed, sizeof printed);
	raw.line.c_oflag |= OPOST | ONLCR;
	NEED(tcsetattr(raw.master, TCSANOW, &raw.line) == 0);
	packets = open_pair(ECHO | ICANON, 0);
	NEED(ioctl(packets.master, TIOCPKT, &on) == 0);
	put(packets.slave, "packet", 6);
	wait_for(packets.master, 6);
	/* Nobody has the slave open any more. */
	hung = open_pair(0, 0);
	put(hung.slave, "last words", 10);
	wait_for(hung.master, 10);
	NEED(close(hung.slave) == 0);
	hung.slave = -1;

	if (!strcmp(mode, "stopped")) {
		NEED(tcflow(lines.slave, TCOOFF) == 0);
	} else if (!strcmp(mode, "full")) {
		NEED(fcntl(raw.slave, F_SETFL, O_RDWR | O_NONBLOCK) == 0);
		while (write(raw.slave, "m", 1) > 0)
			more++;
		NEED(errno == EAGAIN);
	} else if (!strcmp(mode, "async")) {
		NEED(fcntl(lines.master, F_SETFL, O_RDWR | O_ASYNC) == 0);
	} else if (!strcmp(mode, "status")) {
		packets.line.c_iflag ^= IXON;
		NEED(tcsetattr(packets.slave, TCSANOW, &packets.line) == 0);
	} else if (!strcmp(mode, "locked")) {
		NEED(ioctl(lines.master, TIOCSPTLCK, &on) == 0);
	} else if (!strcmp(mode, "ends")) {
		/* As many as there is room for, with the one that is there. */
		for (more = 1; more < 4095; more++)
			put(ends.master, "\004", 1);
	}
}

/* Reads everything, which must be what was there. */
static void waiting_check(const char *mode)
{
	char found[8];
	struct pair all[] = { lines, raw, packets, hung, half, ends };
	for (size_t i = 0; i < sizeof all / sizeof *all; i++)
		need_settings(&all[i]);
	need_line(lines.slave, "one\n", 4);
	need_line(lines.slave, "\003\021\n\377?!", 6);
	need_line(lines.slave, "two", 3);
	need_line(lines.slave, "", 0);
	need_nothing(lines.slave);
	put(lines.master, "ee\n", 3);
	need_line(lines.slave, "three\n", 6);
	need_nothing(lines.slave);
	need(lines.master, "hello\r\nworld\r\n", 14);
	need_nothing(lines.master);
	need_nothing(half.slave);
	/* It can still be edited. */
	put(half.master, "x\177way\n", 6);
	need_line(half.slave, "halfway\n", 8);
	need_nothing(half.master);
	need_line(ends.slave, "", 0);
	while (!strcmp(mode, "ends") && --more > 0)
		need_line(ends.slave, "", 0);
	need_nothing(ends.slave);
	put(ends.master, "\004", 1);
	need_line(ends.slave, "", 0);
	need(raw.slave, many, sizeof many);
	need_nothing(raw.slave);
	need_in_parts(raw.master, printed, sizeof printed);
	while (!strcmp(mode, "full") && more-- > 0)
		need_in_parts(raw.master, "m", 1);
	need_nothing(raw.master);
	if (!strcmp(mode, "status"))
		NEED(read(packets.master, found, sizeof found) == 1 && *found == TIOCPKT_NOSTOP);
	need(packets.master, "\0packet", 7);
	need_nothing(packets.master);
	need(hung.master, "last words", 10);
	NEED(read(hung.master, printed, 1) == -1 && errno == EIO);
	for (size_t i = 0; i < sizeof all / sizeof *all; i++) {
		close(all[i].master);
		close(all[i].slave);
	}
}

#endif
