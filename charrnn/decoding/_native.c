/* The recurrent network one character at a time, close to what the machine's caches give.
 *
 * A character costs one pass over every weight, so weights are held as 8-bit integers, one scale for each row of a
 * matrix, and so is what they are multiplied with, hidden states between -1 and 1. Sums of integers are exact in any
 * order: whatever the processor and the number of threads, the same seed gives the same text.
 *
 * A thread owns a range of units: it computes all their gates and their new state, so that threads meet only once a
 * layer. `native_engine.py` says what may be run here; it checks nothing that the buffers' sizes do not show.
 */

#include "../native.h"

enum { ROWS = 4, MAX_LAYERS = 64 };
enum { SMALL = 512 }; /* symbols, that every thread chooses from sooner than it would be told the choice */
static const double EPSILON = 1e-5; /* torch.nn.LayerNorm's */
enum { ONE = 127, ZERO = 128 }; /* a hidden state of 1, and of 0, as integers: 255 and 128 */

/* ---------------------------------------------------------------- weights */

/* A matrix (rows, columns) as 8-bit integers: W x = scale[row] * (weight . packed x). Rows are padded with zeros. */
typedef struct {
    int columns;
    size_t stride;
    int8_t *weight;
    float *scale;
    int32_t *sum; /* of each row's weights */
} Matrix;

/* What a layer, or the output, is given from below: a row of a table for each character, or one for all, which has the
 * bias, and a product of each state that it reads. */
typedef struct {
    const float *table;
    bool by_character;
    int first, end; /* of the layers whose states are read */
    Matrix from[MAX_LAYERS];
} Input;

typedef struct {
    Input input;   /* (G*H, H) each */
    Matrix hidden; /* (G*H, H) */
    const float *hidden_bias;
} Layer;

/* A stack is plain if each layer reads only the one below; else it reads all below, and the character. If it is
 * normalised, the rows of what is read from below are centred, and products are divided by the state's deviation. */
typedef struct {
    int cell, gates, parts, num_layers, H, V;
    bool plain, normalised;
    Layer layer[MAX_LAYERS];
    Input head;    /* (V, H) each */
    float *floats; /* tables and biases, owned */
} Model;

/* Round a float32 matrix to 8 bits: the largest magnitude of a row becomes 127. */
static bool quantise(Matrix *matrix, const float *from, int rows, int columns) {
    matrix->columns = columns, matrix->stride = padded(columns);
    /* A few rows more than there are: rows are read four at a time. */
    matrix->weight = reserve_zeros((rows + ROWS) * matrix->stride);
    matrix->scale = reserve_zeros((rows + ROWS) * sizeof(float));
    matrix->sum = reserve_zeros((rows + ROWS) * sizeof(int32_t));
    if (!matrix->weight || !matrix->scale || !matrix->sum) return false;
    for (int row = 0; row < rows; row++, from += columns) {
        float largest = 0;
        for (int i = 0; i < columns; i++) {
            float magnitude = fabsf(from[i]);
            largest = magnitude > largest ? magnitude : largest;
        }
        float inverse = largest > 1e-30f ? 127.0f / largest : 0; /* what is not, is nothing */
        int8_t *to = matrix->weight + row * matrix->stride;
        int32_t sum = 0;
        for (int i = 0; i < columns; i++) {
            float x = from[i] * inverse;
            int rounded = (int)(x + (x < 0 ? -0.5f : 0.5f));
            to[i] = (int8_t)rounded;
            sum += rounded;
        }
        matrix->scale[row] = largest / 127.0f / ONE;
        matrix->sum[row] = sum;
    }
    return true;
}

static void discard(Matrix *matrix) { release(matrix->weight), release(matrix->scale), release(matrix->sum); }

/* ---------------------------------------------------------------- one call: T characters of B sequences */

typedef struct {
    const Model *model;
    int T, B, threads, level;
    int64_t *ids;      /* (T, B): read, or drawn */
    float *part[2];    /* state, (L, B, H) each, replaced */
    float *logits;     /* (T, B, V) of a run; (B, V) of a draw, replaced */
    /* Of a draw: */
    bool draws;
    const float *mask;        /* (places, V) */
    const int64_t *following; /* (places, V) */
    int num_places;
    int64_t *places;          /* (B), replaced */
    const double *points;     /* (T, B), 0 <= point < 1 */
    float coldness;           /* 1 / temperature; 0: the likeliest */
    double *nats;             /* (T, B) */
    /* Scratch: */
    uint8_t *packed[2 * MAX_LAYERS]; /* two per layer, (B, stride): hidden states of the step before, and of this one */
    float *gates;   /* (2, B, G, H): what input and hidden state contribute, each thread's units together */
    float *mass;    /* (threads, 2, V): probabilities, and where every thread draws, its logits */
    float *inverse; /* (threads, L, B): of a normalised layer's states, 1 / deviation */
    size_t stride;
#if THREADS
    atomic_int arrived, round;
#endif
} Call;

#if THREADS
/* Threads meet. Spinning is soonest where each has a core; where they do not, the other one is let in. */
static void meet(Call *call) {
    if (call->threads == 1) return;
    int round = atomic_load_explicit(&call->round, memory_order_relaxed);
    if (atomic_fetch_add_explicit(&call->arrived, 1, memory_order_acq_rel) == call->threads - 1) {
        atomic_store_explicit(&call->arrived, 0, memory_order_relaxed);
        atomic_store_explicit(&call->round, round + 1, memory_order_release);
        return;
    }
    for (int spins = 0; atomic_load_explicit(&call->round, memory_order_acquire) == round; spins++) {
        if (spins > 100) sched_yield();
#if X86
        else _mm_pause();
#endif
    }
}
#else
static void meet(Call *call) { (void)call; }
#endif

/* Hidden states between -1 and 1 as integers between 1 and 255. */
INLINE void pack(const float *h, uint8_t *to, int count) {
    for (int i = 0; i < count; i++) to[i] = (uint8_t)(h[i] * ONE + (ZERO + 0.5f));
}

/* 1 / the standard deviation of packed states (Ba et al. 2016), from sums of integers. */
INLINE float inverse_deviation(const uint8_t *states, int count) {
    int32_t sum = 0, squares = 0; /* at most 2^14 * 127^2 */
    for (int i = 0; i < count; i++) {
        const int32_t x = (int32_t)states[i] - ZERO;
        sum += x, squares += x * x;
    }
    const double spread = (double)count * squares - (double)sum * sum, one = (double)count * ONE;
    return (float)(1 / sqrt(spread / (one * one) + EPSILON));
}

/* Four rows of a matrix times packed states. */
INLINE void rows_anywhere(const Matrix *m, int row, const uint8_t *restrict states, int32_t out[ROWS]) {
    for (int r = 0; r < ROWS; r++) {
        const int8_t *restrict weights = m->weight + (row + r) * m->stride;
        int32_t sum = 0;
        for (int i = 0; i < m->columns; i++) sum += (int16_t)weights[i] * (int16_t)states[i];
        out[r] = sum - ZERO * m->sum[row + r];
    }
}

#if X86
#define AVX2 "avx2,fma"
#define VNNI "fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"

__attribute__((target(VNNI))) INLINE void rows_vnni(const Matrix *m, int row, const uint8_t *states,
                                                    int32_t out[ROWS]) {
    const int8_t *w = m->weight + row * m->stride;
    const size_t s = m->stride;
    __m512i t0 = _mm512_setzero_si512(), t1 = t0, t2 = t0, t3 = t0;
    for (int i = 0; i < m->columns; i += 64, w += 64) {
        const __m512i x = _mm512_load_si512(states + i);
        t0 = _mm512_dpbusd_epi32(t0, x, _mm512_load_si512(w));
        t1 = _mm512_dpbusd_epi32(t1, x, _mm512_load_si512(w + s));
        t2 = _mm512_dpbusd_epi32(t2, x, _mm512_load_si512(w + 2 * s));
        t3 = _mm512_dpbusd_epi32(t3, x, _mm512_load_si512(w + 3 * s));
    }
    /* Of each the sum of its 16 lanes: by halves, four rows at a time. */
    __m512i t01 = _mm512_add_epi32(_mm512_unpacklo_epi32(t0, t1), _mm512_unpackhi_epi32(t0, t1));
    __m512i t23 = _mm512_add_epi32(_mm512_unpacklo_epi32(t2, t3), _mm512_unpackhi_epi32(t2, t3));
    __m512i t = _mm512_add_epi32(_mm512_unpacklo_epi64(t01, t23), _mm512_unpackhi_epi64(t01, t23));
    __m256i u = _mm256_add_epi32(_mm512_castsi512_si256(t), _mm512_extracti64x4_epi64(t, 1));
    __m128i v = _mm_add_epi32(_mm256_castsi256_si128(u), _mm256_extracti128_si256(u, 1));
    const __m128i zeros = _mm_mullo_epi32(_mm_set1_epi32(ZERO), _mm_loadu_si128((const __m128i *)(m->sum + row)));
    _mm_storeu_si128((__m128i *)out, _mm_sub_epi32(v, zeros));
}
#endif

typedef void Rows(const Matrix *, int, const uint8_t *, int32_t[ROWS]);

/* to[row - first] of each sequence = bias + scale * inverse * (weights x states), for rows first..last. Without a bias
 * it is added to what is there; no inverse is a one. */
INLINE void product(const Call *call, Rows *rows_of, const Matrix *m, const float *bias, const uint8_t *x,
                    const float *inverse, int first, int last, float *to, size_t to_stride) {
    for (int row = first; row < last; row += ROWS) {
        const int count = last - row < ROWS ? last - row : ROWS;
        for (int b = 0; b < call->B; b++) {
            int32_t sums[ROWS];
            rows_of(m, row, x + b * call->stride, sums);
            const float by = inverse ? inverse[b] : 1;
            float *const here = to + b * to_stride + row - first, scaled[ROWS];
            const float *const before = bias ? bias + row : here;
            for (int r = 0; r < ROWS; r++) scaled[r] = m->scale[row + r] * by * (float)sums[r];
            if (count == ROWS)
                for (int r = 0; r < ROWS; r++) here[r] = before[r] + scaled[r];
            else
                for (int r = 0; r < count; r++) here[r] = before[r] + scaled[r];
        }
    }
}

/* The same of all that is given from below, `rows` in all; now is which of the two packed states of a layer is read. */
INLINE void read_below(const Call *call, Rows *rows_of, const Input *input, int rows, const int64_t *ids, int now,
                       const float *inverse, int first, int last, float *to, size_t to_stride) {
    const float *bias = input->by_character ? NULL : input->table;
    for (int b = 0; b < call->B && !bias && last > first; b++)
        memcpy(to + b * to_stride, input->table + ids[b] * rows + first, (last - first) * sizeof(float));
    for (int j = input->first; j < input->end; j++, bias = NULL)
        product(call, rows_of, &input->from[j], bias, call->packed[2 * j + now], inverse ? inverse + j * call->B : NULL,
                first, last, to, to_stride);
}

/* New states of `count` units from what input and hidden state contribute to their gates, (gates, width) and
 * (gates, count). */
INLINE void cell_step(int cell, const float *restrict x, size_t width, const float *restrict y, size_t high, int count,
                      float *restrict h, float *restrict c) {
    if (cell == LSTM)
        for (int u = 0; u < count; u++) {
            const float i = sigmoid(x[u] + y[u]), f = sigmoid(x[width + u] + y[high + u]);
            const float g = hyperbolic_tangent(x[2 * width + u] + y[2 * high + u]);
            const float o = sigmoid(x[3 * width + u] + y[3 * high + u]);
            c[u] = f * c[u] + i * g;
            h[u] = o * hyperbolic_tangent(c[u]);
        }
    else if (cell == GRU)
        for (int u = 0; u < count; u++) {
            const float r = sigmoid(x[u] + y[u]), z = sigmoid(x[width + u] + y[high + u]);
            const float n = hyperbolic_tangent(x[2 * width + u] + r * y[2 * high + u]);
            h[u] = n + z * (h[u] - n);
        }
    else
        for (int u = 0; u < count; u++) h[u] = hyperbolic_tangent(x[u] + y[u]);
}

/* Draw a character by inverting the cumulative distribution, as choosers.py does, and its cost under the model. */
INLINE int64_t choose(const Call *call, const float *logits, int64_t place, double point, float *mass, double *nats) {
    const int V = call->model->V;
    const float *mask = call->mask + place * V;
    float top = logits[0], best = -INFINITY;
    int likeliest = 0;
    for (int i = 0; i < V; i++) {
        top = logits[i] > top ? logits[i] : top;
        if (logits[i] + mask[i] > best) best = logits[i] + mask[i], likeliest = i;
    }
    double all = 0, total = 0;
    for (int i = 0; i < V; i++) mass[i] = exponential(logits[i] - top);
    for (int i = 0; i < V; i++) all += mass[i];
    int chosen = likeliest;
    if (call->coldness > 0) {
        for (int i = 0; i < V; i++) {
            const float x = (logits[i] - best) * call->coldness;
            const float e = exponential(x);
            mass[i] = mask[i] == 0 && x > -80 ? e : 0;
        }
        for (int i = 0; i < V; i++) total += mass[i];
        double sum = 0;
        for (int i = 0; i < V; i++) {
            if (mass[i] == 0) continue;
            chosen = i; /* where rounding leaves none over, the last one that has any */
            sum += mass[i];
            if (sum > point * total) break;
        }
    }
    *nats = log(all) - ((double)logits[chosen] - top);
    return chosen;
}

/* The place after a character; never one that there is not. */
INLINE int64_t following(const Call *call, int64_t place, int64_t id) {
    const int64_t next = call->following[place * call->model->V + id];
    return next < 0 || next >= call->num_places ? 0 : next;
}

/* Whether each thread draws for itself, all the same, instead of waiting for one to do it. */
INLINE bool draws_alike(const Call *call) { return call->draws && call->B == 1 && call->model->V <= SMALL; }

/* One thread's share of a call. */
INLINE void work(Call *call, int thread, Rows *rows_of) {
    const Model *model = call->model;
    const int H = model->H, G = model->gates, V = model->V, B = call->B, L = model->num_layers;
    /* Ranges in whole vectors of 16, so that no two threads write to one cache line. */
    const int blocks = (H + 15) / 16, lines = (V + 15) / 16;
    const int first = blocks * thread / call->threads * 16, end = blocks * (thread + 1) / call->threads * 16;
    const int last = end < H ? end : H, count = last > first ? last - first : 0;
    const int first_logit = lines * thread / call->threads * 16, end_logit = lines * (thread + 1) / call->threads * 16;
    const int last_logit = end_logit < V ? end_logit : V;
    float *from_input = call->gates + (size_t)2 * B * G * first, *from_hidden = from_input + (size_t)B * G * count;
    float *mass = call->mass + (size_t)thread * 2 * padded(V), *own_logits = call->logits;
    float *inverse = model->normalised ? call->inverse + thread * padded((size_t)L * B) : NULL;
    int64_t own_id = 0, own_place = 0;
    const bool alike = draws_alike(call);
    if (alike) {
        own_place = call->places[0];
        if (thread > 0) memcpy(own_logits = mass + padded(V), call->logits, V * sizeof(float));
    }
    for (int k = 0; k < L; k++)
        for (int b = 0; b < B; b++)
            pack(call->part[0] + ((size_t)k * B + b) * H + first, call->packed[2 * k] + b * call->stride + first,
                 count);
    meet(call); /* states are packed, and what all begin with is read before one thread replaces it */
    for (int t = 0; t < call->T; t++) {
        int64_t *ids = alike ? &own_id : call->ids + (size_t)t * B;
        const int now = ~t & 1;
        if (alike) {
            double nats;
            own_id = choose(call, own_logits, own_place, call->points[t], mass, &nats);
            own_place = following(call, own_place, own_id);
            if (thread == 0) call->ids[t] = own_id, call->nats[t] = nats, call->places[0] = own_place;
        } else if (call->draws) {
            for (int b = thread; b < B; b += call->threads) {
                const int64_t place = call->places[b];
                ids[b] = choose(call, call->logits + (size_t)b * V, place, call->points[(size_t)t * B + b], mass,
                                call->nats + (size_t)t * B + b);
                call->places[b] = following(call, place, ids[b]);
            }
            meet(call);
        }
        for (int k = 0; k < L; k++) {
            const Layer *layer = &model->layer[k];
            const uint8_t *before = call->packed[2 * k + (t & 1)];
            uint8_t *after = call->packed[2 * k + now];
            for (int g = 0; g < G && count > 0; g++) {
                const int row = g * H + first, end_row = g * H + last;
                product(call, rows_of, &layer->hidden, layer->hidden_bias, before, NULL, row, end_row,
                        from_hidden + g * count, (size_t)G * count);
                if (k > 0)
                    read_below(call, rows_of, &layer->input, G * H, ids, now, inverse, row, end_row,
                               from_input + g * count, (size_t)G * count);
            }
            for (int b = 0; b < B && count > 0; b++) {
                const size_t at = ((size_t)k * B + b) * H + first, here = (size_t)b * G * count;
                const float *x = k > 0 ? from_input + here : layer->input.table + ids[b] * G * H + first;
                cell_step(model->cell, x, k > 0 ? count : H, from_hidden + here, count, count, call->part[0] + at,
                          model->parts > 1 ? call->part[1] + at : NULL);
                pack(call->part[0] + at, after + b * call->stride + first, count);
            }
            meet(call);
            for (int b = 0; b < B && inverse; b++)
                inverse[k * B + b] = inverse_deviation(after + b * call->stride, H);
        }
        float *logits = alike ? own_logits : call->logits + (call->draws ? 0 : (size_t)t * B * V);
        if (alike) {
            read_below(call, rows_of, &model->head, V, ids, now, inverse, 0, V, logits, V);
        } else {
            read_below(call, rows_of, &model->head, V, ids, now, inverse, first_logit, last_logit,
                       logits + first_logit, V);
            meet(call);
        }
    }
}

static void work_anywhere(Call *call, int thread) { work(call, thread, rows_anywhere); }
#if X86
__attribute__((target(AVX2))) static void work_avx2(Call *call, int thread) { work(call, thread, rows_anywhere); }
__attribute__((target(VNNI))) static void work_vnni(Call *call, int thread) { work(call, thread, rows_vnni); }
#endif

static int level(void) {
#if X86
    if (__builtin_cpu_supports("avx512vnni") && __builtin_cpu_supports("avx512bw") &&
        __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq"))
        return 2;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return 1;
#endif
    return 0;
}

static void do_share(void *argument, int thread) {
    Call *call = argument;
#if X86
    if (call->level == 2) {
        work_vnni(call, thread);
        return;
    }
    if (call->level == 1) {
        work_avx2(call, thread);
        return;
    }
#endif
    work_anywhere(call, thread);
}

/* Run a call, whose scratch is made here, with as many of its threads as can be had; false if memory is short. */
static bool perform(Call *call) {
    const Model *model = call->model;
    const int L = model->num_layers, B = call->B, own = level();
    const size_t stride = padded(model->H), one = B * stride;
    uint8_t *states = reserve_zeros(2 * L * one);
    call->gates = reserve((size_t)2 * B * model->gates * model->H * sizeof(float));
    call->mass = reserve(call->threads * 2 * padded(model->V) * sizeof(float));
    call->inverse = reserve(call->threads * padded((size_t)L * B) * sizeof(float));
    const bool enough = states && call->gates && call->mass && call->inverse;
    if (enough) {
        for (int k = 0; k < 2 * L; k++) call->packed[k] = states + k * one;
        call->stride = stride;
        call->level = call->level < own ? call->level : own;
#if THREADS
        atomic_init(&call->arrived, 0), atomic_init(&call->round, 0);
#endif
        together(do_share, call, &call->threads);
    }
    release(states), release(call->gates), release(call->mass), release(call->inverse);
    return enough;
}

/* ---------------------------------------------------------------- Python */

static const char NAME[] = "charrnn model";

static void drop(Input *input) {
    for (int j = input->first; j < input->end; j++) discard(&input->from[j]);
}

static void forget(Model *model) {
    for (int k = 0; k < model->num_layers; k++) drop(&model->layer[k].input), discard(&model->layer[k].hidden);
    drop(&model->head);
    release(model->floats);
    release(model);
}

static void on_release(PyObject *capsule) { forget(PyCapsule_GetPointer(capsule, NAME)); }

/* Copy `count` floats of the next array to the model's own memory. */
static const float *copied(Model *model, size_t *used, PyObject *arrays, Py_ssize_t *index, size_t count) {
    Py_buffer view;
    const void *from = next_buffer(arrays, index, count * sizeof(float), false, &view);
    if (!from) return NULL;
    float *to = model->floats + *used;
    memcpy(to, from, count * sizeof(float));
    *used += padded(count);
    PyBuffer_Release(&view);
    return to;
}

static bool rounded(Matrix *matrix, PyObject *arrays, Py_ssize_t *index, int rows, int columns) {
    Py_buffer view;
    const float *from = next_buffer(arrays, index, (size_t)rows * columns * sizeof(float), false, &view);
    if (!from) return false;
    const bool enough = quantise(matrix, from, rows, columns);
    PyBuffer_Release(&view);
    if (!enough) PyErr_NoMemory();
    return enough;
}

/* What layer k, or the output as the last of all, is given from below. */
static bool fill_input(Model *model, Input *input, int k, int rows, size_t *used, PyObject *arrays,
                       Py_ssize_t *index) {
    input->first = model->plain && k > 0 ? k - 1 : 0, input->end = k;
    input->by_character = k == 0 || !model->plain;
    input->table = copied(model, used, arrays, index, (size_t)rows * (input->by_character ? model->V : 1));
    if (!input->table) return false;
    for (int j = input->first; j < input->end; j++)
        if (!rounded(&input->from[j], arrays, index, rows, model->H)) return false;
    return true;
}

static bool fill(Model *model, PyObject *arrays) {
    const int rows = model->gates * model->H, L = model->num_layers;
    Py_ssize_t index = 0;
    size_t used = 0;
    for (int k = 0; k < L; k++) {
        Layer *layer = &model->layer[k];
        if (!fill_input(model, &layer->input, k, rows, &used, arrays, &index)) return false;
        if (!rounded(&layer->hidden, arrays, &index, rows, model->H)) return false;
        if (!(layer->hidden_bias = copied(model, &used, arrays, &index, rows))) return false;
    }
    return fill_input(model, &model->head, L, model->V, &used, arrays, &index);
}

PyDoc_STRVAR(model_doc,
             "model(cell, gates, parts, num_layers, H, V, plain, normalised, arrays) -> model\n\n"
             "Float32 arrays, in order, for each layer: a table (V, G*H), or (G*H) for all characters alike, as all but\n"
             "the first have it in a plain stack; W (G*H, H) for each state that is read; W_hh (G*H, H), b_hh (G*H).\n"
             "Then of the output a table (V, V) or (V), W (V, H) for each state. All is copied.");

static PyObject *make_model(PyObject *module, PyObject *arguments) {
    (void)module;
    int cell, gates, parts, num_layers, H, V, plain, normalised;
    PyObject *arrays;
    if (!PyArg_ParseTuple(arguments, "iiiiiippO", &cell, &gates, &parts, &num_layers, &H, &V, &plain, &normalised,
                          &arrays))
        return NULL;
    if (cell < RNN || cell > GRU || gates != (cell == LSTM ? 4 : cell == GRU ? 3 : 1) || parts != 1 + (cell == LSTM) || num_layers < 1 ||
        num_layers > MAX_LAYERS || H < 1 || H > 1 << 14 || V < 1 || V > 1 << 21)
        return PyErr_Format(PyExc_ValueError, "a model of %d layers, %d units, %d symbols", num_layers, H, V);
    Model *model = reserve_zeros(sizeof *model);
    if (!model) return PyErr_NoMemory();
    model->cell = cell, model->gates = gates, model->parts = parts, model->num_layers = num_layers;
    model->H = H, model->V = V, model->plain = plain, model->normalised = normalised;
    const size_t rows = (size_t)gates * H, tables = plain ? 1 : num_layers; /* by character */
    const size_t output = plain ? V : (size_t)V * V;
    const size_t floats = tables * padded(V * rows) + 2 * num_layers * padded(rows) + padded(output);
    model->floats = reserve((floats + ALIGNMENT) * sizeof(float));
    if (!model->floats) PyErr_NoMemory();
    PyObject *capsule = model->floats && fill(model, arrays) ? PyCapsule_New(model, NAME, on_release) : NULL;
    if (!capsule) forget(model);
    return capsule;
}

/* Fill in a call's arrays, run it without the interpreter's lock, and give the arrays back. */
static PyObject *call_with(Call *call, PyObject *arrays) {
    const Model *model = call->model;
    const size_t steps = (size_t)call->T * call->B, state = (size_t)model->num_layers * call->B * model->H;
    const size_t rows = call->draws ? (size_t)call->B : steps;
    Py_buffer view[9];
    int held = 0;
    Py_ssize_t index = 0;
    bool good = true;
    if (call->B < 1 || call->T < 0 || call->num_places < 0) return PyErr_Format(PyExc_ValueError, "%d steps of %d", call->T, call->B);
#define TAKE(field, count, writable)                                                                             \
    do {                                                                                                         \
        if (good) {                                                                                              \
            call->field = next_buffer(arrays, &index, (count) * sizeof *call->field, writable, &view[held]);          \
            good = call->field != NULL;                                                                          \
            held += good;                                                                                        \
        }                                                                                                        \
    } while (0)
    TAKE(ids, steps, call->draws);
    TAKE(logits, rows * model->V, true);
    for (int part = 0; part < model->parts; part++) TAKE(part[part], state, true);
    if (call->draws) {
        TAKE(places, (size_t)call->B, true);
        TAKE(mask, (size_t)call->num_places * model->V, false);
        TAKE(following, (size_t)call->num_places * model->V, false);
        TAKE(points, steps, false);
        TAKE(nats, steps, true);
    }
#undef TAKE
    const int64_t *indices = call->draws ? call->places : call->ids;
    for (size_t k = 0, bound = call->draws ? call->num_places : model->V; good && k < (call->draws ? rows : steps); k++)
        if (indices[k] < 0 || (size_t)indices[k] >= bound) {
            PyErr_Format(PyExc_IndexError, "index %lld of %zu", (long long)indices[k], bound);
            good = false;
        }
    bool enough = true;
    if (good) {
        Py_BEGIN_ALLOW_THREADS
        enough = perform(call);
        Py_END_ALLOW_THREADS
    }
    while (held) PyBuffer_Release(&view[--held]);
    if (!enough) return PyErr_NoMemory();
    return good ? Py_NewRef(Py_None) : NULL;
}

static Call *prepared(Call *call, PyObject *capsule, int threads) {
    call->model = PyCapsule_GetPointer(capsule, NAME);
    call->threads = threads < 1 ? 1 : threads > MAX_THREADS ? MAX_THREADS : threads;
    return call->model ? call : NULL;
}

PyDoc_STRVAR(run_doc, "run(model, threads, level, T, B, arrays)\n\n"
                      "Arrays: ids (T, B) int64; to be replaced: logits (T, B, V), and each part of the state (L, B, H).");

static PyObject *run(PyObject *module, PyObject *arguments) {
    (void)module;
    Call call = {0};
    PyObject *capsule, *arrays;
    int threads;
    if (!PyArg_ParseTuple(arguments, "OiiiiO", &capsule, &threads, &call.level, &call.T, &call.B, &arrays))
        return NULL;
    return prepared(&call, capsule, threads) ? call_with(&call, arrays) : NULL;
}

PyDoc_STRVAR(draw_doc,
             "draw(model, threads, level, T, B, coldness, places, arrays)\n\n"
             "Arrays: ids (T, B) int64, to be filled; to be replaced: logits (B, V), each part of the state (L, B, H),\n"
             "places (B) int64; mask (places, V), following (places, V) int64, points (T, B) float64; nats (T, B) float64,\n"
             "to be filled. Coldness is 1 / temperature, 0 for the likeliest character.");

static PyObject *draw(PyObject *module, PyObject *arguments) {
    (void)module;
    Call call = {.draws = true};
    PyObject *capsule, *arrays;
    int threads;
    if (!PyArg_ParseTuple(arguments, "OiiiifiO", &capsule, &threads, &call.level, &call.T, &call.B, &call.coldness,
                          &call.num_places, &arrays))
        return NULL;
    return prepared(&call, capsule, threads) ? call_with(&call, arrays) : NULL;
}

static PyMethodDef methods[] = {
    {"model", make_model, METH_VARARGS, model_doc},
    {"run", run, METH_VARARGS, run_doc},
    {"draw", draw, METH_VARARGS, draw_doc},
    {0},
};

static struct PyModuleDef definition = {
    PyModuleDef_HEAD_INIT, .m_name = "charrnn.decoding._native", .m_size = 0, .m_methods = methods,
};

PyMODINIT_FUNC PyInit__native(void) { return PyModuleDef_Init(&definition); }
