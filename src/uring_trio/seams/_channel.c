/* Memory channels: `MemorySendChannel.send`, `MemoryReceiveChannel.receive` and its ``async for``, in a step of
 * `_ticks.c`.
 *
 * A value goes to the task that waits for one, or into the buffer, or the task parks with it; and the other way
 * round. What Trio's methods write is written here in place, so that every other method finds what it expects. A
 * channel that is closed, one with attributes of its own, and a task of another run are Trio's.
 * uring_trio/seams/methods.py finds where the fields lie.
 *
 * Invariants
 *  - A case begins to write only when nothing can fail any more but for memory, and undoes what it wrote then.
 *  - A task that waits stands in the channel's state, in the set of the channel that it waits on, and names that
 *    channel. It is taken out of both when it is woken, or when its wait is aborted.
 *  - Nothing is done here for a class whose functions, which these stand for, have been replaced.
 */
#include "_checkpoint.h"
#include "_shortcut.h"

#include <math.h>

/* Not in the limited API of 3.11, though every CPython has it. */
PyAPI_FUNC(PyObject *) PyObject_Vectorcall(PyObject *, PyObject *const *, size_t, PyObject *);

/* Where the fields lie in what two channels share; all of them, in the order of its class. */
enum state_field {
    S_MAX, S_DATA, S_SENDERS_OPEN, S_RECEIVERS_OPEN, S_SENDERS, S_RECEIVERS, S_PEAK, STATE_FIELDS
};
enum stands_for { BY_SEND_NOWAIT, BY_RECEIVE, BY_RECEIVE_NOWAIT, FUNCTIONS };

/* Set once; references are owned for ever. */
static PyObject *sender_type, *receiver_type, *state_type, *deque_type, *ordered_type, *succeeded;
static PyObject *functions[FUNCTIONS];
static PyObject *append, *popleft, *popitem; /* of those two types */
static Py_ssize_t at[STATE_FIELDS];

static PyObject *s_state, *s_closed, *s_tasks, *s_move, *names[FUNCTIONS];

static inline PyObject *get(PyObject *obj, enum state_field name) { return *field(obj, at[name]); }

static inline int is(PyObject *obj, PyObject *type) { return obj && (PyObject *)Py_TYPE(obj) == type; }

int is_sender(PyObject *self) { return is(self, sender_type); }

int is_receiver(PyObject *self) { return is(self, receiver_type); }

/* ---- channels ---- */

/* The state of an open channel that is as expected, and the set of those that wait on the channel; owned. 1; 0: it is
 * not, -1: an exception is set, and in both there is nothing to let go of. */
static int look(PyObject *self, PyObject **state, PyObject **tasks)
{
    PyObject *dict = PyObject_GenericGetDict(self, NULL);
    if (!dict)
        return -1;
    *state = PyDict_GetItemWithError(dict, s_state);
    *tasks = PyDict_GetItemWithError(dict, s_tasks);
    int usual = PyDict_Size(dict) == 3 && PyDict_GetItemWithError(dict, s_closed) == Py_False &&
                is(*state, state_type) && is(*tasks, (PyObject *)&PySet_Type) && is(get(*state, S_DATA), deque_type) &&
                is(get(*state, S_SENDERS), ordered_type) && is(get(*state, S_RECEIVERS), ordered_type);
    if (usual) {
        Py_INCREF(*state);
        Py_INCREF(*tasks);
    }
    Py_DECREF(dict);
    return usual ? 1 : PyErr_Occurred() ? -1 : 0;
}

/* The set of those that wait on a channel, borrowed from it; NULL, perhaps without an exception. */
static PyObject *waiting_on(PyObject *channel)
{
    PyObject *dict = PyObject_GenericGetDict(channel, NULL);
    PyObject *tasks = dict ? PyDict_GetItemWithError(dict, s_tasks) : NULL;
    Py_XDECREF(dict);
    return is(tasks, (PyObject *)&PySet_Type) ? tasks : NULL;
}

/* ---- waiting, and being woken ---- */

/* Takes out the task that has waited longest, with what it waits with: a new reference to the pair of them. NULL
 * without an exception: it is not one that could be woken here, and nothing was done. */
static PyObject *take_waiting(Ticks *t, PyObject *waiting, PyObject *type)
{
    PyObject *const args[] = { waiting, Py_False };
    PyObject *pair = PyDict_Size(waiting) ? PyObject_Vectorcall(popitem, args, 2, NULL) : NULL;
    if (!pair)
        return NULL;
    PyObject *task = PyTuple_GetItem(pair, 0), *channel = NULL, *tasks = NULL;
    if (is(task, t->task_type) && is(channel = *field(task, t->at[T_SLEEP_DATA]), type) && may_wake(t, task) &&
        (tasks = waiting_on(channel)) && PySet_Discard(tasks, task) == 1)
        return pair;
    PyObject *none = PyErr_Occurred() || PyObject_SetItem(waiting, task, PyTuple_GetItem(pair, 1)) < 0
                         ? NULL
                         : PyObject_CallMethodObjArgs(waiting, s_move, task, Py_False, NULL);
    Py_XDECREF(none);
    Py_DECREF(pair);
    return NULL;
}

/* The function that aborts a wait: of a channel and the task that waits on it. */
static PyObject *abort_wait(PyObject *self, PyObject *raise_cancel)
{
    PyObject *channel = PyTuple_GetItem(self, 0), *task = PyTuple_GetItem(self, 1), *tasks = waiting_on(channel);
    PyObject *state = PyObject_GetAttr(channel, s_state);
    (void)raise_cancel;
    int found = tasks && is(state, state_type) ? PySet_Discard(tasks, task) : -1;
    if (!found)
        PyErr_SetObject(PyExc_KeyError, task);
    if (found > 0 && PyObject_DelItem(get(state, is_sender(channel) ? S_SENDERS : S_RECEIVERS), task) < 0)
        found = -1;
    if (found < 0 && !PyErr_Occurred())
        PyErr_SetString(PyExc_AttributeError, "the channel that a task waits on has changed");
    Py_XDECREF(state);
    if (found <= 0)
        return NULL;
    Py_INCREF(succeeded);
    return succeeded;
}

/* The message that parks the task which waits on this channel; a new reference. */
static PyObject *message_for(Ticks *t, PyObject *channel)
{
    static PyMethodDef aborts = { "abort_fn", abort_wait, METH_O, NULL };
    PyObject *both = PyTuple_Pack(2, channel, task_here);
    PyObject *abort = both ? PyCFunction_NewEx(&aborts, both, NULL) : NULL;
    PyObject *message = abort ? park_message(t, abort) : NULL;
    Py_XDECREF(abort);
    Py_XDECREF(both);
    return message;
}

/* Lets the current task wait on this channel, among `waiting` and with `value`. The message is a new reference. */
static enum begun wait_on(Ticks *t, PyObject *channel, PyObject *tasks, PyObject *waiting, PyObject *value,
                          PyObject **result)
{
    if (!(*result = message_for(t, channel)))
        return FAILED;
    if (PySet_Add(tasks, task_here) == 0 && PyObject_SetItem(waiting, task_here, value) == 0) {
        Py_INCREF(channel);
        put(task_here, t->at[T_SLEEP_DATA], channel);
        return PARKS;
    }
    PySet_Discard(tasks, task_here);
    Py_CLEAR(*result);
    return FAILED;
}

/* ---- the buffer ---- */

/* Whether there is room for one more value; -1 where only Trio can tell. */
static int has_room(PyObject *state)
{
    PyObject *most = get(state, S_MAX);
    if (!most)
        return -1;
    if (PyFloat_CheckExact(most))
        return isinf(PyFloat_AsDouble(most)) ? 1 : -1;
    Py_ssize_t n = PyObject_Size(get(state, S_DATA)), limit = PyLong_CheckExact(most) ? PyLong_AsSsize_t(most) : -1;
    PyErr_Clear(); /* of a limit that is too large for a number here */
    return n < 0 || limit < 0 ? -1 : n < limit;
}

static int push(PyObject *data, PyObject *value)
{
    PyObject *const args[] = { data, value };
    PyObject *none = PyObject_Vectorcall(append, args, 2, NULL);
    Py_XDECREF(none);
    return none ? 0 : -1;
}

/* Keeps how full the buffer has been most of all. */
static int note_peak(PyObject *state)
{
    Py_ssize_t n = PyObject_Size(get(state, S_DATA));
    long peak = PyLong_AsLong(get(state, S_PEAK));
    if (n <= peak)
        return PyErr_Occurred() ? -1 : 0;
    PyObject *most = PyErr_Occurred() ? NULL : PyLong_FromSsize_t(n);
    if (!most)
        return -1;
    put(state, at[S_PEAK], most);
    return 0;
}

/* ---- the methods ---- */

/* Gives a value to the task that has waited longest for one. */
static enum begun hand_over(Ticks *t, PyObject *state, PyObject *value)
{
    PyObject *with = make_value(t, value);
    PyObject *pair = with ? take_waiting(t, get(state, S_RECEIVERS), receiver_type) : NULL;
    enum begun begun = !pair ? (PyErr_Occurred() ? FAILED : UNUSUAL_CALL)
                             : (schedule(t, PyTuple_GetItem(pair, 0), with) < 0 ? FAILED : YIELDS);
    Py_XDECREF(pair);
    Py_XDECREF(with);
    return begun;
}

/* PARKS comes with a new reference, YIELDS with none. */
static enum begun send_to(Ticks *t, PyObject *self, PyObject *state, PyObject *tasks, PyObject *value,
                          PyObject **result)
{
    PyObject *open = get(state, S_RECEIVERS_OPEN);
    if (!open || !PyLong_CheckExact(open) || PyObject_Not(open))
        return UNUSUAL_CALL;
    if (PyDict_Size(get(state, S_RECEIVERS)))
        return hand_over(t, state, value);
    int room = has_room(state);
    if (!room)
        return wait_on(t, self, tasks, get(state, S_SENDERS), value, result);
    if (room < 0 || push(get(state, S_DATA), value) < 0 || note_peak(state) < 0)
        return PyErr_Occurred() ? FAILED : UNUSUAL_CALL;
    return YIELDS;
}

/* `MemorySendChannel.send`; the result is a new reference. */
enum begun send_value(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    PyObject *state, *tasks;
    int usual = PyDict_Size(t->hooks) == 1 && class_has(self, names[BY_SEND_NOWAIT], functions[BY_SEND_NOWAIT])
                    ? look(self, &state, &tasks)
                    : 0;
    if (usual <= 0)
        return usual < 0 ? FAILED : UNUSUAL_CALL;
    enum begun begun = send_to(t, self, state, tasks, given, result);
    if (begun == YIELDS) {
        Py_INCREF(Py_None);
        *result = Py_None;
    }
    Py_DECREF(tasks);
    Py_DECREF(state);
    return begun;
}

/* Takes the value of the task that has waited longest with one; what is in the buffer comes first. The result is a
 * new reference. */
static enum begun take_over(Ticks *t, PyObject *state, PyObject **result)
{
    PyObject *data = get(state, S_DATA), *pair = take_waiting(t, get(state, S_SENDERS), sender_type);
    if (!pair)
        return PyErr_Occurred() ? FAILED : UNUSUAL_CALL;
    int failed = schedule(t, PyTuple_GetItem(pair, 0), t->again) < 0;
    if (!failed && !PyObject_Size(data)) {
        *result = PyTuple_GetItem(pair, 1);
        Py_INCREF(*result);
    } else if (!failed) {
        *result = push(data, PyTuple_GetItem(pair, 1)) < 0 ? NULL : PyObject_Vectorcall(popleft, &data, 1, NULL);
        failed = !*result;
    }
    Py_DECREF(pair);
    return failed ? FAILED : YIELDS;
}

/* The result is a new reference. */
static enum begun receive_from(Ticks *t, PyObject *self, PyObject *state, PyObject *tasks, PyObject **result)
{
    PyObject *data = get(state, S_DATA), *open = get(state, S_SENDERS_OPEN);
    if (PyDict_Size(get(state, S_SENDERS)))
        return take_over(t, state, result);
    if (PyObject_Size(data) > 0)
        return (*result = PyObject_Vectorcall(popleft, &data, 1, NULL)) ? YIELDS : FAILED;
    if (!PyLong_CheckExact(open) || PyObject_Not(open))
        return UNUSUAL_CALL;
    return wait_on(t, self, tasks, get(state, S_RECEIVERS), Py_None, result);
}

/* `MemoryReceiveChannel.receive`; the result is a new reference. */
enum begun receive_value(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    PyObject *state, *tasks;
    (void)given;
    int usual = PyDict_Size(t->hooks) == 1 && class_has(self, names[BY_RECEIVE_NOWAIT], functions[BY_RECEIVE_NOWAIT])
                    ? look(self, &state, &tasks)
                    : 0;
    if (usual <= 0)
        return usual < 0 ? FAILED : UNUSUAL_CALL;
    enum begun begun = receive_from(t, self, state, tasks, result);
    Py_DECREF(tasks);
    Py_DECREF(state);
    return begun;
}

/* `ReceiveChannel.__anext__`; the result is a new reference. */
enum begun next_value(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    int usual = class_has(self, names[BY_RECEIVE], functions[BY_RECEIVE]);
    return usual ? receive_value(t, self, given, result) : UNUSUAL_CALL;
}

/* ---- the functions ---- */

/* use_channels((class of senders, of receivers, of their state, deque, OrderedDict, Abort.SUCCEEDED), (deque.append,
 * deque.popleft, OrderedDict.popitem), (send_nowait, receive, receive_nowait), offsets) */
static PyObject *use_channels(PyObject *module, PyObject *args)
{
    PyObject **const places[] = { &sender_type, &receiver_type, &state_type, &deque_type, &ordered_type, &succeeded,
                                  &append, &popleft, &popitem, &functions[BY_SEND_NOWAIT], &functions[BY_RECEIVE],
                                  &functions[BY_RECEIVE_NOWAIT] };
    enum { PLACES = sizeof places / sizeof *places };
    PyObject *given, *offsets;
    (void)module;
    if (!PyArg_ParseTuple(args, "O!O!", &PyTuple_Type, &given, &PyTuple_Type, &offsets))
        return NULL;
    if (PyTuple_Size(given) != PLACES || PyTuple_Size(offsets) != STATE_FIELDS)
        return PyErr_Format(PyExc_TypeError, "channels need %d objects and %d offsets", (int)PLACES, (int)STATE_FIELDS);
    if (read_offsets(offsets, at, STATE_FIELDS) < 0)
        return NULL;
    for (int i = 0; i < PLACES; i++)
        keep(places[i], PyTuple_GetItem(given, i));
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "use_channels", use_channels, METH_VARARGS, "Says what memory channels are made of." },
    { NULL, NULL, 0, NULL },
};

int load_channel(PyObject *module)
{
    static const struct { PyObject **at; const char *text; } texts[] = {
        { &s_state, "_state" }, { &s_closed, "_closed" }, { &s_tasks, "_tasks" }, { &s_move, "move_to_end" },
        { &names[BY_SEND_NOWAIT], "send_nowait" }, { &names[BY_RECEIVE], "receive" },
        { &names[BY_RECEIVE_NOWAIT], "receive_nowait" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!(*texts[i].at = PyUnicode_InternFromString(texts[i].text)))
            return -1;
    return PyModule_AddFunctions(module, methods);
}
