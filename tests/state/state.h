/*
 * A program that sets some state up, and checks it whenever it is told to. A source of this folder defines
 * setup() and check(); the rest is here. The program works in the folder that its argument names, and
 * talks to the test by files in it only, so that it has no descriptor that is not under test:
 *
 *   ready      setup() has ended
 *   go.N       (from the test) check now, for the Nth time
 *   result.N   "ok", or what is wrong
 *   end        (from the test) end now
 */
#ifndef STATE_H
#define STATE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

/* Makes the state. */
static void setup(void);
/* Looks whether it is there, after checkpoint number `generation` (1 or 2); may change it for the next one. */
static void check(int generation);

/* Which check runs; 0: setup(). */
static int state_generation;
/* Any process of the program may find a fault; this is the one that talks. */
static pid_t state_root;

/* Writes a whole file, under its name only when it is complete. */
static void state_put(const char *name, const char *text)
{
	char tmp[64];
	snprintf(tmp, sizeof tmp, "%s.%d.tmp", name, (int)getpid());
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t len = strlen(text);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd) || rename(tmp, name))
		_exit(90);
}

/* Ends the program with a message. In a child, give the parent something to notice. */
static void state_fail(const char *file, int line, const char *what)
{
	char text[512], name[32];
	snprintf(text, sizeof text, "%s:%d: not so: %s (errno %d: %s)\n", file, line, what, errno, strerror(errno));
	snprintf(name, sizeof name, "result.%d", state_generation);
	state_put(name, text);
	_exit(1);
}

/* Must hold, in setup() as in check(). */
#define NEED(x) ((x) ? (void)0 : state_fail(__FILE__, __LINE__, #x))

/* The same with both values in the message. */
#define NEED_EQ(x, y)                                                                              \
	do {                                                                                       \
		long long state_x = (long long)(x), state_y = (long long)(y);                      \
		if (state_x != state_y) {                                                          \
			char state_text[256];                                                      \
			snprintf(state_text, sizeof state_text, "%s == %s: %lld, %lld", #x, #y, state_x, state_y); \
			state_fail(__FILE__, __LINE__, state_text);                                \
		}                                                                                  \
	} while (0)

/* Waits for a file of the test. */
static void state_await(const char *name)
{
	struct timespec tick = { 0, 1000000 };
	while (access(name, F_OK))
		nanosleep(&tick, NULL);
}

int main(int argc, char **argv)
{
	char name[32];
	if (argc != 2 || chdir(argv[1]))
		return 2;
	state_root = getpid();
	setup();
	state_put("ready", "");
	for (state_generation = 1; state_generation <= 2; state_generation++) {
		snprintf(name, sizeof name, "go.%d", state_generation);
		state_await(name);
		check(state_generation);
		snprintf(name, sizeof name, "result.%d", state_generation);
		state_put(name, "ok");
	}
	state_await("end");
	/* Children of the same process group end too. */
	signal(SIGTERM, SIG_IGN);
	kill(0, SIGTERM);
	return 0;
}

#endif
