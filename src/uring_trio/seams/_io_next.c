/* The next completion of a subscription, as a call: `Subscription.get`, which every iterator over completions awaits.
 *
 * It is usual to wait while the request is armed, or to take what is queued. Everything else is the coroutine's: a
 * scope that is cancelled, a request to arm, an end, a close.
 *
 * Invariants
 *  - One task is here at a time: `_taking` is true from the wait until the call is over, in whichever way.
 *  - A completion leaves the queue only to be returned.
 */
#include "_io.h"

/* Where the fields lie in instances of Subscription. */
enum subscription_field { U_QUEUE, U_STATE, U_TASK, U_TAKING, U_PARK, SUBSCRIPTION_FIELDS };

/* Set once, by `describe_subscriptions`. References are owned for ever. */
static struct {
    PyObject *type;
    PyObject *armed, *resting; /* states */
    Py_ssize_t at[SUBSCRIPTION_FIELDS];
    int ready;
} subscriptions;

static PyObject *s_popleft, *s_refill;

/* Where a field of a subscription stands, which owns it. */
static PyObject **of(PyObject *subscription, enum subscription_field which)
{
    return field(subscription, subscriptions.at[which]);
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
    if (!none)
        Py_CLEAR(*result);
    Py_XDECREF(none);
    return none ? 1 : -1;
}

static int begin_get(Call *c, Ticks *t, PyObject **message)
{
    PyObject *subscription = c->self;
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

static void leave_get(Call *c)
{
    Py_INCREF(Py_False);
    put(c->owner, subscriptions.at[U_TAKING], Py_False);
}

static int end_get(Call *c, PyObject *got, PyObject **result)
{
    PyObject *subscription = c->self;
    leave_get(c);
    Py_CLEAR(c->owner);
    if (check_woken(got) < 0)
        return -1;
    Py_ssize_t queued = PyObject_Size(*of(subscription, U_QUEUE));
    if (queued < 0)
        return -1;
    return queued ? take_first(subscription, result) : go_on(c, Py_None);
}

const struct kind kind_get = { "get", 0, begin_get, end_get, leave_get };

/* describe_subscriptions(type, armed, resting, offsets): everything in `subscriptions`, once. */
static PyObject *describe_subscriptions(PyObject *module, PyObject *args)
{
    PyObject *type, *armed, *resting, *offsets;
    (void)module;
    if (!PyArg_ParseTuple(args, "OOOO!", &type, &armed, &resting, &PyTuple_Type, &offsets))
        return NULL;
    if (subscriptions.ready || PyTuple_Size(offsets) != SUBSCRIPTION_FIELDS) {
        PyErr_Format(PyExc_TypeError, "once, with %d offsets", (int)SUBSCRIPTION_FIELDS);
        return NULL;
    }
    if (read_offsets(offsets, subscriptions.at, SUBSCRIPTION_FIELDS) < 0)
        return NULL;
    keep(&subscriptions.type, type);
    keep(&subscriptions.armed, armed);
    keep(&subscriptions.resting, resting);
    subscriptions.ready = 1;
    Py_RETURN_NONE;
}

static PyMethodDef functions[] = {
    { "describe_subscriptions", describe_subscriptions, METH_VARARGS,
      "Says what a subscription is and where its fields lie." },
    { NULL, NULL, 0, NULL },
};

int load_io_next(PyObject *module)
{
    if (!(s_popleft = PyUnicode_InternFromString("popleft")) || !(s_refill = PyUnicode_InternFromString("_refill")))
        return -1;
    return PyModule_AddFunctions(module, functions);
}
