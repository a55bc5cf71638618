/* uts and ipc namespaces of the tasks' own: names of the host, limits, System V shared memory, and who is in which. */
#include "state.h"
#include <sched.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>
#include <sys/stat.h>

struct told {
	volatile int asked, answered;
	char host[65], domain[65], sem[64];
	ino_t uts, ipc;
	/* Found by its key; and what the kernel says of it. */
	int segment;
	unsigned long attached;
	char text[16];
	int number;
	/* How often both have been asked. */
	int count;
};
static struct told *told;
static int denied;

#define KEY 0x7e5b0001
#define SEGMENT_SIZE (2 * 4096 + 1)
/* Shared memory of the inner namespace, and its number. */
static char *segment;
static int number;

static ino_t space(const char *kind)
{
	char path[64];
	struct stat st;
	snprintf(path, sizeof path, "/proc/thread-self/ns/%s", kind);
	NEED(!stat(path, &st));
	return st.st_ino;
}

static void read_line(const char *path, char *text, size_t size)
{
	int fd = open(path, O_RDONLY);
	ssize_t got = fd < 0 ? -1 : read(fd, text, size - 1);
	NEED(got > 0);
	text[got - 1] = 0;
	close(fd);
}

static void write_line(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	NEED(fd >= 0 && write(fd, text, strlen(text)) == (ssize_t)strlen(text) && !close(fd));
}

static void serve(struct told *own)
{
	for (;;) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		if (own->asked == own->answered)
			continue;
		NEED(!gethostname(own->host, sizeof own->host));
		NEED(!getdomainname(own->domain, sizeof own->domain));
		read_line("/proc/sys/kernel/sem", own->sem, sizeof own->sem);
		own->uts = space("uts");
		own->ipc = space("ipc");
		own->segment = shmget(KEY, 0, 0);
		if (segment) {
			struct shmid_ds now;
			NEED(!shmctl(number, IPC_STAT, &now) && now.shm_segsz == SEGMENT_SIZE);
			NEED(now.shm_perm.mode == 0620);
			own->attached = now.shm_nattch;
			memcpy(own->text, segment, sizeof own->text);
			own->number = number;
			own->count = __atomic_add_fetch((int *)(segment + 4096), 1, __ATOMIC_SEQ_CST);
		}
		own->answered = own->asked;
	}
}

/* Waits until all three children have looked. */
static void ask(int what)
{
	for (int i = 0; i < 3; i++)
		told[i].asked = what;
	for (int i = 0; i < 3; i++)
		for (int tries = 0; told[i].answered != what; tries++) {
			struct timespec tick = { 0, 1000000 };
			nanosleep(&tick, NULL);
			NEED(tries < 20000);
		}
}

static void setup(void)
{
	told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(told != MAP_FAILED);
	if (unshare(CLONE_NEWUTS)) {
		/* Without CAP_SYS_ADMIN there is nothing to see. */
		NEED(errno == EPERM);
		denied = 1;
		return;
	}
	NEED(!sethostname("of the root", 11) && !setdomainname("", 0));
	/* The first is where the root task is, the second elsewhere, with the third as its child. */
	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		serve(&told[0]);
	}
	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		NEED(!unshare(CLONE_NEWUTS | CLONE_NEWIPC));
		NEED(!sethostname("inner", 5) && !setdomainname("domain", 6));
		write_line("/proc/sys/kernel/sem", "100 2000 30 40");
		write_line("/proc/sys/kernel/shmmax", "1048576");
		write_line("/proc/sys/kernel/msgmnb", "4321");
		/* Not the number that the next one would have. */
		for (int i = 0; i < 5; i++)
			NEED(!shmctl(shmget(IPC_PRIVATE, 1, 0600), IPC_RMID, NULL));
		number = shmget(KEY, SEGMENT_SIZE, IPC_CREAT | IPC_EXCL | 0620);
		segment = shmat(number, NULL, 0);
		NEED(number > 0 && segment != (void *)-1);
		strcpy(segment, "inner memory");
		if (fork() == 0) {
			NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
			serve(&told[2]);
		}
		serve(&told[1]);
	}
	ask(1);
}

static void check(int generation)
{
	char host[65], domain[65], text[64];
	if (denied)
		return;
	ask(generation + 1);
	NEED(!gethostname(host, sizeof host) && !strcmp(host, "of the root"));
	NEED(!getdomainname(domain, sizeof domain) && !strcmp(domain, ""));
	NEED(!strcmp(told[0].host, "of the root") && told[0].uts == space("uts"));
	NEED(told[0].ipc == space("ipc"));
	for (int i = 1; i < 3; i++) {
		NEED(!strcmp(told[i].host, "inner") && !strcmp(told[i].domain, "domain"));
		NEED(!strcmp(told[i].sem, "100\t2000\t30\t40"));
		NEED(told[i].uts != space("uts") && told[i].ipc != space("ipc"));
	}
	NEED(told[1].uts == told[2].uts && told[1].ipc == told[2].ipc);
	NEED_EQ(told[1].count > told[2].count ? told[1].count : told[2].count, 2 * (generation + 1));
	NEED(told[0].segment < 0 && shmget(KEY, 0, 0) < 0 && errno == ENOENT);
	for (int i = 1; i < 3; i++) {
		NEED_EQ(told[i].segment, told[i].number);
		NEED_EQ(told[i].attached, 2);
		NEED(!strcmp(told[i].text, "inner memory"));
	}
	read_line("/proc/sys/kernel/sem", text, sizeof text);
	NEED(strcmp(text, told[1].sem));
}
