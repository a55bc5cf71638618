/* Timers that are read as files: clock, time left, interval, expirations that wait, and who shares them. */
#include "state.h"
#include <poll.h>
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/timerfd.h>

#define NS 1000000000LL

static int once, periodic, ticking, fast, one_tick, expired, wall, cancels, absolute, boot, off, alarm_fd, copy, shared, answer;
static long long wall_time;

static long long now(clockid_t clock)
{
	struct timespec t;
	NEED_EQ(clock_gettime(clock, &t), 0);
	return t.tv_sec * NS + t.tv_nsec;
}

static int timer(clockid_t clock, int flags, long long value, long long interval, int settime)
{
	struct itimerspec set = { { interval / NS, interval % NS }, { value / NS, value % NS } };
	int fd = timerfd_create(clock, flags);
	NEED(fd >= 0);
	NEED_EQ(timerfd_settime(fd, settime, &set, NULL), 0);
	return fd;
}

static long long left(int fd, long long interval)
{
	struct itimerspec is;
	NEED_EQ(timerfd_gettime(fd, &is), 0);
	NEED_EQ(is.it_interval.tv_sec * NS + is.it_interval.tv_nsec, interval);
	return is.it_value.tv_sec * NS + is.it_value.tv_nsec;
}

static uint64_t get(int fd)
{
	uint64_t value = 0;
	NEED_EQ(read(fd, &value, sizeof value), sizeof value);
	return value;
}

static void wait_for(int fd)
{
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	NEED_EQ(poll(&poll_fd, 1, 30000), 1);
}

/* Only the kernel's flags tell that it ends when the clock is set. */
static void is_cancelled_on_set(int fd)
{
	char name[64], text[512] = "";
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	int info = open(name, O_RDONLY);
	NEED(info >= 0 && read(info, text, sizeof text - 1) > 0);
	NEED(strstr(text, "settime flags: 03\n") || strstr(text, "settime flags: 3\n"));
	close(info);
}

static void setup(void)
{
	once = timer(CLOCK_MONOTONIC, TFD_CLOEXEC, 1000 * NS, 0, 0);
	periodic = timer(CLOCK_REALTIME, 0, 2000 * NS, 700 * NS + 5, 0);
	ticking = timer(CLOCK_MONOTONIC, 0, 1000000, 3000000, 0);
	/* It expires again before anybody can look at it. */
	fast = timer(CLOCK_MONOTONIC, 0, 1000, 10000, 0);
	one_tick = timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 1, 1500 * NS, 0);
	expired = timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 1, 0, 0);
	wall_time = now(CLOCK_REALTIME) + 3000 * NS;
	wall = timer(CLOCK_REALTIME, 0, wall_time, 0, TFD_TIMER_ABSTIME);
	cancels = timer(CLOCK_REALTIME, 0, INT32_MAX * NS * 4, 0, TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET);
	absolute = timer(CLOCK_MONOTONIC, 0, now(CLOCK_MONOTONIC) + 4000 * NS, 0, TFD_TIMER_ABSTIME);
	boot = timer(CLOCK_BOOTTIME, 0, 5000 * NS, 0, 0);
	off = timer(CLOCK_MONOTONIC, TFD_NONBLOCK, 0, 3, 0);
	/* Only those with CAP_WAKE_ALARM get one, and the kernel may have none. */
	alarm_fd = timerfd_create(CLOCK_BOOTTIME_ALARM, 0);
	if (alarm_fd >= 0) {
		struct itimerspec set = { { 0, 0 }, { 6000, 0 } };
		NEED_EQ(timerfd_settime(alarm_fd, 0, &set, NULL), 0);
	}
	copy = dup(one_tick);
	shared = timer(CLOCK_MONOTONIC, 0, 0, 0, 0);
	answer = eventfd(0, 0);
	NEED(copy >= 0 && answer >= 0);
	wait_for(one_tick);
	wait_for(expired);
	wait_for(ticking);
	if (fork() == 0) {
		/* Sits in read(2) whenever it is looked at. */
		for (;;) {
			uint64_t value = get(shared) * 10;
			NEED(write(answer, &value, sizeof value) == sizeof value);
		}
	}
}

static void near(long long value, long long wanted)
{
	NEED(value <= wanted && value > wanted - 100 * NS);
}

static void check(int generation)
{
	uint64_t value;
	near(left(once, 0), 1000 * NS);
	near(left(periodic, 700 * NS + 5), 2000 * NS);
	/* It goes on. */
	NEED(get(ticking) >= 1);
	NEED(get(ticking) >= 1);
	NEED(get(ticking) >= 1);
	for (int i = 0; i < 3; i++)
		NEED(get(fast) >= 1);
	if (generation == 1) {
		NEED_EQ(get(copy), 1);
		NEED_EQ(get(expired), 1);
	}
	near(left(one_tick, 1500 * NS), 1500 * NS);
	NEED(read(one_tick, &value, sizeof value) < 0 && errno == EAGAIN);
	NEED(read(expired, &value, sizeof value) < 0 && errno == EAGAIN);
	NEED_EQ(left(expired, 0), 0);
	/* It ends at the same moment as ever. */
	long long error = now(CLOCK_REALTIME) + left(wall, 0) - wall_time;
	NEED(error < NS && error > -NS);
	is_cancelled_on_set(cancels);
	NEED(left(cancels, 0) > INT32_MAX * NS);
	near(left(absolute, 0), 4000 * NS);
	near(left(boot, 0), 5000 * NS);
	NEED_EQ(left(off, 3), 0);
	NEED(read(off, &value, sizeof value) < 0 && errno == EAGAIN);
	if (alarm_fd >= 0)
		near(left(alarm_fd, 0), 6000 * NS);
	NEED_EQ(fcntl(once, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(periodic, F_GETFD), 0);
	NEED(fcntl(off, F_GETFL) & O_NONBLOCK);
	NEED(!(fcntl(wall, F_GETFL) & O_NONBLOCK));
	/* The child has the same one. */
	struct itimerspec soon = { { 0, 0 }, { 0, 1 } };
	NEED_EQ(timerfd_settime(shared, 0, &soon, NULL), 0);
	NEED_EQ(get(answer), 10);
}
