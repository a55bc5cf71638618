/* Files in memory: names, seals, contents, and who shares them; also POSIX shared memory. */
#include "state.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define SIZE (5 * 4096 + 100)

static int plain, copy, sealed, future, unnamed_shm, named_shm;
static char *shared, *private, *writer, *both, *only;
static char name[64];

static struct stat look(int fd)
{
	struct stat st;
	NEED(!fstat(fd, &st));
	return st;
}

static void is_called(int fd, const char *what)
{
	char path[64], link[128] = "";
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	NEED(readlink(path, link, sizeof link - 1) > 0);
	NEED(!strcmp(link, what));
}

static void has(int fd, const char *text, off_t at)
{
	char found[64] = "";
	NEED(pread(fd, found, strlen(text), at) == (ssize_t)strlen(text));
	NEED(!strcmp(found, text));
}

static void *map(int fd, int prot, int how, size_t size)
{
	void *at = mmap(NULL, size, prot, how, fd, 0);
	NEED(at != MAP_FAILED);
	return at;
}

static void setup(void)
{
	const int rw = PROT_READ | PROT_WRITE;
	plain = memfd_create("a name (deleted)/x", MFD_CLOEXEC);
	NEED(plain >= 0 && !ftruncate(plain, SIZE));
	copy = dup(plain);
	shared = map(plain, rw, MAP_SHARED, SIZE);
	private = map(plain, rw, MAP_PRIVATE, SIZE);
	strcpy(shared, "front");
	strcpy(shared + SIZE - 4, "end");
	strcpy(shared + 8192, "two");
	strcpy(private + 8192, "mine");
	NEED(lseek(plain, 77, SEEK_SET) == 77);

	sealed = memfd_create("sealed", MFD_ALLOW_SEALING);
	NEED(sealed >= 0 && write(sealed, "for ever", 8) == 8);
	NEED(!fcntl(sealed, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL));
	both = map(sealed, PROT_READ, MAP_PRIVATE, 4096);

	future = memfd_create("", MFD_ALLOW_SEALING);
	NEED(future >= 0 && !ftruncate(future, 4096));
	writer = map(future, rw, MAP_SHARED, 4096);
	NEED(!fcntl(future, F_ADD_SEALS, F_SEAL_FUTURE_WRITE | F_SEAL_GROW));

	/* Mapped only, by two processes. */
	int fd = memfd_create("only mapped", 0);
	NEED(fd >= 0 && !ftruncate(fd, 2 * 4096));
	only = map(fd, rw, MAP_SHARED, 2 * 4096);
	NEED(!close(fd));

	snprintf(name, sizeof name, "/usercr-state-%d", (int)getpid());
	unnamed_shm = shm_open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	NEED(unnamed_shm >= 0 && write(unnamed_shm, "posix", 5) == 5 && !shm_unlink(name));
	/* In the test's folder, as nobody would take it away from /dev/shm. */
	named_shm = open("shm", O_RDWR | O_CREAT, 0600);
	NEED(named_shm >= 0 && write(named_shm, "named", 5) == 5);

	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		for (;;) {
			struct timespec tick = { 0, 1000000 };
			nanosleep(&tick, NULL);
			if (shared[100] != only[100]) {
				only[100] = shared[100];
				writer[100] = shared[100];
				only[101] = shared[100];
			}
		}
	}
}

static void check(int generation)
{
	is_called(plain, "/memfd:a name (deleted)/x (deleted)");
	is_called(sealed, "/memfd:sealed (deleted)");
	is_called(future, "/memfd: (deleted)");
	NEED_EQ(look(plain).st_size, SIZE);
	NEED_EQ(look(plain).st_ino, look(copy).st_ino);
	NEED_EQ(fcntl(plain, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(plain, F_GET_SEALS), F_SEAL_SEAL);
	NEED_EQ(lseek(copy, 0, SEEK_CUR), 77);
	/* Only what was written takes memory. */
	NEED(look(plain).st_blocks <= 4 * 8);
	has(plain, "front", 0);
	has(copy, "end", SIZE - 4);
	NEED(!strcmp(shared + 8192, "two") && !strcmp(private + 8192, "mine"));
	NEED(!strcmp(private, "front"));
	NEED(pwrite(copy, "more", 5, 4096) == 5);
	NEED(!strcmp(shared + 4096, "more") && !strcmp(private + 4096, "more"));
	NEED(pwrite(copy, "\0\0\0\0", 5, 4096) == 5);

	NEED_EQ(fcntl(sealed, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	NEED(pwrite(sealed, "x", 1, 0) < 0 && errno == EPERM);
	has(sealed, "for ever", 0);
	NEED(!strcmp(both, "for ever"));

	NEED_EQ(fcntl(future, F_GET_SEALS), F_SEAL_FUTURE_WRITE | F_SEAL_GROW);
	NEED(mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, future, 0) == MAP_FAILED);
	writer[0] = (char)('0' + generation);
	char found;
	NEED(pread(future, &found, 1, 0) == 1 && found == '0' + generation);

	has(unnamed_shm, "posix", 0);
	NEED_EQ(look(unnamed_shm).st_nlink, 0);
	has(named_shm, "named", 0);
	shared[100] = (char)generation;
	for (int i = 0; only[101] != generation; i++) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		NEED(i < 20000);
	}
	NEED_EQ(writer[100], generation);
	NEED(pread(future, &found, 1, 100) == 1 && found == generation);
}
