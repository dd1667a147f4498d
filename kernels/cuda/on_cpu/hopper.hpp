// What sm_90a adds, behind the names that hopper.cuh gives to its instructions: barriers and clusters here, copies of tiles in
// tma.hpp, products of a warpgroup in wgmma.hpp.
//
// Fences between threads and the units that copy and multiply beside them do nothing here: that one is missing is not seen.
#pragma once
#include "tma.hpp"
#include "wgmma.hpp"

namespace on_cpu {
static void check_at_the_end() {  // of a cluster
  check_multiplies();
  for (unsigned k = 0; k < together; k++)
    for (const NamedBarrier& named : blocks[k].named)
      if (named.arrived && !failed)
        fail("the block ends, and nobody has waited for %u threads that arrived at named barrier %u of %u", named.arrived,
             unsigned(&named - blocks[k].named), named.wanted);
}
static const bool known = (hopper = {perform, reset_multiplies, check_at_the_end}, true);
}

static inline unsigned char* aligned_1024(unsigned char* memory, int line = __builtin_LINE()) {
  return memory + (-on_cpu::shared_address(memory, "what is aligned", line) & 1023);
}
static inline void mbarrier_init_fence() {}
static inline void fence_async_proxy() {}

template <int registers>
static inline void registers_give() { static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256, "setmaxnreg"); }
template <int registers>
static inline void registers_take() { static_assert(registers % 8 == 0 && registers >= 24 && registers <= 256, "setmaxnreg"); }

// ---- named barriers: `threads` of the block's threads wait for each other; 0 is that of __syncthreads

namespace on_cpu {
static void describe_named(const void* event, char* text, size_t room) {
  const NamedBarrier& named = *static_cast<const NamedBarrier*>(event);
  snprintf(text, room, "a named barrier that %u of %u threads have reached", named.arrived, named.wanted);
}

static void named_barrier(unsigned id, unsigned threads, bool waits, int line) {
  if (id == 0 || id >= NAMED_BARRIERS || threads % LANES || threads == 0 || threads > count) {
    fail("bar.sync in line %d: barrier %u of %u threads; there are 1 to 15, for whole warps of a block of %u", line, id, threads,
         count);
    give_up();
  }
  NamedBarrier& named = self->block->named[id];
  if (named.arrived && named.wanted != threads) {
    fail("bar.sync in line %d: barrier %u is for %u threads here, and for %u where others wait", line, id, threads, named.wanted);
    give_up();
  }
  named.wanted = threads;
  if (++named.arrived < threads) {
    if (waits) wait_for(&named, describe_named, line);
    return;
  }
  named.arrived = 0;
  wake(&named);
}
}  // namespace on_cpu

static inline void named_barrier_sync(unsigned id, unsigned threads, int line = __builtin_LINE()) {
  on_cpu::named_barrier(id, threads, true, line);
}
static inline void named_barrier_arrive(unsigned id, unsigned threads, int line = __builtin_LINE()) {
  on_cpu::named_barrier(id, threads, false, line);
}

// ---- clusters: blocks that run at the same time and read each other's shared memory

namespace on_cpu {
static void describe_cluster(const void*, char* text, size_t room) {
  snprintf(text, room, "its cluster, of which %u of %u threads have come", cluster_arrived, cluster_live);
}
}  // namespace on_cpu

static inline void cluster_sync(int line = __builtin_LINE()) {
  using namespace on_cpu;
  if (++cluster_arrived < cluster_live) return wait_for(&cluster_event, describe_cluster, line);
  cluster_arrived = 0;
  wake(&cluster_event);
}
static inline unsigned cluster_rank() { return on_cpu::self->block->rank; }

template <class T>
static inline T* cluster_map(T* mine, unsigned rank, int line = __builtin_LINE()) {  // the same place in block `rank`
  return reinterpret_cast<T*>(on_cpu::in_block(mine, rank, line));
}
