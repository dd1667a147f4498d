// mbarriers, and tiles that TMA copies from global to shared memory; the thread that asks for a tile does not wait for it.
//
// An mbarrier has phases. A phase ends when all arrivals that it counts have come and all bytes that it was told to expect are
// there; the next one counts from the start. wait(parity) goes on when the current phase has the other parity.
//
// Half of the schedules copy a tile at once (which shows a write into what others still read), half when nobody else can go on
// or at a random moment (which shows a read that did not wait); in both halves some begin with the last block of a cluster.
#pragma once
#include "device.hpp"

struct Mbarrier {
  unsigned long long pending : 20, count : 20;
  long long bytes : 22;  // that are expected and not there
  unsigned long long phase : 1, never_written : 1;
};
static_assert(sizeof(Mbarrier) == 8, "as on a GPU");

struct alignas(64) TensorMap {  // tensor_map.py writes it. On a GPU the driver does, in a way that only the hardware reads
  const char* address;
  unsigned long long strides[2];  // bytes from a row to the next, from a matrix to the next
  unsigned rank, element_bytes, swizzled;
  unsigned sizes[3], box[3];      // elements: along a row, rows, matrices
  char unused[68];
};
static_assert(sizeof(TensorMap) == 128, "as on a GPU");

namespace on_cpu {
static bool late() { return schedule == reverse || schedule == greedy || schedule == seeded + 1; }

// ---- shared addresses

static unsigned shared_address(const void* p, const char* what, int line) {
  const char* at = static_cast<const char*>(p);
  const Block& b = *self->block;
  if (at < b.memory || at >= b.memory + dynamic_bytes) {
    fail("%s in line %d is not in the block's dynamic shared memory, which is where the emulator wants it", what, line);
    give_up();
  }
  return unsigned(at - b.window);
}

static char* in_block(const void* mine, unsigned rank, int line) {
  if (rank >= together) {
    fail("block %u of the cluster is asked for in line %d, but there are %u", rank, line, together);
    give_up();
  }
  return blocks[rank].window + shared_address(mine, "what is mapped to another block", line);
}

// The 128-byte swizzle: in each 1024 bytes, the 16-byte piece c of the 128-byte row r lies at place c ^ r. By addresses: bits
// 7 to 9 are added, without carry, to bits 4 to 6.
static unsigned swizzle(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

// ---- mbarriers

static void describe_mbarrier(const void* event, char* text, size_t room) {
  const Mbarrier& b = *static_cast<const Mbarrier*>(event);
  snprintf(text, room, "phase %u of an mbarrier, which lacks %u of %u arrivals and %lld bytes", unsigned(b.phase),
           unsigned(b.pending), unsigned(b.count), (long long)b.bytes);
}

static void need_mbarrier(const Mbarrier& b, const char* what, int line) {
  if (!b.never_written && b.count) return;
  char a[96];
  fail("%s %s in line %d an mbarrier that nobody has initialised yet", place(*self, a, sizeof a), what, line);
  give_up();
}

static void end_phase_if_complete(Mbarrier& b) {
  if (b.pending || b.bytes) return;
  b.phase = !b.phase;
  b.pending = b.count;
  wake(&b);
}

static void arrive(Mbarrier& b, unsigned bytes, int line) {
  need_mbarrier(b, "arrives at", line);
  if (!b.pending) {
    fail("more than %u arrivals in one phase at the mbarrier in line %d, which counts as many", unsigned(b.count), line);
    give_up();
  }
  b.bytes += bytes;
  b.pending--;
  end_phase_if_complete(b);
}
}  // namespace on_cpu

static inline void mbarrier_init(Mbarrier* b, unsigned count) { *b = {count, count, 0, 0, 0}; }
static inline void mbarrier_arrive(Mbarrier* b, int line = __builtin_LINE()) { on_cpu::arrive(*b, 0, line); }
static inline void mbarrier_arrive_expecting(Mbarrier* b, unsigned bytes, int line = __builtin_LINE()) {
  on_cpu::arrive(*b, bytes, line);
}
static inline void mbarrier_arrive_at(Mbarrier* b, unsigned rank, int line = __builtin_LINE()) {
  using namespace on_cpu;
  Mbarrier* theirs = reinterpret_cast<Mbarrier*>(in_block(b, rank, line));
  if (!blocks[rank].live) {
    fail("an arrival in line %d at an mbarrier of block %u of the cluster, which has ended", line, rank);
    give_up();
  }
  arrive(*theirs, 0, line);
}
static inline void mbarrier_wait(Mbarrier* b, unsigned parity, int line = __builtin_LINE()) {
  on_cpu::need_mbarrier(*b, "waits at", line);
  while (b->phase == (parity & 1)) on_cpu::wait_for(b, on_cpu::describe_mbarrier, line);
}
static inline void mbarrier_wait_cluster(Mbarrier* b, unsigned parity, int line = __builtin_LINE()) {
  mbarrier_wait(b, parity, line);
}

// ---- loads

namespace on_cpu {
static void perform(const Load& load) {
  const TensorMap& map = *load.map;
  const unsigned across = map.box[0] * map.element_bytes, down = map.box[1] * map.box[2];
  for (unsigned k = 0; k < together; k++) {
    if (!(load.blocks >> k & 1)) continue;
    if (!blocks[k].live) return fail("the TMA load in line %d writes into block %u of the cluster, which has ended", load.line, k);
    const unsigned to = unsigned(load.to - load.by->block->window);
    char* window = blocks[k].window;
    for (unsigned y = 0; y < down; y++)
      for (unsigned x = 0; x < across; x += 16) {  // a row of a box is a multiple of 16 bytes
        const unsigned at = to + y * across + x;
        char* piece = window + (map.swizzled ? swizzle(at) : at);
        const long long row = (long long)load.at[1] + y % map.box[1], matrix = (long long)load.at[2] + y / map.box[1];
        for (unsigned i = 0; i < 16; i += map.element_bytes) {
          const long long column = (long long)load.at[0] + (x + i) / map.element_bytes;
          const bool inside = matrix >= 0 && matrix < map.sizes[2] && row >= 0 && row < map.sizes[1] && column >= 0 &&
                              column < map.sizes[0];
          const char* from = map.address + matrix * map.strides[1] + row * map.strides[0] + column * map.element_bytes;
          if (inside) memcpy(piece + i, from, map.element_bytes);
          else memset(piece + i, 0, map.element_bytes);
        }
      }
    Mbarrier* barrier = load.barrier;
    if (together > 1) barrier = reinterpret_cast<Mbarrier*>(window + (reinterpret_cast<char*>(barrier) - load.by->block->window));
    if (barrier->never_written || !barrier->count)
      return fail("the TMA load in line %d ends at an mbarrier that nobody has initialised", load.line);
    barrier->bytes -= across * down;
    end_phase_if_complete(*barrier);
  }
}

static void load(void* to, const TensorMap& map, unsigned rank, int x, int y, int z, Mbarrier* b, unsigned into, int line) {
  const unsigned address = shared_address(to, "where a TMA load writes", line);
  const unsigned bytes = map.box[0] * map.box[1] * map.box[2] * map.element_bytes;
  if (together > 1) shared_address(b, "the mbarrier of a TMA load", line);
  need_mbarrier(*b, "loads with", line);
  if (map.rank != rank) fail("the TMA load in line %d is for %u dimensions, and its map has %u", line, rank, map.rank);
  else if (address % (map.swizzled ? 1024 : 128))
    fail("the TMA load in line %d writes to a shared address that is no multiple of %u", line, map.swizzled ? 1024 : 128);
  else if (static_cast<char*>(to) + bytes > self->block->memory + dynamic_bytes)
    fail("the TMA load in line %d writes %u bytes, beyond the end of the shared memory", line, bytes);
  else if (!into || into >> together)
    fail("the TMA load in line %d is for the blocks %#x of a cluster of %u", line, into, together);
  if (failed) give_up();
  const Load asked{&map, static_cast<char*>(to), b, {x, y, z}, into, self, line};
  if (late() && loading == sizeof loads / sizeof loads[0])
    fail("the TMA load in line %d: more than 1024 are under way, which is more than the emulator keeps", line);
  else if (late()) loads[loading++] = asked;
  else perform(asked);
  if (failed) give_up();
}
}  // namespace on_cpu

static inline void tma_load_1d(void* to, const TensorMap& map, int x, Mbarrier* b, int line = __builtin_LINE()) {
  on_cpu::load(to, map, 1, x, 0, 0, b, 1u << on_cpu::self->block->rank, line);
}
static inline void tma_load_2d(void* to, const TensorMap& map, int x, int y, Mbarrier* b, int line = __builtin_LINE()) {
  on_cpu::load(to, map, 2, x, y, 0, b, 1u << on_cpu::self->block->rank, line);
}
static inline void tma_load_3d(void* to, const TensorMap& map, int x, int y, int z, Mbarrier* b, int line = __builtin_LINE()) {
  on_cpu::load(to, map, 3, x, y, z, b, 1u << on_cpu::self->block->rank, line);
}
static inline void tma_load_2d_to(unsigned short blocks, void* to, const TensorMap& map, int x, int y, Mbarrier* b,
                                  int line = __builtin_LINE()) {
  on_cpu::load(to, map, 2, x, y, 0, b, blocks, line);
}
