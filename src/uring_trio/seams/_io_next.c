/* Subscriptions: a completion on its way into the queue, and out of it as the result of a call.
 *
 * A completion is usual that leaves its subscription armed: there are more to come, and room for them. It is queued and
 * wakes the task that waits. Everything else is the handler's, which is the subscription: an end, a bundle, the last
 * place in the queue, a state other than armed.
 *
 * The calls are `Subscription.get`, which every iterator over completions awaits, and the next item of a stream's
 * `chunks`. It is usual to wait while the request is armed, or to take what is queued. An item is usual that is a copy of
 * one buffer, which goes back to the kernel at once. Everything else is the coroutine's: a scope that is cancelled, a
 * request to arm, an end, a close; a lease, a bundle, coalescing, data that an earlier block left.
 *
 * Invariants
 *  - One task is here at a time: `_taking` is true from the wait until the call is over, in whichever way.
 *  - A completion leaves the queue only to be returned, as it is or as its item. It goes back where that fails, as
 *    where there is no memory for the item.
 *  - `available` counts a buffer out when its completion is queued, and in when it is given back.
 */
#include "_io.h"

enum { HAS_BUFFER = 1 }; /* IORING_CQE_F_BUFFER */

/* Where the fields lie in instances of Subscription. */
enum subscription_field {
    U_QUEUE, U_STATE, U_TASK, U_TAKING, U_PARK, U_GROUP, U_LIMIT, U_MERGE, U_COALESCING,
    SUBSCRIPTION_FIELDS
};

/* The same of Group, of the chunks of a stream, and of what paces them. */
enum group_field { G_AVAILABLE, G_SIZE, G_CLOSED, G_USED, G_ON_RETURN, G_MEMORY, GROUP_FIELDS };
enum chunks_field { I_SUBSCRIPTION, I_DONE, I_COPY, I_INLINE, I_STREAM, P_ACTIVE, P_COUNT, CHUNKS_FIELDS };

/* Set once, by the function of its name. References are owned for ever. */
static struct {
    PyObject *type;
    PyObject *armed, *resting; /* states */
    Py_ssize_t at[SUBSCRIPTION_FIELDS];
    int ready;
} subscriptions;

static struct {
    PyObject *type;
    Py_ssize_t at[GROUP_FIELDS];
} groups;

static struct {
    PyObject *type, *pacer;
    long limit; /* bytes after which the pacer may begin to hold data back */
    Py_ssize_t at[CHUNKS_FIELDS];
} chunks;

static PyObject *s_append, *s_appendleft, *s_popleft, *s_refill, *s_unread;

/* Where a field of a subscription stands, which owns it. */
static PyObject **of(PyObject *subscription, enum subscription_field which)
{
    return field(subscription, subscriptions.at[which]);
}

/* Whether a subscription has room for one more completion after which nothing else is to be done. */
static int has_room(PyObject *subscription, const struct cqe *cqe)
{
    PyObject *group = *of(subscription, U_GROUP);
    if (*of(subscription, U_STATE) != subscriptions.armed || *of(subscription, U_MERGE) != Py_None)
        return 0;
    if (group == Py_None)
        return PyObject_Size(*of(subscription, U_QUEUE)) + 1 < PyLong_AsLong(*of(subscription, U_LIMIT));
    return groups.type && (PyObject *)Py_TYPE(group) == groups.type &&
           (!(cqe->flags & HAS_BUFFER) || cqe->res <= PyLong_AsLong(*field(group, groups.at[G_SIZE])));
}

int deliver_more(Ticks *t, PyObject *handler, const struct cqe *cqe)
{
    if ((PyObject *)Py_TYPE(handler) != subscriptions.type || !has_room(handler, cqe))
        return 0;
    PyObject *task = *of(handler, U_TASK), *group = *of(handler, U_GROUP);
    if (task != Py_None && !may_wake(t, task))
        return 0;
    if (cqe->flags & HAS_BUFFER && group != Py_None && add(group, groups.at[G_AVAILABLE], -1) < 0)
        return -1;
    PyObject *res = PyLong_FromLong(cqe->res), *flags = PyLong_FromUnsignedLong(cqe->flags), *none = NULL;
    PyObject *taken = res && flags ? PyTuple_Pack(2, res, flags) : NULL;
    if (taken)
        none = PyObject_CallMethodObjArgs(*of(handler, U_QUEUE), s_append, taken, NULL);
    Py_XDECREF(res);
    Py_XDECREF(flags);
    Py_XDECREF(taken);
    Py_XDECREF(none);
    if (!none)
        return -1;
    if (task == Py_None)
        return 1;
    Py_INCREF(task);
    put_none(handler, subscriptions.at[U_TASK]);
    int ret = schedule(t, task, t->done);
    Py_DECREF(task);
    return ret < 0 ? -1 : 1;
}

/* Puts a completion back that was taken out of the queue; the exception that is set stays. */
static void put_back(PyObject *subscription, PyObject *taken)
{
    PyObject *type, *value, *trace;
    PyErr_Fetch(&type, &value, &trace);
    Py_XDECREF(PyObject_CallMethodObjArgs(*of(subscription, U_QUEUE), s_appendleft, taken, NULL));
    PyErr_Restore(type, value, trace);
}

/* Takes the first completion out of the queue: 1 with a new reference, or -1. */
static int take_first(PyObject *subscription, PyObject **result)
{
    *result = PyObject_CallMethodObjArgs(*of(subscription, U_QUEUE), s_popleft, NULL);
    if (!*result)
        return -1;
    if (*of(subscription, U_STATE) != subscriptions.resting)
        return 1;
    PyObject *none = PyObject_CallMethodObjArgs(subscription, s_refill, NULL);
    if (!none) {
        put_back(subscription, *result);
        Py_CLEAR(*result);
    }
    Py_XDECREF(none);
    return none ? 1 : -1;
}

/* Waits for a completion, or takes it: as `begin` of a kind, whose result is the completion. */
static int begin_wait(Call *c, Ticks *t, PyObject *subscription, PyObject **message)
{
    if (!subscriptions.ready || (PyObject *)Py_TYPE(subscription) != subscriptions.type || !passes(t) ||
        *of(subscription, U_TAKING) != Py_False)
        return 0;
    Py_ssize_t queued = PyObject_Size(*of(subscription, U_QUEUE));
    if (queued < 0 || (!queued && *of(subscription, U_STATE) != subscriptions.armed)) {
        PyErr_Clear();
        return 0;
    }
    if (bump(task_here, t->at[T_CANCEL_POINTS]) < 0)
        return -1;
    if (queued)
        return take_first(subscription, message) < 0 ? -1 : 2;
    Py_INCREF(subscription);
    c->owner = subscription;
    Py_INCREF(Py_True);
    put(subscription, subscriptions.at[U_TAKING], Py_True);
    Py_INCREF(task_here);
    put(subscription, subscriptions.at[U_TASK], task_here);
    *message = *of(subscription, U_PARK);
    Py_INCREF(*message);
    return 1;
}

static void leave_wait(Call *c)
{
    Py_INCREF(Py_False);
    put(c->owner, subscriptions.at[U_TAKING], Py_False);
}

static int begin_get(Call *c, Ticks *t, PyObject **message) { return begin_wait(c, t, c->self, message); }

static int end_get(Call *c, PyObject *got, PyObject **result)
{
    PyObject *subscription = c->owner;
    leave_wait(c);
    c->owner = NULL;
    int ret = check_woken(got);
    Py_ssize_t queued = ret < 0 ? -1 : PyObject_Size(*of(subscription, U_QUEUE));
    if (queued >= 0)
        ret = queued ? take_first(subscription, result) : go_on(c, Py_None);
    Py_DECREF(subscription);
    return queued < 0 ? -1 : ret;
}

const struct kind kind_get = { "get", 0, begin_get, end_get, leave_wait, NULL };

/* ---- chunks ---- */

/* The subscription of chunks of a stream whose next item is a completion's, as bytes; NULL: it is not. Borrowed. */
static PyObject *subscription_of(PyObject *items)
{
    if (!chunks.type || (PyObject *)Py_TYPE(items) != chunks.type ||
        *field(items, chunks.at[I_COPY]) != Py_True || *field(items, chunks.at[I_DONE]) != Py_False ||
        *field(items, chunks.at[I_INLINE]) != Py_False ||
        !attribute_is(*field(items, chunks.at[I_STREAM]), s_unread, Py_None))
        return NULL;
    return *field(items, chunks.at[I_SUBSCRIPTION]);
}

/* Whether the consumer may take that many bytes without more to do: 0 where this may begin to hold data back, or does. */
static int is_paced(PyObject *pacer, long size)
{
    return pacer == Py_None ||
           ((PyObject *)Py_TYPE(pacer) == chunks.pacer && *field(pacer, chunks.at[P_ACTIVE]) == Py_False &&
            PyLong_AsLong(*field(pacer, chunks.at[P_COUNT])) + size < chunks.limit);
}

/* The bytes of a completion, a new reference, whose buffer goes back to the kernel: 1; 0 with nothing done where there is
 * more to it; or -1. */
static int copy_chunk(PyObject *subscription, PyObject *taken, PyObject **result)
{
    PyObject *group = *of(subscription, U_GROUP);
    long res = PyLong_AsLong(PyTuple_GetItem(taken, 0));
    unsigned long flags = PyLong_AsUnsignedLong(PyTuple_GetItem(taken, 1));
    if (PyErr_Occurred())
        return -1;
    if (res <= 0 || !(flags & HAS_BUFFER) || !groups.type || (PyObject *)Py_TYPE(group) != groups.type ||
        *field(group, groups.at[G_CLOSED]) != Py_False || *field(group, groups.at[G_USED]) != Py_True ||
        *field(group, groups.at[G_ON_RETURN]) != Py_None)
        return 0;
    Memory *m = (Memory *)*field(group, groups.at[G_MEMORY]);
    if (Py_TYPE((PyObject *)m) != memory_type || res > m->each || (long)(flags >> 16) >= m->count)
        return 0;
    PyObject *pacer = *of(subscription, U_COALESCING);
    if (!is_paced(pacer, res))
        return 0;
    *result = copy_buffer(m, flags, res);
    if (!*result || (pacer != Py_None && add(pacer, chunks.at[P_COUNT], res) < 0) ||
        add(group, groups.at[G_AVAILABLE], 1) < 0) {
        Py_CLEAR(*result);
        return -1;
    }
    recycle_buffer(m, flags);
    return 1;
}

/* Makes the item of a completion, whose reference it takes: as `end` of a kind. */
static int make_item(Call *c, PyObject *taken, PyObject **result)
{
    *result = NULL;
    PyObject *subscription = *field(c->self, chunks.at[I_SUBSCRIPTION]);
    int ret = copy_chunk(subscription, taken, result);
    if (!ret)
        ret = go_on(c, taken);
    if (ret < 0)
        put_back(subscription, taken);
    Py_DECREF(taken);
    return ret;
}

static int begin_next(Call *c, Ticks *t, PyObject **message)
{
    PyObject *subscription = subscription_of(c->self);
    int ret = subscription ? begin_wait(c, t, subscription, message) : 0;
    if (ret != 2)
        return ret;
    ret = make_item(c, *message, message);
    return ret > 0 ? 2 : ret;
}

static int end_next(Call *c, PyObject *got, PyObject **result)
{
    int ret = end_get(c, got, result);
    return ret > 0 ? make_item(c, *result, result) : ret;
}

const struct kind kind_next = { "next", 0, begin_next, end_next, leave_wait, NULL };

/* ---- what the classes are ---- */

/* describe_subscriptions(type, armed, resting, offsets): everything in `subscriptions`, once. */
static PyObject *describe_subscriptions(PyObject *module, PyObject *args)
{
    PyObject *type, *armed, *resting, *offsets;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO!", &type, &armed, &resting, &PyTuple_Type, &offsets))
        return NULL;
    if (read_once(subscriptions.ready, offsets, subscriptions.at, SUBSCRIPTION_FIELDS) < 0)
        return NULL;
    keep(&subscriptions.type, type);
    keep(&subscriptions.armed, armed);
    keep(&subscriptions.resting, resting);
    subscriptions.ready = 1;
    Py_RETURN_NONE;
}

/* describe_groups(type, offsets) */
static PyObject *describe_groups(PyObject *module, PyObject *args)
{
    PyObject *type, *offsets;
    (void)module;
    if (!PyArg_ParseTuple(args, "OO!", &type, &PyTuple_Type, &offsets))
        return NULL;
    if (read_once(groups.type != NULL, offsets, groups.at, GROUP_FIELDS) < 0)
        return NULL;
    keep(&groups.type, type);
    Py_RETURN_NONE;
}

/* describe_chunks(type, pacer, limit, offsets) */
static PyObject *describe_chunks(PyObject *module, PyObject *args)
{
    PyObject *type, *pacer, *offsets;
    long limit;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOlO!", &type, &pacer, &limit, &PyTuple_Type, &offsets))
        return NULL;
    if (read_once(chunks.type != NULL, offsets, chunks.at, CHUNKS_FIELDS) < 0)
        return NULL;
    chunks.limit = limit;
    keep(&chunks.pacer, pacer);
    keep(&chunks.type, type);
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "describe_chunks", describe_chunks, METH_VARARGS, "Says what the chunks of a stream are." },
    { "describe_groups", describe_groups, METH_VARARGS, "Says what a group is and where its fields lie." },
    { "describe_subscriptions", describe_subscriptions, METH_VARARGS,
      "Says what a subscription is and where its fields lie." },
    { NULL, NULL, 0, NULL },
};

int load_io_next(PyObject *module)
{
    if (!(s_append = PyUnicode_InternFromString("append")) ||
        !(s_appendleft = PyUnicode_InternFromString("appendleft")) || !(s_popleft = PyUnicode_InternFromString("popleft")) ||
        !(s_refill = PyUnicode_InternFromString("_refill")) || !(s_unread = PyUnicode_InternFromString("_unread")))
        return -1;
    return PyModule_AddFunctions(module, functions);
}
