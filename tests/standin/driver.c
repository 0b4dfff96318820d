/* A CUDA driver that needs no GPU: as much of libcuda.so.1 as pycuda and the recording of graphs use.

   Device memory is host memory between guard pages. A queue's work is done by whichever thread
   waits for it, and when: the mode says whether as late as possible, at once, or by chance. So what
   is read too early, overwritten too early or freed too early comes out wrong, or is counted as a
   misuse. What may not be done while a stream is captured gives the errors that NVIDIA documents.
   Nothing is ever given back to malloc, so that a handle that is used too long is recognised. */
#define _GNU_SOURCE
#include <cuda.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#define DEVICES 2
#define DEVICE_MEMORY ((size_t)1 << 33)
#define PAGE 4096
#define ALIGNMENT 256
#define DEEPEST 64
#define CANARY 0xA5
#define GARBAGE 0xCD
#define DEADLOCK_SECONDS 10

enum mode { LAZY, EAGER, CHANCE };
enum kind { MEMSET, MEMCPY, HOST, RECORD, WAIT };

typedef struct op {
  enum kind kind;
  char *target, *source; /* MEMSET, MEMCPY */
  size_t size;
  unsigned char value;
  CUhostFn function; /* HOST */
  void *data;
  CUevent event; /* RECORD, WAIT */
  long version;  /* of the event */
  int queued;    /* and belongs to the queue: freed when it is done */
  struct op *next;
} op;

typedef struct memory {
  char *base, *begin; /* mapped, given out */
  size_t mapped, size;
  int pinned, live;
  CUcontext context;
  struct memory *next;
} memory;

struct CUctx_st { int device, users; };
struct CUgraph_st { op *first, *last; int live; };
struct CUgraphExec_st { op *first; int live; CUcontext context; struct CUgraphExec_st *next; };
struct CUevent_st {
  CUcontext context;
  CUstream stream; /* that recorded it last */
  long place, version, happened, time;
  int live, captured;
  struct CUevent_st *next;
};
struct CUstream_st {
  CUcontext context;
  op *first, *last;
  long given, done;
  int live, non_blocking, busy;
  CUgraph capture; /* what is recorded */
  int invalid;
  CUstreamCaptureMode capture_mode;
  pthread_t capturer;
  struct CUstream_st *next;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t progress = PTHREAD_COND_INITIALIZER;
static struct CUctx_st primary[DEVICES];
static memory *memories;
static CUstream streams;
static CUevent events;
static CUgraphExec executables;
static enum mode mode;
static uint64_t chance_state = 1;
static long clock_ticks;
static char misuses[16384];

static __thread CUcontext stack[DEEPEST];
static __thread int depth;
static __thread int in_host_function;

/* ------------------------------------------------------------- counters, and failures to order */

typedef struct counter { char name[48]; long value, fail_at, times; CUresult failure; } counter;
static counter counters[128];

static counter *counter_of(const char *name) {
  for (int i = 0; i < 128; i++) {
    if (!counters[i].name[0]) strncpy(counters[i].name, name, sizeof counters[i].name - 1);
    if (!strcmp(counters[i].name, name)) return &counters[i];
  }
  abort();
}

/* From so many calls on, every one fails, but for those of the stack of contexts. */
static long lost_after = -1;
static CUresult lost_with;

static int lost(const char *function) {
  if (lost_after < 0 || !strncmp(function, "cuCtxP", 6)) return 0;
  if (lost_after) lost_after--;
  return !lost_after;
}

/* Whether this call has to fail. */
static int ordered(counter *order) {
  if (!order->fail_at || (order->fail_at > 1 && order->fail_at--)) return 0;
  if (!--order->times) order->fail_at = 0;
  return 1;
}

static void misuse(const char *format, ...) {
  size_t used = strlen(misuses);
  va_list arguments;
  va_start(arguments, format);
  vsnprintf(misuses + used, sizeof misuses - used, format, arguments);
  va_end(arguments);
  used = strlen(misuses);
  snprintf(misuses + used, sizeof misuses - used, "\n");
}

static void unlock(int *unused) { (void)unused; pthread_mutex_unlock(&lock); }

/* Every call of the driver begins with one of these. */
#define ENTER                                                                                      \
  pthread_mutex_lock(&lock);                                                                       \
  int locked __attribute__((cleanup(unlock), unused)) = 1;                                         \
  counter *called = counter_of(__func__);                                                          \
  called->value++;                                                                                 \
  if (in_host_function) {                                                                          \
    misuse("%s inside a host function", __func__);                                                 \
    return CUDA_ERROR_NOT_PERMITTED;                                                               \
  }                                                                                                \
  if (ordered(called)) return called->failure;                                                     \
  if (lost(__func__)) return lost_with;

#define CURRENT                                                                                    \
  ENTER                                                                                            \
  CUcontext current = depth ? stack[depth - 1] : NULL;                                             \
  if (!current || !current->users) {                                                               \
    misuse("%s without a current context", __func__);                                              \
    return current ? CUDA_ERROR_CONTEXT_IS_DESTROYED : CUDA_ERROR_INVALID_CONTEXT;                 \
  }                                                                                                \
  (void)current;

static CUresult dead(const char *function, const char *what) {
  misuse("%s of a %s that is gone", function, what);
  return CUDA_ERROR_INVALID_HANDLE;
}

/* For tests, from Python. */
void standin_reset(int new_mode, unsigned long seed) {
  pthread_mutex_lock(&lock);
  mode = new_mode;
  chance_state = seed * 2654435761u + 88172645463325252u;
  memset(counters, 0, sizeof counters);
  lost_after = -1;
  misuses[0] = 0;
  pthread_mutex_unlock(&lock);
}

long standin_count(const char *name) {
  pthread_mutex_lock(&lock);
  long value = counter_of(name)->value;
  pthread_mutex_unlock(&lock);
  return value;
}

void standin_fail(const char *function, long nth, int failure, long times) {
  pthread_mutex_lock(&lock);
  counter_of(function)->fail_at = nth, counter_of(function)->times = times;
  counter_of(function)->failure = failure;
  pthread_mutex_unlock(&lock);
}

void standin_lose(long calls, int failure) {
  pthread_mutex_lock(&lock);
  lost_after = calls, lost_with = failure;
  pthread_mutex_unlock(&lock);
}

void standin_misuse(const char *text) {
  pthread_mutex_lock(&lock);
  misuse("%s", text);
  pthread_mutex_unlock(&lock);
}

int standin_captures(CUstream stream) {
  pthread_mutex_lock(&lock);
  int captures = stream->capture != NULL;
  pthread_mutex_unlock(&lock);
  return captures;
}

int standin_depth(void) { return depth; }
int standin_users(int device) { return primary[device].users; }

static int any_live_memory(void) {
  int total = 0;
  for (memory *each = memories; each; each = each->next)
    if (each->live) total += each->size;
  return total;
}

static long live_objects[4]; /* streams, events, graphs, executable graphs */
long standin_live(int which) { return live_objects[which]; }

/* What is left when the process ends, after the interpreter's own end. */
__attribute__((destructor)) static void report(void) {
  const char *name = getenv("STANDIN_REPORT");
  FILE *file = name ? fopen(name, "w") : NULL;
  if (!file) return;
  fprintf(file, "%ld streams, %ld events, %ld recordings, %d bytes, %d users, %d in the stack\n%s",
          live_objects[0], live_objects[1], live_objects[3], any_live_memory(), primary[0].users,
          depth, misuses);
  fclose(file);
}

static size_t live_bytes(int pinned) {
  size_t total = 0;
  for (memory *each = memories; each; each = each->next)
    if (each->live && each->pinned == pinned) total += each->size;
  return total;
}

long standin_live_bytes(int pinned) {
  pthread_mutex_lock(&lock);
  size_t total = live_bytes(pinned);
  pthread_mutex_unlock(&lock);
  return (long)total;
}

/* ---------------------------------------------------------------------------------- memory */

static memory *memory_at(const void *address, size_t size) {
  for (memory *each = memories; each; each = each->next)
    if (each->live && each->begin <= (const char *)address &&
        (const char *)address + size <= each->begin + each->size)
      return each;
  return NULL;
}

static int pending(memory *of);

static void check_canaries(memory *of) {
  size_t before = 0, slack = of->base + of->mapped - PAGE - (of->begin + of->size);
  for (char *at = of->base + PAGE; at < of->begin; at++) before += (unsigned char)*at != CANARY;
  for (size_t i = 0; i < slack; i++) before += (unsigned char)of->begin[of->size + i] != CANARY;
  if (before) misuse("%zu bytes written beside a piece of memory", before);
}

const char *standin_misuses(void) {
  pthread_mutex_lock(&lock);
  for (memory *each = memories; each; each = each->next)
    if (each->live) check_canaries(each);
  pthread_mutex_unlock(&lock);
  return misuses;
}

static void *map(CUcontext context, size_t size, int pinned) {
  size_t rounded = (size + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
  size_t pages = (rounded + PAGE - 1) / PAGE * PAGE;
  memory *new = calloc(1, sizeof *new);
  new->mapped = pages + 2 * PAGE;
  new->base = mmap(NULL, new->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (new->base == MAP_FAILED) return NULL;
  mprotect(new->base, PAGE, PROT_NONE);
  mprotect(new->base + PAGE + pages, PAGE, PROT_NONE);
  memset(new->base + PAGE, CANARY, pages);
  new->begin = new->base + PAGE + pages - rounded;
  memset(new->begin, GARBAGE, size);
  new->size = size, new->pinned = pinned, new->live = 1, new->context = context;
  new->next = memories;
  return (memories = new)->begin;
}

static CUresult unmap(const char *function, void *address, int pinned) {
  memory *of = memory_at(address, 0);
  if (!of || of->begin != address || of->pinned != pinned) return dead(function, "memory");
  check_canaries(of);
  of->live = 0;
  if (pending(of)) { /* left where it is: an engine would bring the whole process down */
    misuse("%s of memory that queued work uses", function);
    return CUDA_SUCCESS;
  }
  mprotect(of->base, of->mapped, PROT_NONE);
  madvise(of->base, of->mapped, MADV_DONTNEED);
  return CUDA_SUCCESS;
}

/* ---------------------------------------------------------------------------------- queues */

static uint64_t chance(uint64_t below) {
  chance_state ^= chance_state << 13, chance_state ^= chance_state >> 7;
  chance_state ^= chance_state << 17;
  return chance_state % below;
}

static int within(memory *of, char *address) {
  return address >= of->begin && address < of->begin + of->size;
}

/* A host function's data is the list of the addresses that it uses. */
static int touches(op *work, memory *of) {
  if (work->kind == MEMSET || work->kind == MEMCPY)
    return within(of, work->target) || within(of, work->source);
  for (char **address = work->kind == HOST ? work->data : NULL; address && *address; address++)
    if (within(of, *address)) return 1;
  return 0;
}

static int pending(memory *of) {
  for (CUstream each = streams; each; each = each->next)
    for (op *work = each->first; work; work = work->next)
      if (touches(work, of)) return 1;
  return 0;
}

static int ready(CUstream stream) {
  op *work = stream->first;
  return work && !stream->busy && (work->kind != WAIT || work->event->happened >= work->version);
}

/* Do the first piece of work of a queue. */
static void step(CUstream stream) {
  op *work = stream->first;
  stream->busy = 1;
  counter_of(work->kind == HOST ? "done on host" : "done")->value++;
  switch (work->kind) {
  case MEMSET:
  case MEMCPY:
    if (!memory_at(work->target, work->size) && work->kind == MEMSET)
      misuse("memory set that is gone");
    else if (work->kind == MEMCPY && ((work->value & 1 && !memory_at(work->target, work->size)) ||
                                      (work->value & 2 && !memory_at(work->source, work->size))))
      misuse("memory copied that is gone");
    else if (work->kind == MEMSET)
      memset(work->target, work->value, work->size);
    else
      memmove(work->target, work->source, work->size);
    break;
  case HOST:
    pthread_mutex_unlock(&lock);
    in_host_function = 1;
    work->function(work->data);
    in_host_function = 0;
    pthread_mutex_lock(&lock);
    break;
  case RECORD:
    if (work->version > work->event->happened) work->event->happened = work->version;
    work->event->time = clock_ticks;
    break;
  case WAIT:
    break;
  }
  if (work->kind != RECORD && work->kind != WAIT) clock_ticks++;
  stream->first = work->next;
  if (!stream->first) stream->last = NULL;
  if (work->queued) free(work);
  stream->done++;
  stream->busy = 0;
  pthread_cond_broadcast(&progress);
}

/* Work on a queue until so much of it is done. */
static void complete(CUstream stream, long place) {
  while (stream->done < place) {
    if (ready(stream)) {
      step(stream);
    } else if (!stream->busy && stream->first->kind == WAIT) {
      CUevent event = stream->first->event;
      complete(event->stream, event->place);
    } else { /* another thread is at it */
      struct timespec until;
      clock_gettime(CLOCK_REALTIME, &until);
      until.tv_sec += DEADLOCK_SECONDS;
      if (pthread_cond_timedwait(&progress, &lock, &until)) {
        misuse("a queue does not move: somebody waits for what waits for him");
        return;
      }
    }
  }
}

/* Between calls: what the mode lets happen. */
static void let_work(void) {
  if (mode == LAZY) return;
  long moves = mode == EAGER ? -1 : (long)chance(4);
  while (moves) {
    CUstream able[256];
    int count = 0;
    for (CUstream each = streams; each && count < 256; each = each->next)
      if (ready(each)) able[count++] = each;
    if (!count) return;
    step(able[mode == EAGER ? 0 : chance(count)]);
    moves--;
  }
}

static CUresult give(CUstream stream, op work) {
  op *new = malloc(sizeof *new);
  *new = work, new->next = NULL;
  if (stream->capture) {
    if (stream->invalid) {
      free(new);
      return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
    }
    CUgraph graph = stream->capture;
    if (graph->last) graph->last->next = new; else graph->first = new;
    graph->last = new;
    return CUDA_SUCCESS;
  }
  new->queued = 1;
  if (stream->last) stream->last->next = new; else stream->first = new;
  stream->last = new;
  stream->given++;
  let_work();
  return CUDA_SUCCESS;
}

/* --------------------------------------------------------------------------- capture's laws */

/* What may not be called by a thread that records, or while any other does so globally. */
static CUresult unsafe(const char *function) {
  for (CUstream each = streams; each; each = each->next)
    if (each->capture && each->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
        (each->capture_mode == CU_STREAM_CAPTURE_MODE_GLOBAL ||
         pthread_equal(each->capturer, pthread_self()))) {
      each->invalid = 1;
      misuse("%s while a stream is captured", function);
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
  return CUDA_SUCCESS;
}

/* The legacy stream waits for all blocking streams; it cannot wait for one that is captured. */
static CUresult legacy(const char *function, CUcontext context) {
  for (CUstream each = streams; each; each = each->next)
    if (each->capture && each->context == context && !each->non_blocking) {
      each->invalid = 1;
      misuse("%s on the legacy stream while a blocking stream is captured", function);
      return CUDA_ERROR_STREAM_CAPTURE_IMPLICIT;
    }
  for (CUstream each = streams; each; each = each->next)
    if (each->context == context && !each->non_blocking) complete(each, each->given);
  return CUDA_SUCCESS;
}

#define TRY(call)                                                                                  \
  do {                                                                                             \
    CUresult tried = (call);                                                                       \
    if (tried) return tried;                                                                       \
  } while (0)

/* ------------------------------------------------------------------- the driver's functions */

CUresult cuInit(unsigned int flags) { (void)flags; ENTER return CUDA_SUCCESS; }

CUresult cuDriverGetVersion(int *version) { ENTER *version = CUDA_VERSION; return CUDA_SUCCESS; }

CUresult cuDeviceGet(CUdevice *device, int ordinal) {
  ENTER
  if (ordinal < 0 || ordinal >= DEVICES) return CUDA_ERROR_INVALID_DEVICE;
  *device = ordinal;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetCount(int *count) { ENTER *count = DEVICES; return CUDA_SUCCESS; }

CUresult cuDeviceGetName(char *name, int size, CUdevice device) {
  ENTER
  snprintf(name, size, "stand-in GPU %d", device);
  return CUDA_SUCCESS;
}

CUresult cuDeviceComputeCapability(int *major, int *minor, CUdevice device) {
  ENTER(void) device;
  *major = 8, *minor = 6;
  return CUDA_SUCCESS;
}

CUresult cuDeviceGetAttribute(int *value, CUdevice_attribute which, CUdevice device) {
  ENTER(void) device;
  *value = which == CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR ? 8 : 6;
  return CUDA_SUCCESS;
}

CUresult cuDeviceTotalMem(size_t *bytes, CUdevice device) {
  ENTER(void) device;
  *bytes = DEVICE_MEMORY;
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRetain(CUcontext *context, CUdevice device) {
  ENTER
  primary[device].device = device;
  primary[device].users++;
  *context = &primary[device];
  return CUDA_SUCCESS;
}

CUresult cuDevicePrimaryCtxRelease(CUdevice device) {
  ENTER
  CUcontext context = &primary[device];
  if (!context->users) return CUDA_ERROR_INVALID_CONTEXT;
  if (--context->users) return CUDA_SUCCESS;
  /* All that it holds goes with it. */
  for (CUstream each = streams; each; each = each->next)
    if (each->context == context && each->first) misuse("a context with queued work is released");
  for (memory *each = memories; each; each = each->next)
    if (each->context == context && each->live) check_canaries(each), each->live = 0;
  for (CUstream each = streams; each; each = each->next)
    if (each->context == context && each->live) each->live = 0, live_objects[0]--;
  for (CUevent each = events; each; each = each->next)
    if (each->context == context && each->live) each->live = 0, live_objects[1]--;
  for (CUgraphExec each = executables; each; each = each->next)
    if (each->context == context && each->live) each->live = 0, live_objects[3]--;
  return CUDA_SUCCESS;
}

CUresult cuCtxPushCurrent(CUcontext context) {
  ENTER
  if (!context->users) return dead(__func__, "context");
  if (depth == DEEPEST) abort();
  stack[depth++] = context;
  return CUDA_SUCCESS;
}

CUresult cuCtxPopCurrent(CUcontext *context) {
  ENTER
  if (!depth) return CUDA_ERROR_INVALID_CONTEXT;
  *context = stack[--depth];
  return CUDA_SUCCESS;
}

CUresult cuCtxGetCurrent(CUcontext *context) {
  ENTER
  *context = depth ? stack[depth - 1] : NULL;
  return CUDA_SUCCESS;
}

CUresult cuCtxGetDevice(CUdevice *device) { CURRENT *device = current->device; return 0; }

CUresult cuCtxSynchronize(void) {
  CURRENT
  for (CUstream each = streams; each; each = each->next) {
    if (each->context != current) continue;
    if (each->capture) {
      each->invalid = 1;
      return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
    }
    complete(each, each->given);
  }
  return CUDA_SUCCESS;
}

CUresult cuMemAlloc(CUdeviceptr *address, size_t size) {
  CURRENT
  TRY(unsafe(__func__));
  *address = (CUdeviceptr)map(current, size, 0);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFree(CUdeviceptr address) {
  CURRENT
  TRY(unsafe(__func__));
  return unmap(__func__, (void *)address, 0);
}

CUresult cuMemGetInfo(size_t *free, size_t *total) {
  CURRENT
  *total = DEVICE_MEMORY, *free = DEVICE_MEMORY - live_bytes(0);
  return CUDA_SUCCESS;
}

CUresult cuMemHostAlloc(void **address, size_t size, unsigned int flags) {
  CURRENT(void) flags;
  TRY(unsafe(__func__));
  *address = map(current, size, 1);
  return *address ? CUDA_SUCCESS : CUDA_ERROR_OUT_OF_MEMORY;
}

CUresult cuMemFreeHost(void *address) {
  CURRENT
  TRY(unsafe(__func__));
  return unmap(__func__, address, 1);
}

static CUresult queue_of(const char *function, CUstream stream, CUcontext current) {
  if (!stream) return unsafe(function) ?: legacy(function, current);
  if (!stream->live) return dead(function, "stream");
  if (stream->context != current) {
    misuse("%s on a stream of another context", function);
    return CUDA_ERROR_INVALID_CONTEXT;
  }
  return CUDA_SUCCESS;
}

/* Give work to a stream; without one, do it now, after all blocking streams. */
static CUresult give_to(const char *function, CUstream stream, CUcontext current, op work) {
  TRY(queue_of(function, stream, current));
  if (stream) return give(stream, work);
  struct CUstream_st now = {.context = current};
  op copy = work;
  now.first = now.last = &copy;
  step(&now);
  return CUDA_SUCCESS;
}

static CUresult set(const char *function, CUdeviceptr target, unsigned char value, size_t size,
                    CUstream stream, CUcontext current) {
  if (!memory_at((void *)target, size)) return dead(function, "memory");
  op work = {.kind = MEMSET, .target = (char *)target, .value = value, .size = size};
  return give_to(function, stream, current, work);
}

/* sides: 1 for a target on the device, 2 for a source there. */
static CUresult copy(const char *function, void *target, const void *source, size_t size, int sides,
                     CUstream stream, CUcontext current) {
  for (int side = 1; side < 3; side++) {
    const void *address = side == 1 ? target : source;
    memory *of = memory_at(address, size);
    if (sides & side && (!of || of->pinned)) return dead(function, "memory");
    if (sides & side || !stream || of) continue;
    counter_of("copies of pageable memory")->value++;
    misuse("%s of memory that is not pinned", function);
  }
  op work = {.kind = MEMCPY, .target = target, .source = (char *)source, .size = size, .value = 3};
  if (!memory_at(target, size)) work.value &= 2;
  if (!memory_at(source, size)) work.value &= 1;
  return give_to(function, stream, current, work);
}

CUresult cuMemsetD8(CUdeviceptr target, unsigned char value, size_t size) {
  CURRENT return set(__func__, target, value, size, NULL, current);
}
CUresult cuMemsetD8Async(CUdeviceptr target, unsigned char value, size_t size, CUstream stream) {
  CURRENT return set(__func__, target, value, size, stream, current);
}
CUresult cuMemcpyHtoD(CUdeviceptr target, const void *source, size_t size) {
  CURRENT return copy(__func__, (void *)target, source, size, 1, NULL, current);
}
CUresult cuMemcpyDtoH(void *target, CUdeviceptr source, size_t size) {
  CURRENT return copy(__func__, target, (void *)source, size, 2, NULL, current);
}
CUresult cuMemcpyHtoDAsync(CUdeviceptr target, const void *source, size_t size, CUstream stream) {
  CURRENT return copy(__func__, (void *)target, source, size, 1, stream, current);
}
CUresult cuMemcpyDtoHAsync(void *target, CUdeviceptr source, size_t size, CUstream stream) {
  CURRENT return copy(__func__, target, (void *)source, size, 2, stream, current);
}
CUresult cuMemcpyDtoDAsync(CUdeviceptr target, CUdeviceptr source, size_t size, CUstream stream) {
  CURRENT return copy(__func__, (void *)target, (void *)source, size, 3, stream, current);
}

CUresult cuLaunchHostFunc(CUstream stream, CUhostFn function, void *data) {
  CURRENT
  op work = {.kind = HOST, .function = function, .data = data};
  return give_to(__func__, stream, current, work);
}

CUresult cuStreamCreate(CUstream *stream, unsigned int flags) {
  CURRENT
  *stream = calloc(1, sizeof **stream);
  (*stream)->context = current, (*stream)->live = 1;
  (*stream)->non_blocking = flags == CU_STREAM_NON_BLOCKING;
  (*stream)->next = streams, streams = *stream;
  live_objects[0]++;
  return CUDA_SUCCESS;
}

CUresult cuStreamDestroy(CUstream stream) {
  CURRENT
  TRY(queue_of(__func__, stream, current));
  if (stream->first) misuse("cuStreamDestroy with work in the queue");
  stream->live = 0;
  live_objects[0]--;
  return CUDA_SUCCESS;
}

static CUresult not_captured(CUstream stream) {
  if (!stream || !stream->capture) return CUDA_SUCCESS;
  stream->invalid = 1;
  misuse("a stream that is captured was waited for");
  return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
}

CUresult cuStreamSynchronize(CUstream stream) {
  CURRENT
  TRY(not_captured(stream));
  TRY(queue_of(__func__, stream, current));
  if (stream) complete(stream, stream->given);
  return CUDA_SUCCESS;
}

CUresult cuStreamQuery(CUstream stream) {
  CURRENT
  TRY(not_captured(stream));
  TRY(queue_of(__func__, stream, current));
  let_work();
  return stream && stream->first ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

CUresult cuStreamWaitEvent(CUstream stream, CUevent event, unsigned int flags) {
  CURRENT(void) flags;
  if (!event->live) return dead(__func__, "event");
  TRY(queue_of(__func__, stream, current));
  op work = {.kind = WAIT, .event = event, .version = event->version};
  return stream && event->version ? give(stream, work) : CUDA_SUCCESS;
}

CUresult cuEventCreate(CUevent *event, unsigned int flags) {
  CURRENT(void) flags;
  *event = calloc(1, sizeof **event);
  (*event)->context = current, (*event)->live = 1;
  (*event)->next = events, events = *event;
  live_objects[1]++;
  return CUDA_SUCCESS;
}

CUresult cuEventDestroy(CUevent event) {
  CURRENT
  if (!event->live) return dead(__func__, "event");
  event->live = 0;
  live_objects[1]--;
  return CUDA_SUCCESS;
}

static CUresult given_event(CUstream stream, op work) {
  CUevent event = work.event;
  event->stream = stream, event->place = stream->given + 1, event->version++;
  work.version = event->version;
  return give(stream, work);
}

CUresult cuEventRecord(CUevent event, CUstream stream) {
  CURRENT
  if (!event->live) return dead(__func__, "event");
  if (!stream) return CUDA_ERROR_NOT_SUPPORTED; /* the legacy stream's events: nobody's need */
  if (stream == CU_STREAM_LEGACY || stream == CU_STREAM_PER_THREAD)
    return CUDA_SUCCESS; /* other libraries' default streams, which have nothing to do here */
  TRY(queue_of(__func__, stream, current));
  if (event->context != current) return CUDA_ERROR_INVALID_HANDLE;
  if (stream->capture) return event->captured = 1, CUDA_SUCCESS;
  event->captured = 0;
  op work = {.kind = RECORD, .event = event};
  return given_event(stream, work);
}

/* With CU_EVENT_RECORD_EXTERNAL it is part of what is captured, and happens at each launch. */
CUresult cuEventRecordWithFlags(CUevent event, CUstream stream, unsigned int flags) {
  CURRENT
  if (!event->live) return dead(__func__, "event");
  if (!stream) return CUDA_ERROR_NOT_SUPPORTED;
  TRY(queue_of(__func__, stream, current));
  if (event->context != current) return CUDA_ERROR_INVALID_HANDLE;
  int external = flags == CU_EVENT_RECORD_EXTERNAL;
  if (external != !!stream->capture) {
    misuse("%s %s a capture", __func__, external ? "as a node outside" : "without a node inside");
    return CUDA_ERROR_INVALID_VALUE;
  }
  op work = {.kind = RECORD, .event = event};
  if (external) return give(stream, work);
  event->captured = 0;
  return given_event(stream, work);
}

static CUresult usable_event(const char *function, CUevent event) {
  if (!event->live) return dead(function, "event");
  return event->captured ? CUDA_ERROR_CAPTURED_EVENT : CUDA_SUCCESS;
}

CUresult cuEventSynchronize(CUevent event) {
  CURRENT
  TRY(unsafe(__func__));
  TRY(usable_event(__func__, event));
  if (event->version) complete(event->stream, event->place);
  return CUDA_SUCCESS;
}

CUresult cuEventQuery(CUevent event) {
  CURRENT
  TRY(unsafe(__func__));
  TRY(usable_event(__func__, event));
  let_work();
  return event->happened < event->version ? CUDA_ERROR_NOT_READY : CUDA_SUCCESS;
}

/* A millisecond for each piece of work that any queue did between the two. */
CUresult cuEventElapsedTime(float *milliseconds, CUevent begin, CUevent end) {
  CURRENT
  TRY(usable_event(__func__, begin));
  TRY(usable_event(__func__, end));
  if (!begin->version || !end->version) return CUDA_ERROR_INVALID_HANDLE;
  if (begin->happened < begin->version || end->happened < end->version) {
    misuse("the time of an event that has not happened");
    return CUDA_ERROR_NOT_READY;
  }
  *milliseconds = (float)(end->time - begin->time);
  return CUDA_SUCCESS;
}

CUresult cuStreamBeginCapture(CUstream stream, CUstreamCaptureMode capture_mode) {
  CURRENT
  if (!stream) return CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED;
  TRY(queue_of(__func__, stream, current));
  if (stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  stream->capture = calloc(1, sizeof *stream->capture);
  stream->capture->live = 1, stream->invalid = 0;
  stream->capture_mode = capture_mode, stream->capturer = pthread_self();
  return CUDA_SUCCESS;
}

CUresult cuStreamEndCapture(CUstream stream, CUgraph *graph) {
  CURRENT
  *graph = NULL;
  if (!stream || !stream->capture) return CUDA_ERROR_ILLEGAL_STATE;
  if (stream->capture_mode != CU_STREAM_CAPTURE_MODE_RELAXED &&
      !pthread_equal(stream->capturer, pthread_self()))
    return CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD;
  CUgraph recorded = stream->capture;
  if (ordered(counter_of("capture"))) stream->invalid = 1;
  stream->capture = NULL;
  if (stream->invalid) return CUDA_ERROR_STREAM_CAPTURE_INVALIDATED;
  live_objects[2]++;
  *graph = recorded;
  return CUDA_SUCCESS;
}

CUresult cuGraphInstantiateWithFlags(CUgraphExec *executable, CUgraph graph,
                                     unsigned long long flags) {
  CURRENT(void) flags;
  if (!graph || !graph->live) return dead(__func__, "graph");
  *executable = calloc(1, sizeof **executable);
  (*executable)->first = graph->first, (*executable)->live = 1;
  (*executable)->context = current, (*executable)->next = executables, executables = *executable;
  live_objects[3]++;
  return CUDA_SUCCESS;
}

CUresult cuGraphDestroy(CUgraph graph) {
  CURRENT
  if (!graph || !graph->live) return dead(__func__, "graph");
  graph->live = 0;
  live_objects[2]--;
  return CUDA_SUCCESS;
}

CUresult cuGraphLaunch(CUgraphExec executable, CUstream stream) {
  CURRENT
  if (!executable->live) return dead(__func__, "graph");
  if (!stream) return CUDA_ERROR_NOT_SUPPORTED; /* on the legacy stream: nobody's need */
  TRY(queue_of(__func__, stream, current));
  if (stream->capture) return CUDA_ERROR_NOT_SUPPORTED; /* a graph in a graph: nobody's need */
  for (op *work = executable->first; work; work = work->next) {
    if (work->kind == RECORD && !work->event->live) return dead(__func__, "event");
    TRY(work->kind == RECORD ? given_event(stream, *work) : give(stream, *work));
  }
  return CUDA_SUCCESS;
}

CUresult cuGraphExecDestroy(CUgraphExec executable) {
  CURRENT
  if (!executable->live) return dead(__func__, "graph");
  executable->live = 0;
  live_objects[3]--;
  return CUDA_SUCCESS;
}

static const struct { CUresult code; const char *name, *text; } errors[] = {
    {CUDA_SUCCESS, "CUDA_SUCCESS", "no error"},
    {CUDA_ERROR_INVALID_VALUE, "CUDA_ERROR_INVALID_VALUE", "invalid argument"},
    {CUDA_ERROR_OUT_OF_MEMORY, "CUDA_ERROR_OUT_OF_MEMORY", "out of memory"},
    {CUDA_ERROR_INVALID_DEVICE, "CUDA_ERROR_INVALID_DEVICE", "invalid device ordinal"},
    {CUDA_ERROR_INVALID_CONTEXT, "CUDA_ERROR_INVALID_CONTEXT", "invalid device context"},
    {CUDA_ERROR_INVALID_HANDLE, "CUDA_ERROR_INVALID_HANDLE", "invalid resource handle"},
    {CUDA_ERROR_LAUNCH_FAILED, "CUDA_ERROR_LAUNCH_FAILED", "unspecified launch failure"},
    {CUDA_ERROR_NOT_SUPPORTED, "CUDA_ERROR_NOT_SUPPORTED", "operation not supported"},
    {CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED, "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED",
     "operation not permitted when stream is capturing"},
    {CUDA_ERROR_STREAM_CAPTURE_INVALIDATED, "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
     "operation failed due to a previous error during capture"},
    {CUDA_ERROR_STREAM_CAPTURE_IMPLICIT, "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT",
     "operation would make the legacy stream depend on a capturing blocking stream"},
};

CUresult cuGetErrorString(CUresult code, const char **text) {
  *text = "another error";
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) *text = errors[i].text;
  return CUDA_SUCCESS;
}

CUresult cuGetErrorName(CUresult code, const char **name) {
  *name = "CUDA_ERROR";
  for (size_t i = 0; i < sizeof errors / sizeof *errors; i++)
    if (errors[i].code == code) *name = errors[i].name;
  return CUDA_SUCCESS;
}
