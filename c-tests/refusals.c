/* What cr_checkpoint refuses or cannot write: -1, the right errno, a message, the tree goes on, nothing was written. */
#include "counter.h"

static const struct end never;

static void no_such_task(void)
{
	int status, out = open("image", O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	pid_t pid = fork();
	CHECK(out >= 0 && pid >= 0);
	if (!pid)
		_exit(0);
	CHECK(waitpid(pid, &status, 0) == pid);
	about("checkpoint of a process that is gone");
	struct cr_checkpoint_args a = usual_dump(out);
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 0, ESRCH);
	struct stat s;
	CHECK(fstat(out, &s) == 0 && s.st_size == 0);
	close(out);
}

/* State that cannot be saved is refused by name before a byte is written, and the tree goes on. */
static void unsupported(void)
{
	int status, out = new_file("image"), held[2], ready[2];
	char c;
	about("checkpoint of a socket that is connected to the outside");
	CHECK(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, held) == 0 && pipe2(ready, O_CLOEXEC) == 0);
	pid_t pid = fork();
	CHECK(pid >= 0);
	if (!pid) {
		int null = open("/dev/null", O_RDWR);
		dup2(null, 0), dup2(null, 1), dup2(null, 2);
		CHECK(dup2(held[1], 50) == 50 && dup2(ready[1], 51) == 51);
		close_range(3, 49, 0);
		close_range(52, ~0U, 0);
		CHECK(write(51, "r", 1) == 1 && close(51) == 0);
		_exit(read(50, &c, 1) == 1 ? 0 : 1);
	}
	close(ready[1]);
	CHECK(read(ready[0], &c, 1) == 1);
	close(ready[0]);
	close(held[1]);
	struct cr_checkpoint_args a = usual_dump(out);
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 0, ENOTSUP);
	char number[32];
	snprintf(number, sizeof number, "pid %d", (int)pid);
	CHECK(strstr(o.text, number) != NULL && strstr(o.text, "50") != NULL && strstr(o.text, "socket") != NULL);
	struct stat s;
	CHECK(fstat(out, &s) == 0 && s.st_size == 0);
	CHECK(write(held[0], "x", 1) == 1);
	CHECK(waitpid(pid, &status, 0) == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0);
	close(held[0]);
	close(out);
}

/* Nobody reads the image: an error, and neither the caller nor the tree ends. */
static void closed_reader(void)
{
	int p[2];
	about("checkpoint to a pipe that nobody reads");
	pid_t pid = start_counter(0, never);
	CHECK(pipe2(p, O_CLOEXEC) == 0 && signal(SIGPIPE, SIG_DFL) != SIG_ERR);
	close(p[0]);
	struct cr_checkpoint_args a = usual_dump(p[1]);
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 0, EPIPE);
	wait_steps(50);
	end_child(pid);
	check_lines();
	close(p[1]);
}

/* Not open for writing. */
static void read_only(void)
{
	about("checkpoint to a descriptor for reading only");
	pid_t pid = start_counter(0, never);
	close(new_file("image"));
	struct cr_checkpoint_args a = usual_dump(open_image());
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 0, EBADF);
	wait_steps(50);
	end_child(pid);
	close(a.outfd);
}

/* container asks for the init of a pid namespace. */
static void no_container(void)
{
	about("checkpoint of a container that is none");
	pid_t pid = start_counter(0, never);
	struct cr_checkpoint_args a = usual_dump(new_file("image"));
	a.container = 1;
	struct outcome o = checkpoint(pid, &a);
	check_outcome(&o, 0, EINVAL);
	wait_steps(50);
	end_child(pid);
	close(a.outfd);
}

int main(void)
{
	sandbox();
	no_such_task();
	unsupported();
	closed_reader();
	read_only();
	no_container();
	CHECK(no_children());
	return 0;
}
