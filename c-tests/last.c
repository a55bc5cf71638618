/* usercr_last_error: which failure it tells of, where that was, and in which thread. */
#include "counter.h"

#include <pthread.h>

static struct usercr_error last_of(struct outcome *o)
{
	const struct usercr_error *e = usercr_last_error();
	CHECK(e != NULL && e->text != NULL);
	CHECK(o->ret == -1 && e->code == o->err);
	/* The text is the last line of the messages. */
	size_t n = strlen(e->text), all = strlen(o->text);
	CHECK(n > 0 && all > n && o->text[all - 1] == '\n' && strncmp(o->text + all - 1 - n, e->text, n) == 0);
	CHECK(strchr(e->text, '\n') == NULL);
	return *e;
}

static void *nothing_yet(void *unused)
{
	(void)unused;
	return (void *)usercr_last_error();
}

static int nothing_in_a_new_thread(void)
{
	pthread_t thread;
	void *got;
	CHECK(pthread_create(&thread, NULL, nothing_yet, NULL) == 0 && pthread_join(thread, &got) == 0);
	return got == NULL;
}

static void arguments(void)
{
	about("NULL args");
	CHECK(usercr_last_error() == NULL);
	CHECK(cr_restart(NULL) == -1 && errno == EFAULT);
	const struct usercr_error *e = usercr_last_error();
	CHECK(e && e->code == EFAULT && e->stage == USERCR_STAGE_ARGUMENTS && e->task == -1 && e->offset == -1);
	about("no image");
	struct cr_restart_args a = usual(-1);
	struct outcome o = restart(&a);
	struct usercr_error l = last_of(&o);
	CHECK(l.code == EBADF && l.stage == USERCR_STAGE_ARGUMENTS);
	CHECK(l.task == -1 && l.pid == 0 && l.offset == -1);
	CHECK(strstr(l.text, "infd") != NULL);
	struct cr_checkpoint_args c = usual_dump(-1);
	o = checkpoint(getpid(), &c);
	l = last_of(&o);
	CHECK(l.code == EBADF && strstr(l.text, "outfd") != NULL);
	about("errno after usercr_last_error");
	errno = EXDEV;
	CHECK(usercr_last_error() != NULL && errno == EXDEV);
	about("another thread");
	CHECK(nothing_in_a_new_thread());
}

static void images(void)
{
	about("an image that ends inside a record");
	struct cr_restart_args a = usual(golden("bad-cut-in-tree"));
	struct outcome o = restart(&a);
	struct usercr_error l = last_of(&o);
	char place[64];
	CHECK(l.code == EIO && l.stage == USERCR_STAGE_IMAGE && l.task == -1);
	CHECK(l.offset > 0);
	snprintf(place, sizeof place, "offset %ld:", l.offset);
	CHECK(strstr(l.text, place) != NULL);
	close(a.infd);
	about("a tree that cannot be");
	a = usual(golden("orphan-live-leader.nopids"));
	o = restart(&a);
	l = last_of(&o);
	CHECK(l.code == EINVAL && l.stage == USERCR_STAGE_PLAN && l.task == 3 && l.offset == -1);
	close(a.infd);
}

/* A descriptor that cannot be saved: the task, with index and pid. */
static void checkpoints(void)
{
	int ready[2], nothing = new_file("nothing");
	about("state that cannot be saved");
	CHECK(pipe2(ready, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		setsid();
		int s = socket(AF_UNIX, SOCK_STREAM, 0);
		if (s < 0 || write(ready[1], "r", 1) != 1)
			_exit(1);
		for (;;)
			pause();
	}
	char r;
	CHECK(read(ready[0], &r, 1) == 1);
	struct cr_checkpoint_args c = usual_dump(nothing);
	struct outcome o = checkpoint(pid, &c);
	struct usercr_error l = last_of(&o);
	CHECK(l.code == ENOTSUP && l.stage == USERCR_STAGE_CHECKPOINT && l.task == 0 && l.pid == pid);
	end_child(pid);
	about("no such process");
	o = checkpoint(pid, &c);
	l = last_of(&o);
	CHECK(l.code == ESRCH && l.pid == pid && l.task == -1);
	close(nothing), close(ready[0]), close(ready[1]);
}

/* A call that succeeds leaves the last failure as it is. */
static void success(void)
{
	static const struct end never;
	about("a success after a failure");
	const struct usercr_error *before = usercr_last_error();
	CHECK(before != NULL && before->code == ESRCH);
	pid_t pid = start_counter(0, never);
	save(pid, 0);
	CHECK(usercr_last_error() == before && before->code == ESRCH);
	end_child(pid);
}

int main(void)
{
	sandbox();
	arguments();
	images();
	checkpoints();
	success();
	return 0;
}
