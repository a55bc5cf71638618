/* Pairs of unix sockets: what waits in them, what was ended, options, who holds the ends. */
#include "state.h"
#include <poll.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

/* Bytes of a stream: more than fit in one piece of the kernel's. */
enum { LONG = 100000 };

static int stream[2], datagram[2], packet[2], shared[2], half[2], ended[2], reset[2], lonely[2];
static char pattern[LONG];
/* Limits as the kernel rounds them. */
static struct timeval limit;

static void send_all(int fd, const void *data, size_t length)
{
	NEED_EQ(send(fd, data, length, MSG_DONTWAIT), length);
}

/* The next message, or so many bytes of a stream. */
static void expect(int fd, const void *data, size_t length)
{
	static char got[LONG + 1];
	size_t have = 0;
	int type;
	socklen_t size = sizeof type;
	NEED_EQ(getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &size), 0);
	if (type == SOCK_STREAM) {
		while (have < length) {
			ssize_t more = recv(fd, got + have, length - have, MSG_DONTWAIT);
			NEED(more > 0);
			have += (size_t)more;
		}
	} else {
		ssize_t more = recv(fd, got, sizeof got, MSG_DONTWAIT | MSG_TRUNC);
		NEED(more >= 0);
		have = (size_t)more;
	}
	NEED_EQ(have, length);
	NEED(memcmp(got, data, length) == 0);
}

static void nothing(int fd)
{
	char byte;
	errno = 0;
	NEED_EQ(recv(fd, &byte, 1, MSG_DONTWAIT), -1);
	NEED_EQ(errno, EAGAIN);
}

static void end(int fd)
{
	char byte;
	NEED_EQ(recv(fd, &byte, 1, MSG_DONTWAIT), 0);
}

static int number(int fd, int option)
{
	int value = -1;
	socklen_t size = sizeof value;
	NEED_EQ(getsockopt(fd, SOL_SOCKET, option, &value, &size), 0);
	return value;
}

static void set(int fd, int option, int value)
{
	NEED_EQ(setsockopt(fd, SOL_SOCKET, option, &value, sizeof value), 0);
}

/* Puts something in both directions, for the next look. */
static void fill(void)
{
	send_all(stream[0], pattern, 60000);
	send_all(stream[0], pattern + 60000, LONG - 60000);
	send_all(stream[1], "back", 4);
	send_all(datagram[0], "one", 3);
	send_all(datagram[0], "", 0);
	send_all(datagram[0], "three", 5);
	send_all(datagram[1], pattern, 50000);
	send_all(packet[0], "first", 5);
	send_all(packet[0], "second", 6);
	send_all(packet[1], "answer", 6);
	/* What is received takes it back. */
	set(packet[0], SO_PEEK_OFF, 2);
}

static void setup(void)
{
	struct timeval time = { 3, 250000 };
	socklen_t size = sizeof limit;
	for (int i = 0; i < LONG; i++)
		pattern[i] = (char)(i * 7 + i / 251);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, stream), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0, datagram), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK, 0, packet), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, shared), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, half), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_SEQPACKET, 0, ended), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_STREAM, 0, reset), 0);
	NEED_EQ(socketpair(AF_UNIX, SOCK_DGRAM, 0, lonely), 0);
	/* One direction has ended, with something in it. */
	send_all(half[0], "last", 4);
	NEED_EQ(shutdown(half[0], SHUT_WR), 0);
	/* The other end is closed, with something to read. */
	send_all(ended[1], "farewell", 8);
	NEED_EQ(close(ended[1]), 0);
	/* The other end was closed with something unread. */
	send_all(reset[0], "unread", 6);
	send_all(reset[1], "still", 5);
	NEED_EQ(close(reset[1]), 0);
	send_all(lonely[1], "left", 4);
	NEED_EQ(close(lonely[1]), 0);
	/* Options. */
	set(stream[0], SO_SNDBUF, 70000);
	set(stream[1], SO_RCVBUF, 5000);
	set(stream[1], SO_PASSCRED, 1);
	NEED_EQ(setsockopt(datagram[0], SOL_SOCKET, SO_RCVTIMEO, &time, sizeof time), 0);
	NEED_EQ(setsockopt(datagram[1], SOL_SOCKET, SO_SNDTIMEO, &time, sizeof time), 0);
	NEED_EQ(getsockopt(datagram[0], SOL_SOCKET, SO_RCVTIMEO, &limit, &size), 0);
	NEED(limit.tv_sec == 3 && limit.tv_usec >= 250000);
	set(datagram[1], SO_PRIORITY, 3);
	NEED_EQ(fcntl(stream[0], F_SETFD, FD_CLOEXEC), 0);
	if (fork() == 0) {
		/* Answers; the parent's end alone keeps it alive. */
		char byte;
		close(shared[0]);
		while (read(shared[1], &byte, 1) == 1) {
			byte++;
			NEED_EQ(write(shared[1], &byte, 1), 1);
		}
		_exit(0);
	}
	NEED_EQ(close(shared[1]), 0);
	fill();
}

/* Somebody's credentials come with what is read: ours. */
static void from_us(int fd)
{
	char byte, control[CMSG_SPACE(sizeof(struct ucred))];
	struct iovec vector = { &byte, 1 };
	struct msghdr message = { .msg_iov = &vector, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof control };
	NEED_EQ(recvmsg(fd, &message, MSG_DONTWAIT | MSG_PEEK), 1);
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);
	NEED(head && head->cmsg_type == SCM_CREDENTIALS);
	struct ucred cred;
	memcpy(&cred, CMSG_DATA(head), sizeof cred);
	NEED_EQ(cred.pid, getpid());
	NEED_EQ(cred.uid, getuid());
	NEED_EQ(cred.gid, getgid());
}

static void check(int generation)
{
	struct timeval time;
	socklen_t size = sizeof time;
	struct sockaddr_un address;
	char byte = (char)('a' + generation);

	/* The child is there and has the other end. */
	NEED_EQ(write(shared[0], &byte, 1), 1);
	NEED_EQ(read(shared[0], &byte, 1), 1);
	NEED_EQ(byte, 'b' + generation);

	NEED_EQ(number(stream[0], SO_SNDBUF), 140000);
	NEED_EQ(number(stream[1], SO_RCVBUF), 10000);
	NEED_EQ(number(stream[1], SO_PASSCRED), 1);
	NEED_EQ(number(stream[0], SO_PASSCRED), 0);
	NEED_EQ(number(packet[0], SO_PEEK_OFF), 2);
	NEED_EQ(number(packet[1], SO_PEEK_OFF), -1);
	NEED_EQ(number(stream[1], SO_PEEK_OFF), -1);
	NEED_EQ(number(datagram[1], SO_PRIORITY), 3);
	NEED_EQ(getsockopt(datagram[0], SOL_SOCKET, SO_RCVTIMEO, &time, &size), 0);
	NEED(memcmp(&time, &limit, sizeof time) == 0);
	NEED_EQ(getsockopt(datagram[1], SOL_SOCKET, SO_SNDTIMEO, &time, &size), 0);
	NEED(memcmp(&time, &limit, sizeof time) == 0);
	NEED_EQ(getsockopt(datagram[1], SOL_SOCKET, SO_RCVTIMEO, &time, &size), 0);
	NEED(time.tv_sec == 0 && time.tv_usec == 0);
	NEED_EQ(fcntl(stream[0], F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(stream[1], F_GETFD), 0);
	NEED_EQ(fcntl(packet[0], F_GETFL) & O_NONBLOCK, O_NONBLOCK);
	NEED_EQ(fcntl(stream[0], F_GETFL) & O_NONBLOCK, 0);
	size = sizeof address;
	NEED_EQ(getsockname(stream[0], (struct sockaddr *)&address, &size), 0);
	NEED_EQ(size, sizeof(sa_family_t));

	from_us(stream[1]);
	expect(stream[1], pattern, LONG);
	nothing(stream[1]);
	expect(stream[0], "back", 4);
	nothing(stream[0]);
	expect(datagram[1], "one", 3);
	expect(datagram[1], "", 0);
	expect(datagram[1], "three", 5);
	nothing(datagram[1]);
	expect(datagram[0], pattern, 50000);
	nothing(datagram[0]);
	expect(packet[1], "first", 5);
	expect(packet[1], "second", 6);
	nothing(packet[1]);
	expect(packet[0], "answer", 6);
	nothing(packet[0]);

	if (generation == 1)
		expect(half[1], "last", 4);
	end(half[1]);
	NEED(send(half[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);
	send_all(half[1], "other way", 9);
	expect(half[0], "other way", 9);

	if (generation == 1)
		expect(ended[0], "farewell", 8);
	end(ended[0]);
	NEED(send(ended[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == EPIPE);

	if (generation == 1) {
		struct pollfd poll_it = { .fd = reset[0] };
		NEED_EQ(poll(&poll_it, 1, 0), 1);
		NEED(poll_it.revents & POLLERR);
	} else {
		expect(reset[0], "still", 5);
		NEED(recv(reset[0], &byte, 1, MSG_DONTWAIT) < 0 && errno == ECONNRESET);
		end(reset[0]);
		expect(lonely[0], "left", 4);
		nothing(lonely[0]);
		NEED(send(lonely[0], "x", 1, MSG_NOSIGNAL) < 0 && errno == ECONNREFUSED);
	}
	fill();
}
