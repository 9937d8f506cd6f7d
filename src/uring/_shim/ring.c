/* The shim: three syscalls, the mappings, entry writing, and "submit, wait, drain" as one call.
 *
 * Invariants
 *  - Only the thread that owns the ring calls the submission and cycle functions (a ring with several
 *    issuers is locked above, in Python).
 *  - Only this process writes sq_tail; the kernel sees it through a store-release after the entry is complete.
 *  - An entry stays in the queue until the kernel's head has passed it: a failed enter loses nothing.
 *  - Structures and numbers are declared here, without kernel headers; assertions check the layouts.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <stdint.h>
#include <string.h>
#include <stdlib.h>
#include <stddef.h>
#include <time.h>
#include <unistd.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#include "ring.h"

/* One translation unit, so that calls for each entry and completion are inlined. Each part uses those before it. */
#include "kernel.h"
#include "count.h"
#include "mapping.h"
#include "submit.h"
#include "volley.h"
#include "complete.h"
#include "buffers.h"
