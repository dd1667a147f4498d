// The way in: what a kernel's parameters are, and a launch with the parameters that Python (or a job file) hands over.
#pragma once
#include <tuple>
#include <type_traits>
#include <utility>

#include "tensor_cores.hpp"

namespace on_cpu {
template <class T> constexpr const char* type_name() {
  using std::is_same_v;
  if (is_same_v<T, float> || is_same_v<T, float2> || is_same_v<T, float4>) return "float32";
  if (is_same_v<T, double> || is_same_v<T, double2>) return "float64";
  if (is_same_v<T, __nv_bfloat16> || is_same_v<T, __nv_bfloat162>) return "bfloat16";
  if (is_same_v<T, __half> || is_same_v<T, __half2>) return "float16";
  if (is_same_v<T, bool>) return "bool";
  if (is_same_v<T, TensorMap>) return "tensor map";
  if (is_same_v<T, int2> || is_same_v<T, int4>) return "int32";
  if constexpr (std::is_integral_v<T>) {
    constexpr const char* names[2][4] = {{"uint8", "uint16", "uint32", "uint64"}, {"int8", "int16", "int32", "int64"}};
    return names[std::is_signed_v<T>][sizeof(T) == 1 ? 0 : sizeof(T) == 2 ? 1 : sizeof(T) == 4 ? 2 : 3];
  }
  return "?";
}

template <class T> static void describe(char* text, size_t room) {  // "const float32*;" or "int32;"
  using Pointee = std::remove_pointer_t<T>;
  const size_t used = strlen(text);
  if constexpr (std::is_pointer_v<T>)
    snprintf(text + used, room - used, "%s%s*;", std::is_const_v<Pointee> ? "const " : "", type_name<std::remove_cv_t<Pointee>>());
  else
    snprintf(text + used, room - used, "%s;", type_name<std::remove_cv_t<T>>());
}
template <class... A> static const char* signature(void (*)(A...)) {
  static char text[2048];
  text[0] = 0;
  (describe<A>(text, sizeof text), ...);
  return text;
}

// A wild pointer, or Ctrl-C: the handler leaves the fiber and the launch ends with a sentence.
static sigjmp_buf out;
static void leave(int signal, siginfo_t* information, void*) {
  char a[96];
  if (signal == SIGINT) fail("interrupted");
  else fail("%s touches memory at %p", place(*self, a, sizeof a), information->si_addr);
  siglongjmp(out, 1);
}

struct Handlers {
  struct sigaction before[3];
  stack_t stack_before;
  static constexpr int signals[3] = {SIGSEGV, SIGBUS, SIGINT};
  Handlers() {
    static char room[64 * 1024];
    stack_t stack{};
    stack.ss_sp = room;
    stack.ss_size = sizeof room;
    sigaltstack(&stack, &stack_before);
    struct sigaction action{};
    action.sa_sigaction = leave;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int i = 0; i < 3; i++) sigaction(signals[i], &action, &before[i]);
  }
  ~Handlers() {
    for (int i = 0; i < 3; i++) sigaction(signals[i], &before[i], nullptr);
    sigaltstack(&stack_before, nullptr);
  }
};

// The dynamic shared memory of block k of a cluster ends where its window does (rounded up to 128 bytes), and a shared address
// is a place in the window. Between two windows lie pages that raise a signal; under AddressSanitizer, its red zones.
static void open_window(Block& b, unsigned k) {
#ifdef __SANITIZE_ADDRESS__
  void* memory = nullptr;
  if (posix_memalign(&memory, 1024, dynamic_bytes ? dynamic_bytes : 1)) abort();
  b.window = b.memory = static_cast<char*>(memory);
#else
  constexpr size_t MOST = 256 * 1024, FORBIDDEN = 1 << 20;
  static char* between[MOST_BLOCKS];
  if (!between[k]) {
    void* found = mmap(nullptr, MOST + 2 * FORBIDDEN, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) abort();
    between[k] = static_cast<char*>(found) + FORBIDDEN;
    mprotect(between[k], MOST, PROT_READ | PROT_WRITE);
  }
  b.window = between[k];
  b.memory = b.window + MOST - (dynamic_bytes + 127) / 128 * 128;
#endif
}

// 0, or 1 with a sentence in `message`.
static int launch_with(void (*call)(void*), void* argument, const unsigned* grid, const unsigned* block, dim3 cluster,
                       unsigned shared, unsigned chosen) {
  body = call;
  body_argument = argument;
  schedule = chosen;
  dynamic_bytes = shared;
  const unsigned size = cluster.x * cluster.y * cluster.z;
  if (size > MOST_BLOCKS || grid[0] % cluster.x || grid[1] % cluster.y || grid[2] % cluster.z) {
    fail("a grid of (%u,%u,%u) blocks cannot be cut into clusters of (%u,%u,%u), or these have more than %u blocks", grid[0],
         grid[1], grid[2], cluster.x, cluster.y, cluster.z, MOST_BLOCKS);
    return 1;
  }
  for (unsigned k = 0; k < size; k++) open_window(blocks[k], k);
#ifdef __SANITIZE_ADDRESS__
  run_grid({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, cluster);
  for (unsigned k = 0; k < size; k++) free(blocks[k].memory);
#else
  Handlers handlers;
  if (!sigsetjmp(out, 1)) run_grid({grid[0], grid[1], grid[2]}, {block[0], block[1], block[2]}, cluster);
#endif
  return failed;
}

template <class... A, size_t... I>
static int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, dim3 cluster, unsigned shared,
                  unsigned chosen, void** parameters, std::index_sequence<I...>) {
  auto call = [&] { kernel(*static_cast<std::remove_cv_t<A>*>(parameters[I])...); };
  return launch_with([](void* c) { (*static_cast<decltype(call)*>(c))(); }, &call, grid, block, cluster, shared,
                     chosen);
}
template <class... A>
static int launch(void (*kernel)(A...), const unsigned* grid, const unsigned* block, dim3 cluster, unsigned shared,
                  unsigned chosen, void** parameters) {
  return launch(kernel, grid, block, cluster, shared, chosen, parameters, std::index_sequence_for<A...>{});
}

template <class T> static T* dynamic_shared() { return reinterpret_cast<T*>(self->block->memory); }

struct Export {
  const char* name;
  const char* (*signature)();
  int (*launch)(const unsigned* grid, const unsigned* block, unsigned shared, unsigned schedule, void** parameters);
};
}  // namespace on_cpu

// `cluster` is what the kernel's __cluster_dims__ says, as a dim3 (source.py copies it).
#define ON_CPU_EXPORT(name, cluster)                                                                                     \
  {#name, [] { return on_cpu::signature(name); },                                                                        \
   [](const unsigned* grid, const unsigned* block, unsigned shared, unsigned schedule, void** parameters) {              \
     return on_cpu::launch(name, grid, block, cluster, shared, schedule, parameters);                                    \
   }},
