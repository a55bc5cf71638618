/* Memory that no image can have: the argument says which. Sleeps then; ends with 77 where the kernel has no such
 * thing. */
#define _GNU_SOURCE
#include <asm/ldt.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/userfaultfd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/sem.h>
#include <sys/shm.h>
#include <sys/syscall.h>
#include <unistd.h>

#ifndef SYS_memfd_secret
#define SYS_memfd_secret 447
#endif
#ifndef SYS_mseal
#define SYS_mseal 462
#endif
#ifndef UFFD_USER_MODE_ONLY
#define UFFD_USER_MODE_ONLY 1
#endif

#define PAGE 4096ul

static char stack[16 * PAGE] __attribute__((aligned(16)));

static void need(int ok, const char *what)
{
	if (ok)
		return;
	int missing = errno == ENOSYS || errno == EPERM || errno == ENOMEM || errno == EINVAL;
	perror(what);
	_exit(missing ? 77 : 1);
}
#define NEED(x) need((x), #x)

static int sleeps(void *argument)
{
	(void)argument;
	for (;;)
		pause();
	return 0;
}

static char *map(void)
{
	char *at = mmap(NULL, 4 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(at != MAP_FAILED);
	return at;
}

/* A segment that goes when nobody has it any more. */
static char *segment(int *id)
{
	*id = shmget(IPC_PRIVATE, 4 * PAGE, 0600);
	NEED(*id >= 0);
	char *at = shmat(*id, NULL, 0);
	int error = errno;
	shmctl(*id, IPC_RMID, NULL);
	errno = error;
	NEED(at != (char *)-1);
	return at;
}

/* Writes a whole file at once. */
static void tell(const char *path, int id)
{
	char text[16], new[4096];
	int len = snprintf(text, sizeof text, "%d", id);
	snprintf(new, sizeof new, "%s.new", path);
	int fd = open(new, O_WRONLY | O_CREAT | O_EXCL, 0644);
	NEED(fd >= 0 && write(fd, text, len) == len && !close(fd) && !rename(new, path));
}

int main(int argc, char **argv)
{
	const char *mode = argc > 1 ? argv[1] : "";
	int id;
	if (!strcmp(mode, "ldt")) {
		struct user_desc entry = { .entry_number = 0, .base_addr = 0, .limit = 1, .seg_32bit = 1 };
		NEED(!syscall(SYS_modify_ldt, 1, &entry, sizeof entry));
	} else if (!strcmp(mode, "aio")) {
		aio_context_t context = 0;
		NEED(!syscall(SYS_io_setup, 1, &context));
	} else if (!strcmp(mode, "sealed")) {
		NEED(!syscall(SYS_mseal, map(), PAGE, 0));
	} else if (!strcmp(mode, "secret")) {
		int fd = (int)syscall(SYS_memfd_secret, 0);
		NEED(fd >= 0 && !ftruncate(fd, PAGE));
		char *at = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		NEED(at != MAP_FAILED);
		*at = 1;
		NEED(argc > 2 || !close(fd));
	} else if (!strcmp(mode, "userfault")) {
		int fd = (int)syscall(SYS_userfaultfd, UFFD_USER_MODE_ONLY);
		struct uffdio_api api = { .api = UFFD_API };
		NEED(fd >= 0 && !ioctl(fd, UFFDIO_API, &api));
		struct uffdio_register area = { .range = { (unsigned long)map(), PAGE },
						.mode = UFFDIO_REGISTER_MODE_MISSING };
		NEED(!ioctl(fd, UFFDIO_REGISTER, &area));
	} else if (!strcmp(mode, "vfork")) {
		if (vfork() == 0)
			sleeps(NULL);
	} else if (!strcmp(mode, "clone")) {
		NEED(clone(sleeps, stack + sizeof stack, CLONE_VM | SIGCHLD, NULL) > 0);
	} else if (!strcmp(mode, "segment-part")) {
		char *at = segment(&id);
		NEED(!munmap(at, PAGE));
	} else if (!strcmp(mode, "segment-moved")) {
		char *at = segment(&id);
		NEED(mremap(at + PAGE, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, map()) != MAP_FAILED);
	} else if (!strcmp(mode, "segment-left")) {
		segment(&id);
		NEED(!unshare(CLONE_NEWIPC));
	} else if (!strcmp(mode, "segment-alone")) {
		NEED(!unshare(CLONE_NEWIPC));
		NEED(shmget(IPC_PRIVATE, 1, 0600) >= 0);
	} else if (!strcmp(mode, "semaphores-alone")) {
		NEED(!unshare(CLONE_NEWIPC));
		NEED(semget(IPC_PRIVATE, 1, 0600) >= 0);
	} else if (!strcmp(mode, "segment-huge")) {
		id = shmget(IPC_PRIVATE, 2 << 20, 0600 | SHM_HUGETLB);
		NEED(id >= 0);
		char *at = shmat(id, NULL, 0);
		shmctl(id, IPC_RMID, NULL);
		NEED(at != (char *)-1);
	} else if (!strcmp(mode, "segment-opened") || !strcmp(mode, "segment-private")) {
		char *at = segment(&id), path[64];
		snprintf(path, sizeof path, "/proc/self/map_files/%lx-%lx", (long)at, (long)at + 4 * PAGE);
		int fd = open(path, O_RDWR);
		NEED(fd >= 0);
		int flags = strcmp(mode, "segment-private") ? MAP_SHARED : MAP_PRIVATE;
		NEED(mmap(NULL, PAGE, PROT_READ, flags, fd, 0) != MAP_FAILED && !close(fd));
	} else if (!strcmp(mode, "segment-long")) {
		char *at = segment(&id);
		NEED(mremap(at, 4 * PAGE, 5 * PAGE, MREMAP_MAYMOVE) != MAP_FAILED);
	} else if (!strcmp(mode, "segment")) {
		strcpy(segment(&id), "went");
		/* For a test that attaches it. */
		tell(argv[2], id);
	} else if (!strcmp(mode, "segment-kept")) {
		/* For a test that does as it likes with it, and removes it. */
		id = shmget(strtol(argv[3], NULL, 0), 4 * PAGE, IPC_CREAT | IPC_EXCL | 0640);
		NEED(id >= 0);
		tell(argv[2], id);
		char *at = shmat(id, NULL, 0);
		NEED(at != (char *)-1);
		strcpy(at, "kept");
	} else {
		return 1;
	}
	return sleeps(NULL);
}
