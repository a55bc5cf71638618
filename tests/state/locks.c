/* Locks on files: of open files and of processes, of all bytes and of some, and those who wait for one. */
#include "state.h"
#include <stdint.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/mman.h>
#include <sys/wait.h>

static int whole, whole_copy, shared_lock, ofd, posix_fd, second, deleted, answer;
static volatile int *taken;

static int made(int fd)
{
	NEED(fd >= 0);
	return fd;
}

static int file(const char *name)
{
	return made(open(name, O_RDWR | O_CREAT, 0644));
}

static int set(int fd, int command, int type, off_t start, off_t length)
{
	struct flock lock = { .l_type = type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
	return fcntl(fd, command, &lock);
}

/* What lies in the way of an exclusive lock on these bytes; as another open file, or as another process. */
static void in_the_way(int fd, int command, off_t from, off_t length, int type, off_t start, off_t end)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = from, .l_len = length };
	NEED_EQ(fcntl(fd, command, &lock), 0);
	NEED_EQ(lock.l_type, type);
	if (type == F_UNLCK)
		return;
	NEED_EQ(lock.l_start, start);
	NEED_EQ(lock.l_len, end);
}

static void wait_for_child(pid_t child)
{
	int status;
	NEED_EQ(waitpid(child, &status, 0), child);
	NEED_EQ(status, 0);
}

static void setup(void)
{
	taken = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(taken != MAP_FAILED);
	whole = file("whole");
	NEED_EQ(flock(whole, LOCK_EX), 0);
	whole_copy = made(dup(whole));
	shared_lock = made(open("whole2", O_RDONLY | O_CREAT, 0644));
	NEED_EQ(flock(shared_lock, LOCK_SH), 0);
	ofd = file("ofd");
	NEED_EQ(set(ofd, F_OFD_SETLK, F_WRLCK, 10, 5), 0);
	NEED_EQ(set(ofd, F_OFD_SETLK, F_RDLCK, 100, 0), 0);
	posix_fd = file("posix");
	NEED_EQ(set(posix_fd, F_SETLK, F_RDLCK, 0, 1), 0);
	NEED_EQ(set(posix_fd, F_SETLK, F_WRLCK, 1LL << 40, 7), 0);
	/* Through another open file of the same process. */
	second = file("posix");
	NEED_EQ(set(second, F_SETLK, F_WRLCK, 3, 2), 0);
	deleted = file("deleted");
	NEED_EQ(unlink("deleted"), 0);
	NEED_EQ(flock(deleted, LOCK_EX), 0);
	answer = made(eventfd(0, 0));
	if (fork() == 0) {
		/* Has a lock of its own through an open file that it shares, and waits for one of its parent's. */
		NEED_EQ(set(posix_fd, F_SETLK, F_WRLCK, 50, 1), 0);
		for (;;) {
			uint64_t value = 1;
			*taken = 1;
			NEED_EQ(set(posix_fd, F_SETLKW, F_WRLCK, 3, 2), 0);
			NEED_EQ(set(posix_fd, F_SETLK, F_UNLCK, 3, 2), 0);
			*taken = 2;
			NEED_EQ(write(answer, &value, sizeof value), sizeof value);
			while (*taken != 0)
				usleep(1000);
		}
	}
	if (fork() == 0) {
		/* Waits for an open file that others have locked. */
		int other = file("whole"), rounds = 0;
		for (;;) {
			uint64_t value = 1;
			NEED_EQ(flock(other, LOCK_EX), 0);
			NEED_EQ(flock(other, LOCK_UN), 0);
			NEED_EQ(write(answer, &value, sizeof value), sizeof value);
			while (taken[1] == rounds)
				usleep(1000);
			rounds = taken[1];
		}
	}
	while (*taken == 0)
		usleep(1000);
}

static void check(int generation)
{
	uint64_t value;
	/* Neither of the children has got what it waits for. */
	NEED_EQ(*taken, 1);
	/* Another open file of this process, of all bytes. */
	int other = file("whole");
	NEED(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	close(other);
	other = made(open("whole2", O_RDONLY));
	NEED(flock(other, LOCK_EX | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	NEED_EQ(flock(other, LOCK_SH | LOCK_NB), 0);
	close(other);
	other = file("ofd");
	in_the_way(other, F_OFD_GETLK, 0, 50, F_WRLCK, 10, 5);
	in_the_way(other, F_OFD_GETLK, 50, 0, F_RDLCK, 100, 0);
	in_the_way(other, F_OFD_GETLK, 15, 85, F_UNLCK, 0, 0);
	close(other);
	/* Locks of this process are in the way of others only, and go when it closes any descriptor of the file. */
	in_the_way(posix_fd, F_GETLK, 0, 40, F_UNLCK, 0, 0);
	in_the_way(posix_fd, F_GETLK, 40, 0, F_WRLCK, 50, 1);
	pid_t child = fork();
	if (child == 0) {
		in_the_way(posix_fd, F_GETLK, 0, 1, F_RDLCK, 0, 1);
		in_the_way(posix_fd, F_GETLK, 1, 9, F_WRLCK, 3, 2);
		in_the_way(posix_fd, F_GETLK, 100, 0, F_WRLCK, 1LL << 40, 7);
		_exit(0);
	}
	wait_for_child(child);
	char path[64];
	snprintf(path, sizeof path, "/proc/self/fd/%d", deleted);
	other = made(open(path, O_RDWR));
	NEED(flock(other, LOCK_SH | LOCK_NB) < 0 && errno == EWOULDBLOCK);
	close(other);
	/* They get it now. */
	NEED_EQ(set(second, F_SETLK, F_UNLCK, 3, 2), 0);
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	NEED_EQ(*taken, 2);
	NEED_EQ(set(second, F_SETLK, F_WRLCK, 3, 2), 0);
	*taken = 0;
	NEED_EQ(flock(whole_copy, LOCK_UN), 0);
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	NEED_EQ(flock(whole, LOCK_EX | LOCK_NB), 0);
	taken[1] = generation;
	while (*taken != 1)
		usleep(1000);
}
