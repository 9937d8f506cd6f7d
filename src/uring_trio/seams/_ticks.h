/* What the files of the extension share: where the fields of Trio's objects lie, and the ticks of a run.
 *
 * Every file includes this one first. A file has its own types and functions, and one `load_…` which `_ticks.c`
 * calls when the module is imported.
 */
#ifndef URING_TRIO_TICKS_H
#define URING_TRIO_TICKS_H

#define PY_SSIZE_T_CLEAN
#include <Python.h>

#include <stdint.h>
#include <time.h>

struct cqe { uint64_t user_data; int32_t res; uint32_t flags; };

/* Where the fields lie in instances of Trio's Task, Runner, CancelStatus and Deadlines, and of Operation. */
enum field {
    T_NEXT_SEND_FN, T_NEXT_SEND, T_ABORT_FUNC, T_SLEEP_DATA, T_CONTEXT, T_CORO, T_CANCEL_POINTS, T_SCHEDULE_POINTS,
    T_CANCEL_STATUS, C_CANCELLED, R_KI_PENDING, R_MAIN_TASK, D_HEAP, D_ACTIVE,
    O_USER_DATA, O_TASK, O_RES, O_FLAGS, O_PINS, O_INTERRUPT, O_HANDLER,
    FIELDS
};

typedef struct {
    PyObject_HEAD
    PyObject *task_type, *operation_type;
    PyObject *runner, *runq, *append, *clear, *tasks, *idle, *deadlines;
    PyObject *instruments;    /* of the runner; `call` is called on it */
    PyObject *hooks;          /* its dict: one entry while there is no instrument */
    PyObject *run_context;    /* the dict of GLOBAL_RUN_CONTEXT in this thread */
    PyObject *module;         /* the dict of the module of Trio's loop */
    PyObject *yield_message, *park_type;
    PyObject *entries, *free; /* the in-flight table's lists: all, and those that are free */
    PyObject *owners, *registered; /* the run's `Fd` of each descriptor; what waits in Trio's own manager */
    PyObject *done, *again;   /* what completed operations and shielded checkpoints are resumed with */
    PyObject *value, *error;  /* outcome.Value, outcome.Error */
    PyObject *resume;
    PyObject *quiet, *stray, *foreign, *shuffle;
    unsigned long long count; /* batches run here */
    double offset;            /* of Trio's clock */
    int (*idle_ring)(void *), (*cycle)(void *, double), (*space)(void *), (*flush)(void *, int);
    int (*put)(void *, uint64_t, int, int64_t, int, uint64_t, uint64_t, uint32_t, uint32_t, int, int, uint64_t);
    PyCFunction append_to;    /* of `append`, called directly; NULL: it takes more than an argument */
    PyObject *queue;          /* its first argument: runq, borrowed from `append` */
    void *ring;
    const struct cqe *const *out;
    Py_ssize_t at[FIELDS];
} Ticks;

/* ---- fields ---- */

static inline PyObject **field(PyObject *obj, Py_ssize_t at) { return (PyObject **)((char *)obj + at); }

/* Stores a reference that the caller gives away. */
static inline void put(PyObject *obj, Py_ssize_t at, PyObject *new)
{
    PyObject **place = field(obj, at), *old = *place;
    *place = new;
    Py_XDECREF(old);
}

static inline void put_none(PyObject *obj, Py_ssize_t at)
{
    if (*field(obj, at) != Py_None) {
        Py_INCREF(Py_None);
        put(obj, at, Py_None);
    }
}

/* Takes a field's reference and leaves None. */
static inline PyObject *take(PyObject *obj, Py_ssize_t at)
{
    PyObject **place = field(obj, at), *old = *place;
    Py_INCREF(Py_None);
    *place = Py_None;
    return old;
}

/* Adds to a number: 0, or -1 with an exception. */
static inline int add(PyObject *obj, Py_ssize_t at, long number)
{
    long n = PyLong_AsLong(*field(obj, at));
    if (n == -1 && PyErr_Occurred())
        return -1;
    PyObject *sum = PyLong_FromLong(n + number);
    if (!sum)
        return -1;
    put(obj, at, sum);
    return 0;
}

static inline int bump(PyObject *obj, Py_ssize_t at) { return add(obj, at, 1); }

/* The user_data of an operation; negative with an exception: it is no number. PyLong_AsLongLong takes three times as
 * long for a number of this size. */
static inline long long user_data_of(Ticks *t, PyObject *op)
{
    int over;
    return PyLong_AsLongLongAndOverflow(*field(op, t->at[O_USER_DATA]), &over);
}

/* Keeps another object in a place, which owns a reference to it; the object is borrowed. */
static inline void keep(PyObject **place, PyObject *object)
{
    PyObject *old = *place;
    Py_INCREF(object);
    *place = object;
    Py_XDECREF(old);
}

/* Reads where n fields lie out of a tuple of as many numbers: 0, or -1 and an exception. */
static inline int read_offsets(PyObject *offsets, Py_ssize_t *at, int n)
{
    for (int i = 0; i < n; i++)
        at[i] = PyLong_AsSsize_t(PyTuple_GetItem(offsets, i));
    return PyErr_Occurred() ? -1 : 0;
}

/* The monotonic clock, in seconds. */
static inline double now(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_MONOTONIC, &ts);
    return (double)ts.tv_sec + (double)ts.tv_nsec * 1e-9;
}

/* ---- between the files ---- */

/* The ticks that run in this thread now, and the task that they step: both are borrowed, and NULL while Trio's own
 * loop runs. */
extern _Thread_local Ticks *ticks_here;
extern _Thread_local PyObject *task_here;

/* Whether an object may be awaited now. It may once, by the task that is kept in `awaiter`, which is compared only; and
 * that task may ask again, as `anext` with a default does for each of its steps. */
static inline int may_await(const void **awaiter, const void *self, int fresh)
{
    const void *here = task_here ? (const void *)task_here : self;
    if (fresh)
        *awaiter = here;
    return *awaiter && (!task_here || *awaiter == here || *awaiter == self);
}

/* Makes a parked task runnable, to be resumed with `with`: both are borrowed. */
int schedule(Ticks *t, PyObject *task, PyObject *with);

/* Gives a completion that is not the last one to the subscription which is an operation's handler. 1: it is done;
 * 0: nothing was done, it is for the handler; -1: an exception is set. */
int deliver_more(Ticks *t, PyObject *handler, const struct cqe *cqe);

/* Whether a parked task of Trio's class may be made runnable here, and not by `Runner.reschedule`. */
int may_wake(Ticks *t, PyObject *task);

/* The usual end of a task that has returned. 1: it is over; 0: nothing was done, it is for Trio's `task_exited` to do;
 * -1: an exception is set. */
int leave_task(Ticks *t, PyObject *task);

/* What types have whose instances are taken for coroutines: `__class__`, a new reference; the iterator for `yield from`,
 * also new; and a bound method of that name, new, or NULL without an exception.
 * `send`, `throw` and `close` are no methods of the type: with `__iter__` it would be taken for a generator's. */
PyObject *coroutine_class(PyObject *self, void *unused);
PyObject *coroutine_iter(PyObject *self);
PyObject *coroutine_method(PyMethodDef *among, PyObject *self, PyObject *name);

/* Gives a type the name of the one that its instances are taken for; errors tell it. */
int name_type(PyObject *type, const char *text);

/* The other files' part of the module. */
int load_io(PyObject *module);
int load_checkpoint(PyObject *module);
int load_scope(PyObject *module);
int load_shortcut(PyObject *module);
int load_task(PyObject *module);
int load_lock(PyObject *module);
int load_channel(PyObject *module);

#endif
