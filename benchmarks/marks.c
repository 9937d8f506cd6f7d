/* Tells valgrind where counting begins and where a figure ends; nothing happens outside of valgrind. */
#include <valgrind/callgrind.h>

int counted(void)
{
    return RUNNING_ON_VALGRIND;
}

void begin(void)
{
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

/* Writes what was counted since `begin` or the last mark, under this name, and starts again from zero. */
void mark(const char *name)
{
    CALLGRIND_DUMP_STATS_AT(name);
}
