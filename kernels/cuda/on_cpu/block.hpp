// The blocks of a cluster at a time: a fiber for each thread, a scheduler that picks who goes on, barriers, operations of a warp.
//
// A thread runs until it ends or waits: at __syncthreads for its block, at a shuffle, vote or __syncwarp for its warp, at an
// event. Who goes on then is the schedule's choice. A right kernel gives the same bits under every schedule.
#pragma once
#include "state.hpp"

struct TensorMap;
struct Mbarrier;

namespace on_cpu {
// ---- the barrier of the block

static void release_block(Block& b) {
  int votes = 0;
  for (unsigned i = 0; i < count; i++) votes += b.threads[i].predicate != 0;
  for (unsigned i = 0; i < count; i++) {
    b.threads[i].state = State::ready;
    b.threads[i].votes = votes;
  }
  b.arrived = 0;
}

static void fail_ended(const Thread& waiting, const Thread& ended) {
  char a[96];
  fail("the barrier in line %d is not reached by all: %s has ended before it, thread (%u,%u,%u) waits", waiting.line,
       place(ended, a, sizeof a), waiting.index.x, waiting.index.y, waiting.index.z);
}

static int barrier(int predicate, int line) {  // how many threads said yes
  Block& b = *self->block;
  self->line = line;
  self->predicate = predicate;
  if (b.live < count) {
    for (unsigned i = 0; i < count; i++)
      if (b.threads[i].state == State::ended) {
        fail_ended(*self, b.threads[i]);
        give_up();
      }
  }
  if (!b.arrived) b.first_arrived = self;
  if (b.first_arrived->line != line) {
    char a[96];
    fail("divergent barrier: %s waits in line %d, thread (%u,%u,%u) in line %d", place(*b.first_arrived, a, sizeof a),
         b.first_arrived->line, self->index.x, self->index.y, self->index.z, line);
    give_up();
  }
  self->state = State::at_barrier;
  if (++b.arrived == b.live) release_block(b);
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

// ---- the life of a thread, a block and a cluster

static char cluster_event;         // what cluster_sync waits for
static unsigned cluster_arrived, cluster_live;

struct Load {                      // a TMA load under way (tma.hpp)
  const TensorMap* map;
  char* to;
  Mbarrier* barrier;
  int at[3];
  unsigned blocks;                 // one bit for each block of the cluster that gets it
  Thread* by;
  int line;
};
static Load loads[1024];
static unsigned loading;

static struct {                    // set by hopper.hpp, where a kernel includes it
  void (*perform)(const Load& load);
  void (*start)();                 // a cluster
  void (*finish)();
} hopper;

static void end_block(Block& b) {  // other blocks may still want to read its shared memory, which is a mistake: so it is gone
  if (together > 1) memset(b.memory, 0xff, dynamic_bytes);
}

static void entry() {
  body(body_argument);
  Block& b = *self->block;
  self->state = State::ended;
  Warp& w = warps[self->warp];
  w.live &= ~(1u << self->lane);
  if (b.arrived) fail_ended(*b.first_arrived, *self);
  for (unsigned l = 0; l < LANES && !failed; l++)  // those who waited for this lane too
    if (w.waiting >> l & 1) settle(self->warp, threads[self->warp * LANES + l].mask);
  if (!--b.live) end_block(b);
  if (--cluster_live == cluster_arrived) {  // cluster_sync does not wait for threads that have ended
    cluster_arrived = 0;
    wake(&cluster_event);
  }
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
  for (unsigned i = 0; i < places; i++)
    if (threads[i].state == State::ready) return true;
  return false;
}

static void perform_one(unsigned which) {
  const Load load = loads[which];
  for (loading--; which < loading; which++) loads[which] = loads[which + 1];
  hopper.perform(load);
}

static void one_round(unsigned* order) {
  switch (schedule) {
    case forward:
      for (unsigned i = 0; i < places; i++) step(threads[i]);
      return;
    case reverse:
      for (unsigned i = places; i-- > 0;) step(threads[i]);
      return;
    case greedy:
    case greedy_reverse:  // a warp runs until all of it waits for others
      for (unsigned k = 0, n = places / LANES; k < n; k++) {
        const unsigned first = (schedule == greedy ? k : n - 1 - k) * LANES;
        for (bool more = true; more && !failed;) {
          more = false;
          for (unsigned l = 0; l < LANES; l++) {
            Thread& t = threads[first + (schedule == greedy ? l : LANES - 1 - l)];
            if (t.state == State::ready) step(t), more = true;
          }
        }
      }
      return;
    default:  // a shuffled order, and every other thread rests for a round
      for (unsigned i = places; i-- > 1;) {
        const unsigned j = random_below(i + 1), t = order[i];
        order[i] = order[j];
        order[j] = t;
      }
      for (unsigned i = 0; i < places; i++)
        if (random_below(2)) step(threads[order[i]]);
      if (loading && random_below(2)) perform_one(random_below(loading));
  }
}

static void fail_stuck() {
  char a[96], about[160];
  const Thread* waits[3] = {};
  for (unsigned i = 0; i < places; i++) {
    if (threads[i].state == State::at_barrier && !waits[0]) waits[0] = threads + i;
    if (threads[i].state == State::in_warp && !waits[1]) waits[1] = threads + i;
    if (threads[i].state == State::at_event && (!waits[2] || waits[2]->event == &cluster_event)) waits[2] = threads + i;
  }
  if (waits[2]) {
    waits[2]->describe(waits[2]->event, about, sizeof about);
    fail("deadlock: %s waits in line %d for %s", place(*waits[2], a, sizeof a), waits[2]->line, about);
  } else if (waits[0] && waits[1])
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
  for (unsigned k = 0; k < together; k++) memset(blocks[k].memory, 0xff, dynamic_bytes);
}

static void start_block(Block& b, char* memory) {
  b.live = count;
  b.arrived = 0;
  for (NamedBarrier& named : b.named) named = {0, 0};
  const unsigned first = unsigned(b.threads - threads), width = places / together;
  for (unsigned i = 0; i < width; i++) {
    Thread& t = b.threads[i];
    t.index = {i % block_size.x, i / block_size.x % block_size.y, i / (block_size.x * block_size.y)};
    t.lane = i % LANES;
    t.warp = (first + i) / LANES;
    t.block = &b;
    t.predicate = 0;
    t.copying = t.group = 0;
    if (t.lane == 0) warps[t.warp] = {0, 0};
    t.state = i < count ? State::ready : State::absent;
    if (i >= count) continue;
    t.context = fresh(memory + (first + i) * STACK_BYTES, entry);
    warps[t.warp].live |= 1u << t.lane;
  }
}

static void run_cluster(dim3 corner) {  // its first block
  static unsigned order[PLACES];
  char* memory = stacks(places);
  loading = 0;
  if (hopper.start) hopper.start();
  cluster_arrived = 0;
  cluster_live = together * count;
  poison_shared();
  for (unsigned k = 0; k < together; k++) {
    Block& b = blocks[k];
    b.rank = k;
    b.threads = threads + k * (places / together);
    const dim3 c = cluster_size;
    b.index = {corner.x + k % c.x, corner.y + k / c.x % c.y, corner.z + k / (c.x * c.y)};
    start_block(b, memory);
  }
  for (unsigned i = 0; i < places; i++) order[i] = i;
  while (cluster_live && !failed) {
    if (any_ready()) one_round(order);
    else if (loading) perform_one(schedule == greedy ? loading - 1 : 0);  // copies end in any order
    else fail_stuck();
  }
  if (!failed && loading)
    fail("its block ends while the TMA load in line %d is still under way: nobody waited for it", loads[0].line);
  if (!failed && hopper.finish) hopper.finish();
}

static unsigned greatest_common_divisor(unsigned a, unsigned b) { return b ? greatest_common_divisor(b, a % b) : a; }

// Clusters run one after the other, in the schedule's order too: first to last, last to first, or in strides from anywhere.
static void run_grid(dim3 grid, dim3 block, dim3 cluster) {
  grid_size = grid;
  block_size = block;
  cluster_size = cluster;
  count = block.x * block.y * block.z;
  together = cluster.x * cluster.y * cluster.z;
  places = together * ((count + LANES - 1) / LANES * LANES);
  failed = false;
  if (together > 1 && __stop_cuda_shared > __start_cuda_shared)
    return fail("a kernel with clusters keeps all of its shared memory in an extern array here: of static variables there is one");
  random_state = 0x9e3779b97f4a7c15ull * (schedule + 1);
  const dim3 across = {grid.x / cluster.x, grid.y / cluster.y, grid.z / cluster.z};
  const unsigned clusters = across.x * across.y * across.z;
  unsigned start = 0, stride = 1;
  if (schedule == reverse || schedule == greedy_reverse) start = clusters - 1, stride = clusters - 1;
  if (schedule >= seeded) {
    start = random_below(clusters);
    do stride = 1 + random_below(clusters);
    while (greatest_common_divisor(stride, clusters) != 1);
  }
  for (uint64_t i = 0; i < clusters && !failed; i++) {
    const unsigned k = unsigned((start + i * stride) % clusters);
    run_cluster({k % across.x * cluster.x, k / across.x % across.y * cluster.y, k / (across.x * across.y) * cluster.z});
  }
}
}  // namespace on_cpu
