/* A stand-in for libcuda.so.1: memory is the host's, copies are done at once, a graph is the copies made in its capture.
   It refuses what the driver refuses: no current context, a wait or an allocation in a capture, another stream. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

enum { OK, INVALID = 1, NO_CONTEXT = 201, BAD_HANDLE = 400, NOT_FOUND = 500, CAPTURING = 900 };
#define STREAM ((void *)0x77)
#define CONTEXT ((void *)0x1234)

typedef struct { void *to; const void *from; size_t bytes; } Copy;
typedef struct { Copy copies[16]; int count; } Graph;

static int current;
static Graph *recording;
static double clock_ms;

static int init(unsigned flags) { return OK; }
static int driver_version(int *version) { *version = 12040; return OK; }
static int device_count(int *count) { *count = 1; return OK; }
static int device(int *handle, int ordinal) { *handle = ordinal; return OK; }
static int device_name(char *name, int length, int handle) { strncpy(name, "Stand-in", length); return OK; }
static int attribute(int *value, int kind, int handle) { *value = kind == 75 ? 9 : 0; return OK; }
static int retain(void **context, int handle) { *context = CONTEXT; return OK; }
static int push(void *context) { current += context == CONTEXT; return context == CONTEXT ? OK : NO_CONTEXT; }
static int pop(void **context) { *context = CONTEXT; current--; return OK; }

static int allocate(uint64_t *address, size_t bytes) {
  if (!current || recording) return current ? CAPTURING : NO_CONTEXT;
  *address = (uint64_t)aligned_alloc(256, (bytes + 255) / 256 * 256);
  memset((void *)*address, 0, bytes);
  return OK;
}
static int release(uint64_t address) { free((void *)address); return OK; }
static int allocate_host(void **address, size_t bytes, unsigned flags) {
  *address = malloc(bytes);
  return current ? OK : NO_CONTEXT;
}
static int release_host(void *address) { free(address); return OK; }

static int copy(void *to, const void *from, size_t bytes, void *stream) {
  if (!current || stream != STREAM) return current ? BAD_HANDLE : NO_CONTEXT;
  if (recording) recording->copies[recording->count++] = (Copy){to, from, bytes};
  else memcpy(to, from, bytes);
  return OK;
}
static int upload(uint64_t to, const void *from, size_t bytes, void *stream) { return copy((void *)to, from, bytes, stream); }
static int download(void *to, uint64_t from, size_t bytes, void *stream) { return copy(to, (void *)from, bytes, stream); }

static int stream_create(void **stream, unsigned flags) { *stream = STREAM; return flags == 1 ? OK : INVALID; }
static int stream_destroy(void *stream) { return stream == STREAM ? OK : BAD_HANDLE; }
static int stream_wait(void *stream) { return recording ? CAPTURING : stream == STREAM ? OK : BAD_HANDLE; }
static int event_create(void **event, unsigned flags) { *event = malloc(sizeof(double)); return OK; }
static int event_record(void *event, void *stream) { *(double *)event = clock_ms += 0.5; return OK; }
static int event_elapsed(float *ms, void *first, void *last) { *ms = *(double *)last - *(double *)first; return OK; }
static int destroy(void *handle) { free(handle); return OK; }

static int capture_begin(void *stream, int mode) { recording = calloc(1, sizeof(Graph)); return mode == 1 ? OK : INVALID; }
static int capture_end(void *stream, void **graph) { *graph = recording; recording = NULL; return OK; }
static int instantiate(void **ready, void *graph, unsigned long long flags) {
  *ready = malloc(sizeof(Graph));
  memcpy(*ready, graph, sizeof(Graph));
  return OK;
}
static int launch(void *ready, void *stream) {
  Graph *graph = ready;
  for (int i = 0; i < graph->count; i++) memcpy(graph->copies[i].to, graph->copies[i].from, graph->copies[i].bytes);
  return stream == STREAM ? OK : BAD_HANDLE;
}

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status);
int cuGetProcAddress(const char *name, void **function, int version, uint64_t flags) {
  return cuGetProcAddress_v2(name, function, version, flags, NULL);
}

static const struct { const char *name; void *function; } FUNCTIONS[] = {
  {"cuInit", init}, {"cuDriverGetVersion", driver_version}, {"cuDeviceGetCount", device_count}, {"cuDeviceGet", device},
  {"cuDeviceGetName", device_name}, {"cuDeviceGetAttribute", attribute}, {"cuDevicePrimaryCtxRetain", retain},
  {"cuCtxPushCurrent", push}, {"cuCtxPopCurrent", pop}, {"cuMemAlloc", allocate}, {"cuMemFree", release},
  {"cuMemHostAlloc", allocate_host}, {"cuMemFreeHost", release_host}, {"cuMemcpyHtoDAsync", upload},
  {"cuMemcpyDtoHAsync", download}, {"cuStreamCreate", stream_create}, {"cuStreamDestroy", stream_destroy},
  {"cuStreamSynchronize", stream_wait}, {"cuEventCreate", event_create}, {"cuEventDestroy", destroy},
  {"cuEventRecord", event_record}, {"cuEventElapsedTime", event_elapsed}, {"cuStreamBeginCapture", capture_begin},
  {"cuStreamEndCapture", capture_end}, {"cuGraphInstantiate", instantiate},
  {"cuGraphInstantiateWithFlags", instantiate}, {"cuGraphLaunch", launch}, {"cuGraphDestroy", destroy},
  {"cuGraphExecDestroy", destroy}, {"cuGetProcAddress", cuGetProcAddress_v2},
};

int cuGetProcAddress_v2(const char *name, void **function, int version, uint64_t flags, int *status) {
  *function = NULL;
  for (size_t i = 0; i < sizeof(FUNCTIONS) / sizeof(*FUNCTIONS); i++)
    if (!strcmp(FUNCTIONS[i].name, name)) *function = FUNCTIONS[i].function;
  if (status) *status = *function ? 0 : 1;
  return *function ? OK : NOT_FOUND;
}
