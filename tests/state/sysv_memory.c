/* System V shared memory: removed and not, of several processes, read only, twice and in parts. */
#include "state.h"
#include <pthread.h>
#include <stdint.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/shm.h>

#define PAGE 4096ul
#define SIZE (5 * PAGE - 100)

/* What is found out about a segment before the first checkpoint. */
struct segment {
	int id;
	struct shmid_ds was;
};
static struct segment removed, keyed, parts;
static pthread_barrier_t *meeting;
/* Two places of the removed one: to write, and only to read. */
static char *both[2];
/* Not removed; in the child too. */
static char *named;
/* Of five pages the third is not there, and the last one cannot be written. */
static char *pieces;
/* Where only the middle of the removed one is, far from any other. */
static char *middle;
/* When the parent has the keyed one attached once more: SHM_LOCK needs a right or room. */
static int locked;

static char *attach(int id, int flags)
{
	char *at = shmat(id, NULL, flags);
	NEED(at != (void *)-1);
	return at;
}

static void meet(void)
{
	int done = pthread_barrier_wait(meeting);
	NEED(done == 0 || done == PTHREAD_BARRIER_SERIAL_THREAD);
}

static void look(struct segment *segment, unsigned long attached)
{
	struct shmid_ds now;
	struct ipc_perm *is = &now.shm_perm, *was = &segment->was.shm_perm;
	NEED(!shmctl(segment->id, IPC_STAT, &now));
	NEED_EQ(is->__key, was->__key);
	NEED_EQ(is->mode, was->mode);
	NEED(is->uid == was->uid && is->gid == was->gid && is->cuid == was->cuid && is->cgid == was->cgid);
	NEED_EQ(now.shm_segsz, SIZE);
	NEED_EQ(now.shm_nattch, attached);
}

/* The kernel does not write there for the process either. */
static void read_only(char *at)
{
	int fds[2];
	NEED(!pipe(fds) && write(fds[1], "x", 1) == 1);
	NEED(read(fds[0], at, 1) < 0 && errno == EFAULT);
	NEED(!close(fds[0]) && !close(fds[1]));
}

static void remove_named(void)
{
	if (getpid() == state_root)
		shmctl(keyed.id, IPC_RMID, NULL);
}

static void child(void)
{
	NEED(!shmdt(both[1]));
	for (int generation = 1; generation <= 2; generation++) {
		meet();
		NEED_EQ(both[0][3 * PAGE], 30 + generation);
		NEED_EQ(named[2 * PAGE], 20 + generation);
		both[0][3 * PAGE + 1] = (char)(40 + generation);
		named[2 * PAGE + 1] = (char)(50 + generation);
		meet();
	}
	NEED(!shmdt(both[0]) && !munmap(middle, PAGE));
	meet();
	for (;;)
		pause();
}

static void note(struct segment *segment)
{
	NEED(!shmctl(segment->id, IPC_STAT, &segment->was));
}

static void setup(void)
{
	pthread_barrierattr_t attributes;
	meeting = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(meeting != MAP_FAILED);
	NEED(!pthread_barrierattr_init(&attributes));
	NEED(!pthread_barrierattr_setpshared(&attributes, PTHREAD_PROCESS_SHARED));
	NEED(!pthread_barrier_init(meeting, &attributes, 2));

	key_t key = 0x7e000000 | getpid();
	keyed.id = shmget(key, SIZE, IPC_CREAT | IPC_EXCL | 0600);
	NEED(keyed.id >= 0);
	/* For the test to remove, where this program does not come to it. */
	char text[32];
	snprintf(text, sizeof text, "%d", keyed.id);
	state_put("segment", text);
	NEED(!atexit(remove_named));
	removed.id = shmget(IPC_PRIVATE, SIZE, 0606);
	parts.id = shmget(IPC_PRIVATE, SIZE, 0700);
	NEED(removed.id >= 0 && parts.id >= 0);

	both[0] = attach(removed.id, 0);
	both[1] = attach(removed.id, SHM_RDONLY);
	middle = attach(removed.id, 0);
	NEED(!munmap(middle, PAGE) && !munmap(middle + 2 * PAGE, 3 * PAGE));
	middle += PAGE;
	char *far = mmap(NULL, 1 << 20, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	NEED(far != MAP_FAILED);
	/* Between others: attached at its place it would not have room. */
	NEED(mremap(middle, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, far + 8 * PAGE) == far + 8 * PAGE);
	middle = far + 8 * PAGE;
	NEED(!shmctl(removed.id, IPC_RMID, NULL));
	strcpy(both[0], "gone");
	both[0][3 * PAGE] = 30;
	middle[5] = 'm';

	named = attach(keyed.id, 0);
	strcpy(named + PAGE, "named");
	named[2 * PAGE] = 20;
	struct shmid_ds set = { .shm_perm = { .uid = getuid(), .gid = getgid(), .mode = 0640 } };
	NEED(!shmctl(keyed.id, IPC_SET, &set));
	locked = !shmctl(keyed.id, SHM_LOCK, NULL);

	pieces = attach(parts.id, SHM_EXEC);
	NEED(!shmctl(parts.id, IPC_RMID, NULL));
	for (unsigned long i = 0; i < 5; i++)
		pieces[i * PAGE] = (char)('a' + i);
	/* ret */
	pieces[PAGE + 1] = (char)0xc3;
	NEED(!munmap(pieces + 2 * PAGE, PAGE));
	NEED(!mprotect(pieces + 4 * PAGE, PAGE, PROT_READ));

	note(&removed);
	note(&keyed);
	note(&parts);
	NEED(removed.was.shm_perm.mode & SHM_DEST);
	NEED(!locked || keyed.was.shm_perm.mode & SHM_LOCKED);
	pid_t pid = fork();
	NEED(pid >= 0);
	if (!pid) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		/* The parent leaves these to itself. */
		NEED(!munmap(pieces, 2 * PAGE) && !munmap(pieces + 3 * PAGE, 2 * PAGE));
		child();
	}
	/* Until it has, nobody counts. */
	struct shmid_ds now;
	do {
		NEED(!shmctl(removed.id, IPC_STAT, &now));
	} while (now.shm_nattch != 5);
}

static void check(int generation)
{
	look(&removed, 5);
	look(&keyed, 2);
	look(&parts, 3);
	NEED_EQ(shmget(keyed.was.shm_perm.__key, 0, 0), keyed.id);

	NEED(!strcmp(both[0], "gone") && !strcmp(both[1], "gone"));
	NEED_EQ(both[0][PAGE + 5], 'm' + generation - 1);
	middle[5]++;
	NEED_EQ(both[1][PAGE + 5], 'm' + generation);
	read_only(both[1]);
	NEED(mprotect(both[1], PAGE, PROT_READ | PROT_WRITE) && errno == EACCES);
	NEED(!strcmp(named + PAGE, "named"));

	for (unsigned long i = 0; i < 5; i++)
		NEED(i == 2 || pieces[i * PAGE] == (char)('a' + i));
	NEED(madvise(pieces + 2 * PAGE, PAGE, MADV_NORMAL) && errno == ENOMEM);
	((void (*)(void))(uintptr_t)(pieces + PAGE + 1))();
	read_only(pieces + 4 * PAGE);
	/* It was attached to be written. */
	NEED(!mprotect(pieces + 4 * PAGE, PAGE, PROT_READ | PROT_WRITE));
	pieces[4 * PAGE + 1] = 'x';
	NEED(!mprotect(pieces + 4 * PAGE, PAGE, PROT_READ));

	both[0][3 * PAGE] = (char)(30 + generation);
	named[2 * PAGE] = (char)(20 + generation);
	meet();
	meet();
	NEED_EQ(both[0][3 * PAGE + 1], 40 + generation);
	NEED_EQ(named[2 * PAGE + 1], 50 + generation);
	/* By its number there is still the same. */
	char *again = attach(removed.id, SHM_RDONLY);
	NEED(!strcmp(again, "gone") && !shmdt(again));
	if (generation == 1)
		return;

	/* What was removed goes with the last who has it; shmdt takes all parts. */
	struct shmid_ds now;
	NEED(!shmdt(pieces) && shmctl(parts.id, IPC_STAT, &now) && errno == EINVAL);
	NEED(!shmdt(both[0]) && !shmdt(both[1]) && !munmap(middle, PAGE));
	meet();
	NEED(shmctl(removed.id, IPC_STAT, &now) && errno == EINVAL);
}
