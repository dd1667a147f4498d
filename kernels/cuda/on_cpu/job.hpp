// Two ways to reach the exports of one compiled file: functions for ctypes, or a program of its own that runs a job file.
//
// The program is what AddressSanitizer needs: it owns all memory, so that each array has red zones at both ends. A job is
//     kernel number, grid[3], block[3], shared bytes, schedule, number of parameters      10 x uint32, then for each
//     kind (0 a number, 1 an array, 2 a tensor map), bytes                                uint32, uint64, and the bytes
// (of a tensor map first the struct, then those of its array)
// and is answered by the arrays' bytes, in order, in the file beside it.
#pragma once
#include "launch.hpp"

#ifndef __SANITIZE_ADDRESS__
#define ON_CPU_VISIBLE extern "C" __attribute__((visibility("default")))
ON_CPU_VISIBLE const char* on_cpu_signature(unsigned kernel) { return on_cpu_exports[kernel].signature(); }
ON_CPU_VISIBLE const char* on_cpu_message() { return on_cpu::message; }
ON_CPU_VISIBLE uint64_t on_cpu_static_shared() { return uint64_t(on_cpu::__stop_cuda_shared - on_cpu::__start_cuda_shared); }
ON_CPU_VISIBLE int on_cpu_launch(unsigned kernel, const unsigned* grid, const unsigned* block, unsigned shared,
                                 unsigned schedule, void** parameters) {
  return on_cpu_exports[kernel].launch(grid, block, shared, schedule, parameters);
}
#else
static void read_exactly(FILE* file, void* to, size_t bytes) {
  if (bytes && fread(to, 1, bytes, file) != bytes) {
    fprintf(stderr, "the job file is too short\n");
    exit(3);
  }
}

int main(int, char** arguments) {
  FILE* job = fopen(arguments[1], "rb");
  if (!job) return 3;
  unsigned head[10];
  read_exactly(job, head, sizeof head);
  struct {
    void* memory;
    uint64_t bytes;
    unsigned kind;
  } given[64];
  static struct alignas(64) {
    char* address;  // the rest is tma.hpp's
    char rest[120];
  } maps[64];
  void* parameters[64];
  for (unsigned i = 0; i < head[9]; i++) {
    read_exactly(job, &given[i].kind, 4);
    read_exactly(job, &given[i].bytes, 8);
    if (given[i].kind == 2) {
      read_exactly(job, &maps[i], sizeof maps[i]);
      given[i].bytes -= sizeof maps[i];
    }
    given[i].memory = malloc(given[i].bytes);
    read_exactly(job, given[i].memory, given[i].bytes);
    parameters[i] = given[i].kind == 1 ? &given[i].memory : given[i].memory;
    if (given[i].kind == 2) {
      maps[i].address = static_cast<char*>(given[i].memory);
      parameters[i] = &maps[i];
    }
    if (given[i].kind) fprintf(stderr, "parameter %u at %p, %llu bytes\n", i, given[i].memory, (unsigned long long)given[i].bytes);
  }
  fclose(job);
  if (on_cpu_exports[head[0]].launch(head + 1, head + 4, head[7], head[8], parameters)) {
    fprintf(stderr, "failed: %s\n", on_cpu::message);
    return 2;
  }
  FILE* answer = fopen(arguments[2], "wb");
  for (unsigned i = 0; i < head[9]; i++)
    if (given[i].kind == 1) fwrite(given[i].memory, 1, given[i].bytes, answer);
  return fclose(answer) ? 3 : 0;
}
#endif
