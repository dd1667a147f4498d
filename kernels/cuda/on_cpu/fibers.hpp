// A fiber is a stack and the registers that a function call must keep: what one CUDA thread needs in order to wait.
//
// on_cpu_switch(&from, to) pushes those registers, exchanges the stack pointers and pops them again: some ten instructions.
// swapcontext of the C library does the same, but asks the operating system for the signal mask each time: a barrier then costs
// 250 ns a thread where this costs 35. It is the way for processors that are not written out here.
#pragma once
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <sys/mman.h>

namespace on_cpu {
constexpr size_t STACK_BYTES = 256 * 1024;  // reserved, not used: pages come with the first touch

static char* stacks(unsigned count) {  // the stacks of `count` fibers, kept for later blocks
  static char* memory = nullptr;
  static unsigned room = 0;
  if (count > room) {
    if (memory) munmap(memory, room * STACK_BYTES);
    void* found = mmap(nullptr, count * STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (found == MAP_FAILED) abort();
    memory = static_cast<char*>(found);
    room = count;
  }
  return memory;
}
}  // namespace on_cpu

#if defined(__x86_64__) && !defined(ON_CPU_UCONTEXT)

extern "C" __attribute__((visibility("hidden"))) void on_cpu_switch(void** from, void* to);
asm(R"(
.text
.globl on_cpu_switch
.hidden on_cpu_switch
.type on_cpu_switch, @function
on_cpu_switch:
  push %rbp; push %rbx; push %r12; push %r13; push %r14; push %r15
  mov %rsp, (%rdi)
  mov %rsi, %rsp
  pop %r15; pop %r14; pop %r13; pop %r12; pop %rbx; pop %rbp
  ret
.size on_cpu_switch, .-on_cpu_switch
)");

namespace on_cpu {
using Context = void*;
static inline void switch_to(Context& from, Context to) { on_cpu_switch(&from, to); }
static Context fresh(char* stack, void (*entry)()) {  // as if entry's caller had just pushed its six registers
  void** top = reinterpret_cast<void**>(stack + STACK_BYTES) - 2;
  *top = reinterpret_cast<void*>(entry);
  for (int i = 1; i <= 6; i++) top[-i] = nullptr;
  return top - 6;
}
}  // namespace on_cpu

#elif defined(__aarch64__) && !defined(ON_CPU_UCONTEXT)

extern "C" __attribute__((visibility("hidden"))) void on_cpu_switch(void** from, void* to);
asm(R"(
.text
.globl on_cpu_switch
.hidden on_cpu_switch
.type on_cpu_switch, %function
on_cpu_switch:
  sub sp, sp, #160
  stp x19, x20, [sp, #0];   stp x21, x22, [sp, #16];  stp x23, x24, [sp, #32];  stp x25, x26, [sp, #48]
  stp x27, x28, [sp, #64];  stp x29, x30, [sp, #80]
  stp d8, d9, [sp, #96];    stp d10, d11, [sp, #112]; stp d12, d13, [sp, #128]; stp d14, d15, [sp, #144]
  mov x9, sp
  str x9, [x0]
  mov sp, x1
  ldp x19, x20, [sp, #0];   ldp x21, x22, [sp, #16];  ldp x23, x24, [sp, #32];  ldp x25, x26, [sp, #48]
  ldp x27, x28, [sp, #64];  ldp x29, x30, [sp, #80]
  ldp d8, d9, [sp, #96];    ldp d10, d11, [sp, #112]; ldp d12, d13, [sp, #128]; ldp d14, d15, [sp, #144]
  add sp, sp, #160
  ret
.size on_cpu_switch, .-on_cpu_switch
)");

namespace on_cpu {
using Context = void*;
static inline void switch_to(Context& from, Context to) { on_cpu_switch(&from, to); }
static Context fresh(char* stack, void (*entry)()) {  // ret jumps to x30
  char* top = stack + STACK_BYTES - 160;
  for (int i = 0; i < 20; i++) reinterpret_cast<void**>(top)[i] = nullptr;
  reinterpret_cast<void**>(top)[11] = reinterpret_cast<void*>(entry);
  return top;
}
}  // namespace on_cpu

#else

#include <ucontext.h>
namespace on_cpu {
struct Saved {
  ucontext_t registers;
};
using Context = Saved*;  // made at the first switch away, kept for ever: one for each of at most 1025 fibers
static inline void switch_to(Context& from, Context to) {
  if (!from) from = new Saved;
  swapcontext(&from->registers, &to->registers);
}
static Context fresh(char* stack, void (*entry)()) {
  Context* kept = reinterpret_cast<Context*>(stack);  // the far end of the stack remembers it
  if (!*kept) *kept = new Saved;
  getcontext(&(*kept)->registers);
  (*kept)->registers.uc_stack.ss_sp = stack + sizeof(Context);
  (*kept)->registers.uc_stack.ss_size = STACK_BYTES - sizeof(Context);
  (*kept)->registers.uc_link = nullptr;
  makecontext(&(*kept)->registers, entry, 0);
  return *kept;
}
}  // namespace on_cpu
#endif
