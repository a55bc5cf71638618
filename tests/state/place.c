/* Where tasks are: root directory, current directory, file mode mask. */
#include "state.h"
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>

struct told {
	volatile int asked, answered, good;
};
static struct told *told;
static int inside, denied;
static struct stat own_root, jail_root;

/* The child: in a root directory inside that of the root task, and in a directory that was renamed. */
static void child(void)
{
	NEED(!mkdir("/jail/before", 0700) && !chdir("/jail/before"));
	NEED(!chroot("/jail") && !rename("/before", "/after"));
	umask(0123);
	told->answered = 1;
	for (;;) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		if (told->asked == told->answered)
			continue;
		char cwd[256];
		struct stat st;
		int good = getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/after");
		good = good && !stat("/", &st) && st.st_ino == jail_root.st_ino && !access("file", F_OK);
		int fd = open("new", O_CREAT | O_RDWR, 0777);
		good = good && fd >= 0 && !fstat(fd, &st) && st.st_mode == (S_IFREG | 0654);
		close(fd);
		told->good = good && !unlink("new");
		told->answered = told->asked;
	}
}

static void setup(void)
{
	told = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(told != MAP_FAILED && !mkdir("jail", 0755));
	/* The test's folder becomes the root directory, so that its files stay where they are. */
	if (chroot(".")) {
		/* Without CAP_SYS_CHROOT there is nothing to see. */
		NEED(errno == EPERM);
		denied = 1;
		return;
	}
	umask(077);
	NEED(!stat("/", &own_root) && !stat("/jail", &jail_root));
	inside = open("/jail/open", O_CREAT | O_RDWR, 0600);
	NEED(inside >= 0 && write(inside, "in the jail", 11) == 11);
	if (fork() == 0) {
		NEED(!prctl(PR_SET_PDEATHSIG, SIGKILL));
		child();
	}
	for (int i = 0; !told->answered; i++) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		NEED(i < 20000);
	}
	NEED(close(open("/jail/after/file", O_CREAT | O_WRONLY, 0644)) == 0);
}

static void check(int generation)
{
	char cwd[256], text[12] = "";
	struct stat st;
	if (denied)
		return;
	NEED(getcwd(cwd, sizeof cwd) && !strcmp(cwd, "/"));
	NEED(!stat("/", &st) && st.st_ino == own_root.st_ino && st.st_dev == own_root.st_dev);
	NEED(!stat("/..", &st) && st.st_ino == own_root.st_ino);
	NEED_EQ(umask(077), 077);
	NEED(pread(inside, text, 11, 0) == 11 && !strcmp(text, "in the jail"));
	told->asked = generation + 1;
	for (int i = 0; told->answered != generation + 1; i++) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		NEED(i < 20000);
	}
	NEED(told->good);
}
