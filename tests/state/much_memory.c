/* More memory than one thread reads back alone: in one piece, and with each third page untouched; with a second thread. */
#include "state.h"
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define PAGES 32768
#define WORDS (4096 / sizeof(uint64_t))

static uint64_t *whole, *holes;
static pid_t second;

static void *idle(void *unused)
{
	__atomic_store_n(&second, gettid(), __ATOMIC_RELEASE);
	for (;;)
		pause();
	return unused;
}

static uint64_t value(uint64_t page, int generation)
{
	return (page + 1) * 0x9e3779b97f4a7c15ull + (uint64_t)generation;
}

static int touched(uint64_t *area, uint64_t page)
{
	return area == whole || page % 3 != 1;
}

static void fill(uint64_t *area, int generation)
{
	for (uint64_t page = 0; page < PAGES; page++)
		if (touched(area, page))
			area[page * WORDS] = area[page * WORDS + WORDS - 1] = value(page, generation);
}

static void look(uint64_t *area, int generation)
{
	static unsigned char here[PAGES];
	NEED(!mincore(area, PAGES * 4096ul, here));
	for (uint64_t page = 0; page < PAGES; page++) {
		NEED_EQ(here[page] & 1, touched(area, page));
		if (!touched(area, page))
			continue;
		NEED(area[page * WORDS] == value(page, generation));
		NEED(area[page * WORDS + WORDS - 1] == value(page, generation));
	}
}

static uint64_t *area(void)
{
	uint64_t *made = mmap(NULL, PAGES * 4096ul, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(made != MAP_FAILED);
	return made;
}

/* The threads of the process: those that it has made itself. */
static void count_threads(void)
{
	char line[256];
	int threads = 0;
	FILE *status = fopen("/proc/self/status", "r");
	NEED(status);
	while (fgets(line, sizeof line, status))
		if (sscanf(line, "Threads: %d", &threads) == 1)
			break;
	fclose(status);
	NEED_EQ(threads, 2);
	NEED(!syscall(SYS_tgkill, getpid(), __atomic_load_n(&second, __ATOMIC_ACQUIRE), 0));
}

static void setup(void)
{
	pthread_t thread;
	whole = area();
	holes = area();
	NEED(whole != holes);
	fill(whole, 0);
	fill(holes, 0);
	NEED(!pthread_create(&thread, NULL, idle, NULL));
	while (!__atomic_load_n(&second, __ATOMIC_ACQUIRE))
		sched_yield();
}

static void check(int generation)
{
	count_threads();
	look(whole, generation - 1);
	look(holes, generation - 1);
	fill(whole, generation);
	fill(holes, generation);
}
