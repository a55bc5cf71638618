/* Waiting on words in shared memory: mutexes and conditions of several processes, some of them robust, a bare
 * futex with a time limit, a semaphore. */
#include "state.h"
#include <limits.h>
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static struct shared {
	pthread_mutex_t mutex, robust, left;
	pthread_cond_t condition;
	sem_t semaphore;
	uint32_t word;
	int wanted, seen, waiting;
	int results[4];
} *shared;

static void *in_shared(void)
{
	void *at = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(at != MAP_FAILED);
	return at;
}

static void mutex(pthread_mutex_t *at, int robust)
{
	pthread_mutexattr_t attributes;
	NEED(!pthread_mutexattr_init(&attributes));
	NEED(!pthread_mutexattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	NEED(!pthread_mutexattr_setrobust(&attributes, robust));
	NEED(!pthread_mutex_init(at, &attributes));
}

static long futex(uint32_t *word, int operation, uint32_t value, const struct timespec *limit)
{
	return syscall(SYS_futex, word, operation, value, limit, NULL, 0);
}

/* A process that does this again and again. */
static void child(void (*run)(void))
{
	int pid = fork();
	NEED(pid >= 0);
	if (pid)
		return;
	__atomic_add_fetch(&shared->waiting, 1, __ATOMIC_SEQ_CST);
	for (;;)
		run();
}

static void waits_for_mutex(void)
{
	NEED(!pthread_mutex_lock(&shared->mutex));
	shared->results[0]++;
	NEED(!pthread_mutex_unlock(&shared->mutex));
	/* Once each generation. */
	while (__atomic_load_n(&shared->seen, __ATOMIC_SEQ_CST) < shared->results[0])
		usleep(1000);
}

static void waits_for_condition(void)
{
	NEED(!pthread_mutex_lock(&shared->robust));
	while (shared->wanted == shared->results[1])
		NEED(!pthread_cond_wait(&shared->condition, &shared->robust));
	shared->results[1]++;
	NEED(!pthread_mutex_unlock(&shared->robust));
}

static void waits_for_semaphore(void)
{
	while (sem_wait(&shared->semaphore))
		NEED(errno == EINTR);
	__atomic_add_fetch(&shared->results[2], 1, __ATOMIC_SEQ_CST);
}

static void waits_for_word(void)
{
	struct timespec long_time = { 3600, 0 };
	uint32_t now = __atomic_load_n(&shared->word, __ATOMIC_SEQ_CST);
	if (futex(&shared->word, FUTEX_WAIT, now, &long_time) == 0)
		__atomic_add_fetch(&shared->results[3], 1, __ATOMIC_SEQ_CST);
	else
		NEED(errno == EAGAIN || errno == EINTR);
}

/* All children sleep in the kernel, where they wait. */
static void wait_until_asleep(void)
{
	char path[64], state;
	FILE *children = fopen("/proc/thread-self/children", "re");
	int pid;
	NEED(children);
	while (fscanf(children, "%d", &pid) == 1) {
		snprintf(path, sizeof path, "/proc/%d/syscall", pid);
		do {
			usleep(1000);
			FILE *file = fopen(path, "re");
			NEED(file);
			long number = -1;
			state = (char)(fscanf(file, "%ld", &number) == 1 && number == SYS_futex);
			fclose(file);
		} while (!state);
	}
	fclose(children);
}

static void setup(void)
{
	pthread_condattr_t attributes;
	shared = in_shared();
	mutex(&shared->mutex, PTHREAD_MUTEX_STALLED);
	mutex(&shared->robust, PTHREAD_MUTEX_ROBUST);
	mutex(&shared->left, PTHREAD_MUTEX_ROBUST);
	NEED(!pthread_condattr_init(&attributes));
	NEED(!pthread_condattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	NEED(!pthread_cond_init(&shared->condition, &attributes));
	NEED(!sem_init(&shared->semaphore, 1, 0));
	NEED(!pthread_mutex_lock(&shared->mutex));
	child(waits_for_mutex);
	child(waits_for_condition);
	child(waits_for_semaphore);
	child(waits_for_word);
	while (__atomic_load_n(&shared->waiting, __ATOMIC_SEQ_CST) < 4)
		usleep(1000);
	wait_until_asleep();
}

static void becomes(const int *result, int value)
{
	while (__atomic_load_n(result, __ATOMIC_SEQ_CST) != value)
		usleep(1000);
}

static void check(int generation)
{
	/* None of them has woken up meanwhile. */
	for (int i = 0; i < 4; i++)
		NEED_EQ(shared->results[i], generation - 1);
	NEED(!pthread_mutex_unlock(&shared->mutex));
	becomes(&shared->results[0], generation);
	while (pthread_mutex_trylock(&shared->mutex))
		usleep(1000);
	__atomic_store_n(&shared->seen, generation, __ATOMIC_SEQ_CST);

	NEED(!pthread_mutex_lock(&shared->robust));
	shared->wanted++;
	NEED(!pthread_cond_signal(&shared->condition));
	NEED(!pthread_mutex_unlock(&shared->robust));
	becomes(&shared->results[1], generation);

	NEED(!sem_post(&shared->semaphore));
	becomes(&shared->results[2], generation);

	/* The waiter is still in the queue of the word, or puts itself there again. */
	__atomic_add_fetch(&shared->word, 1, __ATOMIC_SEQ_CST);
	while (futex(&shared->word, FUTEX_WAKE, 1, NULL) == 0)
		usleep(1000);
	becomes(&shared->results[3], generation);

	/* A process that ends with a robust mutex gives it back, with a word about it. */
	int pid = fork();
	NEED(pid >= 0);
	if (pid == 0) {
		pthread_mutex_lock(&shared->left);
		_exit(0);
	}
	NEED(waitpid(pid, NULL, 0) == pid);
	NEED_EQ(pthread_mutex_lock(&shared->left), EOWNERDEAD);
	NEED(!pthread_mutex_consistent(&shared->left) && !pthread_mutex_unlock(&shared->left));
	wait_until_asleep();
}
