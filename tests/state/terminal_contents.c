/*
 * What waits in pairs of pseudo terminals: lines, ends of files, a line that is being typed, bytes without lines, output,
 * packets, the last words of a terminal that nobody has open any more.
 */
#include "state.h"

#include "waiting.h"

static void setup(void)
{
	waiting_setup("");
}

static void check(int generation)
{
	waiting_check("");
	if (generation == 1)
		waiting_setup("");
}
