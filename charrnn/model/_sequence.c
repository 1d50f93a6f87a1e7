/* A recurrent layer over a window, forward and backward, on processors with matrix instructions (Intel AMX).
 *
 * What depends on the step before is one product per step, of the hidden states (B, H) and the weights (G*H, H); all
 * else of a layer is large products over the whole window, which torch does. Libraries split each step's product over
 * the threads, which then wait for each other at every step. Sequences do not depend on each other: here a thread has
 * some of them from the first step to the last, and nobody waits.
 *
 * Numbers are bfloat16 where torch's autocast has them so: inputs, outputs, gates, hidden states in products; sums,
 * and the cell's state, are float32. A row's sums do not depend on how rows are shared out, so that neither do
 * results on the number of threads.
 */

#define _GNU_SOURCE
#include "../native.h"

#if X86 && defined(__linux__) && (__GNUC__ >= 11 || defined(__clang__))
#define AMX 1
#include <cpuid.h>
#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>
#else
#define AMX 0
#endif

typedef uint16_t Half; /* bfloat16 */

enum { TILE = 16, BLOCK = 32 }; /* rows and columns of a tile; units, and at most sequences, worked on at a time */

typedef struct {
    int cell, gates, T, B, H, rows, threads; /* rows: sequences of one share of work, 16 or 32 */
    const Half *weight;                      /* packed, see `sequence.py` */
    const float *input_bias, *hidden_bias;   /* (G*H) each */
    Half *gate;    /* (T, B, G*H): from the input -> the gates' values -> gradients of what came from the input */
    Half *output;  /* (T, B, H) */
    Half *extra;   /* (T, B, H), of a GRU: W_hn h + b_hn -> its gradient */
    float *cells;  /* (T + 1, B, H), of an LSTM: its state before each step, and after the last */
    float *hidden; /* (B, H): the state before -> after */
    const Half *gradient;          /* (T, B, H), backward only */
    const Half *first;             /* (B, H), backward: the hidden state before the window, which a GRU needs */
    float *scratch;                /* per thread */
    size_t scratch_size;           /* floats */
} Call;

#if AMX
#define TARGET __attribute__((target("amx-tile,amx-bf16,avx512f,avx512bw,avx512vl,avx512dq,avx512bf16")))
#define KERNEL static inline __attribute__((always_inline)) TARGET

typedef struct {
    uint8_t palette, start_row, reserved[14];
    uint16_t columns_in_bytes[16];
    uint8_t rows[16];
} TileConfig;

/* out (2 x 16 rows of 32) = a (rows, 32 * depth) times two column tiles of packed weights. Tiles 0-3 are sums, 4-5
 * rows, 6-7 weights. One tile row only if `rows` is 16. */
TARGET static void multiply(const Half *a, size_t stride, int rows, const Half *weight, int depth, float *out) {
    const Half *left = weight, *right = weight + (size_t)depth * TILE * 2 * TILE;
    const size_t bytes = stride * sizeof(Half);
    _tile_zero(0);
    _tile_zero(1);
    if (rows == BLOCK) {
        _tile_zero(2);
        _tile_zero(3);
        for (int k = 0; k < depth; k++, a += 2 * TILE, left += 2 * TILE * TILE, right += 2 * TILE * TILE) {
            _tile_loadd(4, a, bytes);
            _tile_loadd(6, left, 64);
            _tile_loadd(7, right, 64);
            _tile_loadd(5, a + TILE * stride, bytes);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
            _tile_dpbf16ps(2, 5, 6);
            _tile_dpbf16ps(3, 5, 7);
        }
        _tile_stored(2, out + TILE * BLOCK, BLOCK * sizeof(float));
        _tile_stored(3, out + TILE * BLOCK + TILE, BLOCK * sizeof(float));
    } else
        for (int k = 0; k < depth; k++, a += 2 * TILE, left += 2 * TILE * TILE, right += 2 * TILE * TILE) {
            _tile_loadd(4, a, bytes);
            _tile_loadd(6, left, 64);
            _tile_loadd(7, right, 64);
            _tile_dpbf16ps(0, 4, 6);
            _tile_dpbf16ps(1, 4, 7);
        }
    _tile_stored(0, out, BLOCK * sizeof(float));
    _tile_stored(1, out + TILE, BLOCK * sizeof(float));
}

/* Where a share of the sequences is in the arrays, and how many of its rows there really are. */
typedef struct {
    int first, count;
} Rows;

INLINE Rows rows_of(const Call *call, int share) {
    const int first = share * call->rows, rest = call->B - first;
    return (Rows){first, rest < call->rows ? rest : call->rows};
}

typedef __m512 Floats; /* of 16 units */

KERNEL Floats all(float value) { return _mm512_set1_ps(value); }
KERNEL Floats load(const Half *from) {
    return _mm512_castsi512_ps(_mm512_slli_epi32(_mm512_cvtepu16_epi32(_mm256_loadu_si256((const void *)from)), 16));
}
KERNEL void store(Half *to, Floats x) { _mm256_storeu_si256((void *)to, (__m256i)_mm512_cvtneps_pbh(x)); }

/* 1 / x; of the processor's estimate, good to 14 bits, one step of Newton's method makes 28. */
KERNEL Floats reciprocal(Floats x) {
    const Floats estimate = _mm512_rcp14_ps(x);
    return estimate * (all(2) - x * estimate);
}

/* e^x, by 2^n times a Taylor polynomial, to 3e-6 of itself: a hundred times as good as bfloat16. */
KERNEL Floats vector_exponential(Floats x) {
    x = _mm512_min_ps(all(87), _mm512_max_ps(all(-87), x)); /* in this order, NaN stays NaN */
    const Floats n = _mm512_roundscale_ps(x * all(1.44269504f), _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC);
    const Floats f = x - n * all(0.69314718f);
    Floats p = f * all(1.0f / 120) + all(1.0f / 24);
    p = p * f + all(1.0f / 6);
    p = p * f + all(0.5f);
    p = p * f + all(1);
    p = p * f + all(1);
    return _mm512_scalef_ps(p, n);
}

KERNEL Floats vector_sigmoid(Floats x) { return reciprocal(all(1) + vector_exponential(-x)); }
KERNEL Floats vector_tanh(Floats x) { return all(1) - all(2) * reciprocal(vector_exponential(x + x) + all(1)); }

/* Fetch what the next step will want: the caches do not foresee steps as far apart as rows of gates are. */
KERNEL void fetch(const void *address, ptrdiff_t bytes) {
    _mm_prefetch((const char *)address + bytes, _MM_HINT_T0);
}

/* A step of 16 units, from `unit` on, of one sequence. sums: (G, rows, 32); that, and all else, from these units on. */
KERNEL void forward_units(const Call *call, int cell, int unit, const float *sums, Half *gate, Half *extra,
                          const float *c, float *c_after, float *hidden, Half *state, Half *output) {
    const size_t H = call->H, next = (size_t)call->rows * BLOCK; /* from one gate's sums to the next one's */
    const int G = cell == LSTM ? 4 : cell == GRU ? 3 : 1;
    Floats x[4], y[4], h; /* what input and hidden state contribute to the gates */
    for (int g = 0; g < G; g++) {
        x[g] = load(gate + g * H) + _mm512_loadu_ps(call->input_bias + g * H + unit);
        y[g] = _mm512_loadu_ps(sums + g * next) + _mm512_loadu_ps(call->hidden_bias + g * H + unit);
    }
    if (cell == LSTM) {
        const Floats i = vector_sigmoid(x[0] + y[0]);
        const Floats f = vector_sigmoid(x[1] + y[1]);
        const Floats g = vector_tanh(x[2] + y[2]);
        const Floats o = vector_sigmoid(x[3] + y[3]);
        const Floats after = f * _mm512_loadu_ps(c) + i * g;
        _mm512_storeu_ps(c_after, after);
        store(gate, i), store(gate + H, f), store(gate + 2 * H, g), store(gate + 3 * H, o);
        h = o * vector_tanh(after);
    } else if (cell == GRU) {
        const Floats r = vector_sigmoid(x[0] + y[0]);
        const Floats z = vector_sigmoid(x[1] + y[1]);
        const Floats n = vector_tanh(x[2] + r * y[2]);
        store(gate, r), store(gate + H, z), store(gate + 2 * H, n), store(extra, y[2]);
        h = n + z * (_mm512_loadu_ps(hidden) - n);
    } else
        h = vector_tanh(x[0] + y[0]);
    _mm512_storeu_ps(hidden, h);
    store(state, h), store(output, h);
}

KERNEL void forward_rows(Call *call, int cell, int share, float *scratch) {
    const int H = call->H, G = call->gates, B = call->B, depth = H / (2 * TILE);
    const Rows rows = rows_of(call, share);
    const size_t packed = (size_t)depth * BLOCK * 2 * TILE; /* weights of 32 columns */
    float *sums = scratch;                                  /* (G, rows, 32) */
    const ptrdiff_t next = (ptrdiff_t)B * H; /* from one step to the next one, of one value per unit */
    Half *before = (Half *)(sums + (size_t)G * call->rows * BLOCK), *after = before + (size_t)call->rows * H;
    for (int b = 0; b < rows.count; b++)
        for (int u = 0; u < H; u += TILE)
            store(before + b * H + u, _mm512_loadu_ps(call->hidden + (size_t)(rows.first + b) * H + u));
    for (int t = 0; t < call->T; t++) {
        for (int unit = 0; unit < H; unit += BLOCK) {
            for (int g = 0; g < G; g++)
                multiply(before, H, call->rows, call->weight + (g * H + unit) / BLOCK * packed, depth,
                         sums + (size_t)g * call->rows * BLOCK);
            for (int b = 0; b < rows.count; b++) {
                const size_t start = ((size_t)t * B + rows.first + b) * H + unit;
                for (int g = 0; g < G; g++) fetch(call->gate + start * G - (G - 1) * unit + g * H, next * G * sizeof(Half));
                fetch(call->output + start, next * sizeof(Half));
                for (int u = unit; u < unit + BLOCK; u += TILE) {
                    const size_t row = (size_t)(rows.first + b) * H + u, at = (size_t)t * B * H + row;
                    forward_units(call, cell, u, sums + b * BLOCK + u - unit,
                                  call->gate + ((size_t)t * B + rows.first + b) * G * H + u,
                                  call->extra ? call->extra + at : NULL, call->cells ? call->cells + at : NULL,
                                  call->cells ? call->cells + (size_t)B * H + at : NULL, call->hidden + row,
                                  after + b * H + u, call->output + at);
                }
            }
        }
        Half *swapped = before;
        before = after, after = swapped;
    }
}

/* Gradients of a step of 16 units of one sequence. sums: what the step after sends back, (rows, 32). */
KERNEL void backward_units(const Call *call, int cell, const float *sums, const Half *gradient, Half *gate, Half *extra,
                           const float *c, const float *c_after, const Half *h_before, const Half *output,
                           float *carry, Half *sent) {
    const size_t H = call->H;
    const Floats one = all(1), dh = load(gradient) + _mm512_loadu_ps(sums);
    Floats d[4] = {one, one, one, one};
    if (cell == LSTM) {
        const Floats i = load(gate), f = load(gate + H), g = load(gate + 2 * H), o = load(gate + 3 * H);
        const Floats tanh_c = vector_tanh(_mm512_loadu_ps(c_after));
        const Floats dc = _mm512_loadu_ps(carry) + dh * o * (one - tanh_c * tanh_c);
        d[0] = dc * g * i * (one - i), d[1] = dc * _mm512_loadu_ps(c) * f * (one - f);
        d[2] = dc * i * (one - g * g), d[3] = dh * tanh_c * o * (one - o);
        _mm512_storeu_ps(carry, dc * f);
    } else if (cell == GRU) {
        const Floats r = load(gate), z = load(gate + H), n = load(gate + 2 * H);
        const Floats whole = dh + _mm512_loadu_ps(carry), dn = whole * (one - z) * (one - n * n);
        d[0] = dn * load(extra) * r * (one - r), d[1] = whole * (load(h_before) - n) * z * (one - z), d[2] = dn;
        _mm512_storeu_ps(carry, whole * z);
        store(extra, dn * r), store(sent + 2 * H, dn * r);
    } else {
        const Floats h = load(output);
        d[0] = dh * (one - h * h);
    }
    for (int g = 0; g < (cell == LSTM ? 4 : cell == GRU ? 3 : 1); g++) {
        store(gate + g * H, d[g]);
        if (cell != GRU || g < 2) store(sent + g * H, d[g]);
    }
}

KERNEL void backward_rows(Call *call, int cell, int share, float *scratch) {
    const int H = call->H, G = call->gates, B = call->B, depth = G * H / (2 * TILE);
    const Rows rows = rows_of(call, share);
    const size_t packed = (size_t)depth * BLOCK * 2 * TILE;
    float *sums = scratch, *carry = sums + (size_t)call->rows * BLOCK; /* (rows, 32); (rows, H) */
    const ptrdiff_t next = (ptrdiff_t)B * H;
    Half *before = (Half *)(carry + (size_t)call->rows * H), *after = before + (size_t)call->rows * G * H;
    memset(carry, 0, (size_t)call->rows * H * sizeof(float));
    memset(before, 0, (size_t)call->rows * G * H * sizeof(Half));
    for (int t = call->T - 1; t >= 0; t--) {
        for (int unit = 0; unit < H; unit += BLOCK) {
            multiply(before, (size_t)G * H, call->rows, call->weight + unit / BLOCK * packed, depth, sums);
            for (int b = 0; b < rows.count; b++) {
                const size_t start = ((size_t)t * B + rows.first + b) * H + unit;
                for (int g = 0; g < G; g++) fetch(call->gate + start * G - (G - 1) * unit + g * H, -next * G * sizeof(Half));
                fetch(call->gradient + start, -next * sizeof(Half));
                if (call->cells) {
                    fetch(call->cells + start, -next * sizeof(float));
                    fetch(call->cells + start + TILE, -next * sizeof(float));
                }
                for (int u = unit; u < unit + BLOCK; u += TILE) {
                    const size_t row = (size_t)(rows.first + b) * H + u, at = (size_t)t * B * H + row;
                    backward_units(call, cell, sums + b * BLOCK + u - unit, call->gradient + at,
                                   call->gate + ((size_t)t * B + rows.first + b) * G * H + u,
                                   call->extra ? call->extra + at : NULL, call->cells ? call->cells + at : NULL,
                                   call->cells ? call->cells + (size_t)B * H + at : NULL,
                                   t > 0 ? call->output + at - (size_t)B * H : call->first + row, call->output + at,
                                   carry + b * H + u, after + (size_t)b * G * H + u);
                }
            }
        }
        Half *swapped = before;
        before = after, after = swapped;
    }
}

/* Each cell's own loops, so that none asks in them which it is. */
#define BY_CELL(rows)                                                  \
    (call->cell == LSTM  ? rows(call, LSTM, share, scratch)            \
     : call->cell == GRU ? rows(call, GRU, share, scratch)             \
                         : rows(call, RNN, share, scratch))

TARGET static void by_cell(Call *call, int share, float *scratch) {
    if (call->gradient)
        BY_CELL(backward_rows);
    else
        BY_CELL(forward_rows);
}

TARGET static void share_rows(Call *call, int thread, int threads) {
    TileConfig config = {.palette = 1};
    for (int tile = 0; tile < 8; tile++) config.rows[tile] = TILE, config.columns_in_bytes[tile] = 64;
    _tile_loadconfig(&config);
    float *scratch = call->scratch + thread * call->scratch_size;
    for (int share = thread; share * call->rows < call->B; share += threads) by_cell(call, share, scratch);
    _tile_release();
}

/* OpenMP's, by the names under which every compiler's programs call it. */
static void (*parallel)(void (*)(void *), void *, unsigned, unsigned);
static int (*thread_number)(void), (*number_of_threads)(void);

static void on_the_pool(void *call) { share_rows(call, thread_number(), number_of_threads()); }
static void on_a_thread(void *call, int thread) { share_rows(call, thread, ((Call *)call)->threads); }

/* On torch's own threads, which wait for work, and for a while would be in the way of others; else on new ones. */
static void on_threads(Call *call) {
    *(void **)&parallel = dlsym(RTLD_DEFAULT, "GOMP_parallel");
    *(void **)&thread_number = dlsym(RTLD_DEFAULT, "omp_get_thread_num");
    *(void **)&number_of_threads = dlsym(RTLD_DEFAULT, "omp_get_num_threads");
    if (parallel && thread_number && number_of_threads && call->threads > 1)
        parallel(on_the_pool, call, call->threads, 0);
    else
        together(on_a_thread, call, &call->threads);
}

/* Whether the processor has the instructions, and the system lets this process use them. */
static bool available(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d) || !(d & 1u << 22) || !(d & 1u << 24)) return false;
    if (!__builtin_cpu_supports("avx512f") || !__builtin_cpu_supports("avx512bw") ||
        !__builtin_cpu_supports("avx512vl") || !__builtin_cpu_supports("avx512dq") ||
        !__builtin_cpu_supports("avx512bf16"))
        return false;
    enum { ARCH_REQ_XCOMP_PERM = 0x1023, TILE_DATA = 18 };
    return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, TILE_DATA) == 0;
}
#else
static void on_threads(Call *call) { (void)call; }
static bool available(void) { return false; }
#endif

/* ---------------------------------------------------------------- Python */

static PyObject *is_available(PyObject *module, PyObject *none) {
    (void)module, (void)none;
    return PyBool_FromLong(available());
}

PyDoc_STRVAR(run_doc,
             "run(cell, gates, T, B, H, threads, backward, arrays)\n\n"
             "Forward, arrays: packed weight, input_bias (G*H), hidden_bias (G*H), gate, output, extra or None, cells or None, hidden.\n"
             "Backward: packed weight, gradient, gate, output, extra or None, cells or None, first or None.");

static PyObject *run(PyObject *module, PyObject *arguments) {
    (void)module;
    Call call = {0};
    PyObject *arrays;
    int backward;
    if (!PyArg_ParseTuple(arguments, "iiiiiipO", &call.cell, &call.gates, &call.T, &call.B, &call.H, &call.threads,
                          &backward, &arrays))
        return NULL;
    if (call.T < 1 || call.B < 1 || call.H < BLOCK || call.H % BLOCK || call.gates < 1 || call.gates > 4 ||
        call.cell < RNN || call.cell > GRU || !available())
        return PyErr_Format(PyExc_ValueError, "%d steps of %d sequences and %d units", call.T, call.B, call.H);
    if (call.threads < 1) call.threads = 1;
    if (call.threads > MAX_THREADS) call.threads = MAX_THREADS;
    /* Two tile rows use each load of weights twice; but first of all every thread has to have something to do. */
    call.rows = call.B >= BLOCK * call.threads ? BLOCK : TILE;
    const int shares = (call.B + call.rows - 1) / call.rows;
    if (call.threads > shares) call.threads = shares;
    const size_t G = call.gates, H = call.H, steps = (size_t)call.T * call.B * H, state = (size_t)call.B * H;
    Py_buffer view[8];
    int held = 0;
    Py_ssize_t index = 0;
    bool good = true;
#define TAKE(field, count, writable)                                                                          \
    do {                                                                                                      \
        if (good) {                                                                                           \
            call.field = next_buffer(arrays, &index, (count) * sizeof *call.field, writable, &view[held]);    \
            good = call.field != NULL;                                                                        \
            held += good;                                                                                     \
        }                                                                                                     \
    } while (0)
    TAKE(weight, G * H * H, false);
    if (backward)
        TAKE(gradient, steps, false);
    else
        TAKE(input_bias, G * H, false);
    if (!backward) TAKE(hidden_bias, G * H, false);
    TAKE(gate, G * steps, true);
    TAKE(output, steps, !backward);
    if (call.cell == GRU) TAKE(extra, steps, true);
    if (call.cell == LSTM) TAKE(cells, steps + state, !backward);
    if (backward)
        TAKE(first, state, false);
    else
        TAKE(hidden, state, true);
#undef TAKE
    bool enough = true;
    if (good) {
        /* Sums, the carried gradient, and what is sent from step to step, twice: the larger of the two directions. */
        call.scratch_size = padded((G + 1) * call.rows * BLOCK + call.rows * H + G * call.rows * H);
        call.scratch = reserve_zeros(call.threads * call.scratch_size * sizeof(float));
        enough = call.scratch != NULL;
        Py_BEGIN_ALLOW_THREADS
        if (enough) on_threads(&call);
        Py_END_ALLOW_THREADS
        release(call.scratch);
    }
    while (held) PyBuffer_Release(&view[--held]);
    if (!enough) return PyErr_NoMemory();
    return good ? Py_NewRef(Py_None) : NULL;
}

static PyMethodDef methods[] = {
    {"available", is_available, METH_NOARGS, "Whether this machine can run it."},
    {"run", run, METH_VARARGS, run_doc},
    {0},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "charrnn.model._sequence", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__sequence(void) { return PyModuleDef_Init(&definition); }
