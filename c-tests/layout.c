/* The layout of both structs and the values of all names: what compiled callers depend on. */
#include <stddef.h>

#include "checkpoint.h"

#define AT(type, field, offset, ctype) \
	_Static_assert(offsetof(struct type, field) == (offset), #type "." #field " is not at " #offset); \
	_Static_assert(_Generic(((struct type *)0)->field, ctype : 1, default : 0), #type "." #field " is no " #ctype)

AT(cr_restart_args, self, 0, int);
AT(cr_restart_args, pids, 4, int);
AT(cr_restart_args, pidns, 8, int);
AT(cr_restart_args, inspect, 12, int);
AT(cr_restart_args, root, 16, char *);
AT(cr_restart_args, wait, 24, int);
AT(cr_restart_args, mntns, 28, int);
AT(cr_restart_args, mnt_pty, 32, int);
AT(cr_restart_args, show_status, 36, int);
AT(cr_restart_args, copy_status, 40, int);
AT(cr_restart_args, freezer, 48, char *);
AT(cr_restart_args, keep_frozen, 56, int);
AT(cr_restart_args, infd, 60, int);
AT(cr_restart_args, klogfd, 64, int);
AT(cr_restart_args, ulogfd, 68, int);
AT(cr_restart_args, uerrfd, 72, int);
AT(cr_restart_args, warn, 80, long);
AT(cr_restart_args, debug, 88, int);
AT(cr_restart_args, verbose, 92, int);
AT(cr_restart_args, fail, 96, long);
AT(cr_restart_args, keep_lsm, 104, int);
_Static_assert(sizeof(struct cr_restart_args) == 112, "size of cr_restart_args");

AT(cr_checkpoint_args, outfd, 0, int);
AT(cr_checkpoint_args, logfd, 4, int);
AT(cr_checkpoint_args, uerrfd, 8, int);
AT(cr_checkpoint_args, container, 12, int);
AT(cr_checkpoint_args, verbose, 16, int);
AT(cr_checkpoint_args, flags, 20, int);
_Static_assert(sizeof(struct cr_checkpoint_args) == 24, "size of cr_checkpoint_args");

_Static_assert(CHECKPOINT_FD_NONE == -1 && CHECKPOINT_SUBTREE == 1 && CHECKPOINT_NETNS == 2, "CHECKPOINT_*");
_Static_assert(RESTART_TASKSELF == 1 && RESTART_FROZEN == 2 && RESTART_GHOST == 4 && RESTART_KEEP_LSM == 8 &&
		       RESTART_CONN_RESET == 16, "RESTART_*");
_Static_assert(CKPT_COND_PIDZERO == 1 && CKPT_COND_MNTPROC == 2 && CKPT_COND_MNTPTY == 4, "CKPT_COND_*");

/* The signatures, as a caller that declared them itself would have them. */
int cr_restart(struct cr_restart_args *);
int cr_checkpoint(int, struct cr_checkpoint_args *);
extern int global_send_sigint;

int main(void)
{
	int (*volatile restart)(struct cr_restart_args *) = cr_restart;
	int (*volatile checkpoint)(int, struct cr_checkpoint_args *) = cr_checkpoint;
	return !(restart && checkpoint && global_send_sigint == -1);
}
