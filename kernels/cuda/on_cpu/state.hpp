// What there is of a grid at a time: the blocks of one cluster (mostly one block), their threads, and who runs.
//
// A block of n threads has ceil(n / 32) warps of 32 places; places of its last warp that have no thread are `absent`.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>

#include "fibers.hpp"
#include "types.hpp"

namespace on_cpu {
constexpr unsigned MOST_THREADS = 1024, LANES = 32, MOST_BLOCKS = 8;  // of a block, of a warp, of a cluster
constexpr unsigned PLACES = MOST_BLOCKS * MOST_THREADS, NAMED_BARRIERS = 16;

enum class State : unsigned char { ready, at_barrier, in_warp, at_event, ended, absent };
enum Schedule : unsigned { forward, reverse, greedy, greedy_reverse, seeded };  // seeded + k: random, from seed k

struct Copy {  // a cp.async under way
  void* to;
  const void* from;
  unsigned bytes, room, group;  // `room - bytes` are zeros
};

struct Block;

struct Thread {
  Context context;
  State state;
  uint3 index;
  unsigned lane, warp;                    // warps are counted through the cluster
  Block* block;
  int line;                               // where it waits
  int predicate, votes;                   // of __syncthreads_count and its kin
  unsigned mask;                          // the lanes that it waits for
  void* payload;                          // what it brings to the warp's operation
  void (*complete)(void** payloads, unsigned present);
  const void* event;                      // what it waits for, and a sentence about that
  void (*describe)(const void* event, char* text, size_t room);
  Copy copies[64];
  unsigned copying, group;
};

struct Warp {
  unsigned live, waiting;                 // one bit a lane
};

struct NamedBarrier {
  unsigned arrived, wanted;               // threads
};

struct Block {
  dim3 index;
  unsigned rank;                          // in its cluster
  unsigned live, arrived;                 // threads of it: not ended, at the barrier
  Thread* first_arrived;
  Thread* threads;
  char *window, *memory;                  // where shared addresses are 0; where its dynamic shared memory begins
  NamedBarrier named[NAMED_BARRIERS];
};

static Thread threads[PLACES];
static Warp warps[PLACES / LANES];
static Block blocks[MOST_BLOCKS];
static Thread* self;                      // who runs
static Context scheduler;
static dim3 block_size, grid_size, cluster_size;
static unsigned count, places, together;  // threads of a block; places of all blocks of the cluster; blocks of the cluster
static unsigned schedule;
static void (*body)(void*);
static void* body_argument;
static size_t dynamic_bytes;
static bool failed;
static char message[512];

// ---- how a kernel fails: one sentence, and nothing of the cluster runs any more

static const char* place(const Thread& t, char* text, size_t room) {
  const dim3 b = t.block->index;
  snprintf(text, room, "thread (%u,%u,%u) of block (%u,%u,%u)", t.index.x, t.index.y, t.index.z, b.x, b.y, b.z);
  return text;
}

__attribute__((format(printf, 1, 2))) static void fail(const char* format, ...) {
  va_list values;
  va_start(values, format);
  vsnprintf(message, sizeof message, format, values);
  va_end(values);
  failed = true;
}

static void wait() { switch_to(self->context, scheduler); }

[[noreturn]] static void give_up() {
  while (true) wait();  // the scheduler sees `failed` and never comes back
}

// ---- an event is anything with an address that threads wait for: an mbarrier, a named barrier, the cluster

static void wait_for(const void* event, void (*describe)(const void*, char*, size_t), int line) {
  self->event = event;
  self->describe = describe;
  self->line = line;
  self->state = State::at_event;
  wait();
}

static void wake(const void* event) {
  for (unsigned i = 0; i < places; i++)
    if (threads[i].state == State::at_event && threads[i].event == event) threads[i].state = State::ready;
}
}  // namespace on_cpu
