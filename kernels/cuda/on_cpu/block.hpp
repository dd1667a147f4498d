// One block at a time: a fiber for each thread, a scheduler that picks who goes on, barriers, and operations of a warp.
//
// A thread runs until it ends or waits: at __syncthreads for its block, at a shuffle, vote or __syncwarp for its warp. Who
// goes on then is the schedule's choice. A right kernel gives the same bits under every schedule.
#pragma once
#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdio>

#include "fibers.hpp"
#include "types.hpp"

namespace on_cpu {
constexpr unsigned MOST_THREADS = 1024, LANES = 32;

enum class State : unsigned char { ready, at_barrier, in_warp, ended };
enum Schedule : unsigned { forward, reverse, greedy, greedy_reverse, seeded };  // seeded + k: random, from seed k

struct Copy {  // a cp.async under way
  void* to;
  const void* from;
  unsigned bytes, room, group;  // `room - bytes` are zeros
};

struct Thread {
  Context context;
  State state;
  uint3 index;
  unsigned lane, warp;
  int line;                               // where it waits
  int predicate, votes;                   // of __syncthreads_count and its kin
  unsigned mask;                          // the lanes that it waits for
  void* payload;                          // what it brings to the warp's operation
  void (*complete)(void** payloads, unsigned present);
  Copy copies[64];
  unsigned copying, group;
};

struct Warp {
  unsigned live, waiting;                 // one bit a lane
};

static Thread threads[MOST_THREADS];
static Warp warps[MOST_THREADS / LANES];
static Thread* self;                      // who runs
static Context scheduler;
static dim3 block_index, block_size, grid_size;
static unsigned count, live, arrived;     // threads of the block: all, not ended, at the barrier
static Thread* first_arrived;
static unsigned schedule;
static void (*body)(void*);
static void* body_argument;
static char* dynamic_memory;
static size_t dynamic_bytes;
static bool failed;
static char message[512];

// ---- how a kernel fails: one sentence, and nothing of the block runs any more

static const char* place(const Thread& t, char* text, size_t room) {
  snprintf(text, room, "thread (%u,%u,%u) of block (%u,%u,%u)", t.index.x, t.index.y, t.index.z, block_index.x, block_index.y,
           block_index.z);
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

// ---- the barrier of the block

static void release_block() {
  int votes = 0;
  for (unsigned i = 0; i < count; i++) votes += threads[i].predicate != 0;
  for (unsigned i = 0; i < count; i++) {
    threads[i].state = State::ready;
    threads[i].votes = votes;
  }
  arrived = 0;
}

static void fail_ended(const Thread& waiting, const Thread& ended) {
  char a[96];
  fail("the barrier in line %d is not reached by all: %s has ended before it, thread (%u,%u,%u) waits", waiting.line,
       place(ended, a, sizeof a), waiting.index.x, waiting.index.y, waiting.index.z);
}

static int barrier(int predicate, int line) {  // how many threads said yes
  self->line = line;
  self->predicate = predicate;
  if (live < count) {
    for (unsigned i = 0; i < count; i++)
      if (threads[i].state == State::ended) {
        fail_ended(*self, threads[i]);
        give_up();
      }
  }
  if (!arrived) first_arrived = self;
  if (first_arrived->line != line) {
    char a[96];
    fail("divergent barrier: %s waits in line %d, thread (%u,%u,%u) in line %d", place(*first_arrived, a, sizeof a),
         first_arrived->line, self->index.x, self->index.y, self->index.z, line);
    give_up();
  }
  self->state = State::at_barrier;
  if (++arrived == live) release_block();
  else wait();
  return self->votes;
}

// ---- operations of a warp: every lane brings a payload and waits; the last one to come computes for all

static void settle(unsigned warp, unsigned mask) {
  Warp& w = warps[warp];
  const unsigned present = mask & w.live;
  if (!present || (w.waiting & present) != present) return;
  Thread* lanes = threads + warp * LANES;
  void* payloads[LANES] = {};
  Thread* first = nullptr;
  for (unsigned l = 0; l < LANES; l++) {
    if (!(present >> l & 1)) continue;
    if (!first) first = lanes + l;
    if (lanes[l].complete != first->complete || lanes[l].line != first->line || lanes[l].mask != first->mask) {
      char a[96];
      fail("divergent warp: %s waits in line %d with mask %#x, thread (%u,%u,%u) of the same warp in line %d with mask %#x",
           place(*first, a, sizeof a), first->line, first->mask, lanes[l].index.x, lanes[l].index.y, lanes[l].index.z,
           lanes[l].line, lanes[l].mask);
      return;
    }
    payloads[l] = lanes[l].payload;
  }
  first->complete(payloads, present);
  w.waiting &= ~present;
  for (unsigned l = 0; l < LANES; l++)
    if (present >> l & 1) lanes[l].state = State::ready;
}

template <class Payload>
static void collective(unsigned mask, Payload& mine, void (*complete)(void**, unsigned), int line) {
  if (!(mask >> self->lane & 1)) {
    char a[96];
    fail("%s calls a warp operation in line %d with mask %#x, which leaves out its own lane %u", place(*self, a, sizeof a), line,
         mask, self->lane);
    give_up();
  }
  self->mask = mask;
  self->line = line;
  self->payload = &mine;
  self->complete = complete;
  self->state = State::in_warp;
  warps[self->warp].waiting |= 1u << self->lane;
  settle(self->warp, mask);
  if (self->state != State::ready || failed) wait();
}

// ---- the life of a thread and of a block

static void entry() {
  body(body_argument);
  self->state = State::ended;
  live--;
  Warp& w = warps[self->warp];
  w.live &= ~(1u << self->lane);
  if (arrived) fail_ended(*first_arrived, *self);
  for (unsigned l = 0; l < LANES && !failed; l++)  // those who waited for this lane too
    if (w.waiting >> l & 1) settle(self->warp, threads[self->warp * LANES + l].mask);
  give_up();
}

static uint64_t random_state;
static unsigned random_below(unsigned n) {  // xorshift64*
  random_state ^= random_state >> 12;
  random_state ^= random_state << 25;
  random_state ^= random_state >> 27;
  return unsigned((random_state * 2685821657736338717ull >> 33) % n);
}

static void step(Thread& t) {
  if (failed || t.state != State::ready) return;
  self = &t;
  switch_to(scheduler, t.context);
}

static bool any_ready() {
  for (unsigned i = 0; i < count; i++)
    if (threads[i].state == State::ready) return true;
  return false;
}

static void one_round(unsigned* order) {
  switch (schedule) {
    case forward:
      for (unsigned i = 0; i < count; i++) step(threads[i]);
      return;
    case reverse:
      for (unsigned i = count; i-- > 0;) step(threads[i]);
      return;
    case greedy:
    case greedy_reverse:  // a warp runs until all of it waits for the block
      for (unsigned k = 0, n = (count + LANES - 1) / LANES; k < n; k++) {
        const unsigned warp = schedule == greedy ? k : n - 1 - k;
        const unsigned first = warp * LANES, width = count - first < LANES ? count - first : LANES;
        for (bool more = true; more && !failed;) {
          more = false;
          for (unsigned l = 0; l < width; l++) {
            Thread& t = threads[first + (schedule == greedy ? l : width - 1 - l)];
            if (t.state == State::ready) step(t), more = true;
          }
        }
      }
      return;
    default:  // a shuffled order, and every other thread rests for a round
      for (unsigned i = count; i-- > 1;) {
        const unsigned j = random_below(i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
      }
      for (unsigned i = 0; i < count; i++)
        if (random_below(2)) step(threads[order[i]]);
  }
}

static void fail_stuck() {
  char a[96];
  const Thread* waits[2] = {};
  for (unsigned i = 0; i < count; i++) {
    if (threads[i].state == State::at_barrier && !waits[0]) waits[0] = threads + i;
    if (threads[i].state == State::in_warp && !waits[1]) waits[1] = threads + i;
  }
  if (waits[0] && waits[1])
    fail("deadlock: %s waits for its warp in line %d with mask %#x, thread (%u,%u,%u) for its block in line %d",
         place(*waits[1], a, sizeof a), waits[1]->line, waits[1]->mask, waits[0]->index.x, waits[0]->index.y, waits[0]->index.z,
         waits[0]->line);
  else if (waits[1])
    fail("deadlock: %s waits for its warp in line %d with mask %#x, and other lanes never come", place(*waits[1], a, sizeof a),
         waits[1]->line, waits[1]->mask);
}

extern "C" {
extern char __start_cuda_shared[] __attribute__((weak, visibility("hidden")));
extern char __stop_cuda_shared[] __attribute__((weak, visibility("hidden")));
}

// All bits one is NaN for every float, and -1 for integers: what is read before it was written shows.
__attribute__((no_sanitize_address)) static void poison_shared() {
  for (volatile char* p = __start_cuda_shared; p < __stop_cuda_shared; p++) *p = char(0xff);
  for (size_t i = 0; i < dynamic_bytes; i++) dynamic_memory[i] = char(0xff);
}

static void run_block() {
  static unsigned order[MOST_THREADS];
  poison_shared();
  live = count;
  arrived = 0;
  char* memory = stacks(count);
  for (unsigned i = 0; i < (count + LANES - 1) / LANES; i++) warps[i] = {0, 0};
  for (unsigned i = 0; i < count; i++) {
    Thread& t = threads[i];
    t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
    t.lane = i % LANES;
    t.warp = i / LANES;
    t.state = State::ready;
    t.copying = t.group = 0;
    t.context = fresh(memory + i * STACK_BYTES, entry);
    warps[t.warp].live |= 1u << t.lane;
    order[i] = i;
  }
  while (live && !failed) {
    if (!any_ready()) fail_stuck();
    else one_round(order);
  }
}

static unsigned greatest_common_divisor(unsigned a, unsigned b) { return b ? greatest_common_divisor(b, a % b) : a; }

// Blocks run one after the other, in the schedule's order too: first to last, last to first, or in strides from anywhere.
static void run_grid(dim3 grid, dim3 block) {
  grid_size = grid;
  block_size = block;
  count = block.x * block.y * block.z;
  failed = false;
  random_state = 0x9e3779b97f4a7c15ull * (schedule + 1);
  const unsigned blocks = grid.x * grid.y * grid.z;
  unsigned start = 0, stride = 1;
  if (schedule == reverse || schedule == greedy_reverse) start = blocks - 1, stride = blocks - 1;
  if (schedule >= seeded) {
    start = random_below(blocks);
    do stride = 1 + random_below(blocks);
    while (greatest_common_divisor(stride, blocks) != 1);
  }
  for (uint64_t i = 0; i < blocks && !failed; i++) {
    const unsigned b = unsigned((start + i * stride) % blocks);
    block_index = {b % grid.x, b / grid.x % grid.y, b / (grid.x * grid.y)};
    run_block();
  }
}
}  // namespace on_cpu
