/* Files that tell events of others (inotify): numbers, masks, manners, flags, and that a restart tells nothing. */
#include "state.h"
#include <poll.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/stat.h>

enum { FAR = 300 };

static int own, shared, empty, ready, answer, used, dropped;
static int once = FAR;
static pid_t child;
static volatile char *mapped;

static void put(const char *name)
{
	int fd = open(name, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	NEED(fd >= 0);
	NEED_EQ(write(fd, "x", 1), 1);
	NEED_EQ(close(fd), 0);
}

static int watch(int fd, const char *name, uint32_t mask)
{
	int wd = inotify_add_watch(fd, name, mask);
	NEED(wd > 0);
	return wd;
}

/* The next event; there is one at once. The name "" is any. */
static void event(int fd, int wd, uint32_t mask, const char *name)
{
	/* Without a name 16 bytes, with one of these 32. */
	union {
		struct inotify_event event;
		char bytes[32];
	} next;
	struct pollfd poll_fd = { fd, POLLIN, 0 };
	NEED_EQ(poll(&poll_fd, 1, 0), 1);
	NEED_EQ(read(fd, &next, name ? 32 : 16), name ? 32 : 16);
	NEED_EQ(next.event.wd, wd);
	NEED_EQ(next.event.mask, mask);
	NEED_EQ(next.event.cookie, 0);
	NEED_EQ(next.event.len, name ? 16 : 0);
	NEED(!name || !*name || !strcmp(next.event.name, name));
}

static void silent(int fd)
{
	int count;
	NEED_EQ(ioctl(fd, FIONREAD, &count), 0);
	NEED_EQ(count, 0);
}

/* The mask of a watch as /proc says, 0 where there is none; how many there are. */
static uint32_t mask_of(int fd, int wanted, int *count)
{
	char name[64], line[512];
	uint32_t found = 0;
	snprintf(name, sizeof name, "/proc/self/fdinfo/%d", fd);
	FILE *info = fopen(name, "re");
	NEED(info);
	*count = 0;
	while (fgets(line, sizeof line, info)) {
		unsigned wd, mask;
		unsigned long ino, device;
		if (sscanf(line, "inotify wd:%x ino:%lx sdev:%lx mask:%x", &wd, &ino, &device, &mask) != 4)
			continue;
		++*count;
		if ((int)wd == wanted)
			found = mask;
	}
	fclose(info);
	return found;
}

static void is(int fd, int wd, uint32_t mask, int all)
{
	int count;
	NEED_EQ(mask_of(fd, wd, &count), mask);
	NEED_EQ(count, all);
}

/* Reads events and says so. It has so many files to be opened again that it is not the first to be done. */
static void listen_to_it(void)
{
	for (int i = 0; i < 500; i++)
		NEED(open("used", O_RDONLY | O_CLOEXEC) >= 0);
	for (;;) {
		union {
			struct inotify_event event;
			char bytes[4096];
		} next;
		NEED(read(shared, &next, sizeof next) >= 16);
		uint64_t value = next.event.wd << 16 | (next.event.mask & 0xffff);
		NEED_EQ(write(answer, &value, sizeof value), sizeof value);
	}
}

static uint64_t hear(void)
{
	uint64_t value;
	struct pollfd poll_fd = { answer, POLLIN, 0 };
	NEED_EQ(poll(&poll_fd, 1, 20000), 1);
	NEED_EQ(read(answer, &value, sizeof value), sizeof value);
	return value;
}

static int found_by_handle(const char *name)
{
	union {
		struct file_handle handle;
		char bytes[sizeof(struct file_handle) + MAX_HANDLE_SZ];
	} file = { .handle = { .handle_bytes = MAX_HANDLE_SZ } };
	int mount;
	if (name_to_handle_at(AT_FDCWD, name, &file.handle, &mount, 0))
		return 0;
	int fd = open_by_handle_at(AT_FDCWD, &file.handle, O_PATH | O_CLOEXEC);
	return fd >= 0 && !close(fd);
}

static void setup(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	NEED_EQ(sigprocmask(SIG_BLOCK, &set, NULL), 0);
	NEED_EQ(mkdir("folder", 0755), 0);
	NEED_EQ(mkdir("a b\\c", 0755), 0);
	NEED_EQ(mkdir("gone", 0755), 0);
	NEED_EQ(mkdir("heard", 0755), 0);
	put("folder/one");
	put("used");
	NEED_EQ(symlink("used", "link"), 0);
	put("gone/file");
	dropped = open("gone/file", O_RDWR | O_CLOEXEC);
	used = open("used", O_RDONLY | O_CLOEXEC);
	NEED(dropped >= 0 && used >= 0);
	NEED_EQ(unlink("gone/file"), 0);
	mapped = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, used, 0);
	NEED(mapped != MAP_FAILED);
	NEED_EQ(mapped[0], 'x');

	/* Only with a capability is found what nobody uses. */
	const char *names[] = { "folder", "folder/one", "gone", "a b\\c", "link", "heard" };
	for (unsigned i = 0; !found_by_handle(".") && i < sizeof names / sizeof *names; i++)
		NEED(open(names[i], O_PATH | O_NOFOLLOW | O_CLOEXEC) >= 0);

	own = inotify_init1(IN_NONBLOCK);
	shared = inotify_init1(IN_CLOEXEC);
	empty = inotify_init1(IN_NONBLOCK | IN_CLOEXEC);
	answer = eventfd(0, 0);
	ready = epoll_create1(0);
	NEED(own >= 0 && shared >= 0 && empty >= 0 && answer >= 0 && ready >= 0);
	NEED_EQ(watch(own, "folder", IN_CREATE | IN_DELETE), 1);
	NEED_EQ(watch(own, "gone", IN_ALL_EVENTS), 2);
	NEED_EQ(inotify_rm_watch(own, 2), 0);
	event(own, 2, IN_IGNORED, NULL);
	/* All that is told of this would be, were it added before the file has been made again. */
	uint32_t changes = IN_CREATE | IN_DELETE | IN_MODIFY | IN_ATTRIB | IN_CLOSE_WRITE | IN_MOVE;
	NEED_EQ(watch(own, "gone", changes), 3);
	NEED_EQ(watch(own, "used", IN_ALL_EVENTS), 4);
	NEED_EQ(watch(own, "link", IN_ATTRIB | IN_DONT_FOLLOW), 5);
	NEED_EQ(watch(own, "a b\\c", IN_MODIFY | IN_EXCL_UNLINK | IN_ONLYDIR), 6);
	for (int wd = 7; wd < FAR; wd++) {
		NEED_EQ(watch(own, ".", IN_CREATE), wd);
		NEED_EQ(inotify_rm_watch(own, wd), 0);
		event(own, wd, IN_IGNORED, NULL);
	}
	NEED_EQ(watch(own, "folder/one", IN_MODIFY | IN_ONESHOT), FAR);
	NEED_EQ(watch(shared, "heard", IN_CREATE), 1);
	struct epoll_event item = { EPOLLIN | EPOLLET, { .u64 = 9 } };
	NEED_EQ(epoll_ctl(ready, EPOLL_CTL_ADD, own, &item), 0);
	child = fork();
	if (child == 0)
		listen_to_it();
	put("heard/0");
	NEED_EQ(hear(), 1 << 16 | IN_CREATE);
	/* Its files, that are 500 events of one kind. */
	event(own, 4, IN_OPEN, NULL);
	silent(own);
	struct f_owner_ex owner = { F_OWNER_PID, getpid() };
	NEED_EQ(fcntl(own, F_SETOWN_EX, &owner), 0);
	NEED_EQ(fcntl(own, F_SETSIG, SIGRTMIN), 0);
	NEED_EQ(fcntl(own, F_SETFL, O_NONBLOCK | O_ASYNC), 0);
	silent(own);
}

static void check(int generation)
{
	char byte, name[32];
	struct epoll_event item;
	sigset_t set;
	struct timespec now = { 0, 0 };
	/* Nothing was told. */
	silent(own);
	silent(shared);
	silent(empty);
	NEED_EQ(epoll_wait(ready, &item, 1, 0), 0);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	NEED(sigtimedwait(&set, NULL, &now) < 0 && errno == EAGAIN);
	NEED_EQ(fcntl(own, F_GETFL), O_NONBLOCK | O_ASYNC);
	NEED_EQ(fcntl(shared, F_GETFL), 0);
	NEED_EQ(fcntl(own, F_GETFD), 0);
	NEED_EQ(fcntl(shared, F_GETFD), FD_CLOEXEC);
	is(own, 1, IN_CREATE | IN_DELETE, 6);
	is(own, 4, IN_ALL_EVENTS, 6);
	is(own, 5, IN_ATTRIB, 6);
	is(own, 6, IN_MODIFY | IN_EXCL_UNLINK, 6);
	is(own, once, IN_MODIFY | IN_ONESHOT, 6);
	is(shared, 1, IN_CREATE, 1);
	is(empty, 1, 0, 0);

	put("folder/new");
	event(own, 1, IN_CREATE, "new");
	NEED_EQ(unlink("folder/new"), 0);
	event(own, 1, IN_DELETE, "new");
	NEED_EQ(write(dropped, "y", 1), 1);
	/* It has lost its name, and now the kernel has made one up. */
	event(own, 3, IN_MODIFY, "");
	NEED_EQ(mapped[0], 'x');
	NEED_EQ(pread(used, &byte, 1, 0), 1);
	event(own, 4, IN_ACCESS, NULL);
	NEED_EQ(lchown("link", getuid(), getgid()), 0);
	event(own, 5, IN_ATTRIB, NULL);
	int fd = open("a b\\c/file", O_WRONLY | O_CREAT | O_CLOEXEC, 0644);
	NEED(fd >= 0);
	NEED_EQ(write(fd, "x", 1), 1);
	event(own, 6, IN_MODIFY, "file");
	NEED_EQ(unlink("a b\\c/file"), 0);
	NEED_EQ(write(fd, "x", 1), 1);
	NEED_EQ(close(fd), 0);
	silent(own);
	/* It tells once; the next gets the next number. */
	put("folder/one");
	event(own, once, IN_MODIFY, NULL);
	event(own, once, IN_IGNORED, NULL);
	put("folder/one");
	silent(own);
	once = watch(own, "folder/one", IN_MODIFY | IN_ONESHOT);
	NEED_EQ(once, FAR + generation);
	NEED_EQ(epoll_wait(ready, &item, 1, 0), 0);
	while (sigtimedwait(&set, NULL, &now) > 0)
		;
	/* The child sits in read(2). */
	snprintf(name, sizeof name, "heard/%d", generation);
	put(name);
	NEED_EQ(hear(), 1 << 16 | IN_CREATE);
}
