/* POSIX timers: their ids, clocks and values, whom they signal, what is left of them; also one whose signal waits. */
#include "state.h"
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define SECOND 1000000000LL

static timer_t far, periodic, threaded, called, silent, late, off;
static volatile sig_atomic_t ticks[8];
static volatile pid_t got_by;
static pid_t helper_tid;
static volatile long *tick_count;
/* More than fit in what a checkpoint asks for at once. */
enum { MANY = 75 };
static timer_t many[MANY];

static void on_tick(int number, siginfo_t *info, void *context)
{
	(void)number;
	(void)context;
	if (info->si_code == SI_TIMER) {
		ticks[info->si_value.sival_int]++;
		if (info->si_value.sival_int == 3)
			got_by = (pid_t)syscall(SYS_gettid);
	}
}

/* Of the timer for which the C library starts a thread each time. */
static void on_call(union sigval value)
{
	ticks[value.sival_int]++;
}

static void *helper(void *arg)
{
	sigset_t set;
	helper_tid = (pid_t)syscall(SYS_gettid);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	for (;;)
		pause();
	return arg;
}

static timer_t make(clockid_t clock, int notify, int number, int val, pid_t tid)
{
	timer_t timer;
	struct sigevent event = { .sigev_notify = notify, .sigev_signo = number };
	event.sigev_value.sival_int = val;
	event._sigev_un._tid = tid;
	NEED_EQ(timer_create(clock, &event, &timer), 0);
	return timer;
}

static void start(timer_t timer, long long left, long long interval)
{
	struct itimerspec spec = { { interval / SECOND, interval % SECOND }, { left / SECOND, left % SECOND } };
	NEED_EQ(timer_settime(timer, 0, &spec, NULL), 0);
}

static long long left_of(timer_t timer, long long *interval)
{
	struct itimerspec spec;
	NEED_EQ(timer_gettime(timer, &spec), 0);
	if (interval)
		*interval = spec.it_interval.tv_sec * SECOND + spec.it_interval.tv_nsec;
	return spec.it_value.tv_sec * SECOND + spec.it_value.tv_nsec;
}

static void await_tick(int value)
{
	struct timespec tick = { 0, 1000000 };
	ticks[value] = 0;
	while (!ticks[value])
		nanosleep(&tick, NULL);
}

static void arm(void)
{
	start(far, 1000 * SECOND, 77);
	start(periodic, SECOND / 100, SECOND / 100);
	start(threaded, SECOND / 100, SECOND / 100);
	start(called, SECOND / 100, SECOND / 100);
	start(silent, 500 * SECOND, 0);
	start(late, 1, 0);
	struct timespec tick = { 0, 1000000 };
	sigset_t set;
	do {
		nanosleep(&tick, NULL);
		sigpending(&set);
	} while (!sigismember(&set, SIGRTMIN + 5));
}

static void setup(void)
{
	pthread_t thread;
	sigset_t set;
	struct sigaction action = { .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART };
	NEED_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	NEED_EQ(sigaction(SIGUSR2, &action, NULL), 0);
	tick_count = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(tick_count != MAP_FAILED);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN + 5);
	NEED_EQ(pthread_sigmask(SIG_BLOCK, &set, NULL), 0);
	NEED_EQ(pthread_create(&thread, NULL, helper, NULL), 0);
	while (!*(volatile pid_t *)&helper_tid)
		sched_yield();
	/* Ids with gaps between them. */
	timer_t gone = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 0, 0);
	far = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1, 0);
	NEED_EQ(timer_delete(gone), 0);
	periodic = make(CLOCK_REALTIME, SIGEV_SIGNAL, SIGUSR1, 2, 0);
	threaded = make(CLOCK_BOOTTIME, SIGEV_THREAD_ID, SIGUSR2, 3, helper_tid);
	struct sigevent event = { .sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 0 };
	event.sigev_notify_function = on_call;
	NEED_EQ(timer_create(CLOCK_MONOTONIC, &event, &called), 0);
	silent = make(CLOCK_MONOTONIC, SIGEV_NONE, 0, 4, 0);
	late = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGRTMIN + 5, 5, 0);
	off = make(CLOCK_PROCESS_CPUTIME_ID, SIGEV_SIGNAL, SIGUSR1, 6, 0);
	for (int i = 0; i < MANY; i++) {
		many[i] = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 1, 0);
		start(many[i], (10000 + i * 1000) * SECOND, i);
	}
	/* A process whose ids are far from the start. */
	if (fork() == 0) {
		timer_t timer = NULL;
		for (int i = 0; i < 100; i++) {
			timer = make(CLOCK_MONOTONIC, SIGEV_SIGNAL, SIGUSR1, 7, 0);
			if (i < 99)
				NEED_EQ(timer_delete(timer), 0);
		}
		start(timer, SECOND / 100, SECOND / 100);
		for (;;) {
			await_tick(7);
			(*tick_count)++;
		}
	}
	arm();
}

static void check(int generation)
{
	long long interval, left = left_of(far, &interval);
	siginfo_t info;
	sigset_t set;
	struct timespec none = { 0, 0 };
	(void)generation;
	NEED(left > 900 * SECOND && left <= 1000 * SECOND);
	NEED_EQ(interval, 77);
	left = left_of(silent, &interval);
	NEED(left > 400 * SECOND && left <= 500 * SECOND);
	NEED_EQ(interval, 0);
	NEED_EQ(left_of(off, &interval), 0);
	NEED_EQ(left_of(late, &interval), 0);
	for (int i = 0; i < MANY; i++) {
		left = left_of(many[i], &interval);
		NEED(left > (9000 + i * 1000) * SECOND && left <= (10000 + i * 1000) * SECOND);
		NEED_EQ(interval, i);
	}
	await_tick(2);
	start(periodic, 0, 0);
	await_tick(3);
	NEED_EQ(got_by, helper_tid);
	start(threaded, 0, 0);
	await_tick(0);
	start(called, 0, 0);
	/* The signal that was waiting, once. */
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN + 5);
	NEED_EQ(sigtimedwait(&set, &info, &none), SIGRTMIN + 5);
	NEED(info.si_code == SI_TIMER && info.si_value.sival_int == 5);
	NEED(sigtimedwait(&set, &info, &none) < 0 && errno == EAGAIN);
	long before = *tick_count;
	while (*tick_count == before)
		nanosleep(&(struct timespec){ 0, 1000000 }, NULL);
	/* A timer of processor time. */
	start(off, SECOND / 100, 0);
	ticks[6] = 0;
	while (!ticks[6])
		;
	arm();
}
