// embedding 02, sorted: a warp copies a row, 16 bytes a load; on the way back the ids come sorted, a warp for each run of equals.
//
// The launcher sorts: sorted[k] = ids[order[k]], and equal ids keep their order. There is a warp for each k, and for each 128
// columns; one that does not stand at the start of a run leaves. The others add the rows order[k], order[k + 1], ... of dy while
// the id stays the same: R ids are read once, each sum is one thread's and in the order of the ids, and no sum is atomic. Rows
// that nobody reads, and the padding row, are not written to: dweight is zero before.
//
// Rows begin at multiples of 16 bytes only where C is a multiple of 4; otherwise numbers go one by one.
// weight, dweight: V rows of C numbers; y, dy: R rows of C numbers; ids, sorted, order: R integers.

constexpr int WARPS = 4, COLUMNS = 128;

// Four numbers of a row from column c on; zeros beyond its end.
__device__ float4 load4(const float* row, int c, int C) {
  if (C % 4 == 0 && c < C) return *reinterpret_cast<const float4*>(row + c);
  return make_float4(c < C ? row[c] : 0.0f, c + 1 < C ? row[c + 1] : 0.0f, c + 2 < C ? row[c + 2] : 0.0f,
                     c + 3 < C ? row[c + 3] : 0.0f);
}

__device__ void store4(float* row, int c, int C, float4 v) {
  if (C % 4 == 0 && c < C) {
    *reinterpret_cast<float4*>(row + c) = v;
    return;
  }
  if (c < C) row[c] = v.x;
  if (c + 1 < C) row[c + 1] = v.y;
  if (c + 2 < C) row[c + 2] = v.z;
  if (c + 3 < C) row[c + 3] = v.w;
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    embedding_forward_02_sorted(float* y, const float* weight, const long long* ids, int R, int C) {
  const int r = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (r >= R) return;
  const float* from = weight + (size_t)ids[r] * C;
  float* to = y + (size_t)r * C;
  for (int c = 4 * lane; c < C; c += COLUMNS) store4(to, c, C, load4(from, c, C));
}

extern "C" __global__ void __launch_bounds__(32 * WARPS)
    embedding_vjp_02_sorted(float* dweight, const float* dy, const long long* sorted, const long long* order, int padding, int R,
                            int C) {
  const int k = blockIdx.x * WARPS + threadIdx.x / 32, lane = threadIdx.x % 32;
  if (k >= R) return;
  const long long id = sorted[k];
  if (id == padding) return;
  if (k > 0 && sorted[k - 1] == id) return;  // the run began before
  const int c = blockIdx.y * COLUMNS + 4 * lane;
  float4 sum = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
  for (int j = k; j < R && sorted[j] == id; j++) {
    const float4 d = load4(dy + (size_t)order[j] * C, c, C);
    sum = make_float4(sum.x + d.x, sum.y + d.y, sum.z + d.z, sum.w + d.w);
  }
  store4(dweight + (size_t)id * C, c, C, sum);
}
