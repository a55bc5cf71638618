/* Pipes with and without a name: contents, sizes, packets, ends. */
#include "state.h"
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/prctl.h>
#include <sys/stat.h>

static int both, reader, writer, lonely, fresh, mute, large[2], packets[2], self;
static char *bulk;
#define BULK (1 << 20)

static int end_of(const char *name, int flags)
{
	int fd = open(name, flags);
	NEED(fd >= 0);
	return fd;
}

static int filled(int fd)
{
	int count = -1;
	NEED(!ioctl(fd, FIONREAD, &count));
	return count;
}

static short ready(int fd)
{
	struct pollfd p = { fd, POLLIN | POLLOUT, 0 };
	NEED(poll(&p, 1, 0) >= 0);
	return p.revents;
}

static void gives(int fd, const char *text)
{
	char found[8192] = "";
	NEED(read(fd, found, sizeof found) == (ssize_t)strlen(text));
	NEED(!strcmp(found, text));
}

static void put(int fd, const char *text)
{
	NEED(write(fd, text, strlen(text)) == (ssize_t)strlen(text));
}

static void setup(void)
{
	char path[64];
	signal(SIGPIPE, SIG_IGN);
	NEED(!mkfifo("one", 0600) && !mkfifo("two", 0600) && !mkfifo("three", 0600));
	NEED(!mkfifo("four", 0600) && !mkfifo("five", 0600));
	both = end_of("one", O_RDWR | O_NONBLOCK | O_CLOEXEC);
	put(both, "in a fifo");
	reader = end_of("two", O_RDONLY | O_NONBLOCK);
	writer = end_of("two", O_WRONLY | O_APPEND);
	NEED(fcntl(writer, F_SETPIPE_SZ, 8192) == 8192);
	put(writer, "two ends");
	/* Its writer has come and gone. */
	lonely = end_of("three", O_RDONLY | O_NONBLOCK);
	int gone = end_of("three", O_WRONLY);
	put(gone, "left behind");
	close(gone);
	/* It has never had a writer. */
	fresh = end_of("four", O_RDONLY | O_NONBLOCK);
	NEED_EQ(ready(fresh), 0);
	/* It has no reader any more. */
	gone = end_of("five", O_RDONLY | O_NONBLOCK);
	mute = end_of("five", O_WRONLY | O_NONBLOCK);
	close(gone);

	NEED(!pipe(large));
	NEED(fcntl(large[1], F_SETPIPE_SZ, BULK) == BULK);
	bulk = malloc(BULK);
	for (int i = 0; i < BULK; i++)
		bulk[i] = (char)(i * 7 + i / 4096);
	NEED(write(large[1], bulk, BULK) == BULK);

	NEED(!pipe2(packets, O_DIRECT | O_NONBLOCK));
	put(packets[1], "first");
	put(packets[1], "second");
	put(packets[1], "third");

	/* A pipe that has been opened for both. */
	int ends[2];
	NEED(!pipe(ends));
	snprintf(path, sizeof path, "/proc/self/fd/%d", ends[0]);
	self = end_of(path, O_RDWR);
	NEED(!close(ends[0]) && !close(ends[1]));
	put(self, "to myself");

	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		/* Answers what comes through `two` to `one`. */
		for (;;) {
			char text[64] = "";
			struct timespec tick = { 0, 1000000 };
			if (read(reader, text, sizeof text - 1) > 0 && text[0] == '?')
				put(both, text + 1);
			nanosleep(&tick, NULL);
		}
	}
	close(reader);
	reader = -1;
	/* The child takes this. */
	while (filled(writer))
		poll(NULL, 0, 1);
}

static void check(int generation)
{
	struct stat st;
	gives(both, generation == 1 ? "in a fifo" : "again");
	NEED_EQ(fcntl(both, F_GETFL) & (O_ACCMODE | O_NONBLOCK), O_RDWR | O_NONBLOCK);
	NEED_EQ(fcntl(both, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(writer, F_GETFL) & (O_ACCMODE | O_APPEND | O_NONBLOCK), O_WRONLY | O_APPEND);
	NEED_EQ(fcntl(writer, F_GETPIPE_SZ), 8192);
	put(writer, "?answer");
	for (int i = 0; !filled(both); i++) {
		poll(NULL, 0, 1);
		NEED(i < 20000);
	}
	gives(both, "answer");
	put(both, "again");

	NEED_EQ(ready(lonely) & POLLHUP, POLLHUP);
	if (generation == 2)
		gives(lonely, "left behind");
	NEED_EQ(ready(fresh), 0);
	NEED_EQ(ready(mute) & POLLERR, POLLERR);
	NEED(write(mute, "x", 1) < 0 && errno == EPIPE);
	NEED(!fstat(fresh, &st) && S_ISFIFO(st.st_mode));
	NEED(!stat("four", &st) && S_ISFIFO(st.st_mode));

	NEED_EQ(fcntl(large[0], F_GETPIPE_SZ), BULK);
	NEED_EQ(filled(large[0]), BULK);
	if (generation == 2) {
		char *found = malloc(BULK);
		NEED(read(large[0], found, BULK) == BULK);
		NEED(!memcmp(found, bulk, BULK));
	}
	gives(packets[0], "first");
	gives(packets[0], "second");
	NEED(fcntl(packets[1], F_GETFL) & O_DIRECT);
	if (generation == 1) {
		/* What was third is first now. */
		char third[16] = "";
		NEED(read(packets[0], third, sizeof third) == 5);
		put(packets[1], "first");
		put(packets[1], "second");
	}
	gives(self, "to myself");
	NEED_EQ(fcntl(self, F_GETFL) & O_ACCMODE, O_RDWR);
	put(self, "to myself");
}
