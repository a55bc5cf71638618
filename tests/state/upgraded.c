/* The program itself and a shared library were replaced while they ran, as a package manager does it. */
#include "state.h"
#include <dlfcn.h>
#include <sys/stat.h>

static double (*cosine)(double);
static char library[4096];

static void copy_file(const char *from, const char *to)
{
	static char buffer[1 << 16];
	int in = open(from, O_RDONLY), out = open(to, O_WRONLY | O_CREAT | O_EXCL, 0755);
	NEED(in >= 0 && out >= 0);
	for (ssize_t got; (got = read(in, buffer, sizeof buffer)) > 0;)
		NEED(write(out, buffer, (size_t)got) == got);
	NEED(!close(in) && !close(out));
}

/* Puts another file where a file is. */
static void replace(const char *name)
{
	state_put("other", "another version\n");
	NEED(!rename("other", name));
}

/* Path of the library that has cos(3), from what is mapped. */
static void find_library(void)
{
	void *handle = dlopen("libm.so.6", RTLD_NOW);
	Dl_info info;
	NEED(handle && dladdr(dlsym(handle, "cos"), &info));
	NEED(realpath(info.dli_fname, library));
	dlclose(handle);
}

static off_t size_of(const char *path)
{
	struct stat st;
	NEED(!stat(path, &st));
	return st.st_size;
}

static void setup(void)
{
	char folder[4096];
	if (access("program", F_OK)) {
		copy_file("/proc/self/exe", "program");
		NEED(getcwd(folder, sizeof folder));
		execl("program", "program", folder, NULL);
		NEED(!"exec");
	}
	find_library();
	copy_file(library, "library.so");
	void *handle = dlopen("./library.so", RTLD_NOW);
	NEED(handle);
	*(void **)&cosine = dlsym(handle, "cos");
	NEED(cosine);
	replace("program");
	replace("library.so");
}

static void check(int generation)
{
	char link[4096] = "";
	(void)generation;
	NEED(cosine(0) == 1);
	NEED(readlink("/proc/self/exe", link, sizeof link - 1) > 0);
	/* Without a capability the restarted program is not known to the kernel. */
	if (strstr(link, "usercr"))
		return;
	NEED(strstr(link, " (deleted)"));
	NEED(size_of("/proc/self/exe") > 4096);
	/* It can be started again. */
	NEED(!access("/proc/self/exe", X_OK));
}
