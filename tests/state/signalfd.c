/* Signals that are read as files: which, those that wait, and who shares the file. */
#include "state.h"
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>

static int both, nothing, answer;
static pid_t child;

static sigset_t set_of(int one, int other)
{
	sigset_t set;
	sigemptyset(&set);
	if (one)
		sigaddset(&set, one);
	if (other)
		sigaddset(&set, other);
	return set;
}

static void queue(pid_t to, int signal, int value)
{
	NEED_EQ(sigqueue(to, signal, (union sigval){ .sival_int = value }), 0);
}

static struct signalfd_siginfo get(int fd)
{
	struct signalfd_siginfo info;
	NEED_EQ(read(fd, &info, sizeof info), sizeof info);
	return info;
}

static void setup(void)
{
	sigset_t set = set_of(SIGUSR2, SIGRTMAX), empty = set_of(0, 0);
	NEED_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	both = signalfd(-1, &set, SFD_CLOEXEC);
	nothing = signalfd(-1, &empty, SFD_NONBLOCK);
	answer = eventfd(0, 0);
	NEED(both >= 0 && nothing >= 0 && answer >= 0);
	child = fork();
	if (child == 0) {
		/* Sits in read(2), and gets signals of its own from the file that it shares. */
		for (;;) {
			struct signalfd_siginfo info = get(both);
			uint64_t value = info.ssi_int;
			NEED_EQ(info.ssi_signo, SIGRTMAX);
			NEED(write(answer, &value, sizeof value) == sizeof value);
		}
	}
	queue(getpid(), SIGRTMAX, 77);
	queue(getpid(), SIGUSR2, 78);
}

static void check(int generation)
{
	uint64_t value;
	struct signalfd_siginfo info = get(both);
	NEED_EQ(info.ssi_signo, SIGUSR2);
	NEED_EQ(info.ssi_int, 76 + 2 * generation);
	info = get(both);
	NEED_EQ(info.ssi_signo, SIGRTMAX);
	NEED_EQ(info.ssi_int, 75 + 2 * generation);
	struct pollfd poll_fd = { both, POLLIN, 0 };
	NEED_EQ(poll(&poll_fd, 1, 0), 0);
	NEED(read(nothing, &info, sizeof info) < 0 && errno == EAGAIN);
	NEED_EQ(fcntl(both, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(nothing, F_GETFD), 0);
	queue(child, SIGRTMAX, 100 + generation);
	NEED(read(answer, &value, sizeof value) == sizeof value);
	NEED_EQ(value, 100 + generation);
	/* The other file takes what this one took, once it is told to. */
	sigset_t set = set_of(SIGUSR2, 0);
	queue(getpid(), SIGUSR2, 5);
	NEED_EQ(signalfd(nothing, &set, 0), nothing);
	NEED_EQ(get(nothing).ssi_int, 5);
	set = set_of(0, 0);
	NEED_EQ(signalfd(nothing, &set, 0), nothing);
	queue(getpid(), SIGRTMAX, 79);
	queue(getpid(), SIGUSR2, 80);
}
