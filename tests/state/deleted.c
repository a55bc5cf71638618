/* Deleted files that are still open or mapped: contents, holes, attributes, and who shares them. */
#include "state.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define GIB (1L << 30)

static int file, copy, reader, sparse, linked, moved, orphan, tmpfile_fd, locked, dir_gone;
static char *shared, *private;

static int make(const char *name, int flags, int mode)
{
	int fd = open(name, flags | O_CREAT | O_EXCL, mode);
	NEED(fd >= 0);
	return fd;
}

static void put(int fd, const char *text, off_t at)
{
	NEED(pwrite(fd, text, strlen(text), at) == (ssize_t)strlen(text));
}

static void has(int fd, const char *text, off_t at)
{
	char found[64] = "";
	NEED(pread(fd, found, strlen(text), at) == (ssize_t)strlen(text));
	NEED(!strcmp(found, text));
}

static struct stat look(int fd)
{
	struct stat st;
	NEED(!fstat(fd, &st));
	return st;
}

static int same(int a, int b)
{
	struct stat x = look(a), y = look(b);
	return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static void setup(void)
{
	char path[64];
	file = make("file", O_RDWR | O_CLOEXEC, 0640);
	NEED(!fchmod(file, 06751));
	put(file, "a deleted file", 0);
	copy = dup(file);
	snprintf(path, sizeof path, "/proc/self/fd/%d", file);
	reader = open(path, O_RDONLY);
	NEED(copy >= 0 && reader >= 0);
	NEED(!unlink("file"));
	NEED(lseek(file, 5, SEEK_SET) == 5 && lseek(reader, 9, SEEK_SET) == 9);
	NEED(!fchown(file, 0, getegid()) || errno == EPERM);
	struct timespec times[2] = { { 1000, 5 }, { 2000, 7 } };
	NEED(!fchmod(file, 04751) && !futimens(file, times));

	sparse = make("sparse", O_RDWR, 0600);
	NEED(!ftruncate(sparse, GIB + 5));
	put(sparse, "front", 0);
	put(sparse, "middle", GIB / 2 + 10);
	put(sparse, "end", GIB + 2);
	NEED(!unlink("sparse"));

	/* It has another name in the same folder: whoever uses that must see the same file. */
	linked = make("first", O_RDWR, 0600);
	NEED(!link("first", "second") && !unlink("first"));
	put(linked, "linked", 0);
	moved = make("from", O_RDWR, 0600);
	put(moved, "moved", 0);
	NEED(!rename("from", "to"));

	/* Nothing of its path is left. */
	NEED(!mkdir("gone", 0700));
	orphan = make("gone/orphan", O_WRONLY | O_APPEND, 0200);
	put(orphan, "orphan", 0);
	NEED(!unlink("gone/orphan") && !rmdir("gone"));
	tmpfile_fd = open(".", O_TMPFILE | O_RDWR, 0600);
	NEED(tmpfile_fd >= 0);
	put(tmpfile_fd, "never had a name", 0);
	/* Nobody could open it like this again. */
	locked = make("locked", O_RDWR, 0);
	put(locked, "locked", 0);
	NEED(!unlink("locked"));
	/* A name that looks like that of a deleted file. */
	dir_gone = make("real (deleted)", O_RDWR, 0600);
	put(dir_gone, "real", 0);

	int mapped = make("mapped", O_RDWR, 0600);
	NEED(!ftruncate(mapped, 3 * 4096));
	put(mapped, "page 0", 0);
	put(mapped, "page 1", 4096);
	shared = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, mapped, 0);
	private = mmap(NULL, 3 * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapped, 0);
	NEED(shared != MAP_FAILED && private != MAP_FAILED);
	NEED(!close(mapped) && !unlink("mapped"));
	strcpy(shared + 8192, "page 2");
	strcpy(private + 4096, "my own page 1");

	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		/* Echoes what is written to page 0, a byte further on, and appends to the orphan. */
		int seen = 0;
		for (;;) {
			struct timespec tick = { 0, 1000000 };
			nanosleep(&tick, NULL);
			if (shared[100] != seen) {
				seen = shared[100];
				NEED(write(orphan, "+", 1) == 1);
				shared[101] = (char)seen;
			}
		}
	}
}

static void check(int generation)
{
	struct stat st = look(file);
	NEED_EQ(st.st_nlink, 0);
	NEED_EQ(st.st_size, generation == 1 ? 14 : 17);
	NEED_EQ(st.st_mode, S_IFREG | 04751);
	if (generation == 1) {
		NEED_EQ(st.st_mtim.tv_sec, 2000);
		NEED_EQ(st.st_mtim.tv_nsec, 7);
	}
	has(file, "a deleted file", 0);
	NEED(same(file, copy) && same(file, reader));
	NEED_EQ(fcntl(file, F_GETFD), FD_CLOEXEC);
	NEED_EQ(fcntl(copy, F_GETFD), 0);
	NEED_EQ(fcntl(reader, F_GETFL) & O_ACCMODE, O_RDONLY);
	/* One position for both copies, another one for the second description. */
	NEED_EQ(lseek(file, 0, SEEK_CUR), 5);
	NEED_EQ(lseek(reader, 0, SEEK_CUR), 9);
	NEED(lseek(copy, 3, SEEK_SET) == 3 && lseek(file, 0, SEEK_CUR) == 3);
	lseek(file, 5, SEEK_SET);
	put(copy, "new", 14);
	has(reader, "new", 14);
	NEED(!fchmod(file, 04751));

	st = look(sparse);
	NEED_EQ(st.st_size, GIB + 5);
	NEED(st.st_blocks < 1000);
	has(sparse, "front", 0);
	has(sparse, "middle", GIB / 2 + 10);
	has(sparse, "end", GIB + 2);
	NEED(!stat("image", &st) && st.st_size < 64 << 20);

	has(linked, "linked", 0);
	int second = open("second", O_RDWR);
	NEED(second >= 0 && same(second, linked));
	close(second);
	has(moved, "moved", 0);
	second = open("to", O_RDWR);
	NEED(second >= 0 && same(second, moved));
	close(second);
	has(tmpfile_fd, "never had a name", 0);
	has(locked, "locked", 0);
	NEED_EQ(look(locked).st_mode, S_IFREG);
	has(dir_gone, "real", 0);
	NEED_EQ(look(dir_gone).st_nlink, 1);

	NEED(!strcmp(shared, "page 0") && !strcmp(shared + 4096, "page 1"));
	NEED(!strcmp(shared + 8192, "page 2"));
	NEED(!strcmp(private, "page 0") && !strcmp(private + 8192, "page 2"));
	NEED(!strcmp(private + 4096, "my own page 1"));
	/* The private mapping shows what is written to the file, where it has no page of its own. */
	shared[8300] = (char)generation;
	NEED_EQ(private[8300], generation);
	NEED_EQ(fcntl(orphan, F_GETFL) & (O_ACCMODE | O_APPEND), O_WRONLY | O_APPEND);
	NEED_EQ(look(orphan).st_size, 5 + generation);
	shared[100] = (char)generation;
	for (int i = 0; shared[101] != generation; i++) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		NEED(i < 20000);
	}
	NEED_EQ(look(orphan).st_size, 6 + generation);
}
