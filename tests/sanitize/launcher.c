/* Python as a program that is built with the sanitizers: their runtime comes first, in every process that is started as
 * this interpreter, whatever its environment. Python's objects come from malloc, so that libasan knows where each
 * begins and ends. REPORTS: where reports go, each into a file of its process.
 *
 * An error aborts. A leak, which is looked for at the end, does not: tests look at statuses, and CPython leaks by itself.
 * Trio's tests have handlers of their own for SIGILL and SIGFPE; an interpreter may be started below LD_PRELOAD. */
#include <Python.h>

#include <stdlib.h>
#include <sys/prctl.h>

#ifndef REPORTS
#define REPORTS "."
#endif
#define TO ":log_path=" REPORTS "/report"

const char *__asan_default_options(void);
const char *__ubsan_default_options(void);
const char *__lsan_default_options(void);
int __lsan_is_turned_off(void);

const char *__asan_default_options(void)
{
    return "detect_leaks=1:abort_on_error=1:exitcode=0:allocator_may_return_null=1:verify_asan_link_order=0"
           ":handle_sigill=0:handle_sigfpe=0" TO;
}

const char *__ubsan_default_options(void) { return "halt_on_error=1:print_stacktrace=1" TO; }

const char *__lsan_default_options(void) { return "print_suppressions=0"; }

/* A process that has become another user may not be looked at. One whose rings may no longer be entered keeps them, which
 * it says by KEEPS_RINGS in its environment. */
int __lsan_is_turned_off(void) { return prctl(PR_GET_DUMPABLE) != 1 || getenv("KEEPS_RINGS"); }

int main(int argc, char **argv)
{
    setenv("PYTHONMALLOC", "malloc", 0);
    return Py_BytesMain(argc, argv);
}
