/* Epoll files: their items with events, data and registered numbers, what is spent, and who shares them. */
#include "state.h"
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

#define BIG 0xfedcba9876543210ULL

/* Waits for several things, in the order of their data. */
static int ep, counter, edge, spent, spent_pipe[2], moved, again, closed, inner, outer, nested, timer, signals;
/* What the number of `moved` was; another file has it now. And a number that is nobody's. */
static int taken, unused;
/* The child has the epoll file, the parent what it waits for; and one epoll file that both have. */
static int far_file, both, both_file, answer;
/* An item that wakes up one waiter only. */
static int exclusive, exclusive_file;

static int made(int fd)
{
	NEED(fd >= 0);
	return fd;
}

static void control(int epoll, int what, int fd, uint32_t events, uint64_t data)
{
	struct epoll_event event = { .events = events, .data.u64 = data };
	NEED_EQ(epoll_ctl(epoll, what, fd, &event), 0);
}

static void add(int epoll, int fd, uint32_t events, uint64_t data)
{
	control(epoll, EPOLL_CTL_ADD, fd, events, data);
}

static void put(int fd, uint64_t value)
{
	NEED_EQ(write(fd, &value, sizeof value), sizeof value);
}

static uint64_t get(int fd)
{
	uint64_t value;
	NEED_EQ(read(fd, &value, sizeof value), sizeof value);
	return value;
}

/* Exactly one thing is reported. */
static void one(int epoll, uint32_t events, uint64_t data)
{
	struct epoll_event event[4];
	NEED_EQ(epoll_wait(epoll, event, 4, 20000), 1);
	NEED_EQ(event[0].events, events);
	NEED_EQ(event[0].data.u64, data);
}

static void nothing(int epoll)
{
	struct epoll_event event;
	NEED_EQ(epoll_wait(epoll, &event, 1, 0), 0);
}

static void children(void)
{
	int far = made(epoll_create1(0));
	far_file = made(eventfd(0, EFD_NONBLOCK));
	add(far, far_file, EPOLLIN | EPOLLET, 400);
	both = made(epoll_create1(0));
	both_file = made(eventfd(0, EFD_SEMAPHORE));
	add(both, both_file, EPOLLIN, 500);
	answer = made(eventfd(0, 0));
	if (fork() == 0) {
		close(far_file);
		/* Sits in epoll_wait(2) whenever it is looked at. */
		for (;;) {
			struct epoll_event event;
			int count = epoll_wait(far, &event, 1, -1);
			NEED(count == 1);
			put(answer, event.data.u64);
		}
	}
	close(far);
	if (fork() == 0) {
		close(far_file);
		for (;;) {
			one(both, EPOLLIN, 500);
			get(both_file);
			put(answer, 600);
		}
	}
}

static void setup(void)
{
	sigset_t set;
	ep = made(epoll_create1(EPOLL_CLOEXEC));
	counter = made(eventfd(0, 0));
	edge = made(eventfd(0, 0));
	spent = made(eventfd(0, EFD_NONBLOCK));
	NEED_EQ(pipe(spent_pipe), 0);
	taken = made(eventfd(0, 0));
	closed = made(eventfd(0, 0));
	unused = made(dup2(closed, 300));
	add(ep, counter, EPOLLIN | EPOLLPRI, BIG);
	add(ep, spent, EPOLLOUT | EPOLLONESHOT, 3);
	one(ep, EPOLLOUT, 3);
	add(ep, spent_pipe[0], EPOLLIN | EPOLLONESHOT, 4);
	NEED_EQ(write(spent_pipe[1], "x", 1), 1);
	one(ep, EPOLLIN, 4);
	char x;
	NEED_EQ(read(spent_pipe[0], &x, 1), 1);
	/* Two files with the same registered number, and one with a number that is closed. */
	add(ep, taken, EPOLLIN, 5);
	moved = made(dup(taken));
	again = made(eventfd(0, 0));
	NEED_EQ(dup3(again, taken, O_CLOEXEC), taken);
	add(ep, taken, EPOLLIN, 6);
	add(ep, unused, EPOLLIN, 7);
	close(unused);
	inner = made(epoll_create1(0));
	outer = made(epoll_create1(0));
	nested = made(eventfd(0, 0));
	add(inner, nested, EPOLLIN, 8);
	add(outer, inner, EPOLLIN, 9);
	timer = made(timerfd_create(CLOCK_MONOTONIC, 0));
	add(ep, timer, EPOLLIN | EPOLLET, 10);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	NEED_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	signals = made(signalfd(-1, &set, 0));
	add(ep, signals, EPOLLIN, 11);
	exclusive = made(epoll_create1(0));
	exclusive_file = made(eventfd(0, 0));
	add(exclusive, exclusive_file, EPOLLIN | EPOLLEXCLUSIVE | EPOLLET, 13);
	children();
	/* Reported already, but not read. */
	add(ep, edge, EPOLLIN | EPOLLET, 12);
	put(edge, 1);
	one(ep, EPOLLIN, 12);
}

static void numbers(void)
{
	put(moved, 1);
	one(ep, EPOLLIN, 5);
	get(moved);
	put(again, 1);
	one(ep, EPOLLIN, 6);
	get(again);
	put(closed, 1);
	one(ep, EPOLLIN, 7);
	get(closed);
	NEED_EQ(fcntl(taken, F_GETFD), FD_CLOEXEC);
	NEED(fcntl(unused, F_GETFD) < 0);
	/* Each is still known by the number that it was registered with, and by no other. */
	struct epoll_event event = { .events = EPOLLIN };
	NEED(epoll_ctl(ep, EPOLL_CTL_MOD, moved, &event) < 0 && errno == ENOENT);
	NEED_EQ(dup2(closed, unused), unused);
	control(ep, EPOLL_CTL_MOD, unused, EPOLLIN, 7);
	close(unused);
	int aside = made(dup(taken));
	NEED_EQ(dup2(moved, taken), taken);
	control(ep, EPOLL_CTL_MOD, taken, EPOLLIN, 5);
	NEED_EQ(dup3(aside, taken, O_CLOEXEC), taken);
	control(ep, EPOLL_CTL_MOD, taken, EPOLLIN, 6);
	close(aside);
	nothing(ep);
}

static void check(int generation)
{
	struct epoll_event event;
	NEED_EQ(fcntl(ep, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(inner, F_GETFD), 0);
	/* What is edge-triggered and ready is reported once more after a restart. */
	if (epoll_wait(ep, &event, 1, 0) == 1) {
		NEED_EQ(event.data.u64, 12);
		NEED_EQ(event.events, EPOLLIN);
	}
	nothing(ep);
	put(edge, 1);
	one(ep, EPOLLIN, 12);
	nothing(ep);
	put(counter, 1);
	one(ep, EPOLLIN, BIG);
	one(ep, EPOLLIN, BIG);
	get(counter);
	nothing(ep);
	/* Spent: nothing until it is armed again. */
	NEED_EQ(write(spent_pipe[1], "x", 1), 1);
	put(spent, 1);
	nothing(ep);
	control(ep, EPOLL_CTL_MOD, spent_pipe[0], EPOLLIN | EPOLLONESHOT, 4);
	one(ep, EPOLLIN, 4);
	char x;
	NEED_EQ(read(spent_pipe[0], &x, 1), 1);
	control(ep, EPOLL_CTL_MOD, spent, EPOLLOUT | EPOLLONESHOT, 3);
	one(ep, EPOLLOUT, 3);
	nothing(ep);
	numbers();
	nothing(outer);
	put(nested, 1);
	one(outer, EPOLLIN, 9);
	one(inner, EPOLLIN, 8);
	get(nested);
	nothing(outer);
	put(exclusive_file, 1);
	one(exclusive, EPOLLIN, 13);
	nothing(exclusive);
	get(exclusive_file);
	/* Only such an item cannot be changed. */
	event = (struct epoll_event){ .events = EPOLLIN };
	NEED(epoll_ctl(exclusive, EPOLL_CTL_MOD, exclusive_file, &event) < 0 && errno == EINVAL);
	struct itimerspec soon = { { 0, 0 }, { 0, 1 } };
	NEED_EQ(timerfd_settime(timer, 0, &soon, NULL), 0);
	one(ep, EPOLLIN, 10);
	NEED_EQ(get(timer), 1);
	/* It must have been registered by this process: its own signals wake it up. */
	NEED_EQ(kill(getpid(), SIGUSR2), 0);
	one(ep, EPOLLIN, 11);
	struct signalfd_siginfo info;
	NEED_EQ(read(signals, &info, sizeof info), sizeof info);
	nothing(ep);
	put(far_file, generation);
	NEED_EQ(get(answer), 400);
	NEED_EQ(get(far_file), generation);
	put(both_file, 1);
	NEED_EQ(get(answer), 600);
}
