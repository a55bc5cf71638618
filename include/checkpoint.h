/*
 * Checkpoint and restart of process trees.
 *
 * Made from src/ffi by build.rs; do not edit. Plain C89, and C++. Link with -lusercr.
 * docs/abi.md says what each field means, which errno stands for what, and what a caller may rely on.
 */

#ifndef CHECKPOINT_H
#define CHECKPOINT_H

/* Conditions for cr_restart_args.warn and .fail. Programs tend to have these in a header of their own. */
#ifndef CKPT_COND_PIDZERO
#define CKPT_COND_PIDZERO 0x1 /* a pid number 0 where no new pid namespace is made */
#endif
#ifndef CKPT_COND_MNTPROC
#define CKPT_COND_MNTPROC 0x2 /* the old /proc cannot be unmounted */
#endif
#ifndef CKPT_COND_MNTPTY
#define CKPT_COND_MNTPTY 0x4 /* the old /dev/pts cannot be unmounted */
#endif

/* No descriptor. */
#define CHECKPOINT_FD_NONE -1

/* cr_checkpoint_args.flags: a subtree, not a whole container. */
#define CHECKPOINT_SUBTREE 1

/* cr_checkpoint_args.flags: network namespaces too. */
#define CHECKPOINT_NETNS 2

/* restart(2): the caller itself. */
#define RESTART_TASKSELF 1

/* restart(2): leave the tasks frozen. */
#define RESTART_FROZEN 2

/* restart(2): a task that only lends its pid. */
#define RESTART_GHOST 4

/* restart(2): restore security labels. */
#define RESTART_KEEP_LSM 8

/* restart(2): reset connections. */
#define RESTART_CONN_RESET 16

/* usercr_error.stage: looking at the arguments. */
#define USERCR_STAGE_ARGUMENTS 1

/* usercr_error.stage: reading or writing the image. */
#define USERCR_STAGE_IMAGE 2

/* usercr_error.stage: planning the tree of the image. */
#define USERCR_STAGE_PLAN 3

/* usercr_error.stage: making the tasks of the image. */
#define USERCR_STAGE_RESTART 4

/* usercr_error.stage: reading the tasks that are to be saved. */
#define USERCR_STAGE_CHECKPOINT 5

/* usercr_error.stage: a system call that the library made for itself. */
#define USERCR_STAGE_SYSTEM 6

/* usercr_error.stage: a defect of the library. */
#define USERCR_STAGE_INTERNAL 7

/* What cr_restart is asked to do. */
struct cr_restart_args {
    /* Restart the caller itself from the image (single task). */
    int self;
    /* Restore the original pid numbers. */
    int pids;
    /* Restart in a new pid namespace. cr_restart sets pids to 1. */
    int pidns;
    /* Look for error records in the image. */
    int inspect;
    /* chroot there. NULL: no. */
    char *root;
    /* Return only when the root task has ended. */
    int wait;
    /* Private mount namespace. */
    int mntns;
    /* Fresh devpts instance. cr_restart sets mntns to 1. */
    int mnt_pty;
    /* Say on ulogfd how the root task ended. */
    int show_status;
    /* With wait: end as the root task did, if that was a signal. */
    int copy_status;
    /* Freezer cgroup directory for the tasks. NULL: none. */
    char *freezer;
    /* Leave the tasks frozen. */
    int keep_frozen;
    /* The image: a file, a pipe or a socket. */
    int infd;
    /* The engine's log. Negative: none; cr_restart writes -1 back. */
    int klogfd;
    /* Messages (verbose). Negative: none. */
    int ulogfd;
    /* Errors and debug messages. Negative: none. */
    int uerrfd;
    /* CKPT_COND_* to warn about. */
    long warn;
    /* Debug messages. */
    int debug;
    /* Verbose messages. */
    int verbose;
    /* CKPT_COND_* to fail on; stronger than warn. */
    long fail;
    /* Restore security labels. */
    int keep_lsm;
};

/* What cr_checkpoint is asked to do. */
struct cr_checkpoint_args {
    /* Where the image goes: a file, a pipe or a socket. */
    int outfd;
    /* Messages. Negative: none. */
    int logfd;
    /* Errors. Negative: none. */
    int uerrfd;
    /* pid is the init of a pid namespace, and all of it is taken. */
    int container;
    /* Verbose messages. */
    int verbose;
    /* CHECKPOINT_*. Without container cr_checkpoint adds CHECKPOINT_SUBTREE. */
    int flags;
};

/* A failure of cr_restart or cr_checkpoint. Later versions may add fields at the end. */
struct usercr_error {
    /* errno of the call. */
    int code;
    /* What was being done: USERCR_STAGE_*. */
    int stage;
    /* The task, by its index in the task table. -1: no single task is the cause. */
    int task;
    /*
     Pid of the task: in a restart the one of the image, in a checkpoint as the caller sees it.
     0: not known.
     */
    int pid;
    /* Where in the image, in bytes from its start, the record is that is the cause. -1: none is. */
    long offset;
    /* The message, one line without its end. Never NULL. */
    const char *text;
};

#ifdef __cplusplus
extern "C" {
#endif

/*
 What a SIGINT that comes while a restart is under way is turned into: that signal goes to the
 restarted tree. 0: SIGINT is ignored. -1: set by cr_restart, to SIGKILL where the root task is
 the init of a new pid namespace, to SIGINT otherwise. Set it before cr_restart.
 */
extern int global_send_sigint;

/*
 Restarts the tree of the image that is read from args->infd.

 Returns the pid of the root task (or of the coordinator, where there is one) as a child of the
 caller. Returns -1 with errno set when the restart failed; then nothing of the tree is left.

 The caller sees to it that these hold:
 * `args`: NULL (EFAULT), or valid for reads and writes and not used by others during the call.
 * `args->root`, `args->freezer`: each NULL, or a string that ends in NUL and does not change
   during the call.
 * The descriptors in `args` are not closed by others during the call.
 */
int cr_restart(struct cr_restart_args *args);

/*
 Writes an image of the tree whose root is pid to args->outfd. The tree goes on afterwards.

 Returns an id > 0 that no other checkpoint of this process has. Returns -1 with errno set when
 the checkpoint failed.

 The caller sees to it that these hold:
 * `args`: NULL (EFAULT), or valid for reads and writes and not used by others during the call.
 * The descriptors in `args` are not closed by others during the call.
 */
int cr_checkpoint(int pid, struct cr_checkpoint_args *args);

/*
 The last failure of cr_restart or cr_checkpoint in the calling thread. NULL: none has failed.

 What it points to belongs to the library. It is valid until the thread calls cr_restart or
 cr_checkpoint again, or ends. A call that succeeds leaves it as it is; errno stays as it is too.
 */
const struct usercr_error *usercr_last_error(void);

#ifdef __cplusplus
}
#endif

#endif  /* CHECKPOINT_H */
