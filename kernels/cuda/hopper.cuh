// Single instructions of sm_90a (Hopper) as device functions. Without a GPU, on_cpu/hopper.hpp has the same, and says what
// they mean: mbarriers and TMA in on_cpu/tma.hpp, products of a warpgroup in on_cpu/wgmma.hpp.
#pragma once
#ifdef __CUDACC__
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
#error "this kernel is for sm_90a alone: compile it with -arch=sm_90a"
#endif

struct Mbarrier {
  unsigned long long state;  // in shared memory; only the functions below look at it
};
struct alignas(64) TensorMap {
  unsigned long long words[16];  // made by cuTensorMapEncodeTiled; a parameter `const __grid_constant__ TensorMap`
};

__device__ inline unsigned shared_address(const void* p) { return static_cast<unsigned>(__cvta_generic_to_shared(p)); }

// The first place from `memory` on where a swizzled tile may begin: shared memory says nothing of such alignment by itself.
__device__ inline unsigned char* aligned_1024(unsigned char* memory) { return memory + (-shared_address(memory) & 1023); }

// ---- mbarriers

__device__ inline void mbarrier_init(Mbarrier* b, unsigned count) {
  asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(shared_address(b)), "r"(count) : "memory");
}
// After mbarrier_init, before the barrier that lets others use it: TMA and the other blocks of the cluster see it then too.
__device__ inline void mbarrier_init_fence() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }
__device__ inline void mbarrier_arrive(Mbarrier* b) {
  asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(shared_address(b)) : "memory");
}
__device__ inline void mbarrier_arrive_expecting(Mbarrier* b, unsigned bytes) {  // the phase lasts until these are there too
  asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(shared_address(b)), "r"(bytes) : "memory");
}
__device__ inline void mbarrier_arrive_at(Mbarrier* b, unsigned rank) {  // the same place in block `rank` of the cluster
  asm volatile("{ .reg .b32 there; mapa.shared::cluster.u32 there, %0, %1;"
               " mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there]; }" ::"r"(shared_address(b)), "r"(rank)
               : "memory");
}
__device__ inline void mbarrier_wait(Mbarrier* b, unsigned parity) {  // until the phase of that parity has ended
  unsigned ended;
  do asm volatile("{ .reg .pred ended; mbarrier.try_wait.parity.shared::cta.b64 ended, [%1], %2; selp.u32 %0, 1, 0, ended; }"
                  : "=r"(ended)
                  : "r"(shared_address(b)), "r"(parity)
                  : "memory");
  while (!ended);
}
// The same where other blocks of the cluster arrive: what they did before is then known here.
__device__ inline void mbarrier_wait_cluster(Mbarrier* b, unsigned parity) {
  unsigned ended;
  do asm volatile("{ .reg .pred ended; mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 ended, [%1], %2;"
                  " selp.u32 %0, 1, 0, ended; }"
                  : "=r"(ended)
                  : "r"(shared_address(b)), "r"(parity)
                  : "memory");
  while (!ended);
}

// ---- TMA: one thread asks for a box of a matrix; its bytes arrive at the mbarrier. x counts along a row, y counts rows.

// What threads wrote to shared memory before, TMA and wgmma see after it.
__device__ inline void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

__device__ inline void tma_load_1d(void* to, const TensorMap& map, int x, Mbarrier* b) {
  asm volatile("cp.async.bulk.tensor.1d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2}], [%3];" ::"r"(
                   shared_address(to)),
               "l"(&map), "r"(x), "r"(shared_address(b))
               : "memory");
}
__device__ inline void tma_load_2d(void* to, const TensorMap& map, int x, int y, Mbarrier* b) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3}], [%4];" ::"r"(
                   shared_address(to)),
               "l"(&map), "r"(x), "r"(y), "r"(shared_address(b))
               : "memory");
}
__device__ inline void tma_load_3d(void* to, const TensorMap& map, int x, int y, int z, Mbarrier* b) {  // z counts matrices
  asm volatile(
      "cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%2, %3, %4}], [%5];" ::"r"(
          shared_address(to)),
      "l"(&map), "r"(x), "r"(y), "r"(z), "r"(shared_address(b))
      : "memory");
}
// To the same place in all blocks of the cluster whose bits are set, each with its own mbarrier.
__device__ inline void tma_load_2d_to(unsigned short blocks, void* to, const TensorMap& map, int x, int y, Mbarrier* b) {
  asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes.multicast::cluster"
               " [%0], [%1, {%2, %3}], [%4], %5;" ::"r"(shared_address(to)),
               "l"(&map), "r"(x), "r"(y), "r"(shared_address(b)), "h"(blocks)
               : "memory");
}

// ---- named barriers, clusters, registers

__device__ inline void named_barrier_sync(unsigned id, unsigned threads) {
  asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void named_barrier_arrive(unsigned id, unsigned threads) {  // counts among `threads`, and goes on
  asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory");
}
__device__ inline void cluster_sync() {
  asm volatile("barrier.cluster.arrive.release; barrier.cluster.wait.acquire;" ::: "memory");
}
__device__ inline unsigned cluster_rank() {
  unsigned rank;
  asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
  return rank;
}
template <class T>
__device__ inline T* cluster_map(T* mine, unsigned rank) {  // the same place in the shared memory of block `rank`
  unsigned long long theirs;
  asm("mapa.u64 %0, %1, %2;" : "=l"(theirs) : "l"(mine), "r"(rank));
  return reinterpret_cast<T*>(theirs);
}
template <int registers>
__device__ inline void registers_give() {  // a warpgroup keeps as many for each thread
  asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(registers));
}
template <int registers>
__device__ inline void registers_take() {
  asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(registers));
}

// ---- wgmma. The sums are named at the fence and at the wait, so that no compiler moves their other uses between the two.

__device__ inline unsigned long long wgmma_descriptor(const void* tile, unsigned leading, unsigned stride) {
  return (unsigned long long)(shared_address(tile) >> 4 & 0x3fff) | (unsigned long long)(leading >> 4 & 0x3fff) << 16 |
         (unsigned long long)(stride >> 4 & 0x3fff) << 32 | 1ull << 62;
}
template <int n>
__device__ inline void wgmma_fence(float (&d)[n]) {
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
  asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
}
__device__ inline void wgmma_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending, int n>
__device__ inline void wgmma_wait(float (&d)[n]) {  // until at most the last `pending` groups are under way
  asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(pending) : "memory");
#pragma unroll
  for (int i = 0; i < n; i++) asm volatile("" : "+f"(d[i])::"memory");
}

#define HANDGRAD_4(d, i) "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3])
#define HANDGRAD_16(d, i) HANDGRAD_4(d, i), HANDGRAD_4(d, i + 4), HANDGRAD_4(d, i + 8), HANDGRAD_4(d, i + 12)

// d += a b, 64 x 16 times 16 x 64.
template <bool a_transposed, bool b_transposed>
__device__ inline void wgmma_m64n64k16(float (&d)[32], unsigned long long a, unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
               "%32, %33, add, 1, 1, %34, %35; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16)
               : "l"(a), "l"(b), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ inline void wgmma_m64n64k16(float (&d)[32], const unsigned (&a)[4], unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31}, "
               "{%32,%33,%34,%35}, %36, add, 1, 1, %37; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(b_transposed));
}

// d += a b, 64 x 16 times 16 x 128.
template <bool a_transposed, bool b_transposed>
__device__ inline void wgmma_m64n128k16(float (&d)[64], unsigned long long a, unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
               "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
               "%64, %65, add, 1, 1, %66, %67; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16), HANDGRAD_16(d, 32), HANDGRAD_16(d, 48)
               : "l"(a), "l"(b), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ inline void wgmma_m64n128k16(float (&d)[64], const unsigned (&a)[4], unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
               "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63}, "
               "{%64,%65,%66,%67}, %68, add, 1, 1, %69; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16), HANDGRAD_16(d, 32), HANDGRAD_16(d, 48)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(b_transposed));
}

// d += a b, 64 x 16 times 16 x 256.
template <bool a_transposed, bool b_transposed>
__device__ inline void wgmma_m64n256k16(float (&d)[128], unsigned long long a, unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
               "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
               "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
               "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
               "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
               "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
               "%128, %129, add, 1, 1, %130, %131; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16), HANDGRAD_16(d, 32), HANDGRAD_16(d, 48),
                 HANDGRAD_16(d, 64), HANDGRAD_16(d, 80), HANDGRAD_16(d, 96), HANDGRAD_16(d, 112)
               : "l"(a), "l"(b), "n"(a_transposed), "n"(b_transposed));
}
template <bool b_transposed>
__device__ inline void wgmma_m64n256k16(float (&d)[128], const unsigned (&a)[4], unsigned long long b) {
  asm volatile("{ .reg .pred add; setp.ne.b32 add, 1, 0; wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 "
               "{%0,%1,%2,%3,%4,%5,%6,%7,%8,%9,%10,%11,%12,%13,%14,%15,"
               "%16,%17,%18,%19,%20,%21,%22,%23,%24,%25,%26,%27,%28,%29,%30,%31,"
               "%32,%33,%34,%35,%36,%37,%38,%39,%40,%41,%42,%43,%44,%45,%46,%47,"
               "%48,%49,%50,%51,%52,%53,%54,%55,%56,%57,%58,%59,%60,%61,%62,%63,"
               "%64,%65,%66,%67,%68,%69,%70,%71,%72,%73,%74,%75,%76,%77,%78,%79,"
               "%80,%81,%82,%83,%84,%85,%86,%87,%88,%89,%90,%91,%92,%93,%94,%95,"
               "%96,%97,%98,%99,%100,%101,%102,%103,%104,%105,%106,%107,%108,%109,%110,%111,"
               "%112,%113,%114,%115,%116,%117,%118,%119,%120,%121,%122,%123,%124,%125,%126,%127}, "
               "{%128,%129,%130,%131}, %132, add, 1, 1, %133; }"
               : HANDGRAD_16(d, 0), HANDGRAD_16(d, 16), HANDGRAD_16(d, 32), HANDGRAD_16(d, 48),
                 HANDGRAD_16(d, 64), HANDGRAD_16(d, 80), HANDGRAD_16(d, 96), HANDGRAD_16(d, 112)
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "l"(b), "n"(b_transposed));
}
#undef HANDGRAD_4
#undef HANDGRAD_16
#else
#include "hopper.hpp"
#endif
