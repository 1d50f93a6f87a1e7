/* What the compiled parts share: memory, threads, and functions that vectorise. */

#ifndef CHARRNN_NATIVE_H
#define CHARRNN_NATIVE_H

#define PY_SSIZE_T_CLEAN
#define Py_LIMITED_API 0x030B0000
#include <Python.h>

#include <math.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#ifdef _WIN32
#define THREADS 0
#else
#define THREADS 1
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#endif

#if defined(__x86_64__) && defined(__GNUC__)
#define X86 1
#include <immintrin.h>
#else
#define X86 0
#endif

#if defined(__GNUC__)
#define INLINE static inline __attribute__((always_inline))
#else
#define INLINE static inline
#endif

enum { RNN, LSTM, GRU }; /* as `charrnn.cells.COMPILED` has them in order */
enum { MAX_THREADS = 16, ALIGNMENT = 64 };

/* Memory at a multiple of the alignment, or NULL. */
static inline void *reserve(size_t bytes) {
    bytes = (bytes / ALIGNMENT + 1) * ALIGNMENT;
#ifdef _WIN32
    void *memory = _aligned_malloc(bytes, ALIGNMENT);
#else
    void *memory = NULL;
    if (posix_memalign(&memory, ALIGNMENT, bytes)) memory = NULL;
#endif
    return memory;
}

/* The same, of zeros. */
static inline void *reserve_zeros(size_t bytes) {
    void *memory = reserve(bytes);
    return memory ? memset(memory, 0, bytes) : NULL;
}

static inline void release(void *memory) {
#ifdef _WIN32
    _aligned_free(memory);
#else
    free(memory);
#endif
}

static inline size_t padded(size_t count) { return (count + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT; }

/* e^x to the last bit or two. By fused multiply-adds in so many words, so that every compiler computes the same. */
INLINE float exponential(float x) {
    x = x < -87.0f ? -87.0f : x > 88.0f ? 88.0f : x;
    int32_t biased = (int32_t)(x * 1.44269504f + 127.5f); /* positive, so that this rounds */
    float n = (float)(biased - 127);
    float f = fmaf(n, 2.12194440e-4f, fmaf(n, -0.693359375f, x)); /* ln 2 in two pieces (Cody & Waite 1980) */
    float p = 1.0f / 5040;                                        /* Taylor: |f| <= ln(2) / 2 */
    p = fmaf(p, f, 1.0f / 720);
    p = fmaf(p, f, 1.0f / 120);
    p = fmaf(p, f, 1.0f / 24);
    p = fmaf(p, f, 1.0f / 6);
    p = fmaf(p, f, 0.5f);
    p = fmaf(p, f, 1.0f);
    p = fmaf(p, f, 1.0f);
    union {
        int32_t bits;
        float value;
    } power = {biased << 23};
    return p * power.value;
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }
INLINE float hyperbolic_tangent(float x) { return 1.0f - 2.0f / (exponential(2.0f * x) + 1.0f); }

/* A call that several threads share, each its part. */
typedef struct {
    void (*work)(void *call, int thread);
    void *call;
    int thread;
#if THREADS
    atomic_int *begun;
#endif
} Share;

#if THREADS
static void *take_part(void *argument) {
    const Share *share = argument;
    while (!atomic_load_explicit(share->begun, memory_order_acquire)) sched_yield();
    share->work(share->call, share->thread);
    return NULL;
}
#endif

/* Do `work` for each thread 0 <= thread < *threads, which becomes the number that the system has given. */
static inline void together(void (*work)(void *call, int thread), void *call, int *threads) {
    int started = 1;
#if THREADS
    Share share[MAX_THREADS];
    pthread_t thread[MAX_THREADS];
    atomic_int begun;
    atomic_init(&begun, 0);
    for (; started < *threads && started < MAX_THREADS; started++) {
        share[started] = (Share){work, call, started, &begun};
        if (pthread_create(&thread[started], NULL, take_part, &share[started])) break;
    }
    *threads = started;
    atomic_store_explicit(&begun, 1, memory_order_release);
#else
    *threads = started;
#endif
    work(call, 0);
#if THREADS
    for (int k = 1; k < started; k++) pthread_join(thread[k], NULL);
#endif
}

/* The next of a sequence of C-contiguous buffers, which has to have just so many bytes; NULL, and an error, if not. */
static inline void *next_buffer(PyObject *sequence, Py_ssize_t *index, size_t bytes, bool writable, Py_buffer *view) {
    PyObject *item = PySequence_GetItem(sequence, (*index)++);
    if (!item) return NULL;
    const int failed = PyObject_GetBuffer(item, view, writable ? PyBUF_WRITABLE : PyBUF_SIMPLE);
    Py_DECREF(item);
    if (failed) return NULL;
    if ((size_t)view->len == bytes) return view->buf;
    PyErr_Format(PyExc_ValueError, "array %zd: expected %zu bytes, got %zd", *index - 1, bytes, view->len);
    PyBuffer_Release(view);
    return NULL;
}

#endif
