/*
 * Users, groups, capabilities and securebits, other ones in each task. As an ordinary user a process has little
 * to change: then only what it can.
 */
#include "state.h"
#include <grp.h>
#include <linux/capability.h>
#include <linux/securebits.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/fsuid.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* CAP_NET_RAW and CAP_NET_BIND_SERVICE; CAP_SYS_CHROOT is taken out of a bounding set. */
#define RAW (1U << CAP_NET_RAW)
#define BIND (1U << CAP_NET_BIND_SERVICE)

static volatile int *wanted, *looked;
static int privileged;
/* Capabilities above 31 of one of them: effective, permitted, inheritable. */
static uint32_t high[3];
enum { NOBODY, CAPABLE, OTHER, KEEPER, WHO };

static void capabilities(uint32_t sets[3])
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	NEED_EQ(syscall(SYS_capget, &header, data), 0);
	sets[0] = data[0].effective;
	sets[1] = data[0].permitted;
	sets[2] = data[0].inheritable;
}

static void set_capabilities(uint32_t effective, uint32_t permitted, uint32_t inheritable)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { effective, permitted, inheritable }, { 0, 0, 0 } };
	NEED_EQ(syscall(SYS_capset, &header, data), 0);
}

static void ids(uid_t ruid, uid_t euid, uid_t suid, gid_t rgid, gid_t egid, gid_t sgid)
{
	uid_t u[3];
	gid_t g[3];
	NEED_EQ(getresuid(&u[0], &u[1], &u[2]), 0);
	NEED_EQ(getresgid(&g[0], &g[1], &g[2]), 0);
	NEED_EQ(u[0], ruid);
	NEED_EQ(u[1], euid);
	NEED_EQ(u[2], suid);
	NEED_EQ(g[0], rgid);
	NEED_EQ(g[1], egid);
	NEED_EQ(g[2], sgid);
}

/* One who has given up everything. */
static void become_nobody(void)
{
	gid_t groups[] = { 7, 1234 };
	NEED_EQ(setgroups(2, groups), 0);
	NEED_EQ(setresgid(1001, 1002, 1003), 0);
	NEED_EQ(setresuid(2001, 2002, 2003), 0);
	/* The file system sees another one of them. */
	setfsgid(1003);
	setfsuid(2003);
}

static void is_nobody(void)
{
	gid_t groups[8] = { 0 };
	uint32_t sets[3];
	ids(2001, 2002, 2003, 1001, 1002, 1003);
	NEED_EQ(setfsuid((uid_t)-1), 2003);
	NEED_EQ(setfsgid((gid_t)-1), 1003);
	NEED_EQ(getgroups(8, groups), 2);
	NEED(groups[0] == 7 && groups[1] == 1234);
	capabilities(sets);
	NEED_EQ(sets[0] | sets[1] | sets[2], 0);
	NEED(setresuid(0, 0, 0) < 0 && errno == EPERM);
	/* Root's saved uid would be a way back. */
	NEED(open("/proc/1/environ", O_RDONLY) < 0);
}

/* One who has two capabilities, one of them ambient, and cannot get more. */
static void become_capable(void)
{
	NEED_EQ(prctl(PR_CAPBSET_DROP, CAP_SYS_CHROOT), 0);
	NEED_EQ(prctl(PR_SET_KEEPCAPS, 1), 0);
	NEED_EQ(setresgid(3000, 3000, 3000), 0);
	NEED_EQ(setresuid(3000, 3000, 3000), 0);
	set_capabilities(RAW | BIND | 1U << CAP_SETPCAP, RAW | BIND | 1U << CAP_SETPCAP, BIND);
	NEED_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_BIND_SERVICE, 0, 0), 0);
	NEED_EQ(prctl(PR_SET_SECUREBITS, SECBIT_NOROOT | SECBIT_NO_CAP_AMBIENT_RAISE), 0);
	set_capabilities(RAW, RAW | BIND, BIND);
}

static void is_capable(void)
{
	uint32_t sets[3];
	ids(3000, 3000, 3000, 3000, 3000, 3000);
	capabilities(sets);
	NEED_EQ(sets[0], RAW);
	NEED_EQ(sets[1], RAW | BIND);
	NEED_EQ(sets[2], BIND);
	NEED_EQ(prctl(PR_CAPBSET_READ, CAP_SYS_CHROOT), 0);
	NEED_EQ(prctl(PR_CAPBSET_READ, CAP_NET_RAW), 1);
	NEED_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_BIND_SERVICE, 0, 0), 1);
	NEED_EQ(prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_IS_SET, CAP_NET_RAW, 0, 0), 0);
	NEED_EQ(prctl(PR_GET_SECUREBITS), SECBIT_NOROOT | SECBIT_NO_CAP_AMBIENT_RAISE);
}

/* A thread with another effective user than its process; the raw call is the thread's own. */
static void become_other(void)
{
	NEED_EQ(syscall(SYS_setresuid, 0, 4000, 0), 0);
}

static void is_other(void)
{
	uint32_t sets[3];
	ids(0, 4000, 0, 0, 0, 0);
	capabilities(sets);
	NEED_EQ(sets[0], 0);
	NEED(sets[1] & RAW);
}

/* One who keeps root's id, and asks to keep capabilities should it give that up; without a few high ones. */
static void become_keeper(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	NEED_EQ(syscall(SYS_capget, &header, data), 0);
	data[1].effective &= ~CAP_TO_MASK(CAP_SYSLOG);
	data[1].permitted &= ~CAP_TO_MASK(CAP_WAKE_ALARM);
	data[1].effective &= data[1].permitted;
	data[1].inheritable = data[1].permitted & CAP_TO_MASK(CAP_BLOCK_SUSPEND);
	high[0] = data[1].effective;
	high[1] = data[1].permitted;
	high[2] = data[1].inheritable;
	NEED_EQ(syscall(SYS_capset, &header, data), 0);
	NEED_EQ(prctl(PR_SET_SECUREBITS, SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED), 0);
	NEED_EQ(prctl(PR_SET_KEEPCAPS, 1), 0);
}

static void is_keeper(void)
{
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2];
	NEED_EQ(syscall(SYS_capget, &header, data), 0);
	NEED_EQ(data[1].effective, high[0]);
	NEED_EQ(data[1].permitted, high[1]);
	NEED_EQ(data[1].inheritable, high[2]);
	NEED_EQ(prctl(PR_GET_KEEPCAPS), 1);
	NEED_EQ(prctl(PR_GET_SECUREBITS), SECBIT_NO_SETUID_FIXUP | SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS);
	NEED(prctl(PR_SET_SECUREBITS, 0) < 0 && errno == EPERM);
}

static void serve(int me, void (*is)(void))
{
	struct timespec tick = { 0, 1000000 };
	for (;;) {
		while (looked[me] == *wanted)
			nanosleep(&tick, NULL);
		state_generation = *wanted;
		is();
		looked[me] = *wanted;
	}
}

static void child(int me, void (*become)(void), void (*is)(void))
{
	if (fork() == 0) {
		become();
		looked[me] = 0;
		serve(me, is);
	}
}

static void *other(void *arg)
{
	become_other();
	looked[OTHER] = 0;
	serve(OTHER, is_other);
	return arg;
}

static void setup(void)
{
	pthread_t thread;
	wanted = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	NEED(wanted != MAP_FAILED);
	looked = wanted + 1;
	privileged = geteuid() == 0;
	for (int i = 0; i < WHO; i++)
		looked[i] = privileged ? -1 : 0;
	if (!privileged)
		return;
	/* The others must be able to say what is wrong. */
	NEED_EQ(chmod(".", 0777), 0);
	child(NOBODY, become_nobody, is_nobody);
	child(CAPABLE, become_capable, is_capable);
	child(KEEPER, become_keeper, is_keeper);
	NEED_EQ(pthread_create(&thread, NULL, other, NULL), 0);
	struct timespec tick = { 0, 1000000 };
	while (looked[NOBODY] | looked[CAPABLE] | looked[OTHER] | looked[KEEPER])
		nanosleep(&tick, NULL);
}

static void check(int generation)
{
	struct timespec tick = { 0, 1000000 };
	if (!privileged) {
		NEED_EQ(geteuid(), getuid());
		return;
	}
	ids(0, 0, 0, 0, 0, 0);
	*wanted = generation;
	for (int i = 0; i < WHO; i++)
		while (looked[i] != generation) {
			/* A task that has found a fault has written it. */
			nanosleep(&tick, NULL);
		}
}
