/* Shared anonymous memory and mappings of files, of several processes, in parts and with other rights. */
#include "state.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#define PAGE 4096ul
#define PAGES 16ul
#define RW (PROT_READ | PROT_WRITE)

/* Where the processes meet. */
static pthread_barrier_t *meeting;

static char *zeros, *whole, *cow, *file, *file_parts, *late;
static int child;

static void *map(size_t size, int prot, int flags, int fd, off_t offset)
{
	void *at = mmap(NULL, size, prot, flags, fd, offset);
	NEED(at != MAP_FAILED);
	return at;
}

static void meet(void)
{
	int done = pthread_barrier_wait(meeting);
	NEED(done == 0 || done == PTHREAD_BARRIER_SERIAL_THREAD);
}

/* The child has only the last half of the memory, and may only read the last page. */
static void child_looks(int generation)
{
	for (unsigned long i = PAGES / 2; i < PAGES; i++)
		NEED_EQ(whole[i * PAGE], 'A' + (generation - 1) + (int)i);
	whole[PAGES / 2 * PAGE + 1] = (char)generation;
	NEED_EQ(cow[0], 'c');
	NEED_EQ(cow[PAGE], 'm');
	NEED_EQ(file[3 * PAGE], generation);
	file[3 * PAGE + 1] = (char)(2 * generation);
	int fds[2];
	NEED(!pipe(fds));
	/* The kernel reads what it may not write: EFAULT. */
	NEED(write(fds[1], "x", 1) == 1 && read(fds[0], whole + (PAGES - 1) * PAGE, 1) < 0 && errno == EFAULT);
	NEED(!close(fds[0]) && !close(fds[1]));
}

enum { ZEROS = 32 << 20 };

/* Pages that were written, with nothing in them but one word. */
static void write_zeros(void)
{
	for (size_t at = 0; at < ZEROS; at += PAGE)
		*(volatile char *)(zeros + at) = 0;
	strcpy(zeros + ZEROS / 2 + 1000, "word");
}

static void setup(void)
{
	pthread_barrierattr_t attributes;
	meeting = map(sizeof *meeting, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(!pthread_barrierattr_init(&attributes));
	NEED(!pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	NEED(!pthread_barrier_init(meeting, &attributes, 2));

	zeros = map(ZEROS, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	write_zeros();
	whole = map(PAGES * PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	for (unsigned long i = 0; i < PAGES; i++)
		whole[i * PAGE] = (char)('A' + i);

	int fd = open("data", O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	NEED(fd >= 0 && !ftruncate(fd, 5 * PAGE - 100));
	file = map(4 * PAGE, RW, MAP_SHARED, fd, 0);
	strcpy(file + PAGE, "shared");
	cow = map(5 * PAGE, RW, MAP_PRIVATE, fd, 0);
	cow[PAGE] = 'm';
	cow[2 * PAGE] = 'n';
	NEED(!mprotect(cow + 2 * PAGE, PAGE, PROT_READ));
	file[0] = 'c';
	/* From the middle of the file, without a descriptor of it, and beyond its end. */
	file_parts = map(8 * PAGE, PROT_READ, MAP_SHARED, fd, 3 * PAGE);
	/* What was opened for reading only can never be written. */
	int reader = open("data", O_RDONLY | O_CLOEXEC);
	NEED(reader >= 0);
	late = map(PAGE, PROT_READ, MAP_SHARED, reader, PAGE);
	NEED(!close(reader) && !close(fd));

	child = fork();
	NEED(child >= 0);
	if (child == 0) {
		NEED(!munmap(whole, PAGES / 2 * PAGE));
		NEED(!mprotect(whole + (PAGES - 1) * PAGE, PAGE, PROT_READ));
		cow[3 * PAGE] = 'k';
		for (int generation = 1; generation <= 2; generation++) {
			meet();
			child_looks(generation);
			meet();
		}
		for (;;)
			pause();
	}
	/* The parent has only a hole where the child has a part, and two views of another part. */
	char *again = mremap(whole, 0, 4 * PAGE, MREMAP_MAYMOVE);
	NEED(again != MAP_FAILED && again[PAGE] == 'B');
	NEED(!munmap(whole + 4 * PAGE, 2 * PAGE));
	whole[1] = 1;
	NEED(again[1] == 1);
	/* Where check() finds it. */
	memcpy(whole + 2 * PAGE + 8, &again, sizeof again);
}

static void check(int generation)
{
	char *again;
	memcpy(&again, whole + 2 * PAGE + 8, sizeof again);
	for (unsigned long i = 0; i < PAGES; i++)
		if (i < 4 || i > 5)
			NEED_EQ(whole[i * PAGE], 'A' + (generation - 1) + (int)i);
	for (unsigned long i = 0; i < PAGES; i++)
		if (i < 4 || i > 5)
			whole[i * PAGE]++;
	NEED_EQ(again[3 * PAGE], 'D' + generation);

	NEED(!strcmp(file + PAGE, "shared") && !strcmp(late, "shared"));
	NEED(!strcmp(cow + PAGE, "mhared"));
	NEED(cow[2 * PAGE] == 'n' && cow[0] == 'c');
	NEED(mprotect(late, PAGE, RW) && errno == EACCES);
	/* What changes in the file is seen where no page was written. */
	file[3 * PAGE] = (char)generation;
	NEED_EQ(file_parts[0], generation);
	NEED_EQ(cow[3 * PAGE], generation);
	struct stat data;
	NEED(!stat("image", &data) && data.st_size < 8 << 20);
	for (size_t at = 0; at < ZEROS; at++)
		if (zeros[at])
			NEED(at >= ZEROS / 2 + 1000 && at < ZEROS / 2 + 1004);
	NEED(!strcmp(zeros + ZEROS / 2 + 1000, "word"));
	write_zeros();
	/* What is in the mapping is in the file. */
	char byte;
	int fd = open("data", O_RDONLY | O_CLOEXEC);
	NEED(fd >= 0 && pread(fd, &byte, 1, 3 * PAGE) == 1);
	NEED_EQ(byte, generation);
	NEED(!close(fd));
	NEED(!stat("data", &data) && data.st_size == 5 * PAGE - 100);

	for (unsigned long i = PAGES / 2; i < PAGES; i++)
		whole[i * PAGE]--;
	meet();
	meet();
	NEED_EQ(whole[PAGES / 2 * PAGE + 1], generation);
	NEED_EQ(file_parts[1], 2 * generation);
	for (unsigned long i = PAGES / 2; i < PAGES; i++)
		whole[i * PAGE]++;
	/* Memory of its own, from now on too. */
	char *more = map(PAGE, RW, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(!more[0]);
	NEED(!munmap(more, PAGE));
}
