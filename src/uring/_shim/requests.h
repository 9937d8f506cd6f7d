/* Declarations of the extension uring._requests: requests as objects, the table of those in flight, and the part of a
 * ring that queues and ends them.
 *
 * It is the usual case of `uring.contexts.requests`, `uring.session.requesting` and `uring.session.delivery`, in C: one
 * completion, a number as result, no chain, no other thread. The functions there do everything else, and are the
 * reference for the usual case.
 *
 * Invariants
 *  - The table owns a request from before its entry is queued until after its last completion. The request owns the
 *    buffer whose address the entry has. So the memory stays when the program drops the request.
 *  - Memory of a request in flight is never released, not by the garbage collector either: it is leaked instead.
 *  - All of this runs with the GIL, except system calls.
 */
#ifndef URING_REQUESTS_H
#define URING_REQUESTS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <structmember.h>

#include "ring.h"

/* The operations that are queued here without an `Op`. */
struct kind {
    const char *name;      /* of the method, and of the request */
    int opcode, memory;    /* memory: 0 none, 1 read by the kernel, 2 written by it */
    int placed;            /* it has an offset */
    int64_t most;          /* bytes */
};

/* There are many requests. Each is two cache lines, with what the collector puts before it; the fields for its end and
 * its result are in the first. */
typedef struct {
    PyObject_HEAD
    PyObject *told;        /* the decoder of its result, or for an error what failed; NULL: the number is all */
    PyObject *number;      /* `res`, as the completion has it; NULL: to be made */
    uint64_t value;
    int32_t res;
    uint32_t flags;
    PyObject *held;        /* in flight: the Op, or the owner of the buffer; NULL: ended, or no buffer */
    const struct kind *kind; /* NULL: of an Op */
    PyObject *ring;
    PyObject *weakrefs;
    char flying, decodes;  /* not ended; its result is decoded */
    int32_t fd;            /* of a kind, as what follows */
    union {
        struct { uint64_t off, addr; };
        struct { PyObject *name, *fields; }; /* of an Op */
    };
    uint32_t len;
} Request;

/* Requests in flight by their values: open addressing, linear probing, at most half full. */
typedef struct {
    PyObject_HEAD
    Request **places;      /* mask + 1 of them, each with a reference; NULL is free */
    uint64_t mask, used;
} Table;

/* `ur_put_packed`, `ur_count` and `ur_settle` of the shim, which is another extension. */
typedef int put_copy(struct ur_ring *, uint64_t, uint64_t);
typedef int of_value(struct ur_ring *, uint64_t);

/* The part of a ring that is in C; the base of its class. */
typedef struct {
    PyObject_HEAD
    struct ur_ring *ring;  /* NULL before `_attach` */
    put_copy *put_packed;
    of_value *count, *settle;
    PyObject *kernel;      /* keeps the ring where it is */
    PyObject *requests, *plain, *guarded, *linking;
    PyObject *backlog, *held, *slots, *decoding, *given, *renamed, *batches;
    long long owner;
    unsigned long long serial, late;
    int waking;            /* messages on the way that only wake the owner */
    char chain, drained;
} Queue;

extern PyTypeObject *request_type, *table_type, *queue_type;
/* The object in the place of a result that was taken; uring.contexts.requests.meaning_of; uring.kernel.op.Op. */
extern PyObject *taken, *meaning_of, *op_class;
/* The slots of an Op that are read here. */
enum op_slot { OP_NAME, OP_FIELDS, OP_DECODE, OP_ENTRY, OP_SLOTS };
PyObject *op_slot(PyObject *op, enum op_slot slot); /* borrowed; NULL: no Op, or not set */
extern const struct kind kinds[];
extern const size_t kind_count;

/* The usual case of a function: 1, and `*result` is a new reference; 0: nothing was done, and the function does it;
 * -1: an exception is set. `n` counts the positional arguments; the values of `keywords` follow them. */
typedef int usual_case(PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result);
usual_case usual_result, usual_done, usual_request, usual_many, usual_collect, usual_release;
int usual_operation(const struct kind *kind, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result);
int is_shortcut(PyObject *obj, usual_case *usual); /* whether it is the one with this usual case */

/* A request of an Op: a new reference, in flight and in no table. */
Request *request_of(PyObject *ring, uint64_t value, PyObject *op);
/* A request of a kind, without an Op: a new reference, in flight and in no table. */
Request *request_bare(PyObject *ring, uint64_t value, const struct kind *kind);
/* How to read a result, as uring.contexts.requests.meaning_of: 0, and `*told` is a new reference, or NULL where the
 * number is all; -1: an exception is set. It changes nothing, and may run any code. */
int request_meaning(Request *request, int32_t res, PyObject **told);
/* Takes a completion. `number` is `res`, or NULL; `told` is its meaning. */
void request_complete(Request *request, PyObject *number, PyObject *told, int32_t res, uint32_t flags);
/* Ends it and releases its memory. */
void request_end(Request *request);

int table_add(Table *table, Request *request);           /* 0, or -1 and an exception */
Request *table_take(Table *table, uint64_t value);        /* the table's reference, or NULL */
Request *table_look(const Table *table, uint64_t value);  /* borrowed, or NULL */
void table_expect(const Table *table, uint64_t value);    /* fetches it into the cache: its take comes soon */

int load_request(PyObject *module), load_table(PyObject *module), load_queue(PyObject *module);
int load_deliver(void);

#endif
