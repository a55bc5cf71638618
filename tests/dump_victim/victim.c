/* What the tests of checkpoints checkpoint. The first argument says which, the second is the file that says
 * "ready" (and more), by rename. Every mode runs until SIGTERM or until it is killed.
 *
 *   state  one process with a bit of everything, whose addresses and numbers the ready file tells
 *   calls  a process for each kind of interrupted system call; SIGUSR1 makes all calls end, the result
 *          goes to the third argument
 *   saved  the same, but for calls on descriptors that no image can have
 *   forks  processes and threads that come and go all the time; SIGUSR1 ends it, the result goes to the
 *          third argument
 *   work   processes and threads that compute, sleep and signal all the time and check themselves; at
 *          SIGUSR1 the result goes to the third argument
 *   hundred  the same with 100 tasks, which sleep longer
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/select.h>
#include <sys/sem.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static void put(const char *path, const char *text)
{
	char tmp[4096];
	snprintf(tmp, sizeof tmp, "%s.tmp", path);
	int fd = open(tmp, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	size_t len = strlen(text);
	if (fd < 0 || write(fd, text, len) != (ssize_t)len || close(fd) || rename(tmp, path))
		_exit(90);
}

static void need(int ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "victim: %s: %s\n", what, strerror(errno));
		_exit(91);
	}
}
#define NEED(x) need((x), #x)

/* ---- state ---- */

static void on_usr1(int signal, siginfo_t *info, void *context)
{
	(void)signal;
	(void)info;
	(void)context;
}

static volatile int idling;

static void *idle(void *arg)
{
	stack_t alt = { .ss_sp = arg, .ss_size = 32768 };
	NEED(sigaltstack(&alt, NULL) == 0);
	NEED(prctl(PR_SET_NAME, "idler") == 0);
	idling = 1;
	for (;;)
		pause();
	return NULL;
}

static int state(const char *ready, const char *directory)
{
	char text[4096];
	static char altstack[65536], thread_stack[65536];
	struct sigaction action = { .sa_sigaction = on_usr1, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigaddset(&action.sa_mask, SIGUSR2);
	NEED(sigaction(SIGUSR1, &action, NULL) == 0);
	struct sigaction children = { .sa_handler = SIG_DFL, .sa_flags = SA_NOCLDWAIT };
	NEED(sigaction(SIGCHLD, &children, NULL) == 0);
	signal(SIGPIPE, SIG_IGN);
	stack_t alt = { .ss_sp = altstack, .ss_size = sizeof altstack };
	NEED(sigaltstack(&alt, NULL) == 0);
	NEED(prctl(PR_SET_NAME, "a victim) S 1") == 0);
	NEED(prctl(PR_SET_PDEATHSIG, SIGWINCH) == 0);
	NEED(prctl(PR_SET_CHILD_SUBREAPER, 1) == 0);
	umask(027);
	NEED(chdir(directory) == 0);
	struct itimerval timer = { .it_value = { 1000, 0 }, .it_interval = { 7, 500000 } };
	NEED(setitimer(ITIMER_REAL, &timer, NULL) == 0);
	sigset_t blocked;
	sigemptyset(&blocked);
	sigaddset(&blocked, SIGUSR2);
	sigaddset(&blocked, SIGRTMIN);
	NEED(sigprocmask(SIG_BLOCK, &blocked, NULL) == 0);
	union sigval value = { .sival_int = 4711 };
	NEED(sigqueue(getpid(), SIGRTMIN, value) == 0);
	NEED(syscall(SYS_tgkill, getpid(), getpid(), SIGUSR2) == 0);

	int file = open("data", O_RDWR | O_CREAT | O_APPEND, 0600);
	NEED(file >= 0 && write(file, "0123456789", 10) == 10 && lseek(file, 4, SEEK_SET) == 4);
	NEED(dup2(file, 20) == 20);
	int again = open("data", O_RDONLY | O_CLOEXEC);
	NEED(again >= 0 && ftruncate(file, 8192) == 0);
	int dir = open(".", O_RDONLY | O_DIRECTORY);
	int pipes[2];
	NEED(dir >= 0 && pipe2(pipes, O_NONBLOCK) == 0 && write(pipes[1], "in the pipe", 11) == 11);

	long size = 4096;
	char *anon = mmap(NULL, 8 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(anon != MAP_FAILED);
	memset(anon + 2 * size, 'A', 2 * size);
	NEED(mprotect(anon, 8 * size, PROT_NONE) == 0);
	char *cow = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	NEED(cow != MAP_FAILED);
	cow[size] = 'C';
	char *shared_file = mmap(NULL, 2 * size, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	char *shared = mmap(NULL, 16 * size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(shared_file != MAP_FAILED && shared != MAP_FAILED);
	memset(shared + 5 * size, 'S', size);
	NEED(munmap(shared, 3 * size) == 0);
	NEED(sbrk(123) != (void *)-1);

	pthread_t thread;
	NEED(pthread_create(&thread, NULL, idle, thread_stack) == 0);
	pid_t child = fork();
	if (child == 0) {
		siginfo_t info;
		NEED(setsid() == getpid());
		/* Without SA_NOCLDWAIT a zombie stays. */
		signal(SIGCHLD, SIG_DFL);
		pid_t zombie = fork();
		if (zombie == 0)
			_exit(7);
		NEED(waitid(P_PID, zombie, &info, WEXITED | WNOWAIT) == 0);
		shared[5 * size] = 'T';
		for (;;)
			pause();
	}
	while (((volatile char *)shared)[5 * size] != 'T' || !idling)
		sched_yield();
	snprintf(text, sizeof text,
		 "usr1 %lx\naltstack %lx\nfile %d\nagain %d\ndir %d\nread %d\nwrite %d\nanon %lx\ncow %lx\n"
		 "shared_file %lx\nshared %lx\nbrk %lx\nthread_stack %lx\nchild %x\n",
		 (unsigned long)on_usr1, (unsigned long)altstack, file, again, dir, pipes[0], pipes[1],
		 (unsigned long)anon, (unsigned long)cow, (unsigned long)shared_file, (unsigned long)shared,
		 (unsigned long)sbrk(0), (unsigned long)thread_stack, child);
	put(ready, text);
	for (;;)
		pause();
}

/* ---- calls ---- */

static volatile sig_atomic_t got;
static int *go_fd, *never_fd, sem, *word;

static void note(int signal)
{
	got = signal;
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Each waits for something that happens when SIGUSR1 has come; 0: as it should be. */
static int call_read(void)
{
	char c;
	return read(go_fd[0], &c, 1) != 1;
}
static int call_poll(void)
{
	struct pollfd p = { .fd = go_fd[0], .events = POLLIN };
	return poll(&p, 1, 60000) != 1;
}
static int call_select(void)
{
	fd_set set;
	FD_ZERO(&set);
	FD_SET(go_fd[0], &set);
	return select(go_fd[0] + 1, &set, NULL, NULL, NULL) != 1;
}
static int call_epoll(void)
{
	struct epoll_event e = { .events = EPOLLIN };
	int ep = epoll_create1(0);
	return epoll_ctl(ep, EPOLL_CTL_ADD, go_fd[0], &e) || epoll_wait(ep, &e, 1, 60000) != 1;
}
static int call_sigwait(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	struct timespec t = { 60, 0 };
	return sigtimedwait(&set, NULL, &t) != SIGUSR2;
}
static int call_sigsuspend(void)
{
	sigset_t none;
	sigemptyset(&none);
	return !(sigsuspend(&none) == -1 && errno == EINTR && got == SIGUSR2);
}
static int call_pause(void)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	return !(pause() == -1 && errno == EINTR && got == SIGUSR2);
}
static int call_semtimedop(void)
{
	struct sembuf op = { 0, -1, 0 };
	struct timespec t = { 60, 0 };
	return semtimedop(sem, &op, 1, &t) != 0;
}
static int call_futex(void)
{
	struct timespec t = { 60, 0 };
	while (*(volatile int *)word == 0)
		if (syscall(SYS_futex, word, FUTEX_WAIT, 0, &t, NULL, 0) && errno != EAGAIN)
			return errno;
	return 0;
}
static int call_wait(void)
{
	int status;
	pid_t pid = fork();
	if (pid == 0)
		_exit(call_read() ? 1 : 5);
	return !(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 5);
}
static int call_nanosleep(void)
{
	long long start = now();
	struct timespec t = { 1, 500000000 }, rest = { 9, 9 };
	if (nanosleep(&t, &rest))
		return 1;
	return now() - start < 1500000000LL || now() - start > 20000000000LL;
}
static int call_sleep_until(void)
{
	struct timespec t;
	long long start = now();
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += 1;
	return clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL) || now() - start < 1000000000LL;
}

static const struct {
	const char *name;
	int (*call)(void);
} all_calls[] = {
	{ "read", call_read },		   { "poll", call_poll },	     { "select", call_select },
	{ "epoll", call_epoll },	   { "sigwait", call_sigwait },	     { "sigsuspend", call_sigsuspend },
	{ "pause", call_pause },	   { "semtimedop", call_semtimedop }, { "futex", call_futex },
	{ "wait", call_wait },		   { "nanosleep", call_nanosleep },  { "until", call_sleep_until },
};
#define CALLS ((int)(sizeof all_calls / sizeof *all_calls))

static int calls(const char *ready, const char *result, int refused)
{
	pid_t pids[CALLS];
	char text[4096] = "";
	int ends[2][2];
	sigset_t set;
	NEED(pipe(ends[0]) == 0 && pipe(ends[1]) == 0);
	go_fd = ends[0];
	never_fd = ends[1];
	word = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(word != MAP_FAILED);
	sem = semget(IPC_PRIVATE, 1, 0600);
	NEED(sem >= 0);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	struct sigaction action = { .sa_handler = note };
	NEED(sigaction(SIGUSR2, &action, NULL) == 0);
	/* Files of /proc cannot be saved. */
	NEED(!refused || open("/proc/self/status", O_RDONLY) >= 0);
	for (int i = 0; i < CALLS; i++) {
		pids[i] = fork();
		if (pids[i] == 0)
			_exit(all_calls[i].call());
		char one[64];
		snprintf(one, sizeof one, "%s %x\n", all_calls[i].name, pids[i]);
		strcat(text, one);
	}
	put(ready, text);
	int signal;
	sigdelset(&set, SIGUSR2);
	NEED(sigwait(&set, &signal) == 0);
	char go[64] = "";
	*word = 1;
	syscall(SYS_futex, word, FUTEX_WAKE, 100, NULL, NULL, 0);
	struct sembuf up = { 0, 1, 0 };
	semop(sem, &up, 1);
	NEED(write(go_fd[1], go, sizeof go) == sizeof go);
	text[0] = 0;
	for (int i = 0; i < CALLS; i++) {
		int status;
		kill(pids[i], SIGUSR2);
		waitpid(pids[i], &status, 0);
		if (status) {
			char one[64];
			snprintf(one, sizeof one, "%s: status %x\n", all_calls[i].name, status);
			strcat(text, one);
		}
	}
	semctl(sem, 0, IPC_RMID);
	put(result, *text ? text : "ok");
	return 0;
}

/* ---- work ---- */

struct shared {
	volatile int stop, failures, ended_early;
	char why[256];
	volatile long rounds[512];
};
static struct shared *sh;
static long rest = 200000;

static void wrong(const char *what)
{
	if (__sync_fetch_and_add(&sh->failures, 1) == 0)
		snprintf(sh->why, sizeof sh->why, "%s (errno %d)", what, errno);
}

/* Integer and vector registers, flags, red zone: all in use while a stop may come. */
static uint64_t compute(uint64_t x)
{
	double d[8], sum = 0;
	for (int i = 0; i < 8; i++)
		d[i] = (double)(x % 1000) + i;
	for (int r = 0; r < 500; r++) {
		for (int i = 0; i < 8; i++)
			d[i] = d[i] * 1.0000001 + 0.5;
		x = x * 6364136223846793005ULL + 1442695040888963407ULL;
		x ^= x >> 17;
	}
	for (int i = 0; i < 8; i++)
		sum += d[i];
	return x ^ (uint64_t)(sum * 1024);
}

static void *worker(void *arg)
{
	long me = (long)arg;
	uint64_t want = compute(me + 1);
	sigset_t mask, before;
	pthread_sigmask(SIG_SETMASK, NULL, &before);
	while (!sh->stop) {
		for (int i = 0; i < (rest > 1000000 ? 2 : 20); i++)
			if (compute(me + 1) != want)
				wrong("compute");
		struct timespec t = { 0, rest };
		if (nanosleep(&t, NULL))
			wrong("nanosleep");
		int p[2];
		char c = 0;
		if (pipe(p) || write(p[1], "x", 1) != 1 || read(p[0], &c, 1) != 1 || c != 'x' || close(p[0]) ||
		    close(p[1]))
			wrong("pipe");
		struct timespec soon = { 0, 100000 };
		sigset_t hup;
		sigemptyset(&hup);
		sigaddset(&hup, SIGHUP);
		if (sigtimedwait(&hup, NULL, &soon) != -1 || (errno != EAGAIN && errno != EINTR))
			wrong("sigtimedwait");
		if (errno == EINTR)
			__sync_fetch_and_add(&sh->ended_early, 1);
		pthread_sigmask(SIG_SETMASK, NULL, &mask);
		if (memcmp(&mask, &before, 8))
			wrong("signal mask");
		if (getppid() == 0)
			wrong("getppid");
		sh->rounds[me % 512]++;
	}
	return NULL;
}

static int work(const char *ready, const char *result, int processes)
{
	sigset_t set;
	int signal;
	enum { THREADS = 2 };
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(sh != MAP_FAILED);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (long p = 0; p < processes; p++) {
		if (fork())
			continue;
		pthread_t threads[THREADS];
		for (long t = 0; t < THREADS; t++)
			NEED(pthread_create(&threads[t], NULL, worker, (void *)(p * 8 + t)) == 0);
		worker((void *)(p * 8 + THREADS));
		for (long t = 0; t < THREADS; t++)
			pthread_join(threads[t], NULL);
		_exit(0);
	}
	put(ready, "");
	NEED(sigwait(&set, &signal) == 0);
	/* All must still get on. */
	for (long p = 0; p < processes; p++)
		for (long t = 0; t <= THREADS; t++) {
			long from = sh->rounds[p * 8 + t];
			for (int i = 0; i < 10000 && sh->rounds[p * 8 + t] < from + 2; i++)
				usleep(1000);
			if (sh->rounds[p * 8 + t] < from + 2)
				wrong("a thread stands still");
		}
	sh->stop = 1;
	for (int p = 0; p < processes; p++) {
		int status;
		if (wait(&status) < 0 || status)
			wrong("a process did not end well");
	}
	put(result, sh->failures ? sh->why : sh->ended_early ? "ok, but for EINTR" : "ok");
	return 0;
}

/* ---- forks ---- */

static void *count(void *arg)
{
	__sync_fetch_and_add((volatile long *)arg, 1);
	return NULL;
}

/* A child that makes a grandchild and a thread, which must both have been there. */
static int short_life(void)
{
	volatile long threads = 0;
	int status;
	pthread_t thread;
	pid_t pid = fork();
	if (pid == 0)
		_exit(getppid() == 1);
	if (pid < 0 || pthread_create(&thread, NULL, count, (void *)&threads) || pthread_join(thread, NULL))
		return 1;
	return waitpid(pid, &status, 0) != pid || status != 0 || threads != 1;
}

static int forks(const char *ready, const char *result)
{
	enum { PARENTS = 3 };
	sigset_t set;
	int signal;
	sh = mmap(NULL, sizeof *sh, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(sh != MAP_FAILED);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	NEED(sigprocmask(SIG_BLOCK, &set, NULL) == 0);
	for (int p = 0; p < PARENTS; p++) {
		if (fork())
			continue;
		while (!sh->stop) {
			int status;
			pid_t pid = p ? fork() : vfork();
			if (pid == 0)
				_exit(p ? short_life() : 0);
			if (pid < 0 || waitpid(pid, &status, 0) != pid || status)
				wrong("a child");
			sh->rounds[p]++;
		}
		_exit(0);
	}
	while (!sh->rounds[0] || !sh->rounds[1] || !sh->rounds[2])
		usleep(100);
	put(ready, "");
	NEED(sigwait(&set, &signal) == 0);
	sh->stop = 1;
	for (int p = 0; p < PARENTS; p++) {
		int status;
		if (wait(&status) < 0 || status)
			wrong("a process did not end well");
	}
	put(result, sh->failures ? sh->why : "ok");
	return 0;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	if (!strcmp(argv[1], "state"))
		return state(argv[2], argv[3]);
	if (!strcmp(argv[1], "calls"))
		return calls(argv[2], argv[3], 1);
	if (!strcmp(argv[1], "saved"))
		return calls(argv[2], argv[3], 0);
	if (!strcmp(argv[1], "forks"))
		return forks(argv[2], argv[3]);
	if (!strcmp(argv[1], "work"))
		return work(argv[2], argv[3], 4);
	if (!strcmp(argv[1], "hundred")) {
		rest = 15000000;
		return work(argv[2], argv[3], 33);
	}
	return 2;
}
