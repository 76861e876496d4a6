/*
 * A card driver's library that answers from a text file: the file named like the library with ".state" behind it, read
 * anew at each call, so that a test changes cards while the agent runs. One record a line, cards count from 0:
 *
 *   driver VERSION CUDA
 *   card UUID BUS TOTAL RESERVED USED UTIL CELSIUS MILLIWATTS MIG NUMA ACTION THROTTLE NAME...   (-1: not supported)
 *   mig CARD UUID TOTAL RESERVED USED NAME...
 *   proc UUID PID BYTES C|G|M
 *   remap CARD PENDING FAILED          ecc CARD COUNT           link CARD CARD LEVEL
 *   event CARD TYPE DATA               told once to each set of events, in the order of the file
 *   fail FUNCTION CARD|* CODE          FUNCTION may be * for every call about the card
 *   sleep FUNCTION CARD|* MS           the call blocks for so long, or until the record is gone
 *
 * Built with -DOLD it is a driver of years ago, without the functions that came later.
 */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

typedef int Ret;
typedef unsigned int u32;
typedef unsigned long long u64;
typedef struct Handle { int card, part; } *Device;

typedef struct { char legacy[16]; u32 domain, bus, device, id, subsystem; char full[32]; } Pci;
typedef struct { u32 version; u64 total, reserved, free, used; } MemoryV2;
typedef struct { u32 pid; u64 bytes; u32 gi, ci; } ProcessInfo;
typedef struct { u32 field, scope; long long at, latency; u32 type; Ret code; u64 value; } Field;
typedef struct { Device device; u64 type, data; u32 gi, ci; } Happened;

enum { OK = 0, UNINITIALIZED = 1, INVALID = 2, UNSUPPORTED = 3, NOT_FOUND = 6, TOO_SMALL = 7, TIMED_OUT = 10, VERSION = 25 };
enum { CARDS = 16, PARTS = 32, PROCS = 128, EVENTS = 64, RULES = 32, LINKS = 32 };

typedef struct { char uuid[96], bus[32], name[96]; u64 total, reserved, used; int util, celsius, milliwatts, mig, numa, action, throttle; u32 pending, failed; u64 ecc; } Card;
typedef struct { int card; char uuid[96], name[96]; u64 total, reserved, used; } Part;
typedef struct { char uuid[96]; u32 pid; u64 bytes; char kind; } Proc;
typedef struct { int card; u64 type, data; } Event;
typedef struct { char function[64]; int card, value, sleeps; } Rule;
typedef struct {
  char driver[80]; int cuda, cards, parts, procs, events, rules, links;
  Card card[CARDS]; Part part[PARTS]; Proc proc[PROCS]; Event event[EVENTS]; Rule rule[RULES]; int link[LINKS][3];
} State;

static struct Handle handles[CARDS];
#ifndef OLD
static struct Handle part_handles[PARTS];
#endif
static int initialized;

static void load(State *s) {
  char path[4096], line[512];
  Dl_info self;
  memset(s, 0, sizeof *s);
  strcpy(s->driver, "0");
  if (!dladdr((void *)load, &self)) return;
  snprintf(path, sizeof path, "%s.state", self.dli_fname);
  FILE *f = fopen(path, "r");
  if (!f) return;
  while (fgets(line, sizeof line, f)) {
    Card c = {0}; Part p = {0}; Proc q = {0}; Event e = {0}; Rule r = {0};
    int k, a, b; u64 m; char target[16], kind;
    if (sscanf(line, "driver %79s %d", s->driver, &s->cuda) == 2) continue;
    if (sscanf(line, "card %95s %31s %llu %llu %llu %d %d %d %d %d %d %d %95[^\n]", c.uuid, c.bus, &c.total, &c.reserved, &c.used, &c.util,
               &c.celsius, &c.milliwatts, &c.mig, &c.numa, &c.action, &c.throttle, c.name) == 13) { if (s->cards < CARDS) s->card[s->cards++] = c; }
    else if (sscanf(line, "mig %d %95s %llu %llu %llu %95[^\n]", &p.card, p.uuid, &p.total, &p.reserved, &p.used, p.name) == 6) { if (s->parts < PARTS) s->part[s->parts++] = p; }
    else if (sscanf(line, "proc %95s %u %llu %c", q.uuid, &q.pid, &q.bytes, &kind) == 4) { q.kind = kind; if (s->procs < PROCS) s->proc[s->procs++] = q; }
    else if (sscanf(line, "remap %d %d %d", &k, &a, &b) == 3) { if (k < CARDS) { s->card[k].pending = a; s->card[k].failed = b; } }
    else if (sscanf(line, "ecc %d %llu", &k, &m) == 2) { if (k < CARDS) s->card[k].ecc = m; }
    else if (sscanf(line, "link %d %d %d", &k, &a, &b) == 3) { if (s->links < LINKS) { int *l = s->link[s->links++]; l[0] = k; l[1] = a; l[2] = b; } }
    else if (sscanf(line, "event %d %llu %llu", &e.card, &e.type, &e.data) == 3) { if (s->events < EVENTS) s->event[s->events++] = e; }
    else if ((r.sleeps = 0, sscanf(line, "fail %63s %15s %d", r.function, target, &r.value) == 3) || (r.sleeps = 1, sscanf(line, "sleep %63s %15s %d", r.function, target, &r.value) == 3)) {
      r.card = *target == '*' ? -1 : atoi(target);
      if (s->rules < RULES) s->rule[s->rules++] = r;
    }
  }
  fclose(f);
}

static const Rule *rule(const State *s, int sleeps, const char *function, int card) {
  for (int i = 0; i < s->rules; i++) {
    const Rule *r = &s->rule[i];
    if (r->sleeps == sleeps && (r->card < 0 || r->card == card) && (!strcmp(r->function, function) || (!strcmp(r->function, "*") && card >= 0))) return r;
  }
  return NULL;
}

static Ret enter(State *s, const char *function, int card) {
  const struct timespec slice = {0, 10000000};
  const Rule *r;
  load(s);
  for (int slept = 0; (r = rule(s, 1, function, card)) && slept < r->value; slept += 10) { nanosleep(&slice, NULL); load(s); }
  if ((r = rule(s, 0, function, card))) return r->value;
  if (!initialized && strncmp(function, "nvmlInit", 8)) return UNINITIALIZED;
  return card >= s->cards ? INVALID : OK;
}

#define CALL(card) State s; do { Ret r_ = enter(&s, __func__, (card)); if (r_) return r_; } while (0)
#define ABOUT(d) if (!(d)) return INVALID; CALL((d)->card); Card *c = &s.card[(d)->card]; Part *p = (d)->part < 0 ? NULL : &s.part[(d)->part]; (void)c; (void)p
#define KNOWN(value) do { if ((value) < 0) return UNSUPPORTED; } while (0)

static Ret text(char *to, u32 size, const char *from) {
  if (strlen(from) >= size) return TOO_SMALL;
  strcpy(to, from);
  return OK;
}

Ret nvmlInit_v2(void) { CALL(-1); initialized++; return OK; }
Ret nvmlShutdown(void) { if (!initialized) return UNINITIALIZED; initialized--; return OK; }
Ret nvmlSystemGetDriverVersion(char *v, u32 n) { CALL(-1); return text(v, n, s.driver); }
Ret nvmlSystemGetCudaDriverVersion_v2(int *v) { CALL(-1); *v = s.cuda; return OK; }
Ret nvmlDeviceGetCount_v2(u32 *n) { CALL(-1); *n = s.cards; return OK; }
Ret nvmlDeviceGetHandleByIndex_v2(u32 i, Device *d) { CALL((int)i); handles[i].card = i; handles[i].part = -1; *d = &handles[i]; return OK; }
Ret nvmlDeviceGetUUID(Device d, char *v, u32 n) { ABOUT(d); return text(v, n, p ? p->uuid : c->uuid); }
Ret nvmlDeviceGetName(Device d, char *v, u32 n) { ABOUT(d); return text(v, n, p ? p->name : c->name); }
Ret nvmlDeviceGetTemperature(Device d, int kind, u32 *v) { ABOUT(d); (void)kind; KNOWN(c->celsius); *v = c->celsius; return OK; }
Ret nvmlDeviceGetPowerUsage(Device d, u32 *v) { ABOUT(d); KNOWN(c->milliwatts); *v = c->milliwatts; return OK; }
Ret nvmlDeviceGetMigMode(Device d, u32 *now, u32 *next) { ABOUT(d); KNOWN(c->mig); *now = *next = c->mig; return OK; }
Ret nvmlDeviceGetUtilizationRates(Device d, u32 *v) { ABOUT(d); KNOWN(c->util); v[0] = c->util; v[1] = c->util / 2; return OK; }
Ret nvmlDeviceGetTotalEccErrors(Device d, int type, int counter, u64 *v) { ABOUT(d); (void)counter; *v = type == 1 ? c->ecc : 0; return OK; }

Ret nvmlDeviceGetPciInfo_v3(Device d, Pci *v) {
  ABOUT(d);
  memset(v, 0, sizeof *v);
  sscanf(c->bus, "%x:%x:%x", &v->domain, &v->bus, &v->device);
  return text(v->full, sizeof v->full, c->bus);
}

/* Here "used" includes what the driver reserves. */
Ret nvmlDeviceGetMemoryInfo(Device d, u64 *v) {
  ABOUT(d);
  v[0] = p ? p->total : c->total;
  v[2] = p ? p->used + p->reserved : c->used + c->reserved;
  v[1] = v[0] - v[2];
  return OK;
}

static Ret processes(const State *s, const char *uuid, char kind, u32 *n, ProcessInfo *v) {
  u32 room = *n, found = 0;
  for (int i = 0; i < s->procs; i++) {
    if (s->proc[i].kind != kind || strcmp(s->proc[i].uuid, uuid)) continue;
    if (v && found < room) { v[found].pid = s->proc[i].pid; v[found].bytes = s->proc[i].bytes; v[found].gi = v[found].ci = ~0u; }
    found++;
  }
  *n = found;
  return found > room ? TOO_SMALL : OK;
}
#define PROCESSES(name, kind) Ret name(Device d, u32 *n, void *v) { ABOUT(d); return processes(&s, p ? p->uuid : c->uuid, kind, n, v); }

#ifdef OLD
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v2, 'C')
Ret nvmlDeviceGetCurrentClocksThrottleReasons(Device d, u64 *v) { ABOUT(d); KNOWN(c->throttle); *v = c->throttle; return OK; }
#else
PROCESSES(nvmlDeviceGetComputeRunningProcesses_v3, 'C')
PROCESSES(nvmlDeviceGetGraphicsRunningProcesses_v3, 'G')
PROCESSES(nvmlDeviceGetMPSComputeRunningProcesses_v3, 'M')
Ret nvmlDeviceGetCurrentClocksEventReasons(Device d, u64 *v) { ABOUT(d); KNOWN(c->throttle); *v = c->throttle; return OK; }
Ret nvmlDeviceGetNumaNodeId(Device d, u32 *v) { ABOUT(d); KNOWN(c->numa); *v = c->numa; return OK; }
Ret nvmlDeviceGetRemappedRows(Device d, u32 *corrected, u32 *rows, u32 *pending, u32 *failed) { ABOUT(d); *corrected = *rows = 0; *pending = c->pending; *failed = c->failed; return OK; }

Ret nvmlDeviceGetMemoryInfo_v2(Device d, MemoryV2 *v) {
  ABOUT(d);
  if (v->version != (40u | 2u << 24)) return VERSION;
  v->total = p ? p->total : c->total;
  v->reserved = p ? p->reserved : c->reserved;
  v->used = p ? p->used : c->used;
  v->free = v->total - v->reserved - v->used;
  return OK;
}

Ret nvmlDeviceGetFieldValues(Device d, int n, Field *v) {
  ABOUT(d);
  for (int i = 0; i < n; i++) {
    int known = v[i].field == 230 && c->action >= 0;
    v[i].type = 1;
    v[i].code = known ? OK : UNSUPPORTED;
    v[i].value = known ? (u64)c->action : 0;
  }
  return OK;
}

Ret nvmlDeviceGetMaxMigDeviceCount(Device d, u32 *v) { ABOUT(d); *v = c->mig < 0 ? 0 : 7; return OK; }

/* The places are counted with a gap in front, as the real driver may have them. */
Ret nvmlDeviceGetMigDeviceHandleByIndex(Device d, u32 place, Device *v) {
  ABOUT(d);
  u32 at = 0;
  for (int i = 0; i < s.parts; i++)
    if (s.part[i].card == d->card && ++at == place) { part_handles[i].card = d->card; part_handles[i].part = i; *v = &part_handles[i]; return OK; }
  return NOT_FOUND;
}

Ret nvmlDeviceGetTopologyCommonAncestor(Device d, Device other, int *v) {
  ABOUT(d);
  *v = 50;
  for (int i = 0; i < s.links; i++)
    if ((s.link[i][0] == d->card && s.link[i][1] == other->card) || (s.link[i][1] == d->card && s.link[i][0] == other->card)) *v = s.link[i][2];
  return OK;
}

/* Like the real set, one reads it with one thread. */
typedef struct { int told; u64 wanted[CARDS]; } Set;
Ret nvmlEventSetCreate(Set **v) { CALL(-1); *v = calloc(1, sizeof **v); return OK; }
Ret nvmlEventSetFree(Set *v) { free(v); return OK; }
Ret nvmlDeviceGetSupportedEventTypes(Device d, u64 *v) { ABOUT(d); *v = 8 | 2 | 1 | 0x8000; return OK; }
Ret nvmlDeviceRegisterEvents(Device d, u64 types, Set *v) { ABOUT(d); v->wanted[d->card] = types; return OK; }
Ret nvmlEventSetWait_v2(Set *v, Happened *e, u32 ms) {
  const struct timespec slice = {0, 5000000};
  for (u32 waited = 0;; waited += 5) {
    CALL(-1);
    while (v->told < s.events) {
      Event *x = &s.event[v->told++];
      if (!(v->wanted[x->card] & x->type)) continue;
      e->device = &handles[x->card]; e->type = x->type; e->data = x->data; e->gi = e->ci = ~0u;
      return OK;
    }
    if (waited >= ms) return TIMED_OUT;
    nanosleep(&slice, NULL);
  }
}
#endif
