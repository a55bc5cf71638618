/* Counters: their value, kind and flags, and who shares them. */
#include "state.h"
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/wait.h>

static int counter, semaphore, empty, copy;

static uint64_t get(int fd)
{
	uint64_t value;
	NEED(read(fd, &value, sizeof value) == sizeof value);
	return value;
}

static void add(int fd, uint64_t value)
{
	NEED(write(fd, &value, sizeof value) == sizeof value);
}

static void setup(void)
{
	counter = eventfd(0, EFD_CLOEXEC);
	semaphore = eventfd(3, EFD_SEMAPHORE | EFD_NONBLOCK);
	empty = eventfd(0, EFD_NONBLOCK);
	copy = dup(counter);
	NEED(counter >= 0 && semaphore >= 0 && empty >= 0 && copy >= 0);
	/* More than 32 bits. */
	add(counter, 1ULL << 40);
	if (fork() == 0) {
		/* Adds one for each that is taken. */
		for (;;) {
			uint64_t value;
			struct timespec tick = { 0, 1000000 };
			if (read(empty, &value, sizeof value) == sizeof value)
				add(counter, value * 100);
			nanosleep(&tick, NULL);
		}
	}
}

static void check(int generation)
{
	NEED_EQ(get(copy), generation == 1 ? 1ULL << 40 : 7);
	NEED_EQ(get(semaphore), 1);
	NEED_EQ(fcntl(counter, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(copy, F_GETFD), 0);
	NEED(fcntl(semaphore, F_GETFL) & O_NONBLOCK);
	NEED(!(fcntl(counter, F_GETFL) & O_NONBLOCK));
	/* The child still has the other end of both. */
	add(empty, 5);
	NEED_EQ(get(counter), 500);
	add(counter, 7);
	if (generation == 2) {
		NEED_EQ(get(semaphore), 1);
		uint64_t value;
		NEED(read(semaphore, &value, sizeof value) < 0 && errno == EAGAIN);
	}
}
