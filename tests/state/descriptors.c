/*
 * Descriptors of every kind but terminals: their numbers, the flags of descriptor and file, whether they wait; who shares a position;
 * files that are only appended to; directories that are read half-way.
 */
#include "state.h"
#include <dirent.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/timerfd.h>

enum { LAST = 700, ENTRIES = 300 };

static struct {
	int flags, status;
	/* Reading from it gives EAGAIN. */
	int waits_not;
	mode_t type;
} known[LAST + 1];

static int append, position, copy, folder, child_goes[2], child_went[2];
static char seen[ENTRIES];

static int made(int fd)
{
	NEED(fd >= 0);
	return fd;
}

/* Puts a descriptor of which this is known at another number: a free one behind a gap. Most were close-on-exec until here. */
static int keep(int fd, int cloexec, int waits_not)
{
	static int next = 20;
	int at = next == 62 ? LAST : next;
	next += 3;
	NEED_EQ(dup3(made(fd), at, cloexec ? O_CLOEXEC : 0), at);
	NEED_EQ(close(fd), 0);
	known[at].waits_not = waits_not;
	return at;
}

static void files(void)
{
	const int flags[] = { O_RDONLY, O_WRONLY, O_RDWR | O_SYNC, O_RDWR | O_DSYNC, O_RDONLY | O_NOATIME, O_WRONLY | O_APPEND | O_NONBLOCK };
	for (int i = 0; i < 6; i++)
		keep(open("plain", flags[i] | O_CREAT | O_CLOEXEC, 0644), i % 2, 0);
	int direct = open("plain", O_RDWR | O_DIRECT);
	if (direct >= 0)
		keep(direct, 0, 0);
	keep(open(".", O_RDONLY | O_DIRECTORY), 1, 0);
	keep(open(".", O_PATH), 0, 0);
	keep(open("/dev/null", O_RDWR), 1, 0);
	keep(memfd_create("memfd", MFD_CLOEXEC), 0, 0);
	int gone = made(open("gone", O_RDWR | O_CREAT | O_APPEND, 0600));
	NEED(!unlink("gone"));
	keep(gone, 1, 0);
}

static void pair(int fds[2], int nonblock)
{
	keep(fds[0], nonblock, nonblock);
	keep(fds[1], !nonblock, 0);
}

/* Each once as it waits, and once as it does not. */
static void others(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	for (int i = 0; i < 2; i++) {
		int fds[2], flag = i ? O_NONBLOCK : 0;
		char name[16];
		NEED(!pipe2(fds, flag | O_CLOEXEC));
		pair(fds, i);
		NEED(!pipe2(fds, flag | O_DIRECT | O_CLOEXEC));
		pair(fds, i);
		for (int type = SOCK_STREAM; type <= SOCK_DGRAM; type++) {
			NEED(!socketpair(AF_UNIX, type | flag | SOCK_CLOEXEC, 0, fds));
			pair(fds, i);
		}
		keep(socket(AF_INET, SOCK_DGRAM | flag | SOCK_CLOEXEC, 0), i, i);
		keep(eventfd(0, flag | EFD_CLOEXEC), i, i);
		keep(timerfd_create(CLOCK_MONOTONIC, flag | TFD_CLOEXEC), i, i);
		keep(signalfd(-1, &set, flag | SFD_CLOEXEC), i, i);
		keep(epoll_create1(EPOLL_CLOEXEC), i, 0);
		snprintf(name, sizeof name, "fifo%d", i);
		NEED(!mkfifo(name, 0600));
		keep(open(name, O_RDWR | flag | O_CLOEXEC), i, i);
	}
}

/* Shares all descriptors, and uses them when it is told to. */
static void child(void)
{
	char byte;
	while (read(child_goes[0], &byte, 1) == 1) {
		int other = made(open("appended", O_WRONLY | O_APPEND));
		NEED_EQ(write(other, "child", 5), 5);
		NEED_EQ(close(other), 0);
		NEED_EQ(lseek(position, 7, SEEK_CUR), byte + 7);
		NEED_EQ(write(child_went[1], &byte, 1), 1);
	}
	_exit(0);
}

/* The next entries of a directory; the end is told. */
static int entries(void)
{
	char buffer[2048];
	long got = syscall(SYS_getdents64, folder, buffer, sizeof buffer);
	NEED(got >= 0);
	for (long at = 0; at < got;) {
		struct dirent64 *entry = (struct dirent64 *)(buffer + at);
		if (entry->d_name[0] != '.') {
			int number = atoi(entry->d_name);
			NEED(number >= 0 && number < ENTRIES && !seen[number]);
			seen[number] = 1;
		}
		at += entry->d_reclen;
	}
	return got == 0;
}

static void setup(void)
{
	char name[32];
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	NEED(!sigprocmask(SIG_BLOCK, &set, NULL));
	NEED(!mkdir("folder", 0700));
	for (int i = 0; i < ENTRIES; i++) {
		snprintf(name, sizeof name, "folder/%d", i);
		NEED(!close(made(open(name, O_WRONLY | O_CREAT, 0600))));
	}
	folder = made(open("folder", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	append = made(open("appended", O_RDWR | O_APPEND | O_CREAT, 0600));
	position = made(open("position", O_RDWR | O_CREAT, 0600));
	NEED(!ftruncate(position, 100000));
	copy = made(dup(position));
	NEED(!pipe(child_goes) && !pipe(child_went));
	if (made(fork()) == 0)
		child();
	NEED(!entries());
	files();
	others();
	for (int fd = 0; fd <= LAST; fd++) {
		struct stat st;
		known[fd].flags = fcntl(fd, F_GETFD);
		known[fd].status = fcntl(fd, F_GETFL);
		if (known[fd].flags >= 0) {
			NEED(!fstat(fd, &st));
			known[fd].type = st.st_mode & S_IFMT;
		}
	}
}

static void has_flags(int fd)
{
	char text[128];
	int flags = fcntl(fd, F_GETFD), status = fcntl(fd, F_GETFL);
	if (flags == known[fd].flags && (flags < 0 || status == known[fd].status))
		return;
	snprintf(text, sizeof text, "descriptor %d: flags %d, %#x; were %d, %#x", fd, flags, status, known[fd].flags, known[fd].status);
	state_fail(__FILE__, __LINE__, text);
}

static void check(int generation)
{
	for (int fd = 0; fd <= LAST; fd++) {
		struct stat st;
		has_flags(fd);
		if (known[fd].flags < 0)
			continue;
		NEED(!fstat(fd, &st));
		NEED_EQ(st.st_mode & S_IFMT, known[fd].type);
		if (known[fd].waits_not) {
			uint64_t buffer[16];
			NEED(read(fd, buffer, sizeof buffer) < 0);
			NEED_EQ(errno, EAGAIN);
		} else if (known[fd].type == S_IFIFO && (known[fd].status & O_ACCMODE) == O_RDONLY) {
			/* It would wait for long. */
			struct pollfd poll_fd = { fd, POLLIN, 0 };
			NEED_EQ(poll(&poll_fd, 1, 0), 0);
		}
	}
	/* Whoever writes, it is behind what is there. */
	char text[64] = "", go = (char)(10 * generation);
	if (generation == 2)
		NEED_EQ(lseek(position, 0, SEEK_CUR), 12345);
	NEED_EQ(lseek(position, go, SEEK_SET), go);
	NEED_EQ(lseek(append, 0, SEEK_SET), 0);
	NEED_EQ(write(append, "one", 3), 3);
	NEED(write(child_goes[1], &go, 1) == 1 && read(child_went[0], &go, 1) == 1);
	NEED_EQ(write(append, "two", 3), 3);
	NEED(pread(append, text, sizeof text - 1, 0) == 11 * generation);
	NEED(!strcmp(text + 11 * (generation - 1), "onechildtwo"));
	/* The position is the same for both names here and for the child, and stays. */
	NEED_EQ(lseek(copy, 0, SEEK_CUR), generation * 10 + 7);
	NEED_EQ(lseek(copy, 12345, SEEK_SET), 12345);
	if (generation == 1) {
		NEED(!entries());
		return;
	}
	while (!entries())
		;
	for (int i = 0; i < ENTRIES; i++)
		NEED_EQ(seen[i], 1);
	close(child_goes[1]);
}
