/*
 * A thread inside a restartable sequence: whenever another one has run on its CPU, it starts again. So what it has read in there
 * does not change under it, before a checkpoint, across it, and afterwards.
 */
#include "state.h"
#include <pthread.h>
#include <sched.h>
#if defined __has_include && __has_include(<sys/rseq.h>)
#include <sys/rseq.h>
#endif

/* Changed by whoever runs on the same CPU; what the sequence has seen of that: it broke, it was aborted. */
static volatile unsigned word, broken, aborted;
static int denied;

#ifdef RSEQ_SIG

static cpu_set_t one_cpu;
/* The range of the sequence, and where it goes when it is aborted. */
extern const char sequence_start[], sequence_end[], sequence_abort[];

static void *in_sequence(void *arg)
{
	struct rseq *area = (struct rseq *)((char *)__builtin_thread_pointer() + __rseq_offset);
	NEED_EQ(sched_setaffinity(0, sizeof one_cpu, &one_cpu), 0);
	__asm__ volatile(".pushsection .data.rseq_cs, \"aw\"\n\t"
			 ".balign 32\n"
			 "1:\t.long 0, 0\n\t"
			 ".quad sequence_start, sequence_end - sequence_start, sequence_abort\n\t"
			 ".popsection\n"
			 "2:\tleaq 1b(%%rip), %%rax\n\t"
			 "movq %%rax, (%[area])\n"
			 "sequence_start:\n\t"
			 "movl %[word], %%ecx\n"
			 "3:\tcmpl %[word], %%ecx\n\t"
			 "je 3b\n\t"
			 "incl %[broken]\n"
			 "sequence_end:\n\t"
			 "jmp 2b\n\t"
			 ".long %c[sig]\n"
			 "sequence_abort:\n\t"
			 "incl %[aborted]\n\t"
			 "jmp 2b"
			 :
			 : [area] "r"(&area->rseq_cs), [word] "m"(word), [broken] "m"(broken), [aborted] "m"(aborted), [sig] "i"(RSEQ_SIG)
			 : "rax", "rcx", "memory", "cc");
	return arg;
}

static void *interrupts(void *arg)
{
	NEED_EQ(sched_setaffinity(0, sizeof one_cpu, &one_cpu), 0);
	for (;;) {
		struct timespec tick = { 0, 1000000 };
		nanosleep(&tick, NULL);
		word++;
	}
	return arg;
}

#endif

static void is_aborted(void)
{
	unsigned before = aborted;
	struct timespec tick = { 0, 1000000 };
	for (int i = 0; aborted - before < 5; i++) {
		NEED(i < 20000);
		nanosleep(&tick, NULL);
	}
	NEED_EQ(broken, 0);
}

static void setup(void)
{
	denied = 1;
#ifdef RSEQ_SIG
	pthread_t thread;
	char text[64];
	cpu_set_t all;
	int cpu = 0;
	/* The C library may have been told to do without. */
	if (__rseq_size == 0)
		return;
	denied = 0;
	NEED_EQ(sched_getaffinity(0, sizeof all, &all), 0);
	while (!CPU_ISSET(cpu, &all))
		cpu++;
	CPU_ZERO(&one_cpu);
	CPU_SET(cpu, &one_cpu);
	NEED_EQ(pthread_create(&thread, NULL, in_sequence, NULL), 0);
	NEED_EQ(pthread_create(&thread, NULL, interrupts, NULL), 0);
	is_aborted();
	snprintf(text, sizeof text, "%lu %lu %lu\n", (unsigned long)sequence_start, (unsigned long)sequence_end, (unsigned long)sequence_abort);
	state_put("sequence", text);
#endif
}

static void check(int generation)
{
	(void)generation;
	NEED_EQ(broken, 0);
	if (!denied)
		is_aborted();
}
