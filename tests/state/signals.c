/* Signals: actions, what waits and in which order, alarms, interval timers, the parent-death signal. */
#include "state.h"
#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

static sigset_t waiting;
static volatile sig_atomic_t alarms, virtuals, handled;
static volatile pid_t *grandchild;
static pthread_barrier_t start, looked;

static void on_alarm(int number)
{
	if (number == SIGALRM)
		alarms++;
	else
		virtuals++;
}

static void on_info(int number, siginfo_t *info, void *context)
{
	sigset_t mask;
	(void)context;
	sigprocmask(SIG_SETMASK, NULL, &mask);
	/* Its own mask, and itself. */
	if (info->si_pid == getpid() && sigismember(&mask, SIGHUP) == 1 && sigismember(&mask, number) == 1)
		handled++;
}

static void queue(int number, int value)
{
	union sigval v = { .sival_int = value };
	NEED_EQ(sigqueue(getpid(), number, v), 0);
}

/* Realtime signals of one number, some for the process and one for a thread, and a plain one. */
static void send(void)
{
	queue(SIGRTMIN + 3, 30);
	queue(SIGRTMIN + 2, 20);
	queue(SIGRTMIN + 3, 31);
	queue(SIGRTMIN + 3, 32);
	NEED_EQ(kill(getpid(), SIGUSR2), 0);
}

static void receive(void)
{
	siginfo_t info;
	struct timespec none = { 0, 0 };
	NEED_EQ(sigtimedwait(&waiting, &info, &none), SIGUSR2);
	NEED(info.si_code == SI_USER && info.si_pid == getpid() && info.si_uid == getuid());
	NEED_EQ(sigtimedwait(&waiting, &info, &none), SIGRTMIN + 2);
	NEED_EQ(info.si_value.sival_int, 20);
	for (int i = 30; i <= 32; i++) {
		NEED_EQ(sigtimedwait(&waiting, &info, &none), SIGRTMIN + 3);
		NEED(info.si_code == SI_QUEUE && info.si_pid == getpid());
		NEED_EQ(info.si_value.sival_int, i);
	}
	NEED(sigtimedwait(&waiting, &info, &none) < 0 && errno == EAGAIN);
}

/* Sends this thread something that nobody else may take; all that siginfo has for it comes from us. */
static void queue_own(int number, int value)
{
	siginfo_t info = { .si_signo = number, .si_code = SI_MESGQ, .si_errno = 17 };
	info.si_pid = 12345;
	info.si_uid = 54321;
	info.si_value.sival_ptr = (void *)(0x123456780000 + (long)value);
	NEED_EQ(syscall(SYS_rt_tgsigqueueinfo, getpid(), syscall(SYS_gettid), number, &info), 0);
}

static void own_is(int number, int value)
{
	siginfo_t info;
	struct timespec none = { 0, 0 };
	/* Not the C library's: it tells SI_TKILL as SI_USER. */
	NEED_EQ(syscall(SYS_rt_sigtimedwait, &waiting, &info, &none, 8), number);
	if (value == 0) {
		NEED_EQ(info.si_code, SI_TKILL);
		NEED_EQ(info.si_pid, getpid());
		return;
	}
	NEED_EQ(info.si_code, SI_MESGQ);
	NEED_EQ(info.si_errno, 17);
	NEED_EQ(info.si_pid, 12345);
	NEED_EQ(info.si_uid, 54321);
	NEED(info.si_value.sival_ptr == (void *)(0x123456780000 + (long)value));
}

/* Whether a signal waits for this thread or for its process. */
static int waits(int number)
{
	sigset_t set;
	NEED_EQ(sigpending(&set), 0);
	return sigismember(&set, number);
}

static void *thread(void *arg)
{
	for (;;) {
		queue_own(SIGRTMIN + 4, 1);
		NEED_EQ(pthread_kill(pthread_self(), SIGRTMIN + 4), 0);
		queue_own(SIGRTMIN + 4, 2);
		queue_own(SIGUSR2, 3);
		pthread_barrier_wait(&looked);
		pthread_barrier_wait(&start);
		/* What waits for the process waits for this thread too, behind its own. */
		NEED(waits(SIGUSR2) && waits(SIGRTMIN + 2) && waits(SIGRTMIN + 3));
		own_is(SIGUSR2, 3);
		NEED(waits(SIGUSR2));
		own_is(SIGRTMIN + 4, 1);
		own_is(SIGRTMIN + 4, 0);
		own_is(SIGRTMIN + 4, 2);
		NEED(!waits(SIGRTMIN + 4));
	}
	return arg;
}

static void setup(void)
{
	pthread_t other;
	struct sigaction action = { .sa_sigaction = on_info, .sa_flags = SA_SIGINFO | SA_RESTART };
	sigemptyset(&action.sa_mask);
	sigaddset(&action.sa_mask, SIGHUP);
	NEED_EQ(sigaction(SIGUSR1, &action, NULL), 0);
	struct sigaction once = { .sa_handler = on_alarm, .sa_flags = SA_RESETHAND | SA_NODEFER };
	NEED_EQ(sigaction(SIGVTALRM, &once, NULL), 0);
	struct sigaction plain = { .sa_handler = on_alarm, .sa_flags = SA_RESTART };
	NEED_EQ(sigaction(SIGALRM, &plain, NULL), 0);
	NEED(signal(SIGPIPE, SIG_IGN) != SIG_ERR);
	sigemptyset(&waiting);
	for (int i = 2; i <= 4; i++)
		sigaddset(&waiting, SIGRTMIN + i);
	sigaddset(&waiting, SIGUSR2);
	NEED_EQ(sigprocmask(SIG_BLOCK, &waiting, NULL), 0);
	struct itimerval far = { { 70, 0 }, { 1000, 0 } }, virtual = { { 0, 0 }, { 500, 0 } };
	NEED_EQ(setitimer(ITIMER_REAL, &far, NULL), 0);
	NEED_EQ(setitimer(ITIMER_VIRTUAL, &virtual, NULL), 0);
	NEED_EQ(setitimer(ITIMER_PROF, &virtual, NULL), 0);
	/* A child whose own child is to be told of its end. */
	grandchild = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(grandchild != MAP_FAILED);
	if (fork() == 0) {
		pid_t own = fork();
		if (own == 0) {
			sigset_t set;
			int number;
			sigemptyset(&set);
			sigaddset(&set, SIGRTMIN + 1);
			sigprocmask(SIG_BLOCK, &set, NULL);
			prctl(PR_SET_PDEATHSIG, SIGRTMIN + 1);
			grandchild[1] = getpid();
			if (sigwait(&set, &number) == 0)
				state_put("orphaned", "");
			for (;;)
				pause();
		}
		struct timespec tick = { 0, 1000000 };
		while (!grandchild[1] || !grandchild[0])
			nanosleep(&tick, NULL);
		_exit(0);
	}
	pthread_barrier_init(&start, NULL, 2);
	pthread_barrier_init(&looked, NULL, 2);
	NEED_EQ(pthread_create(&other, NULL, thread, NULL), 0);
	pthread_barrier_wait(&looked);
	send();
}

static void check(int generation)
{
	struct itimerval timer;
	struct sigaction action;
	/* The thread's own are nobody else's. */
	NEED(!waits(SIGRTMIN + 4));
	NEED(waits(SIGRTMIN + 3));
	pthread_barrier_wait(&start);
	pthread_barrier_wait(&looked);
	receive();
	NEED_EQ(kill(getpid(), SIGUSR1), 0);
	NEED_EQ(handled, generation);
	NEED_EQ(sigaction(SIGPIPE, NULL, &action), 0);
	NEED(action.sa_handler == SIG_IGN);
	NEED_EQ(sigaction(SIGVTALRM, NULL, &action), 0);
	NEED(action.sa_flags & (int)SA_RESETHAND && action.sa_flags & SA_NODEFER);
	NEED_EQ(getitimer(ITIMER_REAL, &timer), 0);
	NEED(timer.it_value.tv_sec > 900 && timer.it_value.tv_sec <= 1000 && timer.it_interval.tv_sec == 70);
	NEED_EQ(getitimer(ITIMER_VIRTUAL, &timer), 0);
	NEED(timer.it_value.tv_sec > 400 && timer.it_value.tv_sec <= 500);
	NEED_EQ(getitimer(ITIMER_PROF, &timer), 0);
	NEED(timer.it_value.tv_sec > 400 && timer.it_value.tv_sec <= 500);
	if (generation == 1) {
		send();
		return;
	}
	NEED(alarm(1) > 900);
	while (!alarms)
		pause();
	/* The others tick with the same action as ever: once, as its flags say. */
	struct itimerval soon = { { 0, 0 }, { 0, 1000 } };
	NEED_EQ(setitimer(ITIMER_VIRTUAL, &soon, NULL), 0);
	while (!virtuals)
		;
	NEED_EQ(sigaction(SIGVTALRM, NULL, &action), 0);
	NEED(action.sa_handler == SIG_DFL);
	grandchild[0] = 1;
	NEED(wait(NULL) > 0);
	state_await("orphaned");
	kill(grandchild[1], SIGKILL);
}
