/* The memory of a ring of provided buffers, out of which C copies what arrived. */
#include "_io.h"

PyTypeObject *memory_type;

/* A new reference; see _io.h. */
PyObject *copy_buffer(Memory *m, unsigned long flags, long res)
{
    unsigned long bid = flags >> 16;
    if ((long)bid >= m->count || res < 0 || res > m->each) {
        if (!PyErr_Occurred())
            PyErr_SetString(PyExc_SystemError, "the kernel named a buffer that does not exist");
        return NULL;
    }
    return PyBytes_FromStringAndSize(m->start + (size_t)bid * (size_t)m->each, res);
}

void recycle_buffer(Memory *m, unsigned long flags)
{
    if ((long)(flags >> 16) < m->count)
        m->recycle(m->group, (int)(flags >> 16));
}

/* A new reference; see _io.h. */
PyObject *take_buffer(Memory *m, unsigned long flags, long res)
{
    PyObject *data = copy_buffer(m, flags, res);
    recycle_buffer(m, flags);
    return data;
}

/* Memory(buffers, (group, recycle, start, bytes of each, count)) */
static PyObject *memory_new(PyTypeObject *type, PyObject *args, PyObject *kwargs)
{
    PyObject *buffers;
    unsigned long long group, recycle, start;
    long long each;
    long count;
    (void)kwargs;
    if (!PyArg_ParseTuple(args, "O(KKKLl)", &buffers, &group, &recycle, &start, &each, &count))
        return NULL;
    Memory *m = (Memory *)((allocfunc)PyType_GetSlot(type, Py_tp_alloc))(type, 0);
    if (!m)
        return NULL;
    Py_INCREF(buffers);
    m->buffers = buffers;
    m->group = (void *)(uintptr_t)group;
    m->recycle = (int (*)(void *, int))(uintptr_t)recycle;
    m->start = (const char *)(uintptr_t)start;
    m->each = each;
    m->count = count;
    return (PyObject *)m;
}

static int memory_traverse(PyObject *self, visitproc visit, void *arg)
{
    Py_VISIT(Py_TYPE(self));
    Py_VISIT(((Memory *)self)->buffers);
    return 0;
}

static int memory_clear(PyObject *self)
{
    Py_CLEAR(((Memory *)self)->buffers);
    return 0;
}

static void memory_dealloc(PyObject *self)
{
    PyTypeObject *type = Py_TYPE(self);
    PyObject_GC_UnTrack(self);
    memory_clear(self);
    ((freefunc)PyType_GetSlot(type, Py_tp_free))(self);
    Py_DECREF(type);
}

static PyType_Slot memory_slots[] = {
    { Py_tp_new, memory_new },           { Py_tp_dealloc, memory_dealloc }, { Py_tp_traverse, memory_traverse },
    { Py_tp_clear, memory_clear },       { 0, NULL },
};

static PyType_Spec memory_spec = {
    "uring_trio.seams._ticks.Memory", sizeof(Memory), 0, Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC, memory_slots,
};

int load_io_memory(PyObject *module)
{
    memory_type = (PyTypeObject *)PyType_FromSpec(&memory_spec);
    return memory_type ? PyModule_AddObjectRef(module, "Memory", (PyObject *)memory_type) : -1;
}
