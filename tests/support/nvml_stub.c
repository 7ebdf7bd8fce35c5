/* A stand-in for NVIDIA's libnvidia-ml.so.1: the real Python binding loads it, a text file tells what it says.
 *
 * The file ($NVML_STUB) is read again whenever it changed. A line is a key and a value:
 *   devices 2                       number of GPUs
 *   0.temp 45                       what a device says; 0.mig.1.used for MIG devices
 *   0.fail.nvmlDeviceGetFanSpeed 3  a call that fails on one device with this code; fail.<call> on all
 *   0.lost 1                        the device is lost: every call on it fails with 15
 *   hang.<call> 30                  a call that returns after so many seconds, once
 *   xids 0:79 1:31                  XID events so far, device:code; each is told once
 *   0.processes 1234:1048576 77:-   pids that hold memory, "-": the driver can't tell how much
 *   0.field.83 1000                 a field value; those that are not there are not supported
 * A function that is not here (nvmlDeviceGetTemperatureV) is one that an older driver lacks.
 */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

typedef unsigned int u32;
typedef unsigned long long u64;
enum { OK = 0, INVALID = 2, NOT_SUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, NO_DRIVER = 9, TIMEOUT = 10, LOST = 15 };

#define MAX_LINES 1024
static char keys[MAX_LINES][96], values[MAX_LINES][512];
static int line_count;
static struct timespec read_at;
static long read_size = -1;
static int told_xids;

static void load(void) {
  const char *path = getenv("NVML_STUB");
  struct stat found;
  if (!path || stat(path, &found)) return;
  if (found.st_mtim.tv_sec == read_at.tv_sec && found.st_mtim.tv_nsec == read_at.tv_nsec && found.st_size == read_size) return;
  FILE *file = fopen(path, "r");
  if (!file) return;
  read_at = found.st_mtim; read_size = found.st_size;
  line_count = 0;
  char line[700];
  while (line_count < MAX_LINES && fgets(line, sizeof line, file)) {
    if (sscanf(line, "%95s %511[^\n]", keys[line_count], values[line_count]) == 2) line_count++;
  }
  fclose(file);
}

static const char *text(const char *key) {
  for (int i = 0; i < line_count; i++) if (!strcmp(keys[i], key)) return values[i];
  return NULL;
}

static const char *of(void *gpu, const char *name) {
  static char key[128];
  long handle = (long)gpu - 1;
  if (handle >= 1000) snprintf(key, sizeof key, "%ld.mig.%ld.%s", (handle - 1000) / 16, (handle - 1000) % 16, name);
  else snprintf(key, sizeof key, "%ld.%s", handle, name);
  return text(key);
}

static u64 number(void *gpu, const char *name, u64 otherwise) {
  const char *found = of(gpu, name);
  return found ? strtoull(found, NULL, 0) : otherwise;
}

static int guard(void *gpu, const char *call) {
  static char key[160];
  load();
  snprintf(key, sizeof key, "hang.%s", call);
  const char *hang = text(key);
  if (hang) {
    static int has_hung;
    if (!has_hung) { has_hung = 1; usleep((useconds_t)(1e6 * atof(hang))); }
  }
  if (gpu) {
    if (number(gpu, "lost", 0)) return LOST;
    snprintf(key, sizeof key, "fail.%s", call);
    const char *fail = of(gpu, key);
    if (fail) return atoi(fail);
  }
  snprintf(key, sizeof key, "fail.%s", call);
  const char *fail = text(key);
  return fail ? atoi(fail) : OK;
}
#define GUARD(gpu) do { int failed = guard(gpu, __func__); if (failed) return failed; } while (0)
/* A call that gives one number, not supported where the file has none. */
#define ONE(call, type, name) \
  int call(void *gpu, type *out) { GUARD(gpu); if (!of(gpu, name)) return NOT_SUPPORTED; *out = (type)number(gpu, name, 0); return OK; }

int nvmlInitWithFlags(u32 flags) { (void)flags; GUARD(NULL); return text("devices") ? OK : NO_DRIVER; }
int nvmlShutdown(void) { return OK; }
const char *nvmlErrorString(int code) { static char said[32]; snprintf(said, sizeof said, "stub error %d", code); return said; }
int nvmlSystemGetDriverVersion(char *out, u32 size) { GUARD(NULL); snprintf(out, size, "550.54.15"); return OK; }
int nvmlSystemGetCudaDriverVersion(int *out) { GUARD(NULL); *out = 12040; return OK; }
int nvmlDeviceGetCount_v2(u32 *out) { GUARD(NULL); *out = (u32)atoi(text("devices")); return OK; }
int nvmlDeviceGetHandleByIndex_v2(u32 index, void **out) { GUARD(NULL); *out = (void *)(long)(index + 1); return OK; }
int nvmlDeviceGetUUID(void *gpu, char *out, u32 size) {
  GUARD(NULL);
  const char *found = of(gpu, "uuid");
  if (found) snprintf(out, size, "%s", found);
  else snprintf(out, size, "GPU-%08lx-1111-2222-3333-444444444444", 0xabc0 + (long)gpu - 1);
  return OK;
}
int nvmlDeviceGetName(void *gpu, char *out, u32 size) { GUARD(gpu); snprintf(out, size, "NVIDIA Stub %ld", (long)gpu - 1); return OK; }
int nvmlDeviceGetPciInfo_v3(void *gpu, char *out) { GUARD(gpu); memset(out, 0, 16); snprintf(out + 36, 32, "00000000:0%ld:00.0", (long)gpu); return OK; }
int nvmlDeviceGetMemoryInfo(void *gpu, u64 *out) {
  GUARD(gpu);
  out[0] = number(gpu, "total", 80ULL << 30); out[2] = number(gpu, "used", 8ULL << 30); out[1] = out[0] - out[2];
  return OK;
}
int nvmlDeviceGetUtilizationRates(void *gpu, u32 *out) { GUARD(gpu); out[0] = (u32)number(gpu, "util", 50); out[1] = (u32)number(gpu, "memory_util", 20); return OK; }
int nvmlDeviceGetTemperature(void *gpu, u32 sensor, u32 *out) { (void)sensor; GUARD(gpu); *out = (u32)number(gpu, "temp", 40); return OK; }
int nvmlDeviceGetPowerUsage(void *gpu, u32 *out) { GUARD(gpu); *out = (u32)number(gpu, "power", 350000); return OK; }
int nvmlDeviceGetEnforcedPowerLimit(void *gpu, u32 *out) { GUARD(gpu); *out = (u32)number(gpu, "limit", 700000); return OK; }
int nvmlDeviceGetClockInfo(void *gpu, u32 kind, u32 *out) { GUARD(gpu); *out = (u32)number(gpu, "clock", 1000) + kind; return OK; }
int nvmlDeviceGetMemoryErrorCounter(void *gpu, u32 error, u32 counter, u32 place, u64 *out) {
  GUARD(gpu);
  if (counter != 0 || place != 2) return INVALID;
  *out = number(gpu, error ? "uncorrected" : "corrected", 0);
  return OK;
}
ONE(nvmlDeviceGetFanSpeed, u32, "fan")
int nvmlDeviceGetEncoderUtilization(void *gpu, u32 *out, u32 *period) { GUARD(gpu); *out = (u32)number(gpu, "encoder", 0); *period = 1; return OK; }
int nvmlDeviceGetDecoderUtilization(void *gpu, u32 *out, u32 *period) { GUARD(gpu); *out = (u32)number(gpu, "decoder", 0); *period = 1; return OK; }
int nvmlDeviceGetCurrPcieLinkGeneration(void *gpu, u32 *out) { GUARD(gpu); *out = 4; return OK; }
int nvmlDeviceGetMaxPcieLinkGeneration(void *gpu, u32 *out) { GUARD(gpu); *out = 5; return OK; }
int nvmlDeviceGetCurrPcieLinkWidth(void *gpu, u32 *out) { GUARD(gpu); *out = 8; return OK; }
int nvmlDeviceGetMaxPcieLinkWidth(void *gpu, u32 *out) { GUARD(gpu); *out = 16; return OK; }
int nvmlDeviceGetPcieSpeed(void *gpu, u32 *out) { GUARD(gpu); *out = 16000; return OK; }
ONE(nvmlDeviceGetPcieReplayCounter, u32, "replays")
ONE(nvmlDeviceGetCurrentClocksEventReasons, u64, "reasons")
int nvmlDeviceGetRemappedRows(void *gpu, u32 *a, u32 *b, u32 *c, u32 *d) {
  GUARD(gpu);
  if (!of(gpu, "remapped") || sscanf(of(gpu, "remapped"), "%u %u %u %u", a, b, c, d) != 4) return NOT_SUPPORTED;
  return OK;
}
int nvmlDeviceGetNvLinkState(void *gpu, u32 link, u32 *out) {
  GUARD(gpu);
  u32 links = (u32)number(gpu, "links", 0);
  if (!links) return NOT_SUPPORTED;
  if (link >= links) return INVALID;
  *out = link < number(gpu, "active_links", links);
  return OK;
}
int nvmlDeviceGetPcieThroughput(void *gpu, u32 counter, u32 *out) { GUARD(gpu); *out = counter ? 2000 : 1000; return OK; }

struct field { u32 id, scope; long long time, latency; u32 type; int code; union { double d; u64 u; } value; };
int nvmlDeviceGetFieldValues(void *gpu, int count, struct field *fields) {
  GUARD(gpu);
  for (int i = 0; i < count; i++) {
    char name[32];
    snprintf(name, sizeof name, "field.%u", fields[i].id);
    fields[i].code = of(gpu, name) ? OK : NOT_SUPPORTED;
    fields[i].type = 3;
    fields[i].value.u = number(gpu, name, 0);
  }
  return OK;
}

struct process { u32 pid; u64 used; u32 gpu_instance, compute_instance; };
static int processes(void *gpu, const char *name, u32 *count, struct process *out) {
  const char *at = of(gpu, name);
  u32 found = 0, room = *count;
  u32 pid;
  char used[32];
  int length;
  while (at && sscanf(at, " %u:%31s%n", &pid, used, &length) == 2) {
    if (out && found < room) { out[found].pid = pid; out[found].used = used[0] == '-' ? ~0ULL : strtoull(used, NULL, 0); }
    found++; at += length;
  }
  *count = found;
  return found && (!out || found > room) ? TOO_SMALL : OK;
}
int nvmlDeviceGetComputeRunningProcesses_v3(void *gpu, u32 *count, struct process *out) { GUARD(gpu); return processes(gpu, "processes", count, out); }
int nvmlDeviceGetGraphicsRunningProcesses_v3(void *gpu, u32 *count, struct process *out) { GUARD(gpu); return processes(gpu, "graphics", count, out); }

int nvmlEventSetCreate(void **out) { GUARD(NULL); *out = (void *)7777; return OK; }
int nvmlEventSetFree(void *set) { (void)set; return OK; }
int nvmlDeviceGetSupportedEventTypes(void *gpu, u64 *out) { GUARD(gpu); *out = 0x1f; return OK; }
int nvmlDeviceRegisterEvents(void *gpu, u64 types, void *set) { (void)set; GUARD(gpu); return types == 8 ? OK : NOT_SUPPORTED; }
struct event { void *device; u64 type, data; u32 gpu_instance, compute_instance; };
int nvmlEventSetWait_v2(void *set, struct event *out, u32 timeout_ms) {
  (void)set; (void)timeout_ms;
  GUARD(NULL);
  const char *at = text("xids");
  int place = 0, device, code, length;
  while (at && sscanf(at, " %d:%d%n", &device, &code, &length) == 2) {
    if (place++ == told_xids) { told_xids++; out->device = (void *)(long)(device + 1); out->type = 8; out->data = (u64)code; return OK; }
    at += length;
  }
  return TIMEOUT;
}

int nvmlDeviceGetMigMode(void *gpu, u32 *now, u32 *later) { GUARD(gpu); if (!of(gpu, "migs")) return NOT_SUPPORTED; *now = *later = 1; return OK; }
int nvmlDeviceGetMaxMigDeviceCount(void *gpu, u32 *out) { GUARD(gpu); *out = 7; return OK; }
int nvmlDeviceGetMigDeviceHandleByIndex(void *gpu, u32 index, void **out) {
  GUARD(gpu);
  if (index >= number(gpu, "migs", 0)) return NOT_FOUND;
  *out = (void *)(1001 + ((long)gpu - 1) * 16 + index);
  return OK;
}
int nvmlDeviceGetGpuInstanceId(void *gpu, u32 *out) { GUARD(gpu); *out = (u32)((long)gpu - 1001) % 16 + 1; return OK; }
int nvmlDeviceGetComputeInstanceId(void *gpu, u32 *out) { GUARD(gpu); *out = 0; return OK; }

struct gpm_support { u32 version, is_supported; };
int nvmlGpmQueryDeviceSupport(void *gpu, struct gpm_support *out) { GUARD(gpu); out->is_supported = of(gpu, "gpm") != NULL; return OK; }
int nvmlGpmSampleAlloc(void **out) { *out = malloc(8); return OK; }
int nvmlGpmSampleFree(void *sample) { free(sample); return OK; }
int nvmlGpmSampleGet(void *gpu, double *sample) { GUARD(gpu); *sample = (double)number(gpu, "gpm", 0); return OK; }
struct gpm_metric { u32 id; int code; double value; const char *names[3]; };
struct gpm_request { u32 version, count; double *before, *after; struct gpm_metric metrics[]; };
int nvmlGpmMetricsGet(struct gpm_request *request) {
  for (u32 i = 0; i < request->count; i++) {
    request->metrics[i].code = request->metrics[i].id == 11 ? NOT_SUPPORTED : OK;
    request->metrics[i].value = *request->after;
  }
  return OK;
}
