/* The module uring_trio.seams._ticks: whole ticks of Trio's scheduler, for a run on a ring.
 *
 * A tick takes the batch of tasks that are runnable, steps each of them, looks at the ring, and delivers what
 * completed. Trio's own loop does the same; this one does the usual cases and goes back to Trio's as soon as
 * anything is uncommon, so that every rule about the rest stays Trio's. uring_trio/seams/ticks.py decides
 * whether a run gets one and finds where the fields of Trio's objects lie.
 *
 * Invariants
 *  - The order of a batch is Trio's: what was runnable at its start, the last first, reversed by the same draw, or
 *    shuffled where tests want a schedule that repeats.
 *  - A task that is scheduled has a `_next_send_fn` which resumes it in Trio's loop too: `resume` below, or Trio's.
 *  - No field of a task is read across a step but through a reference taken before it: a step may replace
 *    any of them (from_thread.run replaces the context).
 *  - The entered context is left before anything else happens, whatever the step raised.
 *  - Offsets are used on exact instances of the class that they were found on.
 *  - A signal that arrived in C is handled before the next step, not in it.
 */
#include "_ticks.h"

#include <stddef.h>

/* Not in the limited API, though every CPython exports them. */
PyAPI_FUNC(int) PyContext_Enter(PyObject *);
PyAPI_FUNC(int) PyContext_Exit(PyObject *);

enum { HAS_BUFFER = 1, MORE = 2, UNUSUAL = MORE | 8 }; /* IORING_CQE_F_BUFFER, _MORE, _NOTIF */
static const uint64_t INDEX_MASK = (1 << 24) - 1;
static const double LONGEST = 86400;
static const Py_ssize_t STALE = 1000; /* entries of deadlines that no longer count, as many as Trio lets be */

_Thread_local Ticks *ticks_here;
_Thread_local PyObject *task_here;

static PyObject *s_task, *s_run, *s_abort_func, *s_settle, *s_random, *s_call, *s_deliver, *s_deliver_ki,
    *s_r, *s_deterministic, *s_before, *s_after, *s_scheduled, *s_value, *s_name, *s_prune, *s_task_exited;

/* ---- scheduling ---- */

int schedule(Ticks *t, PyObject *task, PyObject *with)
{
    Py_INCREF(t->resume);
    put(task, t->at[T_NEXT_SEND_FN], t->resume);
    Py_INCREF(with);
    put(task, t->at[T_NEXT_SEND], with);
    put_none(task, t->at[T_ABORT_FUNC]);
    put_none(task, t->at[T_SLEEP_DATA]);
    PyObject *none = t->append_to ? t->append_to(t->queue, task) : PyObject_CallFunctionObjArgs(t->append, task, NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* Delivers one completion: the caller has looked the operation up. */
static int deliver_to(Ticks *t, PyObject *op, const struct cqe *cqe)
{
    int more = cqe->flags & MORE ? deliver_more(t, *field(op, t->at[O_HANDLER]), cqe) : 0;
    if (more)
        return more < 0 ? -1 : 0;
    PyObject *task = *field(op, t->at[O_TASK]), *res = NULL, *flags = NULL, *with = NULL;
    int ret = -1;
    Py_INCREF(op);
    Py_XINCREF(task);
    if (!(res = PyLong_FromLong(cqe->res)) || !(flags = PyLong_FromUnsignedLong(cqe->flags)))
        goto out;
    if (!task || task == Py_None || cqe->flags & UNUSUAL || (cqe->flags & HAS_BUFFER && cqe->res <= 0)) {
        PyObject *handler = *field(op, t->at[O_HANDLER]);
        Py_INCREF(handler);
        with = PyObject_CallFunctionObjArgs(handler, op, res, flags, NULL);
        Py_DECREF(handler);
        ret = with ? 0 : -1;
        goto out;
    }
    Py_INCREF(res);
    put(op, t->at[O_RES], res);
    Py_INCREF(flags);
    put(op, t->at[O_FLAGS], flags);
    put_none(op, t->at[O_TASK]);
    put_none(op, t->at[O_PINS]);
    if (*field(op, t->at[O_INTERRUPT]) == Py_None) {
        Py_INCREF(t->done);
        with = t->done;
    } else if (!(with = PyObject_CallMethodObjArgs(op, s_settle, NULL))) {
        goto out;
    }
    ret = schedule(t, task, with);
out:
    Py_XDECREF(with);
    Py_XDECREF(res);
    Py_XDECREF(flags);
    Py_XDECREF(task);
    Py_DECREF(op);
    return ret;
}

static int deliver(Ticks *t, int n)
{
    for (int i = 0; i < n; i++) {
        struct cqe cqe = (*t->out)[i];
        Py_ssize_t index = (Py_ssize_t)(cqe.user_data & INDEX_MASK);
        PyObject *op = index < PyList_Size(t->entries) ? PyList_GetItem(t->entries, index) : NULL;
        if (op && (PyObject *)Py_TYPE(op) == t->operation_type &&
            (uint64_t)user_data_of(t, op) == cqe.user_data) {
            if (deliver_to(t, op, &cqe) < 0)
                return -1;
            continue;
        }
        PyErr_Clear();
        PyObject *none = PyObject_CallFunction(t->stray, "Kik", (unsigned long long)cqe.user_data, (int)cqe.res,
                                               (unsigned long)cqe.flags);
        if (!none)
            return -1;
        Py_DECREF(none);
    }
    return 0;
}

/* ---- one step of one task ---- */

/* Whether `fn` is the send of this coroutine, as Trio makes it for every task that it schedules. */
static int is_send_of(PyObject *fn, PyObject *coro)
{
    if (!PyCFunction_Check(fn) || PyCFunction_GetSelf(fn) != coro)
        return 0;
    PyObject *name = PyObject_GetAttr(fn, s_name);
    int ret = name && PyUnicode_CompareWithASCIIString(name, "send") == 0;
    Py_XDECREF(name);
    PyErr_Clear();
    return ret;
}

/* Sends a value to a coroutine in its context. *result is a new reference, or NULL with an exception. */
static PySendResult send_in_context(PyObject *context, PyObject *coro, PyObject *value, PyObject **result)
{
    *result = NULL;
    if (PyContext_Enter(context) < 0)
        return PYGEN_ERROR;
    PySendResult status = PyIter_Send(coro, value, result);
    if (PyContext_Exit(context) < 0) {
        Py_CLEAR(*result);
        return PYGEN_ERROR;
    }
    return status;
}

/* Any other way to resume a task, as Trio does it. *result is owned as above. */
static PySendResult run_in_context(PyObject *context, PyObject *fn, PyObject *value, PyObject **result)
{
    *result = PyObject_CallMethodObjArgs(context, s_run, fn, value, NULL);
    if (*result)
        return PYGEN_NEXT;
    if (!PyErr_ExceptionMatches(PyExc_StopIteration))
        return PYGEN_ERROR;
    PyObject *type, *stop, *traceback;
    PyErr_Fetch(&type, &stop, &traceback);
    PyErr_NormalizeException(&type, &stop, &traceback);
    *result = PyObject_GetAttr(stop, s_value);
    Py_XDECREF(type);
    Py_XDECREF(stop);
    Py_XDECREF(traceback);
    return *result ? PYGEN_RETURN : PYGEN_ERROR;
}

/* The current exception as an outcome, owned, with the traceback as it stands: no frame of C is in it. */
static PyObject *caught(Ticks *t)
{
    PyObject *type, *exc, *traceback;
    PyErr_Fetch(&type, &exc, &traceback);
    PyErr_NormalizeException(&type, &exc, &traceback);
    if (traceback)
        PyException_SetTraceback(exc, traceback);
    PyObject *outcome = PyObject_CallFunctionObjArgs(t->error, exc, NULL);
    Py_XDECREF(type);
    Py_XDECREF(exc);
    Py_XDECREF(traceback);
    return outcome;
}

static int call_on(PyObject *obj, PyObject *method)
{
    PyObject *none = PyObject_CallMethodObjArgs(obj, method, NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* A task that yielded the message to park it. */
static int park(Ticks *t, PyObject *task, PyObject *message)
{
    if (bump(task, t->at[T_CANCEL_POINTS]) < 0)
        return -1;
    PyObject *abort = PyObject_GetAttr(message, s_abort_func);
    if (!abort)
        return -1;
    put(task, t->at[T_ABORT_FUNC], abort);
    if (*field(t->runner, t->at[R_KI_PENDING]) != Py_False && *field(t->runner, t->at[R_MAIN_TASK]) == task &&
        call_on(task, s_deliver_ki) < 0)
        return -1;
    if (*field(*field(task, t->at[T_CANCEL_STATUS]), t->at[C_CANCELLED]) != Py_False)
        return call_on(task, s_deliver);
    return 0;
}

/* Calls the instruments that were added in the middle of a batch. */
static int instrument(Ticks *t, PyObject *hook, PyObject *task)
{
    if (PyDict_Size(t->hooks) == 1)
        return 0;
    int there = PyDict_Contains(t->hooks, hook);
    if (there <= 0)
        return there;
    PyObject *none = PyObject_CallMethodObjArgs(t->instruments, s_call, hook, task, NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static int after_step(Ticks *t, PyObject *task, PySendResult status, PyObject *result)
{
    if (status != PYGEN_NEXT) {
        int left = status == PYGEN_RETURN ? leave_task(t, task) : 0;
        if (left)
            return left < 0 ? -1 : 0;
        PyObject *final = status == PYGEN_RETURN ? PyObject_CallFunctionObjArgs(t->value, result, NULL) : caught(t);
        if (!final)
            return -1;
        PyObject *none = PyObject_CallMethodObjArgs(t->runner, s_task_exited, task, final, NULL);
        Py_DECREF(final);
        Py_XDECREF(none);
        return none ? 0 : -1;
    }
    if (bump(task, t->at[T_SCHEDULE_POINTS]) < 0)
        return -1;
    if (result == t->yield_message)
        return schedule(t, task, t->again) < 0 ? -1 : instrument(t, s_scheduled, task);
    if ((PyObject *)Py_TYPE(result) == t->park_type)
        return park(t, task, result);
    PyObject *none = PyObject_CallFunctionObjArgs(t->foreign, task, result, NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

static int step(Ticks *t, PyObject *task)
{
    PyObject *fn = take(task, t->at[T_NEXT_SEND_FN]), *value = take(task, t->at[T_NEXT_SEND]);
    PyObject *context = *field(task, t->at[T_CONTEXT]), *coro = *field(task, t->at[T_CORO]), *result;
    PySendResult status;
    if (!fn || fn == Py_None) {
        PyErr_SetString(PyExc_AssertionError, "a runnable task has nothing to resume it");
        Py_XDECREF(fn);
        Py_XDECREF(value);
        return -1;
    }
    Py_INCREF(context);
    Py_INCREF(coro);
    task_here = task;
    if (fn == t->resume || is_send_of(fn, coro))
        status = send_in_context(context, coro, value, &result);
    else
        status = run_in_context(context, fn, value, &result);
    task_here = NULL;
    Py_DECREF(coro);
    Py_DECREF(context);
    Py_DECREF(value);
    Py_DECREF(fn);
    int ret = after_step(t, task, status, result);
    Py_XDECREF(result);
    return ret;
}

/* ---- batches ---- */

/* Trio reverses every second batch, by a draw from its own generator; where tests want a schedule that repeats,
 * it shuffles. */
static int reversed(Ticks *t, PyObject *batch)
{
    PyObject *deterministic = PyDict_GetItemWithError(t->module, s_deterministic);
    if (deterministic && deterministic != Py_False) {
        PyObject *none = PyObject_CallFunctionObjArgs(t->shuffle, batch, NULL);
        Py_XDECREF(none);
        return none ? 0 : -1;
    }
    PyObject *random = PyDict_GetItemWithError(t->module, s_r);
    if (!random) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_AttributeError, "Trio's loop has no random generator");
        return -1;
    }
    PyObject *draw = PyObject_CallMethodObjArgs(random, s_random, NULL);
    double n = draw ? PyFloat_AsDouble(draw) : -1;
    Py_XDECREF(draw);
    return PyErr_Occurred() ? -1 : n < 0.5;
}

static int run_batch(Ticks *t)
{
    t->count++;
    PyObject *batch = PySequence_List(t->runq), *none = NULL;
    if (!batch)
        return -1;
    int ret = -1, turned;
    if (!(none = PyObject_CallFunctionObjArgs(t->clear, NULL)) || (turned = reversed(t, batch)) < 0)
        goto out;
    Py_ssize_t n = PyList_Size(batch);
    for (Py_ssize_t i = 0; i < n; i++) {
        PyObject *task = PyList_GetItem(batch, turned ? i : n - 1 - i);
        if ((PyObject *)Py_TYPE(task) != t->task_type) {
            PyErr_SetString(PyExc_TypeError, "Trio's run queue holds something that is no task");
            goto out;
        }
        /* As Trio's loop does between two steps: in no task's frame, where Ctrl-C could strike at any instruction. */
        if (PyErr_CheckSignals() < 0)
            goto out;
        Py_INCREF(task);
        int wrong = PyDict_SetItem(t->run_context, s_task, task) < 0 || instrument(t, s_before, task) < 0 ||
                    step(t, task) < 0 || instrument(t, s_after, task) < 0;
        if (!wrong) {
            Py_INCREF(Py_None);
            wrong = PyList_SetItem(batch, turned ? i : n - 1 - i, Py_None) < 0; /* a task that is over is freed now */
        }
        Py_DECREF(task);
        if (wrong)
            goto out;
    }
    ret = PyDict_DelItem(t->run_context, s_task);
out:
    Py_XDECREF(none);
    Py_DECREF(batch);
    return ret;
}

/* ---- whole ticks ---- */

/* Seconds until Trio's next deadline, which may be one that no longer counts; negative if it is due. */
static double until_deadline(Ticks *t)
{
    PyObject *heap = *field(t->deadlines, t->at[D_HEAP]);
    if (!PyList_Size(heap))
        return LONGEST;
    PyObject *first = PyTuple_GetItem(PyList_GetItem(heap, 0), 0);
    double left = first ? PyFloat_AsDouble(first) - t->offset - now() : -1;
    PyErr_Clear();
    return left <= 0 ? -1 : left < LONGEST ? left : LONGEST;
}

/* Takes out the deadlines that no longer count, where they are most of all deadlines, as Trio's loop does when it
 * looks for those that are due. */
static int prune(Ticks *t)
{
    Py_ssize_t n = PyList_Size(*field(t->deadlines, t->at[D_HEAP]));
    if (n <= STALE)
        return 0;
    long active = PyLong_AsLong(*field(t->deadlines, t->at[D_ACTIVE]));
    if (active == -1 && PyErr_Occurred())
        return -1;
    return n <= STALE + 2 * active ? 0 : call_on(t->deadlines, s_prune);
}

/* Whether the next batch is Trio's own loop's, for any reason but a deadline. */
static int uncommon(Ticks *t)
{
    return PyDict_Size(t->hooks) != 1 || PyDict_Size(t->idle) || *field(t->runner, t->at[R_KI_PENDING]) != Py_False ||
           !PySet_Size(t->tasks);
}

/* Submits and looks at the ring, waiting only when no task is runnable. Completions, or 0 or less where Trio's
 * loop is to look for itself. */
static int look(Ticks *t, int runnable, double longest)
{
    int n;
    if (runnable && t->idle_ring(t->ring) > 0)
        return 0;
    PyThreadState *state = PyEval_SaveThread();
    n = t->cycle(t->ring, runnable ? 0 : longest);
    PyEval_RestoreThread(state);
    return n;
}

/* Runs ticks until one is uncommon: 1; 2 if a batch has run since the last look at the ring, and there is another
 * one; -1 with an exception. */
static int run_ticks(Ticks *t)
{
    int looked = 1;
    for (;;) {
        if (uncommon(t))
            break;
        double longest = until_deadline(t);
        if (longest < 0)
            break;
        if (prune(t) < 0)
            return -1;
        Py_ssize_t runnable = PyObject_Size(t->runq);
        if (runnable < 0 || (runnable && run_batch(t) < 0))
            return -1;
        looked = 0;
        if (uncommon(t) || (longest = until_deadline(t)) < 0 || (runnable = PyObject_Size(t->runq)) < 0)
            break;
        PyObject *quiet = PyObject_CallFunctionObjArgs(t->quiet, NULL);
        if (!quiet)
            return -1;
        double most = PyFloat_AsDouble(quiet);
        Py_DECREF(quiet);
        if (most < 0 || (!most && !runnable))
            break;
        int n = look(t, runnable > 0, most < longest ? most : longest);
        looked = 1;
        if (n < 0 || (!n && !runnable))
            break;
        if (n && deliver(t, n) < 0)
            return -1;
    }
    return PyErr_Occurred() ? -1 : looked || !PyObject_Size(t->runq) ? 1 : 2;
}

/* Delivers the completions of the last look, as many as the argument says, and runs ticks until one is uncommon.
 * 0, with nothing done, where there are instruments: they are called for each task that is scheduled. 2: before the
 * next batch the caller has to look at the ring, as Trio's loop does. */
static PyObject *ticks_run(PyObject *self, PyObject *count)
{
    Ticks *t = (Ticks *)self;
    long found = PyLong_AsLong(count);
    if (found == -1 && PyErr_Occurred())
        return NULL;
    if (PyDict_Size(t->hooks) != 1)
        return PyLong_FromLong(0);
    ticks_here = t;
    int ran = deliver(t, (int)found) < 0 ? -1 : run_ticks(t);
    ticks_here = NULL;
    return ran < 0 ? NULL : PyLong_FromLong(ran);
}

/* ---- resuming a task in Trio's own loop ---- */

static PyObject *ticks_resume(PyObject *self, PyObject *value)
{
    Ticks *t = (Ticks *)self;
    PyObject *task = PyDict_GetItemWithError(t->run_context, s_task), *result = NULL;
    if (!task || (PyObject *)Py_TYPE(task) != t->task_type) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_RuntimeError, "no task is being stepped");
        return NULL;
    }
    PyObject *coro = *field(task, t->at[T_CORO]);
    Py_INCREF(coro);
    PySendResult status = PyIter_Send(coro, value, &result);
    Py_DECREF(coro);
    if (status == PYGEN_RETURN) {
        PyObject *stop = PyObject_CallFunctionObjArgs(PyExc_StopIteration, result, NULL);
        Py_CLEAR(result);
        if (stop)
            PyErr_SetObject(PyExc_StopIteration, stop);
        Py_XDECREF(stop);
    }
    return result;
}

/* ---- the type ---- */

static const struct { const char *name; size_t at; } MEMBERS[] = {
#define MEMBER(name) { #name, offsetof(Ticks, name) }
    MEMBER(task_type), MEMBER(operation_type), MEMBER(runner), MEMBER(runq), MEMBER(tasks),
    MEMBER(idle), MEMBER(deadlines), MEMBER(instruments), MEMBER(hooks), MEMBER(run_context), MEMBER(module),
    MEMBER(yield_message), MEMBER(park_type), MEMBER(entries), MEMBER(free), MEMBER(owners), MEMBER(registered), MEMBER(done), MEMBER(again), MEMBER(value),
    MEMBER(error), MEMBER(quiet), MEMBER(stray), MEMBER(foreign),
    MEMBER(shuffle),
#undef MEMBER
};
enum { MEMBER_COUNT = sizeof MEMBERS / sizeof *MEMBERS };

static int fill(Ticks *t, PyObject *objects, PyObject *offsets, PyObject *ring)
{
    for (int i = 0; i < MEMBER_COUNT; i++) {
        PyObject *value = PyDict_GetItemString(objects, MEMBERS[i].name);
        if (!value) {
            PyErr_Format(PyExc_TypeError, "ticks need %s", MEMBERS[i].name);
            return -1;
        }
        Py_INCREF(value);
        *(PyObject **)((char *)t + MEMBERS[i].at) = value;
    }
    if (PyTuple_Size(offsets) != FIELDS) {
        PyErr_Format(PyExc_TypeError, "ticks need %d offsets", (int)FIELDS);
        return -1;
    }
    unsigned long long handle, out, idle, cycle, space, put, flush;
    if (read_offsets(offsets, t->at, FIELDS) < 0 ||
        !PyArg_ParseTuple(ring, "KKKKKKK", &handle, &out, &idle, &cycle, &space, &put, &flush))
        return -1;
    t->ring = (void *)(uintptr_t)handle;
    t->out = (const struct cqe *const *)(uintptr_t)out;
    t->idle_ring = (int (*)(void *))(uintptr_t)idle;
    t->cycle = (int (*)(void *, double))(uintptr_t)cycle;
    t->space = (int (*)(void *))(uintptr_t)space;
    t->put = (int (*)(void *, uint64_t, int, int64_t, int, uint64_t, uint64_t, uint32_t, uint32_t, int, int,
                      uint64_t))(uintptr_t)put;
    t->flush = (int (*)(void *, int))(uintptr_t)flush;
    t->append = PyObject_GetAttrString(t->runq, "append");
    t->clear = PyObject_GetAttrString(t->runq, "clear");
    t->resume = PyObject_GetAttrString((PyObject *)t, "resume");
    if (!t->append || !t->clear || !t->resume)
        return -1;
    if (PyCFunction_Check(t->append) && PyCFunction_GetFlags(t->append) == METH_O) {
        t->append_to = PyCFunction_GetFunction(t->append);
        t->queue = PyCFunction_GetSelf(t->append);
    }
    return 0;
}

static PyObject *ticks_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *objects, *offsets, *ring;
    double offset;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O!O!O!d", &PyDict_Type, &objects, &PyTuple_Type, &offsets, &PyTuple_Type, &ring,
                          &offset))
        return NULL;
    allocfunc alloc = (allocfunc)PyType_GetSlot(type, Py_tp_alloc);
    Ticks *t = (Ticks *)alloc(type, 0);
    if (!t)
        return NULL;
    t->offset = offset;
    if (fill(t, objects, offsets, ring) < 0)
        Py_CLEAR(t);
    return (PyObject *)t;
}

static int ticks_traverse(PyObject *self, visitproc visit, void *arg)
{
    Ticks *t = (Ticks *)self;
    Py_VISIT(Py_TYPE(self));
    for (int i = 0; i < MEMBER_COUNT; i++)
        Py_VISIT(*(PyObject **)((char *)t + MEMBERS[i].at));
    Py_VISIT(t->append);
    Py_VISIT(t->clear);
    Py_VISIT(t->resume);
    return 0;
}

static int ticks_clear(PyObject *self)
{
    Ticks *t = (Ticks *)self;
    for (int i = 0; i < MEMBER_COUNT; i++)
        Py_CLEAR(*(PyObject **)((char *)t + MEMBERS[i].at));
    Py_CLEAR(t->append);
    Py_CLEAR(t->clear);
    Py_CLEAR(t->resume);
    return 0;
}

static void ticks_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    ticks_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyObject *ticks_count(PyObject *self, void *unused)
{
    (void)unused;
    return PyLong_FromUnsignedLongLong(((Ticks *)self)->count);
}

static PyGetSetDef ticks_getset[] = {
    { "count", ticks_count, NULL, "How many batches were run here.", NULL },
    { NULL, NULL, NULL, NULL, NULL },
};

static PyMethodDef ticks_methods[] = {
    { "run", ticks_run, METH_O, "Delivers this many completions and runs ticks until one is uncommon." },
    { "resume", ticks_resume, METH_O, "Resumes the current task of this run." },
    { NULL, NULL, 0, NULL },
};

static PyType_Slot ticks_slots[] = {
    { Py_tp_new, ticks_new },           { Py_tp_dealloc, ticks_dealloc }, { Py_tp_traverse, ticks_traverse },
    { Py_tp_clear, ticks_clear },       { Py_tp_methods, ticks_methods },
    { Py_tp_getset, ticks_getset },     { 0, NULL },
};

static PyType_Spec ticks_spec = {
    "uring_trio.seams._ticks.Ticks", sizeof(Ticks), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, ticks_slots,
};

/* Where in `obj`, of `size` bytes, the one reference to `marker` lies; -1: nowhere, or in several places. */
static PyObject *where(PyObject *module, PyObject *args)
{
    PyObject *obj, *marker;
    Py_ssize_t size, found = -1;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOn", &obj, &marker, &size))
        return NULL;
    for (Py_ssize_t at = sizeof(PyObject); at + (Py_ssize_t)sizeof(PyObject *) <= size; at += sizeof(PyObject *)) {
        if (*field(obj, at) != marker)
            continue;
        if (found >= 0)
            return PyLong_FromLong(-1);
        found = at;
    }
    return PyLong_FromSsize_t(found);
}

static PyMethodDef functions[] = {
    { "where", where, METH_VARARGS, "Where in an object of that many bytes a reference lies, or -1." },
    { NULL, NULL, 0, NULL },
};

static int load(PyObject *module)
{
    /* What is kept between calls is the process's. From 3.12 on the interpreter itself refuses one with its own GIL. */
    if (PyInterpreterState_GetID(PyInterpreterState_Get()) != 0) {
        PyErr_SetString(PyExc_ImportError, "uring_trio.seams._ticks is for the main interpreter of a process");
        return -1;
    }
    static const struct { PyObject **at; const char *text; } names[] = {
        { &s_task, "task" }, { &s_run, "run" }, { &s_abort_func, "abort_func" }, { &s_settle, "settle" },
        { &s_random, "random" }, { &s_call, "call" },
        { &s_deliver, "_attempt_delivery_of_any_pending_cancel" },
        { &s_deliver_ki, "_attempt_delivery_of_pending_ki" }, { &s_r, "_r" },
        { &s_deterministic, "_ALLOW_DETERMINISTIC_SCHEDULING" }, { &s_before, "before_task_step" },
        { &s_after, "after_task_step" }, { &s_scheduled, "task_scheduled" }, { &s_value, "value" },
        { &s_name, "__name__" }, { &s_prune, "_prune" }, { &s_task_exited, "task_exited" },
    };
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (!(*names[i].at = PyUnicode_InternFromString(names[i].text)))
            return -1;
    PyObject *type = PyType_FromSpec(&ticks_spec);
    if (!type || PyModule_AddObjectRef(module, "Ticks", type) < 0)
        return -1;
    Py_DECREF(type);
    if (load_shortcut(module) < 0 || load_io(module) < 0 || load_checkpoint(module) < 0)
        return -1;
    if (load_scope(module) < 0 || load_task(module) < 0)
        return -1;
    return load_lock(module) < 0 ? -1 : load_channel(module);
}

static PyModuleDef_Slot slots[] = { { Py_mod_exec, load }, { 0, NULL } };

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, "_ticks", "Whole ticks of Trio's scheduler.", 0, functions, slots, NULL, NULL, NULL,
};

PyMODINIT_FUNC PyInit__ticks(void) { return PyModuleDef_Init(&definition); }
