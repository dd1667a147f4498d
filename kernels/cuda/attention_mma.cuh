// The parts of attention 03: tiles in shared memory, and products of a warp's 16 rows by mma.sync, in bfloat16 or float16.
//
// A warp holds all scores of its rows. Which lane holds what of an mma tile is written in on_cpu/tensor_cores.hpp: scores lie as
// the left factor of the next product must, so that weights go on in registers.
#pragma once

#include "attention.cuh"
#include "sixteen_bits.cuh"

constexpr int THREADS = 128, OWNED = 64, WALKED = 32, STAGES = 2;
constexpr int PAD = 8;              // numbers after each row in shared memory: 8 neighbouring rows have other banks
constexpr int TILES = WALKED / 8;   // mma tiles, of 8 columns, in a warp's row of scores
constexpr int EACH = 8;             // numbers in a copy of 16 bytes

// `height` rows of D numbers from row `first` on to shared memory; zeros beyond row `last`, beyond D, and for rows whose byte in
// `shown` is 0.
template <int HEAD_DIM, class T>
__device__ void load_tile(T* tile, const T* rows, int first, int last, int height, int D, const unsigned char* shown = nullptr,
                          long long stride = 0) {
  constexpr int COPIES = HEAD_DIM / EACH;
  for (int n = threadIdx.x; n < height * COPIES; n += THREADS) {
    const int row = first + n / COPIES, d = n % COPIES * EACH;
    const bool here = row < last && (!shown || shown[row * stride]);
    const int there = here ? min(max(D - d, 0), EACH) : 0;  // how many of the numbers are copied
    const T* from = there ? rows + (size_t)row * D + d : rows;
    T* to = tile + n / COPIES * (HEAD_DIM + PAD) + d;
    if (D % EACH == 0)
      cp_async_16(to, from, there * sizeof(T));
    else
      for (int j = 0; j < EACH; j++) to[j] = j < there ? from[j] : Type<T>::rounded(0.0f);
  }
}

// s = the warp's 16 rows, from `own` on, times the walked rows. Forward and back add in the same order.
template <int STRIDE, class T>
__device__ void dots(float (&s)[TILES][4], const T* own, const T* walked, int D) {
  const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  for (int n = 0; n < TILES; n++)
    for (int l = 0; l < 4; l++) s[n][l] = 0.0f;
  for (int d = 0; d < D; d += 16) {
    unsigned a[4], b[2];
    for (int i = 0; i < 4; i++)
      a[i] = *reinterpret_cast<const unsigned*>(own + (group + 8 * (i % 2)) * STRIDE + d + 2 * member + 8 * (i / 2));
    for (int n = 0; n < TILES; n++) {
      for (int i = 0; i < 2; i++)
        b[i] = *reinterpret_cast<const unsigned*>(walked + (8 * n + group) * STRIDE + d + 2 * member + 8 * i);
      Type<T>::multiply(s[n], a, b);
    }
  }
}

// sums += weights times the walked rows, in D columns: two tiles of 8 weights make one factor of 16.
template <int STRIDE, int COLUMNS, class T>
__device__ void add_product(float (&sums)[COLUMNS][4], const float (&weights)[TILES][4], const T* walked, int D) {
  const int group = threadIdx.x % 32 / 4, member = threadIdx.x % 4;
  for (int k = 0; k < TILES / 2; k++) {
    unsigned a[4], b[2];
    for (int i = 0; i < 4; i++) a[i] = Type<T>::pair(weights[2 * k + i / 2][i % 2 * 2], weights[2 * k + i / 2][i % 2 * 2 + 1]);
    const unsigned short* rows = reinterpret_cast<const unsigned short*>(walked) + (16 * k + 2 * member) * STRIDE + group;
    for (int n = 0; n < COLUMNS; n++) {
      if (8 * n >= D) break;
      for (int i = 0; i < 2; i++) {
        const unsigned short* at = rows + 8 * i * STRIDE + 8 * n;  // numbers of two rows make one register
        b[i] = at[0] | (unsigned)at[STRIDE] << 16;
      }
      Type<T>::multiply(sums[n], a, b);
    }
  }
}

// The thread's columns of one of its two rows, times a factor.
template <int COLUMNS, class T>
__device__ void store_row(T* row, const float (&sums)[COLUMNS][4], int second, float factor, int D) {
  for (int n = 0; n < COLUMNS; n++) {
    const int d = 8 * n + 2 * (threadIdx.x % 4);
    if (d < D) row[d] = Type<T>::rounded(sums[n][2 * second] * factor);
    if (d + 1 < D) row[d + 1] = Type<T>::rounded(sums[n][2 * second + 1] * factor);
  }
}
