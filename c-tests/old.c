/*
 * A caller as they were written for the legacy library, in C that is C++ too: conditions and message descriptors of its
 * own, structs cleared by hand, the variable declared again. It must compile as it is, with every compiler.
 */
#ifdef CONDITIONS_FIRST
#define CKPT_COND_PIDZERO 0x1
#define CKPT_COND_MNTPROC 0x2
#define CKPT_COND_MNTPTY 0x4
#endif
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <checkpoint.h>

#ifndef CONDITIONS_FIRST
#define CKPT_COND_PIDZERO 0x1
#define CKPT_COND_MNTPROC 0x2
#define CKPT_COND_MNTPTY 0x4
#endif
#define CKPT_COND_NONE 0
#define CKPT_COND_ANY (~0L)

#ifdef __cplusplus
extern "C" {
#endif
extern int global_send_sigint;
#ifdef __cplusplus
}
#endif

static void defaults(struct cr_restart_args *args)
{
	memset(args, 0, sizeof(*args));
	args->wait = 1;
	args->infd = -1;
	args->klogfd = CHECKPOINT_FD_NONE;
	args->ulogfd = CHECKPOINT_FD_NONE;
	args->uerrfd = CHECKPOINT_FD_NONE;
	args->warn = CKPT_COND_MNTPROC | CKPT_COND_MNTPTY;
	args->fail = CKPT_COND_NONE;
}

int main(void)
{
	struct cr_restart_args args;
	struct cr_checkpoint_args dump;
	defaults(&args);
	if (global_send_sigint != -1)
		return 1;
	global_send_sigint = SIGTERM;
	args.warn |= CKPT_COND_PIDZERO;
	args.warn &= ~(long)CKPT_COND_MNTPTY;
	args.pidns = 1;
	errno = 0;
	if (cr_restart(&args) != -1 || errno != EBADF || !args.pids)
		return 2;
	memset(&dump, 0, sizeof(dump));
	dump.outfd = dump.logfd = dump.uerrfd = CHECKPOINT_FD_NONE;
	dump.flags = CHECKPOINT_NETNS;
	errno = 0;
	if (cr_checkpoint(getpid(), &dump) != -1 || errno != EBADF)
		return 3;
	return dump.flags == (CHECKPOINT_NETNS | CHECKPOINT_SUBTREE) ? 0 : 4;
}
