/* Private memory: holes, guards, protections, stacks that grow, advice, and what costs nothing. */
#include "state.h"
#include <setjmp.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>

#define PAGE 4096ul
#define TIB (1ul << 40)
#define RW (PROT_READ | PROT_WRITE)
#define PRIVATE (MAP_PRIVATE | MAP_ANONYMOUS)

#ifndef MADV_GUARD_INSTALL
#define MADV_GUARD_INSTALL 102
#endif

static char *written, *guarded, *down, *huge, *read_only, *zeros, *code, *moved, *low, *high, *advised, *hidden, *holed, *guards;
static char *lists[64], *block;
static volatile char *front;
static int has_guards, has_low;
static unsigned long down_size;

/* Each flag of smaps that the kernel shows for a piece of advice; those that it does not know are left out. */
static struct {
	int advice;
	const char *flag;
	int taken;
} advice[] = {
	{ MADV_DONTFORK, " dc", 0 },   { MADV_WIPEONFORK, " wf", 0 },   { MADV_DONTDUMP, " dd", 0 },
	{ MADV_HUGEPAGE, " hg", 0 },   { MADV_NOHUGEPAGE, " nh", 0 },   { MADV_MERGEABLE, " mg", 0 },
	{ MADV_SEQUENTIAL, " sr", 0 }, { MADV_RANDOM, " rr", 0 },
};
enum { ADVICE = sizeof advice / sizeof *advice };

static char *map(unsigned long at, size_t size, int prot, int flags)
{
	char *got = mmap((void *)at, size, prot, PRIVATE | flags, -1, 0);
	NEED(got != MAP_FAILED);
	NEED(!at || got == (char *)at);
	return got;
}

/* Runs what is in the page of code. */
static int run(void)
{
	int (*function)(void);
	memcpy(&function, &code, sizeof function);
	return function();
}

static sigjmp_buf back;

static void on_fault(int signal)
{
	(void)signal;
	siglongjmp(back, 1);
}

/* Whether an access is refused. */
static int faults(volatile char *at, int write)
{
	if (sigsetjmp(back, 1))
		return 1;
	if (write)
		*at = *at;
	else
		(void)*at;
	return 0;
}

/* Pages of a range that are there for this process. */
static long present(char *at, size_t size)
{
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	long count = 0;
	NEED(fd >= 0);
	for (size_t page = 0; page < size / PAGE; page++) {
		uint64_t entry;
		NEED(pread(fd, &entry, 8, (off_t)(((uintptr_t)at / PAGE + page) * 8)) == 8);
		count += entry >> 62 != 0;
	}
	NEED(!close(fd));
	return count;
}

/* A line of /proc/self/smaps of the mapping that begins at `at`. */
static void smaps(char *at, const char *key, char *line, size_t size)
{
	char start[32];
	FILE *file = fopen("/proc/self/smaps", "re");
	int found = 0;
	NEED(file);
	snprintf(start, sizeof start, "%lx-", (unsigned long)at);
	while (fgets(line, (int)size, file)) {
		if (line[0] >= '0' && line[0] <= 'f' && strchr("0123456789abcdef", line[0]))
			found = !strncmp(line, start, strlen(start));
		else if (found && !strncmp(line, key, strlen(key)))
			break;
	}
	NEED(!ferror(file) && !feof(file));
	fclose(file);
}

static long kilobytes(char *at, const char *key)
{
	char line[512];
	smaps(at, key, line, sizeof line);
	return strtol(line + strlen(key), NULL, 10);
}

/* Uses this much of the stack. */
static __attribute__((noinline)) int deep(size_t bytes)
{
	volatile char here[bytes];
	for (size_t i = 0; i < bytes; i += PAGE)
		here[bytes - 1 - i] = 1;
	return here[PAGE - 1] + here[bytes - 1];
}

static void set_stacks_up(void)
{
	down_size = 2 * PAGE;
	down = map(0x300000000000, down_size, RW, MAP_GROWSDOWN | MAP_FIXED_NOREPLACE) + down_size;
	down[-1] = 'd';
}

static void set_advice_up(void)
{
	advised = map(0, 2 * ADVICE * PAGE, RW, 0);
	for (int i = 0; i < ADVICE; i++) {
		char *at = advised + 2 * (size_t)i * PAGE;
		*at = (char)('a' + i);
		NEED(!mprotect(at + PAGE, PAGE, PROT_NONE));
		advice[i].taken = !madvise(at, PAGE, advice[i].advice);
	}
}

static void set_heap_up(void)
{
	for (int i = 0; i < 64; i++) {
		lists[i] = malloc(3 * PAGE);
		NEED(lists[i]);
		memset(lists[i], i + 1, 3 * PAGE);
	}
	for (int i = 0; i < 64; i += 2)
		free(lists[i]);
	block = sbrk(PAGE);
	NEED(block != (void *)-1);
	strcpy(block, "break");
}

enum { WRITTEN = 64 << 20 };

/* Pages of their own without anything in them, but for one byte near the end of some. */
static void write_zeros(void)
{
	for (size_t at = 0; at < WRITTEN; at += PAGE)
		*(volatile char *)(written + at) = 0;
	for (size_t at = PAGE - 3; at < WRITTEN; at += 1000 * PAGE)
		written[at] = 'z';
	NEED(present(written, WRITTEN) == WRITTEN / PAGE);
}

static void check_zeros(void)
{
	NEED_EQ(present(written, WRITTEN), (WRITTEN / PAGE + 999) / 1000);
	for (size_t at = 0; at < WRITTEN; at++)
		if (written[at])
			NEED(written[at] == 'z' && at % (1000 * PAGE) == PAGE - 3);
	for (size_t at = PAGE - 3; at < WRITTEN; at += 1000 * PAGE)
		NEED_EQ(written[at], 'z');
	write_zeros();
}

static void setup(void)
{
	struct sigaction action = { .sa_handler = on_fault };
	NEED(!sigaction(SIGSEGV, &action, NULL) && !sigaction(SIGBUS, &action, NULL));

	guarded = map(0, 5 * PAGE, RW, 0);
	memset(guarded, 'g', 5 * PAGE);
	NEED(!mprotect(guarded, PAGE, PROT_NONE) && !mprotect(guarded + 4 * PAGE, PAGE, PROT_NONE));
	/* The contents of what nobody may read are kept. */
	hidden = map(0, PAGE, RW, 0);
	strcpy(hidden, "hidden");
	NEED(!mprotect(hidden, PAGE, PROT_NONE));
	set_stacks_up();

	/* Of this nothing is kept but the few pages that are not zero. */
	written = map(0, WRITTEN, RW, 0);
	NEED(!madvise(written, WRITTEN, MADV_NOHUGEPAGE));
	write_zeros();

	huge = map(0, TIB, RW, MAP_NORESERVE);
	NEED(!madvise(huge, TIB, MADV_NOHUGEPAGE));
	huge[0] = 'f';
	huge[TIB / 2 + 12345] = 'm';
	huge[TIB - 1] = 'l';

	read_only = map(0, 16 * PAGE, RW, 0);
	front = read_only;
	for (int i = 0; i < 16; i++)
		NEED(!front[(unsigned)i * PAGE]);
	zeros = map(0, 4 * PAGE, PROT_READ, 0);

	code = map(0, PAGE, RW | PROT_EXEC, 0);
	/* mov eax, 42; ret */
	memcpy(code, "\xb8\x2a\0\0\0\xc3", 6);

	/* Its offset is no longer that of its address. */
	char *old = map(0, 4 * PAGE, RW, 0);
	for (unsigned i = 0; i < 4; i++)
		old[i * PAGE] = (char)('0' + i);
	moved = mremap(old + PAGE, 2 * PAGE, 6 * PAGE, MREMAP_MAYMOVE);
	NEED(moved != MAP_FAILED);
	moved[5 * PAGE] = '5';
	holed = old;

	low = mmap((void *)0x10000, PAGE, RW, PRIVATE | MAP_FIXED_NOREPLACE, -1, 0);
	has_low = low != MAP_FAILED;
	if (has_low)
		strcpy(low, "low");
	high = map(0x7fffffffe000, PAGE, RW, MAP_FIXED_NOREPLACE);
	strcpy(high, "high");

	guards = map(0, 4 * PAGE, RW, 0);
	memset(guards, 'x', 4 * PAGE);
	has_guards = !madvise(guards + PAGE, 2 * PAGE, MADV_GUARD_INSTALL);
	set_advice_up();
	set_heap_up();
}

static void check_advice(void)
{
	char line[512];
	for (int i = 0; i < ADVICE; i++) {
		char *at = advised + 2 * (size_t)i * PAGE;
		NEED_EQ(*at, 'a' + i);
		NEED(faults(at + PAGE, 0));
		smaps(at, "VmFlags:", line, sizeof line);
		for (int j = 0; j < ADVICE; j++)
			NEED_EQ(strstr(line, advice[j].flag) != NULL, i == j && advice[i].taken);
	}
}

static void check_stacks(int generation)
{
	/* Both stacks are larger than before, in each generation. */
	NEED(deep((size_t)generation * (1 << 20)) == 2);
	NEED_EQ(down[-1], 'd');
	for (int i = 0; i < 3; i++) {
		down_size += PAGE;
		NEED(!faults(down - down_size, 1));
	}
}

static void check_heap(int generation)
{
	for (int i = 1; i < 64; i += 2)
		for (unsigned at = 0; at < 3 * PAGE; at++)
			NEED_EQ(lists[i][at], i + 1);
	char *more = malloc(5 * PAGE);
	NEED(more);
	memset(more, generation, 5 * PAGE);
	NEED(!strcmp(block, "break"));
	char *next = sbrk(PAGE);
	NEED(next != (void *)-1 && next >= block + PAGE);
	*next = 'n';
	NEED(sbrk(0) == next + PAGE);
}

static void check(int generation)
{
	for (unsigned i = 1; i < 4; i++)
		NEED_EQ(guarded[i * PAGE + 5], 'g');
	NEED(faults(guarded + PAGE - 1, 0) && faults(guarded + 4 * PAGE, 0));
	NEED(faults(hidden, 0));
	NEED(!mprotect(hidden, PAGE, RW) && !strcmp(hidden, "hidden") && !mprotect(hidden, PAGE, PROT_NONE));

	/* Only what was written is there, and looking costs nothing. */
	NEED_EQ(kilobytes(huge, "Rss:"), 3 * 4);
	NEED(huge[0] == 'f' && huge[TIB / 2 + 12345] == 'm' && huge[TIB - 1] == 'l');
	NEED_EQ(present(read_only, 16 * PAGE), 0);
	NEED_EQ(read_only[5 * PAGE], 0);
	NEED_EQ(present(zeros, 4 * PAGE), 0);
	struct stat image;
	NEED(!stat("image", &image) && image.st_size < 8 << 20);

	check_zeros();
	NEED_EQ(run(), 42);
	code[1] = (char)(42 + generation);
	NEED_EQ(run(), 42 + generation);
	code[1] = 42;

	NEED_EQ(moved[0], '1');
	NEED_EQ(moved[PAGE], '2');
	NEED_EQ(moved[5 * PAGE], '5');
	NEED(holed[0] == '0' && holed[3 * PAGE] == '3' && faults(holed + PAGE, 0));
	moved = mremap(moved, 6 * PAGE, (size_t)(6 + generation) * PAGE, MREMAP_MAYMOVE);
	NEED(moved != MAP_FAILED);
	moved = mremap(moved, (size_t)(6 + generation) * PAGE, 6 * PAGE, 0);
	NEED(moved[5 * PAGE] == '5');

	NEED(!has_low || !strcmp(low, "low"));
	NEED(!strcmp(high, "high"));
	for (unsigned i = 0; i < 4; i++)
		NEED_EQ(faults(guards + i * PAGE, 1), has_guards && (i == 1 || i == 2));
	check_advice();
	check_stacks(generation);
	check_heap(generation);
}
