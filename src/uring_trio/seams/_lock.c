/* Locks: `Lock.acquire`, `Lock.release` and ``async with``, in a step of `_ticks.c`.
 *
 * The usual lock is free when a task acquires it, and nobody waits for it when its owner releases it. What Trio's
 * methods write is written here: the lock's owner, and the lots of parked tasks that break if the owner exits. A
 * lock that is taken, an error and a lock with attributes of its own are Trio's. uring_trio/seams/methods.py says
 * which functions the methods stand for.
 *
 * Invariants
 *  - A case begins to write only when nothing can fail any more but for memory, and undoes what it wrote then.
 *  - Nothing is done here for a class whose functions, which these stand for, have been replaced.
 */
#include "_checkpoint.h"
#include "_shortcut.h"

enum { CLASSES = 2, FUNCTIONS = 3, LOCK_FIELDS = 2 };
enum stands_for { BY_ACQUIRE, BY_ACQUIRE_NOWAIT, BY_RELEASE };

/* Set once; references are owned for ever. */
static PyObject *classes[CLASSES], *lot_type, *breakers, *functions[FUNCTIONS];
static Py_ssize_t parked_at, broken_at; /* in lots */

static PyObject *s_lot, *s_owner, *names[FUNCTIONS];

/* The parts of a lock, owned by its dict, which the caller of `look` owns. */
struct lock { PyObject *dict, *lot, *owner; };

int is_lock(PyObject *self)
{
    PyObject *type = (PyObject *)Py_TYPE(self);
    return lot_type && (type == classes[0] || type == classes[1]);
}

/* Looks at a lock: 1 if it is as expected, and nobody waits for it. Only then there is a dict to let go of. */
static int look(PyObject *self, struct lock *lock)
{
    if (!(lock->dict = PyObject_GenericGetDict(self, NULL)))
        return -1;
    lock->lot = PyDict_GetItemWithError(lock->dict, s_lot);
    lock->owner = PyDict_GetItemWithError(lock->dict, s_owner);
    if (lock->owner && lock->lot && PyDict_Size(lock->dict) == 2 && (PyObject *)Py_TYPE(lock->lot) == lot_type) {
        PyObject *waiting = *field(lock->lot, parked_at), *broken = *field(lock->lot, broken_at);
        if (waiting && PyDict_Check(waiting) && !PyDict_Size(waiting) && broken && PyList_Check(broken) &&
            !PyList_Size(broken))
            return 1;
    }
    Py_CLEAR(lock->dict);
    return PyErr_Occurred() ? -1 : 0;
}

/* ---- the lots that break if the current task exits ---- */

/* 1: it was put in; 0: left to Trio. */
static int add_breaker(PyObject *lot)
{
    PyObject *lots = PyDict_GetItemWithError(breakers, task_here);
    if (lots)
        return !PyList_CheckExact(lots) ? 0 : PyList_Append(lots, lot) < 0 ? -1 : 1;
    if (PyErr_Occurred() || !(lots = PyList_New(1)))
        return -1;
    Py_INCREF(lot);
    PyList_SetItem(lots, 0, lot);
    int ret = PyDict_SetItem(breakers, task_here, lots) < 0 ? -1 : 1;
    Py_DECREF(lots);
    return ret;
}

/* 1: it was taken out; 0: it is not there. */
static int drop_breaker(PyObject *lot)
{
    PyObject *lots = PyDict_GetItemWithError(breakers, task_here);
    if (!lots || !PyList_CheckExact(lots))
        return PyErr_Occurred() ? -1 : 0;
    Py_ssize_t n = PyList_Size(lots);
    for (Py_ssize_t i = 0; i < n; i++) {
        if (PyList_GetItem(lots, i) != lot)
            continue;
        return (n == 1 ? PyDict_DelItem(breakers, task_here) : PyList_SetSlice(lots, i, i + 1, NULL)) < 0 ? -1 : 1;
    }
    return 0;
}

/* ---- the methods ---- */

/* As in `begin_call`. */
static enum begun take_lock(PyObject *self, PyObject **result)
{
    struct lock lock;
    int usual = class_has(self, names[BY_ACQUIRE_NOWAIT], functions[BY_ACQUIRE_NOWAIT]) ? look(self, &lock) : 0;
    if (usual <= 0)
        return usual < 0 ? FAILED : UNUSUAL_CALL;
    enum begun begun = UNUSUAL_CALL;
    if (lock.owner == Py_None) {
        int added = add_breaker(lock.lot);
        begun = added < 0 ? FAILED : added ? YIELDS : UNUSUAL_CALL;
        if (begun == YIELDS && PyDict_SetItem(lock.dict, s_owner, task_here) < 0) {
            drop_breaker(lock.lot);
            begun = FAILED;
        }
    }
    Py_DECREF(lock.dict);
    if (begun != YIELDS)
        return begun;
    Py_INCREF(Py_None);
    *result = Py_None;
    return YIELDS;
}

/* `_LockImpl.acquire`; the result is a new reference. */
enum begun acquire_lock(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    (void)t;
    (void)given;
    return take_lock(self, result);
}

/* `AsyncContextManagerMixin.__aenter__`; the result is a new reference. */
enum begun enter_lock(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    (void)t;
    (void)given;
    return class_has(self, names[BY_ACQUIRE], functions[BY_ACQUIRE]) ? take_lock(self, result) : UNUSUAL_CALL;
}

/* 1: it is free; 0: nothing was done. */
static int free_lock(PyObject *self)
{
    struct lock lock;
    int usual = look(self, &lock);
    if (usual <= 0)
        return usual;
    int ret = 0;
    if (lock.owner == task_here && (ret = drop_breaker(lock.lot)) > 0 &&
        PyDict_SetItem(lock.dict, s_owner, Py_None) < 0)
        ret = -1;
    Py_DECREF(lock.dict);
    return ret;
}

/* `AsyncContextManagerMixin.__aexit__`; the result is a new reference. */
enum begun leave_lock(Ticks *t, PyObject *self, PyObject *given, PyObject **result)
{
    (void)t;
    (void)given;
    int done = class_has(self, names[BY_RELEASE], functions[BY_RELEASE]) ? free_lock(self) : 0;
    if (done <= 0)
        return done < 0 ? FAILED : UNUSUAL_CALL;
    Py_INCREF(Py_None);
    *result = Py_None;
    return RETURNS;
}

/* `_LockImpl.release` */
static int release_lock(Ticks *t, PyObject *const *args, Py_ssize_t n, PyObject *keywords, PyObject **result)
{
    (void)t;
    int done = n == 1 && !keywords && is_lock(args[0]) ? free_lock(args[0]) : 0;
    if (done > 0) {
        Py_INCREF(Py_None);
        *result = Py_None;
    }
    return done;
}

/* ---- the functions ---- */

/* use_locks((class, class), class of lots, breakers, offsets, release): the shortcut of `release`, to be put in its
 * place, and then named to `stand_for`. */
static PyObject *use_locks(PyObject *module, PyObject *args)
{
    PyObject *given[CLASSES + 3];
    (void)module;
    if (!PyArg_ParseTuple(args, "(OO)OO!(nn)O", &given[0], &given[1], &given[2], &PyDict_Type, &given[3], &parked_at,
                          &broken_at, &given[4]))
        return NULL;
    PyObject **const places[] = { &classes[0], &classes[1], &lot_type, &breakers };
    for (int i = 0; i < CLASSES + 2; i++)
        keep(places[i], given[i]);
    return make_shortcut(release_lock, given[4]);
}

/* stand_for_lock(acquire, acquire_nowait, release): what has to be found in the classes for locks to be taken here. */
static PyObject *stand_for_lock(PyObject *module, PyObject *args)
{
    PyObject *given[FUNCTIONS];
    (void)module;
    if (!PyArg_ParseTuple(args, "OOO", &given[0], &given[1], &given[2]))
        return NULL;
    for (int i = 0; i < FUNCTIONS; i++)
        keep(&functions[i], given[i]);
    Py_RETURN_NONE;
}

static PyMethodDef methods[] = {
    { "use_locks", use_locks, METH_VARARGS, "Says what locks are made of; the shortcut of one function." },
    { "stand_for_lock", stand_for_lock, METH_VARARGS, "Says what has to be found in the classes of locks." },
    { NULL, NULL, 0, NULL },
};

int load_lock(PyObject *module)
{
    static const struct { PyObject **at; const char *text; } texts[] = {
        { &s_lot, "_lot" }, { &s_owner, "_owner" }, { &names[BY_ACQUIRE], "acquire" },
        { &names[BY_ACQUIRE_NOWAIT], "acquire_nowait" }, { &names[BY_RELEASE], "release" },
    };
    for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
        if (!(*texts[i].at = PyUnicode_InternFromString(texts[i].text)))
            return -1;
    return PyModule_AddFunctions(module, methods);
}
