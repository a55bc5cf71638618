/* A program with files of all kinds: read, written, mapped, deleted, watched; it runs as a copy of itself. */
#include "../state/state.h"
#include <sys/inotify.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#define SIZE 8192

static int reader, writer, deleted;
static char *mapped;

static int make(const char *name)
{
	int fd = open(name, O_RDWR | O_CREAT | O_EXCL, 0600);
	NEED(fd >= 0 && !ftruncate(fd, SIZE));
	return fd;
}

static void setup(void)
{
	int watch = inotify_init1(0);
	NEED(watch >= 0 && !mkdir("watched", 0700));
	NEED_EQ(inotify_add_watch(watch, "watched", IN_MOVE), 1);
	NEED(make("watched/open") >= 0);
	close(make("read"));
	reader = open("read", O_RDONLY);
	writer = make("write");
	int fd = make("mapped");
	mapped = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	NEED(reader >= 0 && mapped != MAP_FAILED && !close(fd));
	NEED(!mkdir("dir", 0700) && !mkdir("here", 0700) && !mkfifo("fifo", 0600));
	deleted = make("dir/deleted");
	NEED(write(deleted, "gone", 4) == 4 && !unlink("dir/deleted"));
	NEED(open("fifo", O_RDWR) >= 0);
	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		NEED(!chdir("here"));
		for (;;)
			pause();
	}
}

static void check(int generation)
{
	struct stat st;
	char text[5] = "";
	(void)generation;
	NEED(!fstat(deleted, &st) && st.st_nlink == 0 && st.st_size == SIZE);
	NEED(pread(deleted, text, 4, 0) == 4 && !strcmp(text, "gone"));
	/* Others have made these longer and shorter. */
	NEED(!fstat(reader, &st) && st.st_size == SIZE + 1);
	NEED(!fstat(writer, &st) && st.st_size == 1);
	mapped[SIZE - 1] = 1;
}
